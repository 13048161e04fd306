"""Measurements of servetune itself; each is a program: `python -m benchmarks.NAME --help`."""
