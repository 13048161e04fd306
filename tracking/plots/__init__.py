"""Plots of a run, one file each: what they draw as a table, and the figure drawn of it."""
