"""The mock engine: compiled here, started on a core of its own, asked what it really did."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SOURCE = Path(__file__).with_name("mock_engine.c")


@dataclass(frozen=True, slots=True)
class MockEngine:
    """A running mock engine."""

    port: int

    def reset(self, *, ttft_ms: float, itl_ms: float) -> None:
        """Forget what was done, and answer with these delays from now on."""
        self._get(f"/reset?ttft_us={round(ttft_ms * 1000)}&itl_us={round(itl_ms * 1000)}")

    def stats(self) -> dict[str, Any]:
        """What was done since the last reset; see the C source."""
        found: dict[str, Any] = json.loads(self._get("/stats"))
        return found

    def _get(self, path: str) -> bytes:
        url = f"http://127.0.0.1:{self.port}{path}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            body: bytes = answer.read()
        return body


@contextmanager
def mock_engine(*, core: int) -> Iterator[MockEngine]:
    """Compile and start it, pinned to `core`, for the block.

    Raises:
        FileNotFoundError: there is no C compiler.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise FileNotFoundError("the mock engine needs a C compiler: install gcc")
    with tempfile.TemporaryDirectory(prefix="servetune-mock-") as folder:
        program = Path(folder) / "mock_engine"
        subprocess.run([compiler, "-O2", "-o", program, _SOURCE], check=True)
        with subprocess.Popen(
            [program, "--core", str(core)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                yield MockEngine(int(process.stdout.readline()))
            finally:
                process.stdin.close()
                process.wait(timeout=10)
