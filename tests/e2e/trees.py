"""Studies whose engine is a stubborn process tree: detached, orphaned and respawning processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runtimes.guard import Process
from runtimes.json_types import Json
from tests.e2e import studies
from tests.runtimes.test_guard import TREE_SIZE

TREE = studies.ROOT / "tests/runtimes/process_tree.py"

_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 16,
    "hidden_size": 2048,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 8192,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
}
_ENGINE = """#!{python}
'''`vllm`: starts a process tree beside itself and becomes a simulated engine.'''
import os, subprocess, sys

record = os.path.join({records!r}, str(os.getpid()))
subprocess.Popen([sys.executable, {tree!r}, record, "ignore"])
given = sys.argv[2:]
host, port = (given[given.index(flag) + 1] for flag in ("--host", "--port"))
os.environ["PYTHONPATH"] = {root!r}
own = ["--host", host, "--port", port, "--accelerator", "H100", "--model", given[0]]
own += ["--imitates", "vllm", "--startup-s", os.environ["TREE_STARTUP_S"], "--", *given]
os.execv(sys.executable, [sys.executable, "-m", "runtimes.simulator", *own])
"""


@dataclass(frozen=True)
class Grove:
    """A running study and every process that its engines have started.

    Attributes:
        driver: the command that runs the study.
        run: its folder.
        records: folder with one file a tree, which names its processes.
    """

    driver: subprocess.Popen[str]
    run: Path
    records: Path

    def guards(self) -> list[tuple[Process, Process]]:
        """Outer and inner guard of every engine that lives."""
        found = studies.engine_processes(self.run)
        pids = {process.pid: process for process in found}
        rows = [event.get("process_ids") for event in studies.journal(self.run)]
        threes = {tuple(row) for row in rows if isinstance(row, list) and len(row) == 3}
        return [
            (pids[int(str(outer))], pids[int(str(inner))])
            for outer, inner, _ in threes
            if outer in pids and inner in pids
        ]

    def processes(self) -> list[Process]:
        """Guards, engines and trees so far, living or not."""
        lines = [line.split() for path in self.trees() for line in path.read_text().splitlines()]
        trees = [Process(int(pid), int(started)) for _, pid, started in lines]
        return [*studies.engine_processes(self.run), *trees]

    def trees(self) -> list[Path]:
        return sorted(self.records.iterdir())

    def grown(self, trees: int) -> bool:
        """Whether so many trees stand with all their processes."""
        full = [path for path in self.trees() if path.read_text().count("\n") >= TREE_SIZE]
        return len(full) >= trees and len(self.guards()) >= trees

    def phase(self, name: str) -> int:
        """How many attempts have entered this phase."""
        events = studies.journal(self.run)
        return len({event["number"] for event in events if event.get("phase") == name})


@contextmanager
def grove(
    folder: Path,
    cluster: Mapping[str, Json],
    *,
    trees: int = 1,
    startup_s: float = 0.1,
    **env: str,
) -> Iterator[Grove]:
    """A study with so many engines at once, once their trees stand.

    With a long `startup_s` they are still starting, otherwise they are under load. Whatever a
    broken guard leaves is killed at the end.
    """
    records, results = folder / "records", folder / "runs"
    records.mkdir(parents=True)
    path = studies.write(folder, _experiment(folder, records, cluster, trees, startup_s))
    made: Grove | None = None
    with studies.started("run", path, "--results", results, **env) as driver:
        try:
            studies.wait_for(lambda: results.is_dir() and list(results.iterdir()), "a run")
            made = Grove(driver, studies.only_run(results), records)
            grown = made
            studies.wait_for(lambda: _standing(grown, trees, startup_s), f"{trees} trees")
            yield made
        finally:
            for process in made.processes() if made is not None else ():
                process.send(signal.SIGKILL)


def _standing(made: Grove, trees: int, startup_s: float) -> bool:
    assert made.driver.poll() is None, made.driver.communicate()[1]
    phase = "measuring" if startup_s < 1 else "starting"
    return made.grown(trees) and made.phase(phase) >= trees


def _experiment(
    folder: Path, records: Path, cluster: Mapping[str, Json], trees: int, startup_s: float
) -> dict[str, Json]:
    model = folder / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(_CONFIG))
    bin_ = folder / "bin"
    bin_.mkdir()
    (bin_ / "python").symlink_to(sys.executable)
    engine = bin_ / "vllm"
    engine.write_text(
        _ENGINE.format(
            python=sys.executable, records=str(records), tree=str(TREE), root=str(studies.ROOT)
        )
    )
    engine.chmod(0o755)
    return studies.experiment(
        model={"path": str(model)},
        engines={
            "vllm": {
                "environment": {"python": str(bin_ / "python")},
                "env": {"TREE_STARTUP_S": str(startup_s)},
                "search": {"max-num-seqs": [4 + number for number in range(trees)]},
            }
        },
        workload={
            "input_tokens": 32,
            "output_tokens": 64,
            "load": {"kind": "concurrency", "value": 2, "requests": 100_000},
        },
        timeouts={"stop": "2s"},
        cluster=dict(cluster),
    )


Fault = Callable[[Grove], None]


def kill_outer_guards(grove: Grove) -> None:
    for outer, _ in grove.guards():
        outer.send(signal.SIGKILL)


def kill_engines_parents(grove: Grove) -> None:
    for _, inner in grove.guards():
        inner.send(signal.SIGKILL)


def kill_worker(grove: Grove) -> None:
    """The Ray worker whose actor owns the engines."""
    os.kill(_worker(grove), signal.SIGKILL)


def kill_raylet(grove: Grove) -> None:
    raylet = _parent(_worker(grove))
    assert Path(f"/proc/{raylet}/comm").read_text().strip() == "raylet"
    os.kill(raylet, signal.SIGKILL)


def kill_driver(grove: Grove) -> None:
    grove.driver.kill()


def interrupt_driver(grove: Grove) -> None:
    studies.interrupt(grove.driver)


def _worker(grove: Grove) -> int:
    (pid,) = {_parent(outer.pid) for outer, _ in grove.guards()}
    assert Path(f"/proc/{pid}/comm").read_text().startswith("ray::")
    return pid


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def end(grove: Grove) -> None:
    """Stop a driver that still lives, and wait for its end."""
    if grove.driver.poll() is None:
        studies.interrupt(grove.driver)
    grove.driver.communicate(timeout=90)
