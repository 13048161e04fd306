"""The log files of an attempt, bounded."""

from __future__ import annotations

import re
from pathlib import Path

LOG_BYTES = 1 << 20
"""A longer log keeps its two ends; the middle is left out, and says so."""
ENVIRONMENT_LOG = "environment.log"
"""What building the engine's environment said; in the attempt's own folder."""
ENGINE_LOG = "engine.log"
"""What one process of the engine said; in the folder of that process."""

_FOLDER = re.compile(r"server-(\d+)-node-(\d+)")


def process_folder(scratch: Path, server: int, node: int) -> Path:
    """The folder of one process below the attempt's."""
    return scratch / f"server-{server}-node-{node}"


def process_label(server: int, node: int) -> str:
    """What users call one process of a deployment of several."""
    return f"server {server}" if node == 0 else f"server {server}, node {node}"


def headed(label: str, text: str) -> str:
    """`text` under a line that says whose it is; itself without a label."""
    return f"==> {label} <==\n{text}" if label else text


def read_all(scratch: Path, limit_bytes: int = LOG_BYTES) -> str:
    """Every log below the attempt's folder, each under a header when there are several."""
    found = sorted(
        (int(match[1]), int(match[2]), folder)
        for folder in scratch.iterdir()
        if (match := _FOLDER.fullmatch(folder.name))
    )
    each = limit_bytes // max(1, len(found))
    parts = [
        (process_label(server, node), read_ends(folder / ENGINE_LOG, each))
        for server, node, folder in found
    ]
    environment = read_ends(scratch / ENVIRONMENT_LOG, limit_bytes)
    if environment:
        parts.insert(0, ("environment", environment))
    if len(parts) == 1:
        return parts[0][1]
    return "\n".join(headed(label, text) for label, text in parts)


def read_ends(path: Path, limit_bytes: int = LOG_BYTES) -> str:
    """The file's text; of a longer one, whole lines of its first and last `limit_bytes` / 2.

    Whole lines, so that what is masked afterwards has not been cut in two. An absent file is "".
    """
    half = limit_bytes // 2
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            if size <= limit_bytes:
                return file.read().decode(errors="replace")
            head = file.read(half)
            file.seek(-half, 2)
            tail = file.read()
    except FileNotFoundError:
        return ""
    head = head[: head.rfind(b"\n") + 1]
    tail = tail[tail.find(b"\n") + 1 :]
    gap = f"… {size - len(head) - len(tail)} bytes left out …\n"
    return head.decode(errors="replace") + gap + tail.decode(errors="replace")
