"""Predictions in a study: who leads, what is kept of them, what is refused before launch."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from orchestrator.load_run import load_run
from orchestrator.planning import make_plan
from orchestrator.spec import Experiment
from orchestrator.study import resume, run
from orchestrator.wiring import wire
from runtimes.errors import SpecError
from runtimes.json_types import Json
from search.trial import Params
from tests.e2e.studies import experiment
from tests.orchestrator.test_planning import ENDLESS, FINITE, human
from tracking.events import Launched, Proposed
from tracking.journal import read_journal
from tracking.layout import RunLayout
from tracking.parquet.read import read_trials

TPE: dict[str, Json] = {"sampler": "tpe", "seed": 3, "baseline": False}
VLLM: dict[str, Json] = {"vllm": {"search": {"max-num-seqs": [4, 8]}}}
LONG: dict[str, Json] = {"input_tokens": 120_000, "output_tokens": 100}
PARALLEL: dict[str, Json] = {"tp": [1, 2, 4]}


def made(**changes: object) -> Experiment:
    simulated = {"kind": "local", "simulated_gpus": 4, "accelerator": "H100"}
    return Experiment.from_dict(
        experiment(**{"search": TPE, "parallel": PARALLEL, "cluster": simulated, **changes})
    )


def search(**changes: Json) -> dict[str, Json]:
    return {**TPE, **changes}


class TestWarmStart:
    def test_it_is_a_fifth_of_the_budget_or_three(self) -> None:
        assert wire(made(budget={"trials": 100})).predictions.warm_start_count() == 20
        assert wire(made(budget={"trials": 5})).predictions.warm_start_count() == 3
        assert wire(made()).predictions.warm_start_count() == 3  # of 12 combinations

    @pytest.mark.parametrize(("written", "count"), [("off", 0), (False, 0), (7, 7)])
    def test_it_can_be_switched(self, written: Json, count: int) -> None:
        study = wire(made(search=search(warm_start=written)))
        assert len(study.predictions.warm_start()) == count
        assert study.predictions.warm_start_count() == count

    @pytest.mark.parametrize("written", [0, -1, "on", True, 2.5])
    def test_anything_else_is_an_error(self, written: Json) -> None:
        with pytest.raises(SpecError, match="auto, off or a number of trials"):
            made(search=search(warm_start=written))

    def test_the_sampler_begins_with_it(self) -> None:
        study = wire(made())
        led = study.predictions.warm_start()
        assert [params.values["tp"] for params in led] == [1, 2, 1]  # tp=4 is far behind
        sampler = study.sampler()
        assert [sampler.ask(number) for number in range(3)] == led

    def test_a_goal_of_latency_turns_the_order(self) -> None:
        study = wire(made(objectives=[{"minimize": "tpot_mean_ms"}]))
        led = study.predictions.warm_start()
        assert [params.values["tp"] for params in led] == [4, 2, 1]

    def test_a_grid_keeps_its_order(self) -> None:
        study = wire(made(search=search(sampler="grid")))
        first = study.sampler().ask(0)
        assert first == next(iter(study.space.points()))
        plan = make_plan(made(search=search(sampler="grid")), limit=20)
        assert all(trial.warm_start is None for trial in plan.trials)

    def test_without_a_prediction_nothing_leads(self) -> None:
        study = wire(made(model="acme/unknown", engines=VLLM))
        assert study.predictions.warm_start() == []
        assert study.sampler().ask(0) is not None


class TestPlan:
    def test_the_trials_it_begins_with_are_marked_in_order(self) -> None:
        plan = make_plan(made(), limit=100)
        places = {trial.warm_start: trial.params.values["tp"] for trial in plan.trials}
        assert [places[place] for place in (1, 2, 3)] == [1, 2, 1]
        assert sum(trial.warm_start is not None for trial in plan.trials) == 3

    def test_gpu_hours_are_of_the_trials_that_the_budget_allows(self) -> None:
        whole, half = (make_plan(made(budget={"trials": trials}), limit=100) for trials in (12, 6))
        assert whole.gpu_hours is not None
        assert half.gpu_hours == pytest.approx(whole.gpu_hours / 2)
        each = [trial.gpu_hours for trial in whole.trials]
        assert whole.gpu_hours == pytest.approx(sum(hours or 0 for hours in each))
        little = make_plan(made(budget={"gpu_hours": 0.0001}), limit=100)
        assert little.gpu_hours == pytest.approx(0.0001)

    def test_the_document_has_each_figure_with_its_bounds(self) -> None:
        document = make_plan(made(), limit=100).document()
        assert list(document)[6:] == ["gpu_hours", "unpredicted"]
        for trial in cast("list[dict[str, Json]]", document["trials"]):
            predicted = cast("dict[str, Json]", trial["predicted"])
            assert cast(float, predicted.pop("goal")) > 0
            assert list(predicted) == ["ttft_ms", "tpot_ms", "output_throughput"]
            for figure in cast("dict[str, dict[str, float]]", predicted).values():
                assert 0 < figure["low"] < figure["value"] < figure["high"]

    def test_what_is_not_predicted_says_why_once(self) -> None:
        plan = make_plan(made(model="acme/unknown", engines=VLLM), limit=100)
        assert plan.unpredicted == {"the shape of acme/unknown is not known": 6}
        assert plan.gpu_hours is None
        document = plan.document()
        trials = cast("list[dict[str, Json]]", document["trials"])
        assert {(trial["predicted"], trial["gpu_hours"]) for trial in trials} == {(None, None)}


class TestMemory:
    def test_what_can_never_hold_one_request_is_excluded(self) -> None:
        cluster = {"kind": "local", "simulated_gpus": 4, "accelerator": "L4"}
        study = wire(
            made(model="meta-llama/Llama-3.1-8B", cluster=cluster, workload=LONG, parallel={})
        )
        exclusion = study.admission.check(Params("simulated", {}))
        assert exclusion is not None
        assert (exclusion.rule, exclusion.engine) == ("memory", "simulated")
        assert "131,072 tokens" in exclusion.message

    def test_the_same_on_a_larger_accelerator_is_not(self) -> None:
        study = wire(made(model="meta-llama/Llama-3.1-8B", workload=LONG, parallel={}))
        assert study.admission.check(Params("simulated", {})) is None


class TestRecord:
    def test_predictions_are_kept_and_shown_and_survive_a_resume(self, tmp_path: Path) -> None:
        whole = made(budget={"trials": 4}, metrics={"port": 0})
        result = run(whole, results=tmp_path)
        layout = RunLayout(result.folder)
        events = [event for _, event in read_journal(layout.journal_dir)]
        launched = [event for event in events if isinstance(event, Launched)]
        assert len(launched) == 4
        assert all(set(one.predicted) == {"ttft_ms", "tpot_ms", "output_throughput"}
                   for one in launched)  # fmt: skip
        records = {record.number: record for record in read_trials(layout)}
        for event in launched:
            expected = records[event.number].predicted
            assert expected is not None
            assert expected.finite() == event.predicted
        proposed = [event for event in events if isinstance(event, Proposed)]
        assert [event.values["tp"] for event in proposed[:3]] == [1, 2, 1]
        assert "Predicted against measured" in layout.report.read_text(encoding="utf-8")
        again = resume(result.folder)
        assert again.counts == result.counts
        assert len(load_run(layout).trials) == 4


def test_predictions_stand_beside_each_combination_and_say_what_leads(tmp_path: Path) -> None:
    text = FINITE.replace("search: {sampler: grid}", "search: {sampler: tpe}")
    lines = human(tmp_path, text).splitlines()
    assert any(line.startswith("It begins with the predicted best: ") for line in lines)
    heading = next(line for line in lines if "GPU-hours" in line)
    for column in ("TTFT ms", "TPOT ms", "tokens/s", "output throughput per GPU"):
        assert column in heading
    assert any(line.startswith("Expected in all: ") for line in lines)


def test_what_is_not_predicted_has_a_reason_and_no_columns(tmp_path: Path) -> None:
    output = human(tmp_path, ENDLESS)
    assert "Not predicted: cluster.accelerator does not say what it runs on (21 trials)." in output
    assert "TTFT ms" not in output
