"""A real Prometheus of a test's own, and what it answers."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_DEADLINE_S = 90.0
_LISTENING = re.compile(r'msg="Listening on" address=(\S+)')


@dataclass(frozen=True, slots=True)
class Series:
    """Labels of one series, and its samples: Unix seconds and value, NaN left out."""

    labels: Mapping[str, str]
    samples: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A server that runs; `url` is its address."""

    url: str

    def over_time(self, expr: str, start_s: float, end_s: float) -> list[Series]:
        """What `expr` gave at each second, series of NaN alone left out.

        Raises:
            AssertionError: Prometheus refuses the expression.
        """
        asked = {"query": expr, "start": start_s, "end": end_s, "step": 1}
        return [one for one in _series(self.get("query_range", **asked)["result"]) if one.samples]

    def samples(self, selector: str, start_s: float, end_s: float) -> list[Series]:
        """The samples as they were scraped."""
        window = f"{selector}[{math.ceil(end_s - start_s)}s]"
        return _series(self.get("query", query=window, time=end_s)["result"])

    def get(self, endpoint: str, **asked: object) -> Any:
        """The data of one answer of the HTTP API."""
        address = f"{self.url}/api/v1/{endpoint}?{urllib.parse.urlencode(asked)}"
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{asked}: {error.read().decode()}") from None


@contextmanager
def prometheus(config: Path, folder: Path) -> Iterator[Prometheus]:
    """A Prometheus with this configuration, until the block ends; its data go into `folder`.

    The test skips where none is installed.
    """
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("prometheus is not installed")
    log = folder / "prometheus.log"
    command = [
        binary,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--web.listen-address=127.0.0.1:0",
        "--enable-feature=exemplar-storage",
    ]
    with log.open("wb") as output:
        child = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        server = Prometheus(f"http://{_address(child, log)}")
        _wait_until_ready(server.url)
        yield server
    finally:
        child.terminate()
        try:
            child.wait(timeout=30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _address(child: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + _DEADLINE_S
    while time.monotonic() < deadline and child.poll() is None:
        found = _LISTENING.search(log.read_text())
        if found:
            return found[1]
        time.sleep(0.05)
    raise AssertionError(f"prometheus did not listen:\n{log.read_text()}")


def _wait_until_ready(url: str) -> None:
    """It listens before it has read its write-ahead log."""
    deadline = time.monotonic() + _DEADLINE_S
    while True:
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=30):
                return
        except urllib.error.HTTPError as error:
            error.close()
            assert time.monotonic() < deadline, "prometheus does not become ready"
            time.sleep(0.05)


def _series(result: Any) -> list[Series]:
    return [
        Series(
            one["metric"],
            tuple(
                (at_s, float(value))
                for at_s, value in one["values"]
                if not math.isnan(float(value))
            ),
        )
        for one in result
    ]
