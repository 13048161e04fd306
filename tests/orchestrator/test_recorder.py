"""What the sampler is told of stored rows: the same at the end of a trial and on every resume."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.decisions import Waiting
from orchestrator.recorder import Recorder, told_outcome
from orchestrator.spec import Experiment
from orchestrator.wiring import Study, wire
from runtimes.failure import Failure, FailureKind
from runtimes.json_types import Json
from runtimes.parallel import ParallelLayout
from runtimes.quantization import Quantization
from search.trial import Cancelled, Completed, Failed, Infeasible, Outcome, Params, TrialState
from tests.tracking import run_samples
from tracking.journal import Journal
from tracking.layout import RunLayout
from tracking.parquet.read import read_trials
from tracking.records import DISQUALIFYING, TrialRecord


@pytest.fixture
def completed() -> TrialRecord:
    return next(row for row in run_samples.study().trials if row.state is TrialState.COMPLETED)


def test_a_measurement_is_told_with_its_objectives_and_violations(completed: TrialRecord) -> None:
    outcome = told_outcome(completed)
    assert isinstance(outcome, Completed)
    assert outcome.objectives == completed.objectives
    assert completed.measurement is not None
    assert list(outcome.violations.values()) == [v.violation for v in completed.measurement.slo]


@pytest.mark.parametrize("flag", sorted(DISQUALIFYING))
def test_a_measurement_that_is_not_comparable_teaches_nothing(
    completed: TrialRecord, flag: str
) -> None:
    outcome = told_outcome(replace(completed, flags=(flag,)))
    assert outcome == Cancelled(f"not comparable: {flag}")


def test_a_flag_that_only_informs_changes_nothing(completed: TrialRecord) -> None:
    assert isinstance(told_outcome(replace(completed, flags=("simulator_late",))), Completed)


def test_failures_and_infeasible_rows_are_told_as_such(completed: TrialRecord) -> None:
    failure = Failure(FailureKind.CRASHED, "it died")
    failed = replace(completed, state=TrialState.FAILED, failure=failure)
    assert told_outcome(failed) == Failed(failure)
    oom = Failure(FailureKind.OOM_WEIGHTS, "too big")
    infeasible = replace(completed, state=TrialState.INFEASIBLE, failure=oom, reason="too big")
    assert told_outcome(infeasible) == Infeasible("too big", oom)
    cancelled = replace(completed, state=TrialState.CANCELLED, reason="SIGINT")
    assert told_outcome(cancelled) == Cancelled("SIGINT")


# --- what a row says of its layout and precision -------------------------------------------------

EXPERIMENT: dict[str, Json] = {
    "name": "n",
    "model": "meta-llama/Llama-3.1-8B",
    "engines": {"vllm": {}},
    "parallel": {"presets": ["large-model-tp-pp"], "tp": [1, 2]},
    "quantization": {"presets": ["default", "kv-cache-fp8"], "gemm": [None]},
    "cluster": {"kind": "local", "gpus_per_node": 4},
}
LOSSY: dict[str, Json] = {
    "parallel.preset": "large-model-tp-pp",
    "quantization.preset": "kv-cache-fp8",
}
LOSSLESS: dict[str, Json] = {
    "parallel.preset": None, "tp": 2, "pp": 1, "dp": 1,
    "quantization.preset": None, "quantization.gemm": None,
}  # fmt: skip


def recorded(
    folder: Path,
    values: dict[str, Json],
    outcome: Outcome,
    study: Study | None = None,
    *,
    engine: str = "vllm",
) -> TrialRecord:
    """The row of a trial that ended with `outcome`, as it is read back."""
    study = study or wire(Experiment.from_dict(EXPERIMENT))
    params = Params(engine, values)
    assert study.space.holds(params)
    layout = RunLayout(folder / "run")
    layout.create()
    with Journal(layout.journal_dir, clock=time.time) as journal:
        recorder = Recorder(study, "run", layout, journal)
        plan = study.admission.plan(params)
        recorder.attempt(
            Waiting(0, params, plan.gpus), plan, None, outcome, done=None, retry=False, held_s=0.0
        )
    (row,) = read_trials(layout)
    return row


def test_a_row_holds_the_layout_and_the_precision_that_its_presets_stand_for(
    tmp_path: Path,
) -> None:
    row = recorded(tmp_path, LOSSY, Infeasible("too big"))
    assert row.params == LOSSY
    assert row.layout == ParallelLayout(tp=2, pp=2)
    assert row.quantization == Quantization(kv_cache="fp8")
    assert row.flags == ()


def test_a_measured_row_of_a_lossy_precision_is_labelled(tmp_path: Path) -> None:
    row = recorded(tmp_path, LOSSY, Completed({"output_throughput_per_gpu": 1.0}))
    assert row.flags == ("accuracy_unverified",)
    assert not row.lossless
    assert not row.doubts, "the search learns from it all the same"


@pytest.mark.parametrize(
    ("model", "ep", "flagged"),
    [
        ("acme/nobody-knows", 2, True),
        ("acme/nobody-knows", 1, False),
        ("Qwen/Qwen3-30B-A3B", 2, True),
        ("meta-llama/Llama-3.1-8B", 2, False),
    ],
)
def test_experts_on_several_ranks_are_content_unless_there_are_none(
    tmp_path: Path, model: str, ep: int, flagged: bool
) -> None:
    study = wire(
        Experiment.from_dict({**EXPERIMENT, "model": model, "parallel": {"tp": 2, "ep": [1, 2]}})
    )
    values = {**LOSSLESS, "ep": ep}
    del values["parallel.preset"]
    row = recorded(tmp_path, values, Completed({"output_throughput_per_gpu": 1.0}), study)
    assert ("content_sensitive" in row.flags) == flagged


@pytest.mark.parametrize(
    ("engine", "args", "flagged"),
    [
        ("tensorrt_llm", {"speculative_config": {"decoding_type": "NGram"}}, True),
        ("tensorrt_llm", {"speculative_config.decoding_type": "NGram"}, True),
        ("tensorrt_llm", {"max_batch_size": 8}, False),
        ("sglang", {"speculative-algorithm": "NGRAM"}, True),
        ("sglang", {"speculative-num-draft-tokens": 4}, False),
    ],
)
def test_speculation_is_content_where_no_counter_tells_of_it(
    tmp_path: Path, engine: str, args: dict[str, Json], flagged: bool
) -> None:
    study = wire(Experiment.from_dict({**EXPERIMENT, "engines": {engine: {"args": args}}}))
    outcome = Completed({"output_throughput_per_gpu": 1.0})
    row = recorded(tmp_path, LOSSLESS, outcome, study, engine=engine)
    assert ("content_sensitive" in row.flags) == flagged


def test_a_row_without_presets_is_labelled_by_its_own_values(tmp_path: Path) -> None:
    row = recorded(tmp_path, LOSSLESS, Completed({"output_throughput_per_gpu": 1.0}))
    assert row.params == LOSSLESS
    assert (row.layout, row.quantization) == (ParallelLayout(tp=2), Quantization())
    assert row.lossless
