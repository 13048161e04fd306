"""The figures and tables of each plot against runs whose answers are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runtimes.measurement import PERCENTILES, Interval
from search.analysis.differences import Verdict
from search.trial import TrialState
from tests.tracking.plot_samples import GOALS, LOADS, rich_run
from tests.tracking.run_samples import measurement, out_of_memory, run_data, study, trial_record
from tracking.plots._style import log_axis, mixed, text
from tracking.plots._trials import roles, settings, varying_names
from tracking.plots.base import PLOTS, Cell, Drawn
from tracking.plots.differences import alternatives
from tracking.plots.pareto import frontier, points
from tracking.records import TrialRecord
from tracking.run_data import RunData


def drawn_of(name: str, data: RunData) -> Drawn:
    drawn = PLOTS.get(name)().draw(data)
    assert drawn is not None
    return drawn


def column(drawn: Drawn, name: str) -> list[Cell]:
    at = drawn.table.columns.index(name)
    return [row[at] for row in drawn.table.rows]


def traces(drawn: Drawn, **wanted: object) -> list[Any]:
    return [
        trace
        for trace in drawn.figure["data"]
        if all(trace.get(name) == value for name, value in wanted.items())
    ]


def numbers(trace: dict[str, Any], name: str) -> list[float]:
    return [value for value in trace[name] if value is not None]


def measured(number: int, goodput: float, **params: int | str) -> TrialRecord:
    """A trial on one GPU whose goodput has an interval of ±1 %."""
    figures = replace(
        measurement(output_throughput=goodput * 256),
        intervals={"goodput": Interval(goodput * 0.99, goodput * 1.01)},
    )
    return trial_record(number, params=dict(params), measured=figures)


class TestPareto:
    def test_points_are_speeds_of_a_user_and_of_a_gpu(self) -> None:
        trial = trial_record(
            3, gpus=4, measured=measurement(output_throughput=2000.0, tpot_ms=20.0)
        )
        drawn = drawn_of("pareto", run_data([trial]))
        assert column(drawn, "user_tokens_per_s") == [50.0]
        assert column(drawn, "gpu_tokens_per_s") == [500.0]
        assert [trace["x"] for trace in traces(drawn, mode="markers") if trace["x"] == [50]]

    def test_the_front_leaves_out_what_breaks_the_slo(self) -> None:
        fast = trial_record(0, measured=measurement(output_throughput=4000.0, ttft_ms=900.0))
        slow = trial_record(1, measured=measurement(output_throughput=1000.0))
        front = frontier(points(run_data([fast, slow])))
        assert [point.trial.number for point in front] == [1]
        drawn = drawn_of("pareto", run_data([fast, slow]))
        hollow = [t for t in drawn.figure["data"] if t["x"] != [None] and "marker" in t]
        assert ["circle-open"] in [trace["marker"]["symbol"] for trace in hollow]
        assert column(drawn, "front") == [False, True]

    def test_every_point_drawn_is_in_the_table(self) -> None:
        drawn = drawn_of("pareto", rich_run())
        shown = [x for t in traces(drawn, showlegend=False, mode="markers") for x in t["x"]]
        users = [float(cell) for cell in column(drawn, "user_tokens_per_s") if cell is not None]
        assert sorted(shown) == pytest.approx(sorted(users), rel=1e-4)

    def test_best_and_baseline_are_named(self) -> None:
        words = [t["text"] for t in traces(drawn_of("pareto", study()), mode="markers+text")]
        assert sorted(word for [word] in words) == ["<b>baseline</b>", "<b>best</b>"]


class TestHistory:
    def test_the_best_so_far_never_falls_and_ends_at_the_best(self) -> None:
        drawn = drawn_of("history", study())
        line = [float(value) for value in column(drawn, "best_so_far") if value is not None]
        assert line == sorted(line)
        best = study().best()
        assert best is not None
        assert line[-1] == best.objectives["goodput_per_gpu"]

    def test_states_without_a_value_stand_below(self) -> None:
        drawn = drawn_of("history", study())
        below = {trace["name"]: trace["x"] for trace in traces(drawn, yaxis="y2")}
        assert below == {"infeasible": [3], "failed": [4], "pruned": [8], "cancelled": [11]}

    def test_over_time_the_best_is_taken_in_order_of_ends(self) -> None:
        late = trial_record(0, goodput_per_gpu=2.0, seconds=300)
        early = trial_record(1, goodput_per_gpu=1.0, seconds=60)
        drawn = drawn_of("history", run_data([late, early]))
        [menu] = drawn.figure["layout"]["updatemenus"]
        by_time = menu["buttons"][1]["args"][0]
        assert by_time["x"][0] == [1, 5]
        assert by_time["y"][0] == [1, 2]
        assert len(by_time["x"]) == len(drawn.figure["data"])


class TestImportance:
    def test_it_says_what_it_rests_on(self) -> None:
        drawn = drawn_of("importance", rich_run(60))
        shares = [float(cell) for cell in column(drawn, "importance_ratio") if cell is not None]
        assert sum(shares) == pytest.approx(1.0)
        assert set(column(drawn, "trials")) == {len(rich_run(60).ranked())}
        assert "engine" in column(drawn, "parameter")

    def test_too_few_trials_have_none(self) -> None:
        assert PLOTS.get("importance")().draw(study()) is None


class TestDifferences:
    def test_one_that_differs_in_nothing_else_comes_before_a_better_one(self) -> None:
        best = measured(0, 10.0, tp=4, seqs=64)
        alone = measured(1, 5.0, tp=4, seqs=128)
        other = measured(2, 9.0, tp=2, seqs=128)
        made = alternatives(run_data([best, alone, other]))
        found = {(one.parameter, one.value): one for one in made}
        assert found["seqs", "128"].trial.number == 1
        assert found["seqs", "128"].alone
        assert found["seqs", "128"].difference.relative == pytest.approx(-0.5)
        assert found["seqs", "128"].difference.verdict is Verdict.WORSE
        assert found["tp", "2"].changed == ("tp", "seqs")

    def test_noise_is_no_difference(self) -> None:
        [one] = alternatives(run_data([measured(0, 10.0, tp=4), measured(1, 9.95, tp=2)]))
        assert one.difference.verdict is Verdict.UNDECIDED

    def test_what_one_engine_alone_has_goes_with_the_engine(self) -> None:
        best = measured(0, 10.0, seqs=64)
        other = replace(measured(1, 8.0, chunk=512), engine="sglang")
        [one] = alternatives(run_data([best, other]))
        assert (one.parameter, one.value, one.alone) == ("engine", "sglang", True)

    def test_many_numbers_become_ranges(self) -> None:
        trials = [measured(number, 30.0 - number, size=100 * number) for number in range(24)]
        found = alternatives(run_data(trials))
        assert len(found) == 5
        assert found[0].best_value == "0 to 300"
        assert found[0].value == "400 to 700"
        assert [one.trial.number for one in found] == [4, 8, 12, 16, 20]

    def test_a_value_left_to_the_engine_is_called_so(self) -> None:
        found = alternatives(run_data([measured(0, 9.0, seqs=64), measured(1, 8.0)]))
        assert [one.value for one in found] == ["(default)"]


class TestParallel:
    def test_axes_are_what_varies_and_the_objectives(self) -> None:
        drawn = drawn_of("parallel", rich_run())
        labels = [one["label"] for one in drawn.figure["data"][0]["dimensions"]]
        assert labels[:3] == ["engine", "tp", "schedule"]
        assert labels[-2:] == ["goodput per<br>GPU", "TPOT p99"]

    def test_words_have_named_places(self) -> None:
        drawn = drawn_of("parallel", rich_run())
        [schedule] = [
            one for one in drawn.figure["data"][0]["dimensions"] if one["label"] == "schedule"
        ]
        assert schedule["ticktext"] == ["fcfs", "lpm"]
        shown = [schedule["ticktext"][place] for place in schedule["values"]]
        assert shown == column(drawn, "schedule")

    def test_what_is_not_set_passes_at_a_place_of_its_own(self) -> None:
        drawn = drawn_of("parallel", run_data([measured(0, 9.0, a=1), measured(1, 8.0, b=2)]))
        for one in drawn.figure["data"][0]["dimensions"][:2]:
            assert one["ticktext"][0] == "(default)"


class TestLatencies:
    def test_curves_rise_through_the_recorded_percentiles(self) -> None:
        data = rich_run()
        drawn = drawn_of("latencies", data)
        shares = [0.0, *PERCENTILES, 100.0]
        for trace in traces(drawn, mode="lines+markers", xaxis="x"):
            if len(trace["x"]) > 3:
                assert trace["y"] == shares
                assert trace["x"] == sorted(trace["x"])
        best = data.best()
        assert best is not None
        assert best.measurement is not None
        assert best.measurement.ttft_ms is not None
        row = (best.number, "best", "ttft", 99.0, best.measurement.ttft_ms.p99, 500.0)
        assert row in drawn.table.rows

    def test_limits_stand_in_the_drawing_of_their_latency(self) -> None:
        limits = traces(drawn_of("latencies", rich_run()), legendgroup="limits")
        assert [(one["xaxis"], one["x"][0], one["y"][1]) for one in limits] == [
            ("x", 500, 99),
            ("x2", 40, 99),
        ]

    def test_roles_are_one_each(self) -> None:
        found = roles(rich_run())
        assert [role.name for role in found[:3]] == ["best", "baseline", "runner-up"]
        assert len({role.trial.number for role in found}) == len(found)


class TestLoad:
    def test_stages_are_points_in_order_of_load(self) -> None:
        data = rich_run()
        drawn = drawn_of("load", data)
        best = data.best()
        assert best is not None
        [line] = traces(drawn, legendgroup=str(best.number), xaxis="x")
        assert line["x"] == list(LOADS)
        own = [stage for stage in data.stages if stage.number == best.number]
        rates = [stage.measurement.output_throughput or 0 for stage in own]
        assert line["y"] == pytest.approx([rate / best.gpus for rate in rates], rel=1e-4)

    def test_one_load_is_no_curve(self) -> None:
        data = rich_run()
        data = replace(data, stages=tuple(s for s in data.stages if s.stage == 3))
        assert PLOTS.get("load")().draw(data) is None

    def test_a_stage_that_was_repeated_is_left_out(self) -> None:
        data = rich_run(1)
        again = replace(data.stages[3], stage=4, repeat_of=3)
        drawn = drawn_of("load", replace(data, stages=(*data.stages, again)))
        assert column(drawn, "stage") == [0, 1, 2, 4]


class TestTimeline:
    def test_neighbouring_gpus_share_a_bar(self) -> None:
        trials = [
            trial_record(0, gpus=2, gpu_ids=("0", "1"), seconds=600),
            trial_record(1, gpus=2, gpu_ids=("2", "9"), start_s=60, seconds=540),
            trial_record(2, gpus=1, gpu_ids=("10",), seconds=120),
        ]
        drawn = drawn_of("timeline", run_data(trials))
        [bars] = [trace for trace in drawn.figure["data"] if trace.get("text")]
        assert bars["text"] == ["0", "1", "2"]
        assert bars["y"] == [0.5, 2.5, 4]
        assert bars["base"] == [0, 1, 0]
        assert bars["x"] == [10, 9, 2]
        assert drawn.figure["layout"]["yaxis"]["ticktext"] == [
            "b0/0", "b0/1", "b0/2", "b0/9", "b0/10",
        ]  # fmt: skip

    def test_devices_apart_have_bars_apart(self) -> None:
        between = trial_record(1, gpu_ids=("1",))
        apart = trial_record(0, gpus=2, gpu_ids=("0", "2"))
        drawn = drawn_of("timeline", run_data([apart, between]))
        [bars] = [trace for trace in drawn.figure["data"] if trace.get("text")]
        assert sorted(zip(bars["text"], bars["y"], strict=True)) == [("0", 0), ("0", 2), ("1", 1)]

    def test_measuring_is_shaded_apart(self) -> None:
        drawn = drawn_of("timeline", run_data([trial_record(0, seconds=60)]))
        spans = [(trace["base"], trace["x"]) for trace in drawn.figure["data"] if "base" in trace]
        assert spans == [([0], [60]), ([18], [6]), ([24], [33]), ([0], [60])]

    def test_traces_do_not_grow_with_trials(self) -> None:
        few, many = drawn_of("timeline", rich_run(40)), drawn_of("timeline", rich_run(400, 64))
        assert len(many.figure["data"]) <= len(few.figure["data"]) + 10
        assert len(many.table.rows) > 400


class TestPredictions:
    def test_bounds_are_bars_around_the_prediction(self) -> None:
        drawn = drawn_of("predictions", rich_run())
        trace = next(trace for trace in drawn.figure["data"] if "error_y" in trace)
        at = trace["text"].index(trace["text"][0])
        high = trace["y"][at] + trace["error_y"]["array"][at]
        assert high == pytest.approx(trace["y"][at] * 1.25, rel=1e-3)
        assert "TTFT mean is off by" in drawn.caption

    def test_without_any_there_is_none(self) -> None:
        assert PLOTS.get("predictions")().draw(study()) is None


class TestFailures:
    def test_every_attempt_counts(self) -> None:
        drawn = drawn_of("failures", study())
        [bars] = traces(drawn, type="bar")
        assert sum(bars["x"]) == 3
        assert sorted(str(cell) for cell in column(drawn, "kind")) == [
            "crashed", "gpu_busy", "oom_weights",
        ]  # fmt: skip

    def test_the_share_of_gpu_time_is_said(self) -> None:
        lost = trial_record(1, state=TrialState.INFEASIBLE, failure=out_of_memory(), seconds=100)
        drawn = drawn_of("failures", run_data([trial_record(0, seconds=300), lost]))
        assert "25 % of the GPU time" in drawn.caption
        assert "OOM weights" in drawn.caption


class TestEngineUse:
    def test_pressure_stands_against_the_objective(self) -> None:
        data = rich_run()
        drawn = drawn_of("engine_use", data)
        titles = [
            axis["title"]["text"]
            for name, axis in drawn.figure["layout"].items()
            if name.startswith("xaxis")
        ]
        assert titles[0] == "KV cache in use, highest (%)"
        assert len(titles) == 4
        assert column(drawn, GOALS[0].name) == [
            trial.objectives[GOALS[0].name] for trial in data.ranked()
        ]

    def test_engines_that_say_nothing_have_none(self) -> None:
        data = rich_run()
        silent = tuple(replace(stage, engine_use=None) for stage in data.stages)
        assert PLOTS.get("engine_use")().draw(replace(data, stages=silent)) is None


class TestStyle:
    def test_text_is_shown_as_it_is(self) -> None:
        assert text("<b>&\x1b[31mx\n y") == "&lt;b&gt;&amp;x y"
        assert len(text("x" * 500)) == 80

    @pytest.mark.parametrize(
        ("values", "ticks"),
        [
            ([1.0, 5000.0], ["1", "10", "100", "1,000"]),
            ([10.0, 100.0], ["10", "20", "50", "100"]),
            ([90.0, 210.0], ["80", "90", "100", "120", "150", "200"]),
        ],
    )
    def test_log_axes_have_round_ticks(self, values: list[float], ticks: list[str]) -> None:
        assert log_axis("ms", values)["ticktext"] == ticks

    def test_a_log_axis_stands_what_is_not_positive(self) -> None:
        assert "range" not in log_axis("ms", [0.0, -1.0, None])

    def test_colours_are_mixed_by_share(self) -> None:
        assert mixed("#ff0000", 0.5, "#0000ff") == "#800080"

    def test_degrees_of_a_preset_are_settings(self) -> None:
        trials = [
            replace(
                trial_record(number, params={"parallel.preset": None}),
                layout=replace(trial_record(0).layout, tp=tp),
            )
            for number, tp in enumerate((1, 4))
        ]
        own = settings(run_data(trials))
        assert own == {0: {"engine": "vllm", "tp": 1}, 1: {"engine": "vllm", "tp": 4}}
        assert varying_names(own) == ["tp"]
