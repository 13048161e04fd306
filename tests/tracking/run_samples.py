"""Hand-made runs for the tests of reports, summaries and metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from runtimes.failure import Failure, FailureKind
from runtimes.json_types import Json, short_hash
from runtimes.measurement import Distribution, Measurement
from runtimes.slo import SloLimit, SloVerdict
from search.trial import TrialState
from tracking.records import TrialRecord
from tracking.run_data import Goal, RunData

START_UNIX_S = 1_767_225_600.0
"""2026-01-01T00:00:00Z, when sample runs start."""

TTFT_LIMIT_MS = 500.0
TPOT_LIMIT_MS = 40.0


def distribution(mean: float) -> Distribution:
    return Distribution(
        count=400,
        mean=mean,
        p50=mean * 0.95,
        p90=mean * 1.2,
        p95=mean * 1.3,
        p99=mean * 1.5,
        max=mean * 2,
    )


def measurement(
    *,
    output_throughput: float = 2000.0,
    ttft_ms: float = 200.0,
    tpot_ms: float = 20.0,
    limits: bool = True,
    flags: Sequence[str] = (),
) -> Measurement:
    """A stage whose p99s are 1.5 times the given means; 256 output tokens a request."""
    ttft, tpot = distribution(ttft_ms), distribution(tpot_ms)
    verdicts = (
        SloVerdict(SloLimit("ttft_ms", "p99", TTFT_LIMIT_MS), ttft.p99),
        SloVerdict(SloLimit("tpot_ms", "p99", TPOT_LIMIT_MS), tpot.p99),
    )
    rate = output_throughput / 256
    return Measurement(
        requests_completed=400,
        requests_failed=0,
        duration_s=400 / rate,
        input_tokens=400 * 1024,
        output_tokens=400 * 256,
        requested_output_tokens=400 * 256,
        ttft_ms=ttft,
        tpot_ms=tpot,
        itl_ms=tpot,
        e2e_ms=distribution(ttft_ms + 255 * tpot_ms),
        request_throughput=rate,
        input_throughput=rate * 1024,
        output_throughput=output_throughput,
        total_throughput=rate * 1280,
        goodput=rate,
        slo=verdicts if limits else (),
        flags=tuple(flags),
    )


def trial_record(
    number: int,
    *,
    state: TrialState = TrialState.COMPLETED,
    attempt: int = 0,
    engine: str = "vllm",
    params: Mapping[str, Json] | None = None,
    gpus: int = 1,
    gpu_ids: Sequence[str] | None = None,
    start_s: float = 0.0,
    seconds: float = 100.0,
    measured: Measurement | None = None,
    goodput_per_gpu: float | None = None,
    objectives: Mapping[str, float] | None = None,
    failure: Failure | None = None,
    reason: str = "",
    baseline: bool = False,
    simulated: bool = False,
    flags: Sequence[str] = (),
) -> TrialRecord:
    """One attempt on bundle `b0`; completed ones get figures and the objective of the figures.

    `start_s` counts from `START_UNIX_S`.
    """
    chosen: Mapping[str, Json] = {"tp": gpus} if params is None else params
    if state is TrialState.COMPLETED:
        measured = measured or measurement()
        value = measured.goodput / gpus if goodput_per_gpu is None else goodput_per_gpu
        objectives = objectives or {"goodput_per_gpu": value}
    ids = tuple(gpu_ids) if gpu_ids is not None else tuple(str(index) for index in range(gpus))
    command = ("vllm", "serve", "meta-llama/Llama-3.1-8B", "--tensor-parallel-size", str(gpus))
    return TrialRecord(
        run="demo-20260101T000000Z-abcd",
        number=number,
        attempt=attempt,
        state=state,
        engine=engine,
        params=chosen,
        config_id=short_hash([engine, dict(chosen)]),
        command=(*command, "--host", "{host}", "--port", "{port}"),
        deploy_command=command,
        simulated=simulated,
        model="meta-llama/Llama-3.1-8B",
        model_revision="main",
        seed=7,
        gpus=gpus,
        baseline=baseline,
        gpu_ids=ids,
        gpu_model="H200",
        node="node-a",
        bundle="b0",
        started_unix_s=START_UNIX_S + start_s,
        ended_unix_s=START_UNIX_S + start_s + seconds,
        startup_s=seconds * 0.3,
        warmup_s=seconds * 0.1,
        measure_s=seconds * 0.55,
        stop_s=seconds * 0.05,
        gpu_seconds=gpus * seconds,
        deciding_stage=0 if measured else None,
        measurement=measured,
        objectives=objectives or {},
        failure=failure,
        reason=reason,
        flags=tuple(flags),
        engine_version="0.33.0",
        engine_config={"max_num_seqs": "256"},
        versions={"servetune": "0.1.0", "python": "3.11.7"},
    )


def out_of_memory() -> Failure:
    return Failure(
        FailureKind.OOM_WEIGHTS,
        "CUDA out of memory. Tried to allocate 3.50 GiB",
        remedy="Lower gpu-memory-utilization or raise tp.",
        exit_code=1,
        log_tail="INFO loading weights\nERROR torch.OutOfMemoryError: CUDA out of memory.",
    )


def run_data(
    trials: Sequence[TrialRecord],
    *,
    goals: Sequence[Goal] = (Goal("goodput_per_gpu", "maximize"),),
    capacity_gpus: int = 8,
    excluded: Mapping[str, int] | None = None,
    ended: str = "budget of trials reached",
) -> RunData:
    return RunData(
        run="demo-20260101T000000Z-abcd",
        name="demo",
        experiment={"name": "demo", "model": {"id": "meta-llama/Llama-3.1-8B"}},
        goals=tuple(goals),
        trials=tuple(trials),
        capacity_gpus=capacity_gpus,
        excluded=excluded or {},
        ended=ended,
    )


_CRASH = Failure(
    FailureKind.CRASHED,
    "RuntimeError: CUDA error: an illegal memory access was encountered",
    remedy="Report it to the engine with the log; the study goes on without this point.",
    exit_code=-6,
    log_tail="(EngineCore) ERROR RuntimeError: CUDA error: an illegal memory access\n"
    "(EngineCore) ERROR   at csrc/attention/paged_attention_v2.cu:112\n"
    "(APIServer) ERROR engine core died, shutting down",
)
_BUSY = Failure(
    FailureKind.GPU_BUSY,
    "GPU 6 still holds 71,320 MiB of another process",
    remedy="End that process, or leave the GPU out of the study.",
)


def study(*, simulated: bool = False) -> RunData:
    """Twelve trials of two engines on eight GPUs: failures, a retry, flags, a broken SLO."""

    def held(number: int, gpu_ids: str, start_s: float, seconds: float) -> TrialRecord:
        return trial_record(
            number,
            gpus=len(gpu_ids),
            gpu_ids=tuple(gpu_ids),
            start_s=start_s,
            seconds=seconds,
            simulated=simulated,
            state=TrialState.CANCELLED,
            reason="cancelled",
        )

    def done(
        trial: TrialRecord, output: float, tpot: float, ttft: float, **changes: Json
    ) -> TrialRecord:
        measured = measurement(output_throughput=output, tpot_ms=tpot, ttft_ms=ttft)
        return replace(
            trial,
            state=TrialState.COMPLETED,
            reason="",
            params={"tp": trial.gpus, **changes},
            measurement=measured,
            objectives={"goodput_per_gpu": measured.goodput / trial.gpus},
            deploy_command=(*trial.deploy_command, *_options(changes)),
        )

    def failed(trial: TrialRecord, failure: Failure, **changes: Json) -> TrialRecord:
        state = TrialState.INFEASIBLE if failure.kind.infeasible else TrialState.FAILED
        parameters = {"tp": trial.gpus, **changes}
        return replace(trial, state=state, reason="", failure=failure, params=parameters)

    def on_sglang(trial: TrialRecord) -> TrialRecord:
        return replace(trial, engine="sglang", engine_version="0.5.16")

    def names(seqs: int, tokens: int, **more: Json) -> dict[str, Json]:
        return {"max-num-seqs": seqs, "max-num-batched-tokens": tokens, **more}

    baseline = replace(done(held(0, "0123", 0, 310), 5150, 26.0, 310), baseline=True, params={})
    flagged = replace(
        done(held(5, "4567", 310, 250), 7420, 21.4, 265, **names(256, 8192)),
        flags=("request_errors",),
    )
    pruned = replace(
        held(8, "45", 575, 130),
        state=TrialState.PRUNED,
        reason="TTFT p99 above 4 times its limit after the first stage",
        params={"tp": 2, **names(1024, 2048)},
    )
    return run_data(
        [
            baseline,
            done(held(1, "45", 0, 260), 3420, 24.5, 280, **names(128, 8192)),
            failed(held(2, "67", 0, 18), _BUSY, **names(512, 8192)),
            replace(done(held(2, "67", 30, 270), 3610, 25.8, 331, **names(512, 8192)), attempt=1),
            failed(held(3, "0", 318, 64), out_of_memory(), **names(512, 16384)),
            failed(held(4, "0123", 392, 205), _CRASH, **names(1024, 16384)),
            flagged,
            on_sglang(
                done(held(6, "0", 605, 240), 1490, 38.1, 402, **{"chunked-prefill-size": 4096})
            ),
            on_sglang(
                done(held(7, "12", 600, 255), 4010, 23.1, 240, **{"chunked-prefill-size": 8192})
            ),
            pruned,
            done(held(9, "67", 570, 275), 4320, 26.2, 318, **names(256, 16384)),
            done(held(10, "01234567", 860, 340), 12100, 13.9, 190, **names(512, 16384)),
            held(11, "0123", 1210, 96),
        ],
        excluded={
            "tp 8 · pp 2 · dp 1 needs 16 GPUs, a node has 8": 48,
            "weights 140.6 GB on tp 1 exceed the 129.3 GB that 0.92 of an H200 leaves": 12,
        },
    )


def _options(values: Mapping[str, Json]) -> list[str]:
    return [part for name, value in values.items() for part in (f"--{name}", str(value))]
