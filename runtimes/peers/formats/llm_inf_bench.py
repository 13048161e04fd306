"""The result file of llm-inf-bench: a summary, and its requests without the times they were sent.

Latencies are computed from the requests, rates from the summary's totals. Its TTFT and its gaps
between tokens (TBT, our ITL) are defined as ours are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate
from typing import ClassVar

from runtimes.measurement import RequestRecord
from runtimes.peers.fields import Fields
from runtimes.peers.figures import from_records, from_totals
from runtimes.peers.result import RESULT_FORMATS, PeerResult, ResultFormat

_LATENCIES = ("ttft_ms", "tpot_ms", "itl_ms", "e2e_ms")


@RESULT_FORMATS.register("llm-inf-bench")
class LlmInfBenchFormat(ResultFormat):
    name: ClassVar[str] = "llm-inf-bench"
    keys: ClassVar[frozenset[str]] = frozenset(
        {"run_id", "experiment", "metadata", "summary", "requests"}
    )

    def read(self, document: Fields) -> list[PeerResult]:
        experiment, metadata = document.section("experiment"), document.section("metadata")
        summary = document.section("summary")
        # Their latencies alone mean something: no request says when it was sent.
        alone = from_records(list(_requests(document)))
        measured = from_totals(
            completed=summary.count("successful_requests"),
            failed=summary.count("failed_requests"),
            duration_s=summary.number("total_duration_s"),
            input_tokens=summary.count("total_prompt_tokens"),
            output_tokens=summary.count("total_completion_tokens"),
            latencies={name: getattr(alone, name) for name in _LATENCIES},
        )
        intervals = {
            name: interval for name, interval in alone.intervals.items() if name.endswith("_ms")
        }
        return [
            PeerResult(
                tool=self.name,
                model=experiment.section("model").text("name"),
                load="concurrency",
                load_value=_held(experiment.section("workload")),
                started_unix_s=metadata.instant("started_at"),
                ended_unix_s=metadata.instant("finished_at"),
                measurement=replace(measured, intervals=intervals),
                gpus=metadata.find_count("gpu_count")
                or experiment.find_section("infrastructure").find_count("gpu_count"),
                gpu_model=metadata.find_text("gpu_type")
                or experiment.find_section("infrastructure").find_text("gpu_type")
                or "",
                facts=_facts(document, experiment),
            )
        ]


def _held(workload: Fields) -> float:
    """Requests in flight; its workloads are closed loops, of one at a time where none says more."""
    held = workload.find_number("concurrency") or workload.find_number("batch_size")
    return 1.0 if held is None else held


def _facts(document: Fields, experiment: Fields) -> dict[str, str]:
    return {
        "llm_inf_bench_run": document.text("run_id"),
        "framework": experiment.find_text("framework") or "",
    }


def _requests(document: Fields) -> Iterator[RequestRecord]:
    """Each as if it had been sent at 0."""
    for index, request in enumerate(document.sections("requests")):
        ttft, latency = request.find_number("ttft_ms"), request.find_number("e2e_latency_ms")
        gaps = request.numbers("inter_token_latencies_ms")
        error = request.find_text("error")
        yield RequestRecord(
            index=index,
            scheduled_ns=0,
            sent_ns=0,
            chunk_ns=()
            if ttft is None
            else tuple(round(at * 1e6) for at in accumulate(gaps, initial=ttft)),
            end_ns=round((latency or 0.0) * 1e6),
            prompt_tokens=request.find_count("prompt_tokens"),
            output_tokens=request.find_count("completion_tokens"),
            requested_output_tokens=request.find_count("completion_tokens") or 0,
            error=error[:200] if error is not None else None,
            turn=request.find_count("turn_index") or 0,
        )
