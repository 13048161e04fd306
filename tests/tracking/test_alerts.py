"""Every alert fires when it should and not when it should not: `promtool test rules`, no server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tracking.exported import known_metrics
from tests.tracking.expressions import of_alert
from tests.tracking.promtool import complaints
from tracking.grafana.alerts import Alert, alerts

_LABELS = {"run": "r-1", "instance": "h:1"}
_DRIVER = {"job": "servetune"}
_ENGINE = 'up{job="servetune-engine",engine="vllm",trial="4",instance="h:2"}'
_READY = 'engine_up{trial="4",engine="vllm"}'
_ALERTS = {alert.name: alert for alert in alerts()}


@dataclass(frozen=True)
class Case:
    """Series as `complaints` takes them, and what an alert does at minute `at`.

    Attributes:
        fires: what fires then: its labels beyond those of the run, and its summary.
        quiet_at: minutes at which it does not fire.
        why: why it never fires.
    """

    alert: str
    series: Mapping[str, str]
    at: int
    fires: Sequence[tuple[Mapping[str, str], str]] = ()
    quiet_at: Sequence[int] = ()
    why: str = ""


def _gpus(idle: str, busy: str) -> dict[str, str]:
    return {'gpus{state="idle"}': idle, 'gpus{state="busy"}': busy}


def _lag(within: str, beyond: str) -> dict[str, str]:
    """Observations of up to 50 ms and of up to 100 ms."""
    return {
        'load_generator_lag_seconds_bucket{le="0.05"}': within,
        'load_generator_lag_seconds_bucket{le="0.1"}': beyond,
        'load_generator_lag_seconds_bucket{le="+Inf"}': beyond,
    }


_FIRES = [
    Case(
        "ServetuneStudyStalled",
        {
            "last_progress_timestamp_seconds": "0x90",
            "trials_running": "1x90",
            "trials_queued": "0x90",
        },
        70,
        [(_DRIVER, "r-1: no stage and no trial has ended for 1h 10m 0s")],
        quiet_at=[60],
    ),
    Case(
        "ServetuneDriverLost",
        {"up": "1x10 0x20", "trials_running": "3x10 stale"},
        14,
        [(_DRIVER, "r-1: its driver does not answer, and trials were running when it last did")],
        quiet_at=[10],
    ),
    Case(
        "ServetuneDriverLost",
        {"up": "1x10 0x720", "trials_running": "3x10 stale"},
        600,
        [(_DRIVER, "r-1: its driver does not answer, and trials were running when it last did")],
    ),
    Case(
        "ServetuneEngineSilent",
        {_ENGINE: "1x5 0x20", _READY: "1x25"},
        12,
        [
            (
                {"job": "servetune-engine", "engine": "vllm", "trial": "4", "instance": "h:2"},
                "r-1: the engine of trial 4 at h:2 does not answer scrapes",
            )
        ],
        quiet_at=[5, 7],
    ),
    Case(
        "ServetuneTrialsFail",
        {
            'trials_total{state="failed"}': "0x5 1+1x20",
            'trials_total{state="completed"}': "0x5 0x20",
            "up": "1x25",
        },
        20,
        [({}, "r-1: 100% of the attempts of the last 30m failed")],
        quiet_at=[6],
    ),
    Case(
        "ServetuneClientLimited",
        {'trials_flagged_total{flag="client_limited"}': "0x10 1x30", "up": "1x40"},
        20,
        [({}, "r-1: trials measured the load generator, not the engine")],
        quiet_at=[10],
    ),
    Case(
        "ServetuneLoadGeneratorLate",
        {**_lag("0x30", "0+60x30"), "up": "1x30"},
        15,
        [({}, "r-1: in most seconds the load generator runs late by 75ms or more")],
        quiet_at=[3],
    ),
    Case(
        "ServetuneMetricsUnread",
        {"scrape_errors_total": "0+60x60", "up": "1x60"},
        40,
        [({}, "r-1: engines' metrics could not be read 1.8k times within 30m")],
        quiet_at=[1],
    ),
    Case(
        "ServetuneGpusIdle",
        {**_gpus("6x40", "2x40"), "trials_queued": "1x40"},
        20,
        [({}, "r-1: 75% of its GPUs have had no trial for 15 minutes, although trials are queued")],
        quiet_at=[10],
    ),
    Case(
        "ServetuneTrialsQueuedBesideIdleGpus",
        {**_gpus("2x60", "6x60"), "trials_queued": "4x60"},
        40,
        [({}, "r-1: 2 GPUs are idle although trials are queued")],
        quiet_at=[20],
    ),
    Case(
        "ServetuneGpusWithheld",
        {'gpus{state="foreign"}': "0x60", 'gpus{state="quarantined"}': "0x5 1x60"},
        20,
        [({"state": "quarantined"}, "r-1: 1 GPUs are quarantined and get no trial")],
        quiet_at=[5, 8],
    ),
]

_QUIET = [
    Case(
        "ServetuneStudyStalled",
        {
            "last_progress_timestamp_seconds": "0x90",
            "trials_running": "0x90",
            "trials_queued": "0x90",
        },
        80,
        why="nothing runs",
    ),
    Case(
        "ServetuneStudyStalled",
        {
            "last_progress_timestamp_seconds": "0+60x90",
            "trials_running": "8x90",
            "trials_queued": "0x90",
        },
        80,
        why="it moves on",
    ),
    Case(
        "ServetuneDriverLost",
        {"up": "1x10 0x720", "trials_running": "3x9 0 stale"},
        14,
        quiet_at=[12, 600],
        why="the study ended, and the last scrape, a minute after the one before, saw it",
    ),
    Case(
        "ServetuneDriverLost",
        {"up": "1x10 0x5 1x20", "trials_running": "3x10 stale _x4 2x20"},
        20,
        why="it was resumed",
    ),
    Case(
        "ServetuneEngineSilent",
        {_ENGINE: "1x5 stale", _READY: "1x5 stale"},
        12,
        why="the trial ended, and its engine is in the list no more",
    ),
    Case(
        "ServetuneEngineSilent",
        {_ENGINE: "1x5 0x720", _READY: "1x5 stale", "up": "1x6 0x720"},
        12,
        quiet_at=[600],
        why="the study ended before Prometheus read a list without the engine",
    ),
    Case(
        "ServetuneEngineSilent",
        {_ENGINE: "1x5 0x30", _READY: "1x5 0x30"},
        20,
        why="the engine stops or starts anew",
    ),
    Case(
        "ServetuneEngineSilent",
        {_ENGINE: "0x30", 'engine_up{trial="5",engine="vllm"}': "1x30"},
        20,
        why="another trial's engine is ready",
    ),
    Case(
        "ServetuneTrialsFail",
        {
            'trials_total{state="failed"}': "0x5 1+1x20",
            'trials_total{state="completed"}': "0x5 2+2x20",
            "up": "1x25",
        },
        20,
        why="a third failed",
    ),
    Case(
        "ServetuneTrialsFail",
        {
            'trials_total{state="failed"}': "0x5 2x20",
            'trials_total{state="completed"}': "0x25",
            "up": "1x25",
        },
        20,
        why="two failures",
    ),
    Case(
        "ServetuneTrialsFail",
        {
            'trials_total{state="failed"}': "0x5 1+1x4 stale",
            'trials_total{state="completed"}': "0x10 stale",
            "up": "1x10 0x30",
        },
        12,
        quiet_at=[25],
        why="the study ended",
    ),
    Case(
        "ServetuneClientLimited",
        {'trials_flagged_total{flag="not_steady"}': "0+1x30", "up": "1x30"},
        20,
        why="another flag",
    ),
    Case(
        "ServetuneClientLimited",
        {'trials_flagged_total{flag="client_limited"}': "0x5 1x5 stale", "up": "1x10 0x30"},
        13,
        quiet_at=[25],
        why="the study ended",
    ),
    Case(
        "ServetuneLoadGeneratorLate",
        {**_lag("0+55x30", "0+60x30"), "up": "1x30"},
        15,
        why="late in a twelfth of the seconds",
    ),
    Case(
        "ServetuneMetricsUnread",
        {"scrape_errors_total": "0+1x40", "up": "1x40"},
        30,
        why="one a minute",
    ),
    Case(
        "ServetuneMetricsUnread",
        {"scrape_errors_total": "0+60x30 stale", "up": "1x30 0x30"},
        33,
        quiet_at=[50],
        why="the study ended",
    ),
    Case(
        "ServetuneGpusIdle",
        {**_gpus("3x40", "5x40"), "trials_queued": "1x40"},
        30,
        why="three of eight",
    ),
    Case(
        "ServetuneGpusIdle",
        {
            **_gpus("7x40", "1x40"),
            "trials_queued": "0x40",
            "trials_running": "1x40",
            "trials_planned": "20x40",
            'trials_total{state="completed"}': "18x40",
            'trials_total{state="failed"}': "3x40",
        },
        30,
        why="the last trial, after two that were tried again",
    ),
    Case(
        "ServetuneTrialsQueuedBesideIdleGpus",
        {**_gpus("0x60", "8x60"), "trials_queued": "4x60"},
        50,
        why="none is idle",
    ),
    Case("ServetuneGpusWithheld", {'gpus{state="foreign"}': "0x60"}, 30, why="none is withheld"),
]


def _expected(case: Case, minute: int) -> dict[str, object]:
    """The entry of `minute`: the alert fires as the case says, or not where it is quiet."""
    alert = _ALERTS[case.alert]
    fires = [] if minute != case.at else case.fires
    return {
        "eval_time": f"{minute}m",
        "alertname": alert.name,
        "exp_alerts": [
            {
                "exp_labels": {"severity": alert.severity, **_LABELS, **labels},
                "exp_annotations": {"summary": summary, "description": alert.remedy},
            }
            for labels, summary in fires
        ],
    }


@pytest.mark.parametrize("case", _FIRES, ids=[f"{case.alert} at {case.at}" for case in _FIRES])
def test_an_alert_fires_and_says_what_is_wrong(case: Case, tmp_path: Path) -> None:
    moments = [_expected(case, minute) for minute in sorted({*case.quiet_at, case.at})]
    assert case.fires
    assert not complaints(tmp_path, case.series, alerts=moments)


@pytest.mark.parametrize("case", _QUIET, ids=[f"{case.alert}: {case.why}" for case in _QUIET])
def test_an_alert_keeps_quiet(case: Case, tmp_path: Path) -> None:
    moments = [_expected(case, minute) for minute in sorted({*case.quiet_at, case.at})]
    assert not complaints(tmp_path, case.series, alerts=moments)


def test_an_alert_that_does_not_fire_is_noticed(tmp_path: Path) -> None:
    case = next(case for case in _FIRES if case.alert == "ServetuneGpusIdle")
    said = complaints(tmp_path, _gpus("1x40", "7x40"), alerts=[_expected(case, case.at)])
    assert "ServetuneGpusIdle" in said


def test_every_alert_is_tried_both_ways() -> None:
    for cases in (_FIRES, _QUIET):
        assert {case.alert for case in cases} == set(_ALERTS)


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_an_alert_can_be_evaluated_and_acted_on(alert: Alert) -> None:
    assert list(of_alert(alert.expr, known_metrics())) == []
    assert alert.name.startswith("Servetune")
    assert alert.severity in ("critical", "warning")
    assert alert.hold.endswith("m")
    assert "{{ $labels.run }}" in alert.summary
    assert alert.remedy.endswith(".")
    assert "{{" not in alert.remedy


def test_faults_of_an_alert_are_noticed() -> None:
    known = known_metrics()
    assert list(of_alert("servetune_trials_total > 1", known))
    assert list(of_alert("sum(servetune_trials_running) > 1", known))
    assert list(of_alert("servetune_trials_busy > 1", known))
