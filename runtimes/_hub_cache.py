"""Where the Hub's libraries keep what they downloaded: `models--org--name/snapshots/<commit>`.

The layout and the variables are those of huggingface_hub, whose cache every engine shares; it is
read here without importing it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

COMMIT = re.compile(r"[0-9a-f]{40}")
"""A commit, in full."""

_MODEL_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")


def is_hub_id(model: str) -> bool:
    """Whether `model` can be a Hub id: a name, or an owner and a name."""
    return _MODEL_ID.fullmatch(model) is not None and ".." not in model and "--" not in model


def hub_cache() -> Path:
    """The folder of cached repositories: HF_HUB_CACHE, or `hub` below HF_HOME."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(name):
            return Path(os.environ[name]).expanduser()
    home = os.environ.get("HF_HOME")
    if home:
        return Path(home).expanduser() / "hub"
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(caches).expanduser() / "huggingface" / "hub"


def cached_commit(model: str, revision: str | None) -> str | None:
    """The commit that `revision` stood for when it was last downloaded; None when it never was."""
    if not is_hub_id(model):
        return None
    folder = hub_cache() / f"models--{model.replace('/', '--')}"
    wanted = revision or "main"
    if COMMIT.fullmatch(wanted):
        return wanted if (folder / "snapshots" / wanted).is_dir() else None
    if ".." in Path(wanted).parts or Path(wanted).is_absolute():
        return None
    try:
        commit = (folder / "refs" / wanted).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return commit if COMMIT.fullmatch(commit) else None


def cached_snapshot(model: str, revision: str | None) -> Path | None:
    """The folder of that commit's files; None when there is none."""
    commit = cached_commit(model, revision)
    if commit is None:
        return None
    folder = hub_cache() / f"models--{model.replace('/', '--')}" / "snapshots" / commit
    return folder if folder.is_dir() else None
