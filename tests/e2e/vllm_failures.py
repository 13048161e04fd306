"""Ways in which real vLLM (the CPU build) fails to start, each with what it has to be called."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_COMMON = ("--load-format", "dummy", "--enforce-eager", "--max-model-len", "1024")
_DEADLINE_S = 240


@dataclass(frozen=True, slots=True)
class Case:
    """One command that fails.

    Attributes:
        args: arguments beside the common ones; of an argument given twice the last counts.
        env: further variables.
        model: what it is told to load; None for the tiny model.
        busy_port: True when its port is taken.
    """

    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    model: str | None = None
    busy_port: bool = False


CASES: Mapping[str, Case] = {
    "unknown_flag": Case(("--max-num-sequences", "4")),
    "bad_integer": Case(("--max-num-seqs", "abc")),
    "bad_choice": Case(("--kv-cache-dtype", "fp7")),
    "zero_seqs": Case(("--max-num-batched-tokens", "0")),
    "heads_not_divided": Case(("--tensor-parallel-size", "3")),
    "tokens_below_seqs": Case(("--max-num-batched-tokens", "64", "--max-num-seqs", "128")),
    "numa": Case(("--tensor-parallel-size", "2")),
    "model_folder_missing": Case(model="/no/such/folder"),
    "model_not_cached": Case(model="nobody/no-such-model"),
    "context_too_long": Case(("--max-model-len", "999999")),
    "quantization_mismatch": Case(("--quantization", "awq")),
    "kv_memory": Case(env={"VLLM_CPU_KVCACHE_SPACE": "4000"}),
    "port_in_use": Case(busy_port=True),
    "missing_kernel": Case(("--quantization", "fp8")),
}


def run(case: Case, *, python: str, model: str, folder: Path) -> tuple[int, str]:
    """Exit code and output of `case`, run to its end."""
    with _port(busy=case.busy_port) as port:
        command = [
            *(python, "-m", "vllm.entrypoints.openai.api_server"),
            *("--model", case.model or model, "--host", "127.0.0.1", "--port", str(port)),
            *(*_COMMON, *case.args),
        ]
        done = subprocess.run(
            command,
            env={
                **os.environ,
                "VLLM_CPU_KVCACHE_SPACE": "1",
                "HF_HUB_OFFLINE": "1",
                "VLLM_NO_USAGE_STATS": "1",
                **case.env,
            },
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_DEADLINE_S,
            check=False,
        )
    return done.returncode, done.stdout


def anonymous(log: str, *, python: str, model: str) -> str:
    """`log` without the paths of the machine it was recorded on."""
    prefix = Path(python).parent.parent
    site = str(next((prefix / "lib").glob("python3*/site-packages"), prefix))
    shown = log.replace(site, "/path/to/site-packages").replace(str(prefix), "/path/to/venv")
    return shown.replace(model, "/path/to/tiny")


@contextmanager
def _port(*, busy: bool) -> Iterator[int]:
    """A port of loopback: free, or with somebody listening on it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        if not busy:
            server.close()
        yield port
