"""What a running vLLM says of itself: version and resolved configuration."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from runtimes.cache_state import PrefixCache
from runtimes.engines.base import EngineReport
from runtimes.telemetry.prometheus_text import labels_of

_CONFIG_LINE = re.compile(r"Initializing a V\d+ LLM engine \(v(?P<version>[^)]*)\) with config: ")
_KEY = re.compile(r"\s*(?P<key>[A-Za-z_]\w*)=")
_CACHE_METRIC = "vllm:cache_config_info"
_SWITCH = {"True": True, "False": False}
_OPEN, _CLOSE = "([{<", ")]}>"


def read_report(*, log: str, metrics_text: str, version_json: str) -> EngineReport:
    """See `Engine.describe`.

    The configuration holds the pairs of the line vLLM logs when it builds its engine, and the
    labels of `vllm:cache_config_info` as `cache_config.<label>`; what is absent is left out.
    """
    line = _CONFIG_LINE.search(log)
    config: dict[str, str] = {}
    if line:
        end = log.find("\n", line.end())
        config.update(_pairs(log[line.end() : end if end >= 0 else None]))
    cache = labels_of(metrics_text, _CACHE_METRIC)
    config.update({f"cache_config.{label}": value for label, value in cache.items()})
    version = _version(version_json) or (line["version"] if line else "")
    return EngineReport(version=version, config=config, prefix_cache=_prefix_cache(config))


def _prefix_cache(config: Mapping[str, str]) -> PrefixCache:
    block = _count(config.get("cache_config.block_size"))
    blocks = _count(config.get("cache_config.num_gpu_blocks"))
    return PrefixCache(
        enabled=_SWITCH.get(config.get("cache_config.enable_prefix_caching", "")),
        block_tokens=block,
        capacity_tokens=block * blocks if block and blocks else None,
        replicas=_count(config.get("data_parallel_size")) or 1,
    )


def _count(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _version(version_json: str) -> str:
    try:
        answer = json.loads(version_json)
    except ValueError:
        return ""
    version = answer.get("version") if isinstance(answer, dict) else None
    return version if isinstance(version, str) else ""


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """The `key=value` pairs of a Python-like listing; quotes around a whole value are dropped."""
    for field in _split_top_level(text):
        match = _KEY.match(field)
        if match:
            yield match["key"], _unquote(field[match.end() :].strip())


def _split_top_level(text: str) -> Iterator[str]:
    """Parts of `text` between the commas that stand outside brackets and quotes."""
    depth, quote, start, escaped = 0, "", 0, False
    for position, character in enumerate(text):
        if quote:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == quote:
                quote = ""
        elif character in "'\"":
            quote = character
        elif character in _OPEN:
            depth += 1
        elif character in _CLOSE:
            depth -= 1
        elif character == "," and depth <= 0:
            yield text[start:position]
            start = position + 1
    yield text[start:]


def _unquote(text: str) -> str:
    quoted = len(text) >= 2 and text[0] in "'\"" and text[-1] == text[0]
    return text[1:-1] if quoted else text
