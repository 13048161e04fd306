"""The Parquet record: schema, writing, reading."""
