"""Remembers: journal, Parquet record, metrics, reports."""
