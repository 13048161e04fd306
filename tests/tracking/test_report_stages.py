"""Stages of a trial and the highest rate under the SLO, in the report and on the last screens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.cli.bench_view import print_bench
from orchestrator.cli.summary_view import print_summary
from runtimes.measurement import Measurement
from search.trial import TrialState
from tests.tracking.run_samples import START_UNIX_S, measurement, run_data, trial_record
from tracking.layout import RunLayout
from tracking.records import StageRecord, TrialRecord
from tracking.report import render_report
from tracking.report_stages import slo_rate_words, stages_view
from tracking.run_data import RunData

_LATE = "its event loop lagged by 31.0 ms at p99 (limit 5 ms)"


def _stage(
    stage: int, rate: float, *, ttft_ms: float = 200.0, stopped_by: str = "", limited: bool = False
) -> StageRecord:
    measured = replace(
        measurement(output_throughput=256 * rate, ttft_ms=ttft_ms),
        stopped_by=stopped_by,
        flags=("client_limited",) if limited else (),
        client_limits=(_LATE,) if limited else (),
    )
    return StageRecord(
        "demo-20260101T000000Z-abcd", 0, 0, stage, "poisson", rate,
        START_UNIX_S, START_UNIX_S + 10.0, measured,
    )  # fmt: skip


def _run(
    stages: Sequence[StageRecord],
    low: float | None,
    high: float | None,
    *,
    deciding: int | None = 0,
    kind: str = "max_under_slo",
) -> tuple[RunData, TrialRecord]:
    measured: Measurement | None = None if deciding is None else stages[deciding].measurement
    state = TrialState.CANCELLED if measured is None else TrialState.COMPLETED
    trial = replace(
        trial_record(0, state=state, measured=measured, flags=measured.flags if measured else ()),
        deciding_stage=deciding,
        slo_rate_low=low,
        slo_rate_high=high,
    )
    data = replace(
        run_data([trial]),
        stages=tuple(stages),
        experiment={"workload": {"load": {"kind": kind}}},
    )
    return data, trial


_FOUND = (
    _stage(0, 20.0),
    _stage(1, 45.0),
    _stage(2, 80.0, ttft_ms=900.0, stopped_by="hopeless"),
)


@pytest.mark.parametrize(
    ("stages", "low", "high", "words"),
    [
        (_FOUND, 45.4, 49.8, "45.4 to 49.8 requests/s"),
        (_FOUND, 45.0, None, "at least 45.0 requests/s, the highest that was tried"),
        (
            (*_FOUND, _stage(3, 60.0, ttft_ms=900.0, limited=True)),
            45.0,
            None,
            "at least 45.0 requests/s; above that the load generator was the limit",
        ),
        (_FOUND[2:], None, 2.0, "below 2.00 requests/s: it held at no rate that was tried"),
        (_FOUND[2:], None, None, "not known: it held in no stage"),
        (
            [_stage(0, 1.0, ttft_ms=900.0, limited=True)],
            None,
            None,
            "not known: it held in no stage, where the load generator was the limit",
        ),
    ],
)
def test_the_highest_rate_is_said_with_what_bounds_it(
    stages: Sequence[StageRecord], low: float | None, high: float | None, words: str
) -> None:
    assert slo_rate_words(*_run(stages, low, high)) == words


def test_nothing_is_said_where_nobody_looked_for_it() -> None:
    assert slo_rate_words(*_run(_FOUND, None, None, kind="sweep")) == ""


def test_a_search_that_broke_off_says_so() -> None:
    data, trial = _run(_FOUND, None, None, deciding=None)
    words = "not known, since the search broke off after 3 stages"
    assert slo_rate_words(data, trial) == words
    assert words in render_report(data)


def test_the_report_has_a_row_for_each_stage_of_the_best_trial() -> None:
    data, _ = _run(_FOUND, 45.4, 49.8, deciding=1)
    source = render_report(data)
    assert "Highest rate under the SLO: 45.4 to 49.8 requests/s" in source
    table = source.partition('id="stages"')[2].partition("</section>")[0]
    rows = [
        [re.sub(r"<[^>]+>|\s+", " ", cell).strip() for cell in row.split("</td>")[:-1]]
        for row in re.findall(r"<tr[^>]*>(.*?)</tr>", table.partition("<tbody>")[2], re.DOTALL)
    ]
    assert rows == [
        ["0", "poisson 20", "400", "20.0", "5,120", "20.0", "300", "30.0", "met", "–", ""],
        [
            "1",
            "poisson 45  decides",
            "400",
            "45.0",
            "11,520",
            "45.0",
            "300",
            "30.0",
            "met",
            "–",
            "",
        ],
        [
            *("2", "poisson 80", "400", "80.0", "20,480", "80.0", "1,350", "30.0", "broken"),
            *("hopeless", ""),
        ],
    ]


def test_a_trial_of_one_stage_has_no_table_of_them() -> None:
    data, _ = _run(_FOUND[:1], 20.0, None)
    assert stages_view(data) is None
    assert 'id="stages"' not in render_report(data)


def test_of_several_trials_the_best_one_is_shown_and_only_its_last_attempt() -> None:
    data, first = _run(_FOUND, 45.4, 49.8, deciding=1)
    second = replace(first, number=1, attempt=1, objectives={"goodput_per_gpu": 90.0})
    others = [replace(stage, number=1, attempt=attempt) for attempt in (0, 1) for stage in _FOUND]
    data = replace(data, trials=(first, second), stages=(*data.stages, *others))
    view = stages_view(data)
    assert view is not None
    assert (view.trial, [row.stage for row in view.rows]) == (1, [0, 1, 2])


def test_the_last_screens_show_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data, _ = _run(_FOUND, 45.4, 49.8, deciding=1)
    print_bench(data, tmp_path)
    assert "highest rate under the SLO: 45.4 to 49.8 requests/s" in capsys.readouterr().out
    print_summary(data, RunLayout(tmp_path))
    shown = re.sub(r" +", " ", capsys.readouterr().out)
    assert "highest rate under the SLO 45.4 to 49.8 requests/s" in shown


def test_a_bench_says_why_its_client_was_the_limit(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data, _ = _run([_stage(0, 45.0, limited=True)], 45.0, None)
    print_bench(data, tmp_path)
    shown = capsys.readouterr().out
    assert f"so the engine may not be the limit: {_LATE}" in shown


def test_a_bench_whose_search_broke_off_says_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data, _ = _run(_FOUND, None, None, deciding=None)
    print_bench(data, tmp_path)
    assert "since the search broke off after 3 stages" in capsys.readouterr().out


_THEIRS = {"request_throughput": 19.0, "output_throughput": 4864.0, "ttft_mean_ms": 213.0}


def _checked() -> RunData:
    """Two trials that another load generator repeated, and one that it was too late for."""
    note = "guidellm: random prompts of its own, 64 input and 16 output tokens each"
    found = replace(_FOUND[0], cross_check=_THEIRS, cross_check_note=note)
    late = replace(_FOUND[0], number=2, cross_check_note="guidellm: <ended> after 180 s")
    data, _ = _run(_FOUND[:1], None, None, kind="poisson")
    return replace(data, stages=(found, replace(found, number=1), late))


def test_the_report_shows_a_cross_check_beside_our_figures() -> None:
    section = render_report(_checked()).partition('id="cross-checks"')[2].partition("</section>")[0]
    assert section.count("random prompts of its own") == 1
    assert "<b>trial 2</b> guidellm: &lt;ended&gt; after 180 s" in section
    rows = [
        re.findall(r"<td[^>]*>(.*?)</td>", row)
        for row in re.findall(r"<tr>(.*?)</tr>", section.partition("<tbody>")[2], re.DOTALL)
    ]
    ours = ["own client", "20.0", "5,120", "200", "300", "20.0", "30.0", "20.0", "5,300"]
    theirs = ["", "the other", "19.0", "4,864", "213", "–", "–", "–", "–", "–"]
    assert [row[1:] for row in rows[::2]] == [ours, ours]
    assert [row[0] for row in rows[::2]] == ["0", "1"]
    assert rows[1::2] == [theirs, theirs]


def test_a_run_without_cross_checks_has_no_section_of_them() -> None:
    data, _ = _run(_FOUND, 45.4, 49.8, deciding=1)
    assert "cross-checks" not in render_report(data)


def test_a_bench_shows_its_cross_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = _checked()
    print_bench(replace(data, stages=data.stages[:1]), tmp_path)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["output", "tokens/s", "5,120", "4,864"] in lines
    late = replace(data.stages[2], number=0)
    print_bench(replace(data, stages=(late,)), tmp_path)
    assert "cross-check by guidellm: <ended> after 180 s" in capsys.readouterr().out
