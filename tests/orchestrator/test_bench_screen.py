"""What a bench shows and prints as JSON, whole or broken off, and what `report` says of it then."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.bench_document import bench_document
from orchestrator.cli.bench_view import print_bench
from orchestrator.cli.progress import Progress
from orchestrator.cli.summary_view import print_summary
from orchestrator.observer import RunInfo
from orchestrator.scheduler import Waiting
from runtimes.failure import Failure, FailureKind
from runtimes.json_types import Json
from runtimes.measurement import ClientHealth, Measurement
from runtimes.plan import Allocation
from search.goals import Goal
from search.trial import Params, TrialState
from tests.tracking.run_samples import (
    START_UNIX_S,
    distribution,
    measurement,
    run_data,
    trial_record,
)
from tracking.events import Ending
from tracking.layout import RunLayout
from tracking.records import StageRecord
from tracking.report import render_report
from tracking.run_data import RunData
from tracking.summary import summarise_run

LATE = "its event loop lagged by 271.2 ms at p99 (limit 5 ms)"
STOPPED = "stopped by SIGINT"
REFUSED = Failure(
    FailureKind.REQUESTS_FAILED, "60 of 60 requests failed: http 500", remedy="read its log"
)


def measured(*, limits: bool = False, flags: Sequence[str] = ()) -> Measurement:
    return replace(
        measurement(limits=limits, flags=flags),
        ttft_scheduled_ms=distribution(2200.0),
        e2e_scheduled_ms=distribution(7300.0),
        client=ClientHealth(lag_p99_ms=271.2),
        client_limits=(LATE,) if "client_limited" in flags else (),
    )


def stage(number: int = 0, found: Measurement | None = None, load: str = "poisson") -> StageRecord:
    return StageRecord(
        "demo-20260101T000000Z-abcd", 0, 0, number, load, 4.0,
        START_UNIX_S, START_UNIX_S + 10.0, found or measured(),
    )  # fmt: skip


def bench(
    *stages: StageRecord, gpus: int = 1, failure: Failure | None = None, whole: bool = True
) -> RunData:
    """A bench of these stages, whose last one decides where it is `whole`."""
    state = TrialState.COMPLETED if whole else TrialState.CANCELLED
    trial = replace(
        trial_record(
            0,
            engine="external",
            state=state if failure is None else TrialState.FAILED,
            measured=stages[-1].measurement if whole else None,
            objectives={"output_throughput": 1.0} if whole else None,
            failure=failure,
            reason="" if whole or failure is not None else STOPPED,
            gpus=gpus,
        ),
        deciding_stage=stages[-1].stage if whole else None,
        command=(),
        deploy_command=(),
    )
    goals = [Goal("output_throughput", "maximize")]
    data = run_data([trial], goals=goals, ended="the only trial was tried" if whole else STOPPED)
    ending = Ending.COMPLETE if whole else Ending.STOPPED
    external: dict[str, Json] = {"engines": {"external": {"url": "http://h:1"}}}
    return replace(data, stages=stages, experiment=external, ending=ending)


def screen(data: RunData, capsys: pytest.CaptureFixture[str]) -> str:
    print_bench(data, Path("there"))
    return capsys.readouterr().out


def last_screen(data: RunData, capsys: pytest.CaptureFixture[str]) -> str:
    print_summary(data, RunLayout(Path("there")))
    return capsys.readouterr().out


def test_a_bench_that_was_broken_off_keeps_its_flags(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("client_limited", "simulator_late")
    data = bench(stage(found=measured(flags=flags)), whole=False)
    shown = screen(data, capsys)
    for said in ("flagged  client_limited: ", LATE, "flagged  simulator_late: "):
        assert said in shown
    assert f"Incomplete: {STOPPED}" in shown
    document = bench_document(data)
    assert (document["flags"], document["client_limited"]) == (list(flags), True)


def test_what_it_measured_is_in_the_report_and_on_its_screen(
    capsys: pytest.CaptureFixture[str],
) -> None:
    some_failed = replace(measured(), requests_completed=30, requests_failed=30)
    for data in (
        bench(stage(found=some_failed), whole=False),
        bench(stage(found=some_failed), whole=False, failure=REFUSED),
    ):
        shown = last_screen(data, capsys)
        assert "No trial completed." in shown
        assert "Nothing was measured" not in shown
        assert re.search(r"^0 +poisson 4 +30, 30 failed +7\.81 +2,000 ", shown, re.MULTILINE)
        page = render_report(data)
        assert "No trial completed, so there is no configuration to recommend." in page
        assert "Nothing was measured" not in page
        for section in ("stages", "latencies"):
            assert f'id="{section}"' in page
        assert "did not complete, so that none of them decides" in page


def test_of_requests_that_all_failed_no_table_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    none = replace(
        measured(), requests_completed=0, requests_failed=60, ttft_ms=None, e2e_ms=None,
        request_throughput=0.0,
    )  # fmt: skip
    data = bench(stage(found=none), whole=False, failure=REFUSED)
    assert screen(data, capsys).splitlines() == [
        "Nothing was measured: requests_failed: 60 of 60 requests failed: http 500",
        "remedy: read its log",
        "record   there",
    ]
    assert "Nothing was measured." in last_screen(data, capsys)
    assert "Nothing was measured" in render_report(data)


def test_latencies_from_the_schedule_are_shown_for_open_loops(
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = bench(stage())
    words = ("TTFT from the schedule", "E2E from the schedule")
    assert re.search(rf"^{words[0]} +2,200 +2,090 ", screen(data, capsys), re.MULTILINE)
    assert all(row in render_report(data) for row in words)
    document = bench_document(data)
    assert document["ttft_scheduled_ms"] == {
        "mean": 2200.0, "p50": 2090.0, "p90": 2640.0, "p95": 2860.0, "p99": 3300.0,
    }  # fmt: skip
    assert isinstance(document["e2e_scheduled_ms"], dict)
    held = replace(measured(), client=ClientHealth(held_ratio=0.99))
    for closed in (stage(load="concurrency"), stage(found=held, load="ramp")):
        shown = screen(bench(closed), capsys) + render_report(bench(closed))
        assert not any(row in shown for row in words)


def test_the_document_has_what_the_screen_shows() -> None:
    flagged = stage(0, measured(flags=("not_steady",)))
    checked = replace(
        stage(1),
        cross_check={"ttft_mean_ms": 210.0},
        cross_check_note="guidellm: random prompts",
        designed_hit_rate=0.6,
        observed_hit_rate=0.594,
    )
    data = bench(flagged, checked, gpus=4)
    trial = replace(data.trials[0], slo_rate_low=45.4, slo_rate_high=49.8)
    document = bench_document(replace(data, trials=(trial,)))
    assert (document["slo_rate_low"], document["slo_rate_high"]) == (45.4, 49.8)
    assert (document["gpus"], document["flags"]) == (4, [])
    assert document["throughput_per_gpu"] == {
        "requests_per_s": 2000 / 256 / 4,
        "input_tokens_per_s": 2000.0,
        "output_tokens_per_s": 500.0,
        "total_tokens_per_s": 2500.0,
        "goodput_per_s": 2000 / 256 / 4,
    }
    stages = document["stages"]
    assert isinstance(stages, list)
    keys = ("deciding", "flags", "cross_check", "cross_check_note", "designed_hit_rate")
    assert [[one[key] for key in keys] for one in stages if isinstance(one, dict)] == [
        [False, ["not_steady"], None, None, None],
        [True, [], {"ttft_mean_ms": 210.0}, "guidellm: random prompts", 0.6],
    ]
    unknown = bench_document(bench(stage()))
    assert unknown["slo_rate_low"] is unknown["slo_rate_high"] is None


def test_a_bench_that_never_began_has_a_document() -> None:
    document = bench_document(replace(bench(stage()), trials=(), stages=()))
    assert (document["state"], document["flags"], document["stages"]) == ("cancelled", [], [])
    assert "requests" not in document


def test_good_requests_and_prefix_hits_are_shown_where_there_are_any(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = screen(bench(stage()), capsys)
    assert "good requests" not in shown
    assert "prefix" not in shown
    cached = replace(
        stage(found=measured(limits=True)), designed_hit_rate=0.6, observed_hit_rate=0.594
    )
    for data in (bench(cached), bench(stage(), replace(cached, stage=1))):
        shown = screen(data, capsys)
        assert "good requests" in shown
        assert "60.0% designed, 59.4% observed" in shown
    assert "good/s" in shown
    assert "good/s" not in screen(bench(stage(), stage(1)), capsys)


def test_no_gpu_was_held_for_a_server_that_runs_already(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for data in (bench(stage()), bench(stage(), whole=False)):
        summary = summarise_run(data)
        assert (summary.capacity_gpus, summary.busy_gpu_seconds) == (0, 0.0)
        assert "GPUs " not in last_screen(data, capsys)
        page = render_report(data)
        assert "GPU time busy" not in page
        assert 'id="timeline"' not in page


def test_a_bench_that_was_broken_off_is_not_to_be_resumed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = bench(stage(), whole=False)
    killed = replace(data, ended="", ending=Ending.KILLED)
    shown = last_screen(data, capsys) + last_screen(killed, capsys)
    assert "resume" not in shown
    assert "go on    measure again with another seed" in shown
    ours = replace(killed, experiment={"engines": {"vllm": {}}})
    assert "servetune resume" in last_screen(ours, capsys)
    assert re.search(
        r"^go on .* report there  #", last_screen(bench(stage()), capsys), re.MULTILINE
    )


def test_progress_names_no_gpu_of_a_server_that_runs_already() -> None:
    output = StringIO()
    progress = Progress(Console(file=output, width=200))
    goals = (Goal("output_throughput", "maximize"),)
    progress.started(RunInfo("run", "n", Path("there"), "http://h", goals, 1, 0, False, True))
    progress.launched(Waiting(0, Params("external", {}), 1), Allocation("bundle", "node-a", ("0",)))
    progress.stopping(STOPPED)
    said = output.getvalue()
    assert "trial   0  started: external defaults" in said
    assert "node-a" not in said
    assert "1 running trial is being ended" in said
