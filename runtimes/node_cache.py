"""The folder of a node that outlives trials and runs: environments, compiled kernels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def node_cache(env: Mapping[str, str]) -> Path:
    """`$SERVETUNE_CACHE`, else `servetune` below `$XDG_CACHE_HOME` or below `~/.cache`.

    Args:
        env: usually `os.environ`. An empty variable counts as unset.
    """
    named = env.get("SERVETUNE_CACHE")
    if named:
        return Path(named).expanduser()
    base = env.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "servetune"
