"""Remembers: journal, Parquet record, metrics, reports."""

from tracking.open import open_run

__all__ = ["open_run"]
