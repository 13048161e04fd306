"""Being somebody who may read no file of ours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NOBODY = 65534


@contextmanager
def refused(path: Path) -> Iterator[None]:
    """Nobody may look at `path` for a while; root, whom no mode refuses, becomes somebody else."""
    mode = path.stat().st_mode
    user = os.geteuid()
    path.chmod(0)
    if user == 0:
        os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
        path.chmod(mode)
