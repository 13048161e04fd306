"""AIPerf, by the command line of 0.13 and the schema 1.4 of what it exports.

What it calls inter-token latency is our TPOT, but that its requests end with the last response
and not with the last content; its inter-chunk latency is our ITL.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from runtimes.load.job import Api
from runtimes.peers.command import PEERS, Peer, PeerTask, document_in
from runtimes.peers.fields import Fields

_RESULT = "profile_export_aiperf.json"
_STATISTICS = {
    "avg": "mean", "p1": "p1", "p5": "p5", "p10": "p10", "p25": "p25", "p50": "p50", "p75": "p75",
    "p90": "p90", "p95": "p95", "p99": "p99",
}  # fmt: skip
_LATENCIES = {
    "time_to_first_token": "ttft",
    "inter_token_latency": "tpot",
    "inter_chunk_latency": "itl",
    "request_latency": "e2e",
}
_TOTALS = {
    "request_count": "requests_completed",
    "error_request_count": "requests_failed",
    "total_isl": "input_tokens",
    "total_osl": "output_tokens",
    "request_throughput": "request_throughput",
    "input_token_throughput": "input_throughput",
    "output_token_throughput": "output_throughput",
    "total_token_throughput": "total_throughput",
}


@PEERS.register("aiperf")
class AiPerf(Peer):
    name: ClassVar[str] = "aiperf"
    program: ClassVar[str] = "aiperf"
    # On its command line alone, where every user of the machine could read it.
    api_key_env: ClassVar[str] = ""

    def arguments(self, task: PeerTask) -> list[str] | None:
        options: dict[str, object] = {
            "model": task.model,
            "url": task.url,
            "endpoint-type": "chat" if task.api is Api.CHAT else "completions",
            "request-count": task.requests,
            "isl": task.input_tokens,
            "isl-stddev": 0,
            "osl": task.output_tokens,
            "osl-stddev": 0,
            "extra-inputs": "ignore_eos:true",
            "random-seed": task.seed,
            "artifact-dir": task.folder,
            "ui": "none",
        }
        if task.concurrency is not None:
            options["concurrency"] = task.concurrency
        else:
            options["request-rate"] = task.rate
            options["arrival-pattern"] = _PATTERNS.get(task.cv, "gamma")
            if task.cv not in _PATTERNS:
                options["arrival-smoothness"] = task.cv**-2
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        return ["profile", *words, "--streaming", "--use-server-token-count"]

    def figures(self, folder: Path) -> Mapping[str, float]:
        document = document_in(folder / _RESULT)
        found: dict[str, float] = {}
        for theirs, ours in _TOTALS.items():
            value = document.find_section(theirs).find_number("avg")
            if value is not None:
                found[ours] = value
        for theirs, ours in _LATENCIES.items():
            found |= _latency(document.find_section(theirs), ours)
        return found


_PATTERNS = {0.0: "constant", 1.0: "poisson"}


def _latency(metric: Fields, ours: str) -> dict[str, float]:
    """Empty in another unit than the documented one: a guess would be off by a thousand."""
    if metric.find_text("unit") != "ms":
        return {}
    return {
        f"{ours}_{statistic}_ms": value
        for theirs, statistic in _STATISTICS.items()
        if (value := metric.find_number(theirs)) is not None
    }
