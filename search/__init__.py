"""Decides: pure functions, and Optuna behind its samplers. Starts nothing."""
