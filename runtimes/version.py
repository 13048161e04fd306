"""The version of the distribution; `pyproject.toml` and `CHANGELOG.md` follow it."""

__version__ = "0.1.0"
