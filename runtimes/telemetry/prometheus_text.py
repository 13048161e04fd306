"""A reader of the Prometheus text format, made for scraping one page many times a second.

Reads the text format 0.0.4 that `prometheus_client` and the engines write. It searches for the
metrics asked for and never touches the other lines: an engine's page has hundreds, most of them
histogram buckets.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

_LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "\\": "\\", '"': '"'}


def read_metrics(text: str, metrics: Mapping[str, str]) -> dict[str, tuple[str, float]]:
    """Values of `metrics` on the page `text`.

    Args:
        text: body of a `/metrics` answer.
        metrics: engine's metric name → canonical name. A name may be followed by labels that its
            series must have (`x_total{rank="0"}`); by none (`x_total{}`) it is the bare name
            once more, so that one metric can stand for two canonical ones.

    Returns:
        Canonical name → (engine's name, value). Series that differ in labels are summed; of a
        canonical `*_ratio` the maximum counts. NaN and infinities, a metric that is absent and a
        line that cannot be read are left out. When two engine names share a canonical one, the
        first of them in `metrics` that has a value wins.
    """
    page = "\n" + text
    found: dict[str, tuple[str, float]] = {}
    for name, canonical in metrics.items():
        if canonical in found:
            continue
        bare, _, labels = name.partition("{")
        wanted = dict(_LABEL.findall(labels))
        lines = (line for line in _series(page, bare) if not wanted or _has(line, wanted))
        values = [value for line in lines if (value := _value(line)) is not None]
        if values:
            total = max(values) if canonical.endswith("_ratio") else sum(values)
            found[canonical] = (name, total)
    return found


def labels_of(text: str, metric: str) -> dict[str, str]:
    """Labels of the first series of `metric`, for metrics that only carry labels; {} if absent."""
    for line in _series("\n" + text, metric):
        return {label: _unescape(value) for label, value in _labels(line)}
    return {}


def _labels(line: str) -> list[tuple[str, str]]:
    """Labels of a series as they are written."""
    return _LABEL.findall(line[line.find("{") + 1 : line.rfind("}")])


def _has(line: str, wanted: Mapping[str, str]) -> bool:
    labels = dict(_labels(line))
    return all(labels.get(label) == value for label, value in wanted.items())


def _series(page: str, name: str) -> Iterator[str]:
    """What follows `name` on each line that is a series of it: labels, value, timestamp."""
    wanted = "\n" + name
    start = page.find(wanted)
    while start >= 0:
        after = start + len(wanted)
        end = page.find("\n", after)
        end = len(page) if end < 0 else end
        if page[after : after + 1] in ("{", " ", "\t"):  # a longer name goes on otherwise
            yield page[after:end]
        start = page.find(wanted, end)


def _value(line: str) -> float | None:
    # Only labels can hold a brace, so the last one ends them whatever their values are.
    words = line[line.rfind("}") + 1 :].split(maxsplit=1)
    try:
        value = float(words[0])
    except (IndexError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[0]), text)
