"""Executes: everything that touches an engine. Knows no Ray and no Optuna."""
