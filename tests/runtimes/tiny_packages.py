"""Folders of tiny packages for pip, and an environment in which it reaches no index."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

from tests.runtimes import make_wheel as backend
from tests.runtimes.make_wheel import COUNTED, PAUSE


def make_source(folder: Path, name: str, version: str, *, broken: bool = False) -> Path:
    """A source package that notes each of its builds (see `make_wheel.py`), or fails in each."""
    files = {
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "facts.json": json.dumps({"name": name, "version": version, "broken": broken}),
        "make_wheel.py": Path(backend.__file__).read_text(),
        "pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = 'make_wheel'\n"
        "backend-path = ['.']\n",
    }
    package = folder / f"{name}-{version}.tar.gz"
    with tarfile.open(package, "w:gz") as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(f"{name}-{version}/{path}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return package


def offline(counted: Path, pause_s: float = 0.0) -> dict[str, str]:
    """Variables for a pip that knows no index and keeps nothing between runs."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(counted.parent),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # the option's own spelling of "no isolation"
        COUNTED: str(counted),
        PAUSE: str(pause_s),
    }


def builds(counted: Path) -> list[tuple[int, int]]:
    """Process id and number of older builds still running, of each build so far."""
    lines = counted.read_text().splitlines() if counted.exists() else []
    return [(int(pid), int(others)) for pid, others in map(str.split, lines)]
