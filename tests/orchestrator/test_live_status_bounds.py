"""The live status stays small, and counts no GPU where somebody else's server is used."""

from __future__ import annotations

import urllib.request
from pathlib import Path

from orchestrator import Experiment, run
from orchestrator.attach import RunningServer, attached
from orchestrator.live_status import LiveStatusFile, read_live_status
from orchestrator.messages import StageDone
from orchestrator.observer import Observer, RunInfo, Status
from orchestrator.scheduler import Waiting
from runtimes.json_types import Json
from runtimes.plan import Allocation
from runtimes.telemetry.release import DirtyGpu
from search.trial import Params
from tests.e2e import studies
from tests.orchestrator.test_attached_server import running
from tests.tracking.metric_samples import exposed
from tests.tracking.run_samples import trial_record
from tracking.layout import RunLayout
from tracking.live import LiveFigures

_STATUS = Status(0.0, 0, 0, 0, 8, 0, 0, 0.0, 0.0, {}, None)
_LONG = "x" * 5000


class _Seen(Observer):
    """What is told of a study, and what it exposed at its last stage."""

    def __init__(self) -> None:
        self.url = ""
        self.statuses: list[Status] = []
        self.exposed: dict[str, float] = {}

    def started(self, info: RunInfo) -> None:
        self.url = info.metrics_url

    def status(self, status: Status) -> None:
        self.statuses.append(status)

    def stage(self, done: StageDone) -> None:
        with urllib.request.urlopen(self.url, timeout=30) as answer:
            self.exposed = exposed(answer.read().decode())


def _document(live: LiveStatusFile, path: Path) -> dict[str, Json]:
    live.status(_STATUS)
    live.ended("")
    return read_live_status(path)


def test_it_names_the_running_trials_and_cuts_long_words(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    live = LiveStatusFile(path, "http://127.0.0.1:1/metrics")
    foreign = DirtyGpu("0", "foreign", _LONG, 1, 0)
    for number in range(200):
        live.launched(Waiting(number, Params("vllm"), 1), Allocation("b", "node", ("0",)))
        live.step(number, 0, _LONG)
        live.gpus_awaited(number, "node", (foreign,) * 8)
        live.gpu_withheld("node", foreign)
        if number < 198:
            live.finished(trial_record(number), retry=False)
    document = _document(live, path)
    running, withheld = document["running"], document["withheld"]
    assert isinstance(running, dict)
    assert isinstance(withheld, list)
    assert set(running) == {"198", "199"}
    assert len(withheld) == 1
    assert path.stat().st_size < 4000


def test_it_says_what_is_planned_and_what_the_live_figures_show(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    live = LiveStatusFile(path, "")
    live.started(
        RunInfo("r", "n", tmp_path, "", (), planned=60, finished=0, simulated=False, attached=True)
    )
    live.launched(Waiting(0, Params("external"), 1), Allocation("b", "node", ("0",)))
    live.live(
        LiveFigures(0, 0, 4, 1, 0, 9, 50.0, in_flight=3, ttft_mean_ms=12.5, generation_tokens=7.0)
    )
    document = _document(live, path)
    assert (document["planned"], document["pareto"]) == (60, 0)
    running = document["running"]
    assert isinstance(running, dict)
    trial = running["0"]
    assert isinstance(trial, dict)
    assert (trial["in_flight"], trial["ttft_mean_ms"], trial["generation_tokens"]) == (3, 12.5, 7.0)
    assert trial["gpus"] == 0  # the server's own are not the study's


def test_a_server_of_somebody_elses_takes_no_gpu(tmp_path: Path) -> None:
    seen = _Seen()
    with running(tmp_path / "server.log") as server:
        measured = attached(Experiment.from_dict(studies.experiment()), RunningServer(server.url))
        result = run(measured, results=tmp_path / "runs", observers=[seen])
    assert result.best is not None
    for status in seen.statuses:
        assert (status.busy_gpus, status.capacity_gpus) == (0, 0)
        assert (status.busy_gpu_seconds, status.idle_gpu_seconds) == (0.0, 0.0)
    last = exposed(RunLayout(result.folder).final_metrics.read_text())
    for found in (seen.exposed, last):
        assert found['servetune_gpus{state="busy"}'] == 0
        assert found['servetune_gpus{state="idle"}'] == 0
    for state in ("busy", "idle"):
        assert last[f'servetune_gpu_seconds_total{{state="{state}"}}'] == 0
    assert seen.exposed['servetune_trial_gpus{engine="external",trial="0"}'] == 0
    assert last['servetune_trials_total{state="completed"}'] == 1
