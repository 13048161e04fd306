"""Measuring what one node's kernels reach, with the torch of an engine's environment."""
