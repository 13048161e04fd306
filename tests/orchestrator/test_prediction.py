"""Predictions in a study: who leads, what is kept of them, what is refused before launch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import yaml

from orchestrator.load_run import load_run
from orchestrator.node_curves import write_hardware
from orchestrator.planning import make_plan
from orchestrator.spec import Experiment
from orchestrator.study import resume, run
from orchestrator.wiring import wire
from runtimes.calibration.run import Calibration, Device
from runtimes.errors import SpecError
from runtimes.json_types import Json
from runtimes.node_curves import NodeCurves, dump_curves
from search.trial import Params
from tests.e2e.studies import experiment
from tests.orchestrator.test_planning import ENDLESS, FINITE, human
from tests.runtimes.test_node_curves import CURVES
from tracking.events import Launched, Proposed
from tracking.journal import read_journal
from tracking.layout import RunLayout
from tracking.parquet.read import read_trials

TPE: dict[str, Json] = {"sampler": "tpe", "seed": 3, "baseline": False}
VLLM: dict[str, Json] = {"vllm": {"search": {"max-num-seqs": [4, 8]}}}
LONG: dict[str, Json] = {"input_tokens": 120_000, "output_tokens": 100}
CPU_CURVES = NodeCurves(
    accelerator="cpu", gemm_flops={"bf16": ((1.0, 2e9), (1024.0, 4e11))},
    gemm_bytes_per_s={"bf16": 2e10}, copy_bytes_per_s=1e10,
)  # fmt: skip
PARALLEL: dict[str, Json] = {"tp": [1, 2, 4]}
BIG: dict[str, object] = {"model": "meta-llama/Llama-3.1-8B", "parallel": {"tp": [1, 2]}}
"""Two layouts, the better of which is not twice as good as the other."""


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
        study = wire(made(**BIG))
        led = study.predictions.warm_start()
        assert [params.values["tp"] for params in led] == [1, 2, 1]
        sampler = study.sampler()
        assert [sampler.ask(number) for number in range(3)] == led

    def test_a_goal_of_latency_turns_the_order(self) -> None:
        study = wire(made(**BIG, objectives=[{"minimize": "tpot_mean_ms"}]))
        led = study.predictions.warm_start()
        assert [params.values["tp"] for params in led] == [2, 1, 2]

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
        plan = make_plan(made(**BIG), limit=100)
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
            assert predicted.pop("stable") is True
            assert cast(float, predicted.pop("goal")) > 0
            assert list(predicted) == ["ttft_ms", "tpot_ms", "output_throughput"]
            for figure in cast("dict[str, dict[str, float]]", predicted).values():
                assert 0 < figure["low"] < figure["value"] < figure["high"]

    def test_more_than_can_be_served_is_said_to_be(self, tmp_path: Path) -> None:
        load: Json = {"kind": "poisson", "rate": 1e6, "requests": 12}
        data = experiment(workload={**LONG, "input_tokens": 500, "load": load})
        (trial,) = make_plan(Experiment.from_dict(data), limit=1).trials
        predicted = cast("dict[str, Json]", trial.document()["predicted"])
        assert (predicted["stable"], predicted["ttft_ms"]) == (False, None)
        shown = human(tmp_path, yaml.safe_dump(data))
        assert "∞" in shown
        assert "∞ requests arrive faster than they can be served" in shown

    def test_curves_of_another_accelerator_are_noted(self, tmp_path: Path) -> None:
        paths = [tmp_path / "h100.json", tmp_path / "h200.json"]
        for path, name in zip(paths, ("H100", "H200"), strict=True):
            path.write_text(dump_curves(replace(CURVES, accelerator=name)))
        cluster: Json = {"kind": "local", "accelerator": "H100", "curves": [*map(str, paths)]}
        plan = make_plan(made(engines=VLLM, cluster=cluster), limit=1)
        (note,) = plan.notes
        assert note == f"{paths[1]}: measured on H200, so predictions of H100 do not use it"

    def test_a_cpu_that_a_file_describes_is_predicted(self, tmp_path: Path) -> None:
        curves, hardware = tmp_path / "cpu.json", tmp_path / "cpu.yaml"
        curves.write_text(dump_curves(CPU_CURVES))
        device = Device("cpu", "Some CPU", "intel", 64_000_000_000, 1, {"torch": "2.11.0"})
        write_hardware(hardware, Calibration(CPU_CURVES, device), None)
        cluster: dict[str, Json] = {"kind": "local", "accelerator": "cpu"}
        named = {**cluster, "curves": [str(curves)], "hardware": [str(hardware)]}
        plan = make_plan(made(engines=VLLM, cluster=named), limit=1)
        assert (plan.unpredicted, plan.notes) == ({}, ())
        assert plan.trials[0].expected is not None
        without = make_plan(made(engines=VLLM, cluster=cluster), limit=1)
        assert list(without.unpredicted) == ["cluster.accelerator does not say what it runs on"]

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
        whole = made(**BIG, budget={"trials": 4}, metrics={"port": 0})
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
