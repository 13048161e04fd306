"""An engine's log file, bounded."""

from __future__ import annotations

from pathlib import Path

LOG_BYTES = 1 << 20
"""A longer log keeps its two ends; the middle is left out, and says so."""


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
