"""Measures one node's kernels: a package that an engine's interpreter runs, of the standard library
and torch only, for Python 3.9 or later. So it imports nothing else of ours, and itself relatively.

    python -c "…put the folder of `probe` on sys.path and run it…" [--ranks 2,4] [--quick]

It writes lines of `TAG` and JSON to stdout, among whatever libraries write there:

    {"no_torch": REASON}                        and nothing else
    {"device": {…}}                             what is measured
    {"part": NAME, "points": N}                 a part begins, of so many figures
    {"part": NAME, "size": S, "value": V}       a figure
    {"part": NAME, "reason": WORDS}             the rest of a part cannot be measured
    {"end": true}                               all parts were tried

Each part runs in a forked process with a deadline, so that a crash, a hang or a format that the
device has not got costs that part alone. torch is imported once, before; what starts a device or
threads comes after the fork. Files are left in the current folder. To be run under a guard: what a
killed probe leaves behind is the guard's to end.
"""
