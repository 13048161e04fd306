"""What the report sets side by side: configurations to choose, runners-up, engines, devices."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runtimes.measurement import Interval, Measurement
from search.trial import TrialState
from tests.tracking.run_samples import START_UNIX_S, measurement, run_data, study, trial_record
from tracking.records import EngineUse, GpuUse, StageRecord, TrialRecord
from tracking.report import render_report
from tracking.report_front import choices_view, rivals, signed_percent
from tracking.report_params import MAX_CHARACTERS, parameter_pairs
from tracking.report_table import Column, table_of
from tracking.report_use import engine_use, gpu_use
from tracking.report_view import Tile, headline, ordered_trials, tiles
from tracking.run_data import Goal, RunData
from tracking.summary import summarise_run


def _stage(number: int, **changes: object) -> StageRecord:
    stage = StageRecord(
        "demo", number, 0, 0, "poisson", 10.0, START_UNIX_S, START_UNIX_S + 10, measurement()
    )
    return replace(stage, **changes)  # type: ignore[arg-type]  # names of its own fields


def _sure(number: int, goodput: float, error: float, **changes: object) -> TrialRecord:
    """A trial whose goodput has an interval of `error` to either side, as a share of it."""
    measured: Measurement = replace(
        measurement(),
        goodput=goodput,
        intervals={"goodput": Interval(goodput * (1 - error), goodput * (1 + error))},
    )
    return replace(trial_record(number, measured=measured), **changes)  # type: ignore[arg-type]


def test_with_one_goal_the_choices_are_those_of_speed_and_output() -> None:
    view = choices_view(study())
    assert view is not None
    assert [(row.trial, row.user_tokens, row.gpu_tokens) for row in view.rows] == [
        (9, "38.2", "2,160"),
        (7, "43.3", "2,005"),
        (5, "46.7", "1,855"),
        (10, "71.9", "1,512"),
    ]
    assert [row.trial for row in view.rows if row.best] == [9]
    assert view.rows[1].command.startswith("vllm serve meta-llama/Llama-3.1-8B \\\n")


def test_with_several_goals_they_are_the_pareto_front() -> None:
    goals = [Goal("goodput_per_gpu", "maximize"), Goal("ttft_p99_ms", "minimize")]
    trials = [
        trial_record(0, objectives={"goodput_per_gpu": 3.0, "ttft_p99_ms": 200.0}),
        trial_record(1, objectives={"goodput_per_gpu": 4.0, "ttft_p99_ms": 300.0}),
        trial_record(2, objectives={"goodput_per_gpu": 2.0, "ttft_p99_ms": 250.0}),
    ]
    view = choices_view(run_data(trials, goals=goals))
    assert view is not None
    assert [(row.trial, row.objectives) for row in view.rows] == [
        (1, ("4.00", "300")),
        (0, ("3.00", "200")),
    ]


def test_one_configuration_is_no_choice() -> None:
    assert choices_view(run_data([trial_record(0)])) is None
    assert choices_view(run_data([])) is None
    assert 'id="choices"' not in render_report(run_data([trial_record(0)]))


def test_runners_up_say_what_differs_and_whether_it_is_shown() -> None:
    data = run_data(
        [
            _sure(0, 5.0, 0.01, baseline=True, params={}),
            _sure(1, 10.0, 0.01, params={"tp": 1, "max-num-seqs": 256}),
            _sure(2, 9.95, 0.01, params={"tp": 1, "max-num-seqs": 512}),
            trial_record(3, goodput_per_gpu=4.0, engine="sglang", params={"tp": 1}),
            trial_record(4, state=TrialState.PRUNED),
        ]
    )
    second, baseline, unknown = rivals(data)
    assert (second.trial, second.change, second.verdict) == (2, "−0.5 %", "no difference shown")
    assert second.params == (("max-num-seqs", "256", "512"),)
    assert (baseline.trial, baseline.change, baseline.verdict) == (0, "−50 %", "worse")
    assert baseline.params == (("tp", "1", "not set"), ("max-num-seqs", "256", "not set"))
    low, _, high = baseline.interval.partition(" to ")
    assert (low, high) == ("−51", "−49 %")
    assert (unknown.trial, unknown.verdict, unknown.interval) == (3, "", "")
    assert unknown.params[0] == ("engine", "vllm", "sglang")


def _gain_tile(data: RunData) -> Tile:
    (tile,) = [tile for tile in tiles(data, summarise_run(data)) if "gain" in tile.name]
    return tile


def test_the_gain_has_its_interval() -> None:
    tile = _gain_tile(run_data([_sure(0, 5.0, 0.02, baseline=True), _sure(1, 10.0, 0.02)]))
    assert (tile.value, tile.note, tile.tone) == ("2.00", "1.93 to 2.08 times at 99 %", "good")


def test_a_gain_within_the_noise_is_none_shown() -> None:
    data = run_data([_sure(0, 9.8, 0.05, baseline=True), _sure(1, 10.0, 0.05)])
    tile = _gain_tile(data)
    assert tile.note.endswith(": no gain shown")
    assert tile.tone == ""
    words = headline(data, summarise_run(data))
    assert words.endswith(". No gain over the engine's defaults (trial 0) is shown.")


def test_without_intervals_it_says_that_each_was_measured_once() -> None:
    assert _gain_tile(study()).note == "from 5.03 requests/s/GPU; one measurement each"


def test_over_defaults_that_break_the_slo_no_gain_is_given() -> None:
    slow = trial_record(0, baseline=True, measured=measurement(ttft_ms=900.0))
    tile = _gain_tile(run_data([slow, trial_record(1)]))
    assert (tile.value, tile.note) == ("–", "trial 0, the engine's defaults, breaks the SLO")


def test_defaults_that_nothing_beats_gain_nothing() -> None:
    data = run_data([trial_record(0, baseline=True), trial_record(1, goodput_per_gpu=0.1)])
    tile = _gain_tile(data)
    assert (tile.value, tile.note) == ("1.00", "the best trial has an engine's defaults")
    assert headline(data, summarise_run(data)).endswith(": nothing beat it.")


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ([], "nothing else was measured"),
        ([trial_record(1, state=TrialState.PRUNED)], "no other trial completed"),
    ],
)
def test_defaults_without_a_rival_beat_nothing(others: list[TrialRecord], words: str) -> None:
    data = run_data([trial_record(0, baseline=True), *others])
    tile = _gain_tile(data)
    assert (tile.value, tile.unit, tile.note) == ("–", "", words)
    assert headline(data, summarise_run(data)).endswith(f"own default configuration: {words}.")


def test_a_gain_over_another_engines_defaults_says_whose_they_are() -> None:
    data = run_data(
        [
            trial_record(0, baseline=True, goodput_per_gpu=2.0),
            trial_record(1, engine="sglang", goodput_per_gpu=3.0),
        ]
    )
    words = headline(data, summarise_run(data))
    assert words.endswith(", 50 % more than the defaults of vllm (trial 0).")
    assert _gain_tile(data).name == "gain over the defaults of vllm"


def test_every_table_has_the_same_order() -> None:
    data = run_data(
        [
            trial_record(0, state=TrialState.FAILED),
            trial_record(1, goodput_per_gpu=1.0),
            trial_record(2, goodput_per_gpu=9.0, measured=measurement(tpot_ms=90.0)),
            trial_record(3, goodput_per_gpu=2.0, measured=measurement(tpot_ms=60.0)),
            trial_record(4, goodput_per_gpu=5.0, flags=("client_limited",)),
            trial_record(5, goodput_per_gpu=0.5),
        ]
    )
    order = [trial.number for trial in ordered_trials(data)]
    assert order == [1, 5, 3, 2, 4, 0]
    assert [rival.trial for rival in rivals(data)] == order[1:-1]


def test_what_ran_simulated_says_so_where_nothing_completed() -> None:
    badge = '<span class="badge simulated">simulated</span>'
    for simulated in (True, False):
        trials = [trial_record(0, state=TrialState.FAILED, simulated=simulated)]
        assert (badge in render_report(run_data(trials))) is simulated


def _used() -> RunData:
    use = EngineUse(
        kv_cache_usage_mean=0.815,
        kv_cache_usage_max=0.97,
        requests_waiting_mean=3.25,
        preemptions=12,
        queue_mean_s=0.0421,
    )
    device = GpuUse(
        "0", uuid="GPU-1", samples=20, sm_clock_mean_mhz=1830.0, power_mean_w=640.5,
        throttled_ratio=0.075, throttle_reasons=("sw_thermal_slowdown", "sw_power_cap"), xids=(79,),
    )  # fmt: skip
    stages = [
        _stage(0, engine_use=use, gpu_use=(device, replace(device, gpu="1"))),
        _stage(0, stage=1, engine_use=EngineUse(preemptions=99)),
        _stage(1),
    ]
    return replace(run_data([trial_record(0), trial_record(1)]), stages=tuple(stages))


def test_what_the_engine_said_is_that_of_the_deciding_stage() -> None:
    data = _used()
    view = engine_use(data, data.last_attempts())
    assert view is not None
    names = [column.name for column in view.columns]
    (row,) = view.rows
    shown = dict(zip(names, row, strict=True))
    assert shown["KV cache, mean"] == "81.5"
    assert (shown["preemptions"], shown["in the queue"]) == ("12.0", "42.1")
    assert "decode" not in names, "nobody told of it"


def test_devices_show_clocks_and_what_held_them() -> None:
    data = _used()
    view = gpu_use(data, data.last_attempts())
    assert view is not None
    shown = dict(zip((column.name for column in view.columns), view.rows[1], strict=True))
    assert shown["GPU"] == "node-a 1"
    assert (shown["SM clock"], shown["throttled"], shown["Xid"]) == ("1,830", "7.50", "79")
    assert shown["clocks held by"] == "sw thermal slowdown, sw power cap"
    source = render_report(data)
    assert 'id="engines"' in source
    assert 'id="gpus"' in source


def test_runs_that_told_nothing_have_neither_table() -> None:
    assert engine_use(study(), study().last_attempts()) is None
    assert gpu_use(study(), study().last_attempts()) is None


def test_a_long_table_says_where_the_rest_is() -> None:
    view = table_of([Column("a"), Column("b")], [(str(n), "–") for n in range(7)], 5, "there")
    assert [column.name for column in view.columns] == ["a"]
    assert len(view.rows) == 5
    assert view.left_out == "The first 5 of 7; all stand in there."


def test_long_values_are_cut_and_unused_presets_left_out() -> None:
    ((name, value),) = parameter_pairs({"x": "y" * 1000, "preset": None, "precision": None})[:1]
    assert name == "x"
    assert len(value) == MAX_CHARACTERS
    assert value.endswith("…")


def test_percentages_carry_their_sign() -> None:
    assert [signed_percent(share) for share in (0.123, -0.004, 1.5)] == [
        "+12 %",
        "−0.4 %",
        "+150 %",
    ]
