"""Our latencies beside vLLM's own bench and the engine's own histograms, on one real vLLM.

    SERVETUNE_VLLM_PYTHON=… SERVETUNE_TINY_MODEL=… python -m benchmarks.real_vllm [--out FILE.json]

Starts vLLM on the CPU with random weights of a tiny model and sends the same load (prompt and
output lengths, streams) with our client and with `vllm bench serve`, in turns. Beside each run are
the means of the engine's histograms over exactly that run: `time_to_first_token` and
`request_time_per_output_token`, both seen from within the engine, and its counters.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.load_client import vllm_bench_argv
from runtimes.engines.vllm import VllmEngine
from runtimes.load.arrivals import ConcurrencyLoad
from runtimes.load.job import LoadJob
from runtimes.load.workers import LoadWorkers, Server
from runtimes.slo import Slo
from runtimes.statistics import summarise
from runtimes.workloads.base import Prompt

INPUT_TOKENS, OUTPUT_TOKENS = 32, 64
STREAMS = (1, 8)
REQUESTS_PER_STREAM = 8
_HISTOGRAMS = {
    "ttft_ms": "vllm:time_to_first_token_seconds",
    "tpot_ms": "vllm:request_time_per_output_token_seconds",
    "itl_ms": "vllm:inter_token_latency_seconds",
}
_COUNTERS = ("vllm:prompt_tokens_total", "vllm:generation_tokens_total")
_START_S = 300

Figures = dict[str, float]


def main() -> int:
    """Run, print one table, write all runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    python = os.environ.get("SERVETUNE_VLLM_PYTHON")
    model = os.environ.get("SERVETUNE_TINY_MODEL")
    if not python or not model:
        print("set SERVETUNE_VLLM_PYTHON and SERVETUNE_TINY_MODEL", file=sys.stderr)
        return 2
    rows: list[dict[str, object]] = []
    with _vllm(python, model) as port:
        _own(port, model, streams=max(STREAMS), seed=0)  # compiles what is compiled lazily
        for streams in STREAMS:
            runs: dict[str, list[Figures]] = {"servetune": [], "vllm bench": []}
            for repeat in range(arguments.repeats):
                before = _page(port)
                figures = _own(port, model, streams=streams, seed=1 + repeat)
                runs["servetune"].append({**figures, **_inside(before, _page(port))})
                before = _page(port)
                figures = _theirs(python, model, port, streams)
                runs["vllm bench"].append({**figures, **_inside(before, _page(port))})
            for client, every in runs.items():
                medians = {name: statistics.median(run[name] for run in every) for name in every[0]}
                rows.append({"streams": streams, "client": client, **medians, "runs": every})
    _print(rows)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


def _own(port: int, model: str, *, streams: int, seed: int) -> Figures:
    count = streams * REQUESTS_PER_STREAM
    first = 1000 * seed + 100 * streams
    prompts = [
        Prompt((10 + (first + index) % 400, *range(20, 19 + INPUT_TOKENS)), OUTPUT_TOKENS)
        for index in range(count)
    ]
    load = ConcurrencyLoad(streams, count)
    job = LoadJob(prompts, load, model, VllmEngine.request_fields, seed, 600, 60)

    async def run() -> Figures:
        async with LoadWorkers([Server("127.0.0.1", port)], processes=1) as workers:
            found = summarise(await workers.run(job), Slo(), load)
        assert found.ttft_ms is not None
        assert found.tpot_ms is not None
        assert found.itl_ms is not None
        assert found.input_tokens is not None and found.output_tokens is not None
        return {
            "ttft_ms": found.ttft_ms.mean,
            "tpot_ms": found.tpot_ms.mean,
            "itl_ms": found.itl_ms.mean,
            "tokens_per_chunk": found.tokens_per_chunk or 0.0,
            "prompt_tokens": found.input_tokens,
            "output_tokens": found.output_tokens,
        }

    return asyncio.run(run())


def _theirs(python: str, model: str, port: int, streams: int) -> Figures:
    with tempfile.TemporaryDirectory(prefix="servetune-bench-") as folder:
        argv = vllm_bench_argv(
            python, model, port,
            served=model, requests=streams * REQUESTS_PER_STREAM, streams=streams,
            input_tokens=INPUT_TOKENS, output_tokens=OUTPUT_TOKENS, folder=folder,
        )  # fmt: skip
        env = {**os.environ, "HF_HUB_OFFLINE": "1"}
        subprocess.run(argv, check=True, capture_output=True, env=env)
        said = json.loads((Path(folder) / "result.json").read_text(encoding="utf-8"))
    return {
        "ttft_ms": said["mean_ttft_ms"],
        "tpot_ms": said["mean_tpot_ms"],
        "itl_ms": said["mean_itl_ms"],
        "tokens_per_chunk": float("nan"),
        "prompt_tokens": said["total_input_tokens"],
        "output_tokens": said["total_output_tokens"],
    }


def _page(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return str(answer.read(), "utf-8")


def _inside(before: str, after: str) -> Figures:
    """Means of the engine's histograms between two pages, ms, and what its counters grew by."""

    def grown(name: str) -> float:
        return _sum_of(after, name) - _sum_of(before, name)

    figures = {
        f"engine_{latency}": 1e3 * grown(f"{name}_sum") / max(1.0, grown(f"{name}_count"))
        for latency, name in _HISTOGRAMS.items()
    }
    return {**figures, **{f"engine_{name[5:-6]}": grown(name) for name in _COUNTERS}}


def _sum_of(page: str, name: str) -> float:
    found = re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? (\S+)$", page, re.MULTILINE)
    return sum(map(float, found))


@contextmanager
def _vllm(python: str, model: str) -> Iterator[int]:
    """A vLLM on the CPU, ready; yields its port."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = int(held.getsockname()[1])
    argv = [
        python, "-m", "vllm.entrypoints.openai.api_server", "--model", model, "--port", str(port),
        "--host", "127.0.0.1", "--load-format", "dummy", "--enforce-eager",
        "--max-model-len", "512",
    ]  # fmt: skip
    env = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    # Its threads spin while they wait: on one core they leave the others to its HTTP server and to
    # the clients, without which every chunk would wait for a time slice.
    env["VLLM_CPU_OMP_THREADS_BIND"] = "0"
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(argv, stdout=log, stderr=log, env=env, start_new_session=True) as process,
    ):
        try:
            _until_healthy(process, port)
            yield port
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def _until_healthy(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"vLLM did not become healthy: exit {process.poll()}")


def _print(rows: Sequence[Mapping[str, object]]) -> None:
    columns = ("ttft_ms", "engine_ttft_ms", "tpot_ms", "engine_tpot_ms", "itl_ms", "engine_itl_ms")
    totals = (
        "tokens_per_chunk", "prompt_tokens", "engine_prompt_tokens", "output_tokens",
        "engine_generation_tokens",
    )  # fmt: skip
    print(f"| streams | client | {' | '.join((*columns, *totals))} |")
    print("|---" * (2 + len(columns) + len(totals)) + "|")
    for row in rows:
        cells = [f"{row[name]:.3f}" for name in columns] + [f"{row[name]:g}" for name in totals]
        print(f"| {row['streams']} | {row['client']} | {' | '.join(cells)} |")


if __name__ == "__main__":
    sys.exit(main())
