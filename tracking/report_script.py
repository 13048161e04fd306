"""The scripts of the report, and the policy that lets a browser run them and nothing else."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from markupsafe import Markup

from tracking.plots.plotly_js import plotly_js

_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


@dataclass(frozen=True, slots=True)
class Scripts:
    """What the page runs.

    Attributes:
        own: its own script.
        plotly: plotly.js, gzipped, in base64: a third of its size, unpacked for the first plot.
        hashes: of both, as a policy names them.
    """

    own: Markup
    plotly: Markup
    hashes: tuple[str, str]

    def policy(self, *, shaders: bool) -> str:
        """The page's Content-Security-Policy: nothing may be fetched, framed or sent.

        Only the two scripts may run, each by its hash. With `shaders`, which plotly translates to
        functions for what it draws by WebGL, these may make code of text as well.
        """
        evaluated = " 'unsafe-eval'" if shaders else ""
        return "; ".join((
            "default-src 'none'",
            f"script-src {' '.join(self.hashes)}{evaluated}",
            "style-src 'unsafe-inline'",  # plotly sets the styles of what it draws
            "img-src data: blob:",  # and makes a PNG by way of an image
            "base-uri 'none'",
            "form-action 'none'",
        ))  # fmt: skip


@cache
def scripts() -> Scripts:
    """The same for every report."""
    own = resources.files("tracking").joinpath("templates", "report.js").read_text("utf-8")
    plotly = plotly_js()
    packed = base64.b64encode(gzip.compress(plotly.encode(), mtime=0)).decode()
    return Scripts(Markup(own), Markup(packed), (_hash(own), _hash(plotly)))


def json_block(value: object) -> Markup:
    """`value` as JSON to stand in a script element: no text of it can end the element.

    What is no number to JSON (NaN, infinities) is null, keys are text.
    """
    text = json.dumps(_finite(value), separators=(",", ":"), ensure_ascii=True)
    return Markup(text.translate(_ESCAPES))


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(each) for each in value]
    return value
