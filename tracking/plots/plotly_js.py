"""The script that draws figures in a browser, as the installed plotly brings it."""

from __future__ import annotations

from importlib import resources


def plotly_js() -> str:
    """The whole plotly.js, minified, under its MIT licence, whose notice it begins with."""
    script = resources.files("plotly").joinpath("package_data", "plotly.min.js")
    return script.read_text(encoding="utf-8")
