"""Predicts one deployment before anything is launched: memory, times, throughput, bottleneck.

Analytical and pure: counts and sizes come from `runtimes`, times from the roofline of each
operator with measured efficiencies, overheads of an engine from a stored fit. Nothing here may
import the simulator, nor it us: testing one with the other would be a circle.

`question` says what is asked and `answer` what comes back; `predict` is the way in, for any
number of questions at once. Importing this package imports no numpy; its modules do.
"""
