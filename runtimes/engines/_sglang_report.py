"""What a running SGLang says of itself: version and resolved configuration."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping

from runtimes.cache_state import PrefixCache
from runtimes.engines.base import EngineReport
from runtimes.json_types import Json, canonical_json

_LOG_LINE = re.compile(r"server_args=(?P<listing>(?:ServerArgs\(|\{).*)")
_CACHES = {"false": True, "true": False}
# Live state, copies of the command, and secrets: no part of a configuration.
_LEFT_OUT = frozenset(
    {
        "admin_api_key", "api_key", "internal_states", "launch_command", "ssl_keyfile_password",
        "startup_time", "version", "watermark_config", "watermark_key", "watermark_key_b",
    }
)  # fmt: skip


def read_report(*, log: str, version_json: str) -> EngineReport:
    """See `Engine.describe`; `version_json` is the body of `/server_info`.

    Without that body the configuration is the one SGLang logs as it starts, `server_args=…`.
    """
    answer = _answer(version_json)
    config = dict(_flat(answer)) or dict(_logged(log))
    version = answer.get("version")
    return EngineReport(
        version=version if isinstance(version, str) else "",
        config=config,
        prefix_cache=PrefixCache(
            enabled=_CACHES.get(config.get("disable_radix_cache", "")),
            block_tokens=_count(config.get("page_size")),
            capacity_tokens=_count(config.get("max_total_num_tokens")),
            replicas=(_count(config.get("dp_size")) or 1)
            * (_count(config.get("attn_dp_size")) or 1),
        ),
    )


def _count(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _answer(body: str) -> Mapping[str, Json]:
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _flat(answer: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
    for key, value in answer.items():
        if key not in _LEFT_OUT:
            yield key, value if isinstance(value, str) else canonical_json(value)


def _logged(log: str) -> Iterator[tuple[str, str]]:
    """The pairs of the logged listing, which is a Python expression: a dict or a call."""
    line = _LOG_LINE.search(log)
    if line is None:
        return
    try:
        listing = ast.parse(line["listing"].strip(), mode="eval").body
    except (SyntaxError, ValueError):
        return
    if isinstance(listing, ast.Call):
        found = [(pair.arg or "", pair.value) for pair in listing.keywords]
    elif isinstance(listing, ast.Dict):
        names = [key.value if isinstance(key, ast.Constant) else "" for key in listing.keys]
        found = list(zip(map(str, names), listing.values, strict=True))
    else:
        return
    for name, value in found:
        if name and name not in _LEFT_OUT:
            yield name, _written(value)


def _written(value: ast.expr) -> str:
    """A value as `/server_info` writes it, where it is one of JSON's; else as Python does."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return value.value
    try:
        return canonical_json(ast.literal_eval(value))
    except (ValueError, TypeError):
        return ast.unparse(value)
