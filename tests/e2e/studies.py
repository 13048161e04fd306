"""Small studies on simulated engines, run as users run them: through the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml

from runtimes.guard import Process
from runtimes.json_types import Json

if TYPE_CHECKING:
    import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
FAULT = "SERVETUNE_SIMULATOR_FAULT"
GONE_S = 30.0
"""Nothing outlives its owner by more than 10 s; a busy machine is given three times that."""


def experiment(**changes: object) -> dict[str, Json]:
    """A grid of four quick trials on a simulated node; top-level keys are replaced by `changes`."""
    base: dict[str, Json] = {
        "name": "small",
        "model": "meta-llama/Llama-3.2-1B",
        "engines": {
            "simulated": {
                "imitates": "vllm",
                "startup_s": 0.1,
                "search": {"max-num-seqs": [4, 8], "max-num-batched-tokens": [256, 512]},
            }
        },
        "workload": {
            "input_tokens": 32,
            "output_tokens": 8,
            "load": {"kind": "concurrency", "value": 4, "requests": 12},
        },
        "search": {"sampler": "grid", "seed": 3, "baseline": False},
        "cluster": {"kind": "local", "simulated_gpus": 2, "accelerator": "H100"},
    }
    return cast("dict[str, Json]", {**base, **changes})


def write(folder: Path, data: Mapping[str, Json]) -> Path:
    """The experiment as a file in `folder`."""
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(dict(data), sort_keys=False), encoding="utf-8")
    return path


def environment(**extra: str) -> dict[str, str]:
    """Variables for a servetune process: our source on its path, warnings shown."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "default",
        **extra,
    }


@contextmanager
def ray_folder() -> Iterator[Path]:
    """A short temporary folder; Ray puts Unix sockets into it, whose paths are limited."""
    with tempfile.TemporaryDirectory(prefix="st", dir="/tmp", ignore_cleanup_errors=True) as name:
        yield Path(name)


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "orchestrator.cli", *map(str, arguments)]


def servetune(
    *arguments: str | Path, timeout_s: float = 240, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    with ray_folder() as folder:
        return subprocess.run(
            command(*arguments),
            env=environment(RAY_TMPDIR=str(folder), **env),
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )


@contextmanager
def started(*arguments: str | Path, **env: str) -> Iterator[subprocess.Popen[str]]:
    """A running command; whatever is left of it at the end of the block is killed."""
    with ray_folder() as folder:
        process = subprocess.Popen(
            command(*arguments),
            env=environment(RAY_TMPDIR=str(folder), **env),
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()


def only_run(results: Path) -> Path:
    """The one run folder below `results`."""
    (folder,) = [path for path in results.iterdir() if path.is_dir()]
    return folder


def journal(run: Path) -> list[dict[str, Json]]:
    """Events as they stand in the journal's segments, a torn tail left out."""
    events = []
    for segment in sorted((run / "journal").glob("*.jsonl")):
        for line in segment.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                events.append(json.loads(line))
    return events


def wait_for(condition: Callable[[], object], what: str, timeout_s: float = 120.0) -> None:
    """Poll until `condition` holds.

    Raises:
        AssertionError: it did not within `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.05)


def engine_processes(run: Path) -> list[Process]:
    """Guards and engines named in the journal that live now."""
    found = []
    for event in journal(run):
        pids = event.get("process_ids")
        for pid in pids if isinstance(pids, list) else []:
            try:
                found.append(Process.of(int(str(pid))))
            except ProcessLookupError:
                continue
    return found


def gone(processes: Sequence[Process]) -> None:
    """Wait until none of them lives.

    Raises:
        AssertionError: some still do after `GONE_S`; it says what they are.
    """
    deadline = time.monotonic() + GONE_S
    while left := [process for process in processes if process.alive()]:
        assert time.monotonic() < deadline, f"after {GONE_S:g} s: {list(map(_told, left))}"
        time.sleep(0.05)


def _told(process: Process) -> str:
    try:
        argv = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        argv = []
    return f"{process.pid} {b' '.join(argv[-6:]).decode(errors='replace')}"


def interrupt(process: subprocess.Popen[str], number: signal.Signals = signal.SIGINT) -> None:
    """Send a signal to the driver alone, not to what it started."""
    os.kill(process.pid, number)


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A frame's rows, each by column name."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
