"""JSON lines: every line one object, with the ids of what it is about."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator.logs import JsonLines, about, fields, of_run
from tests.e2e import studies
from tests.orchestrator.commands import ROOT, servetune

LOGGER = logging.getLogger("orchestrator.test_logs")


class Lines(logging.Handler):
    """Keeps what the formatter makes of each record."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonLines())
        self.found: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        assert "\n" not in text
        self.found.append(json.loads(text))


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    handler = Lines()
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.DEBUG)
    LOGGER.propagate = False
    yield handler.found
    LOGGER.removeHandler(handler)
    LOGGER.propagate = True


def test_a_record_is_one_object_with_its_time_in_utc(lines: list[dict[str, Any]]) -> None:
    LOGGER.warning("two\nlines of %s", "text")
    (line,) = lines
    assert list(line) == ["time", "level", "logger", "message"]
    assert line["message"] == "two\nlines of text"
    assert (line["level"], line["logger"]) == ("warning", LOGGER.name)
    offset = datetime.fromisoformat(line["time"]).utcoffset()
    assert offset is not None
    assert offset.total_seconds() == 0


def test_ids_are_those_of_the_block(lines: list[dict[str, Any]]) -> None:
    with of_run("r-1"):
        LOGGER.info("of the run")
        with about("r-1", 7, 1):
            LOGGER.info("of an attempt", extra=fields(phase="warming", absent=None))
        LOGGER.info("again of the run")
    LOGGER.info("of nothing")
    ids = [{name: line.get(name) for name in ("run", "trial", "attempt")} for line in lines]
    run_alone = {"run": "r-1", "trial": None, "attempt": None}
    assert ids[0] == ids[2] == run_alone
    assert ids[1] == {"run": "r-1", "trial": 7, "attempt": 1}
    assert set(ids[3].values()) == {None}
    assert lines[1]["phase"] == "warming"
    assert "absent" not in lines[1]


def test_an_exception_is_a_field(lines: list[dict[str, Any]]) -> None:
    try:
        raise ValueError("so it is")
    except ValueError:
        LOGGER.exception("it broke")
    assert lines[0]["exception"].startswith("Traceback (most recent call last):\n")
    assert lines[0]["exception"].endswith("ValueError: so it is")


def test_secrets_of_the_environment_are_masked(
    lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefgh")
    LOGGER.info("asked with %s", "hf_abcdefgh", extra=fields(url="http://h?t=hf_abcdefgh"))
    assert lines[0]["message"] == "asked with ***"
    assert lines[0]["url"] == "http://h?t=***"


def read(stderr: str) -> list[dict[str, Any]]:
    """Each line as the object that it has to be."""
    return [json.loads(line) for line in stderr.splitlines()]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--log-format", "json", "report", "nowhere"),
        ("report", "nowhere", "--log-format", "json"),
        ("report", "--log-format=json", "nowhere"),
    ],
)
def test_mistakes_are_records_wherever_the_option_stands(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = servetune(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = read(done.stderr)
    assert line["level"] == "error"
    assert line["message"].startswith("no run found: nowhere does not exist")


def test_a_wrong_command_line_is_a_record_too(tmp_path: Path) -> None:
    done = servetune("--log-format", "json", "report", "--bogus", cwd=tmp_path)
    assert done.returncode == 2
    (line,) = read(done.stderr)
    assert line["message"] == "servetune: unrecognized arguments: --bogus"


def test_what_nobody_catches_and_warnings_are_records(tmp_path: Path) -> None:
    code = (
        "import threading, warnings\n"
        "from orchestrator.logs import configure\n"
        "configure('json', 'info')\n"
        "warnings.warn('careful')\n"
        "thread = threading.Thread(target=lambda: 1 / 0); thread.start(); thread.join()\n"
        "raise RuntimeError('the end')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=studies.environment(PYTHONPATH=str(ROOT)),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    warned, divided, ended = read(done.stderr)
    assert "careful" in warned["message"]
    assert divided["exception"].endswith("ZeroDivisionError: division by zero")
    assert (ended["level"], ended["message"]) == ("critical", "the end")


def test_a_real_run_logs_nothing_but_json(tmp_path: Path) -> None:
    path = studies.write(tmp_path, studies.experiment())
    done = studies.servetune("run", path, "--results", tmp_path / "runs", "--log-format", "json")
    assert done.returncode == 0, done.stderr
    found = read(done.stderr)
    run = studies.only_run(tmp_path / "runs").name
    assert {line["run"] for line in found} == {run}
    assert "best" in done.stdout
    assert all(list(line)[:4] == ["time", "level", "logger", "message"] for line in found)
    events = [line.get("event") for line in found]
    assert (events[0], events[-1]) == ("study_started", "study_ended")
    assert events.count("trial_ended") == 4
    assert "best_changed" in events
    for number in range(4):
        own = [line["event"] for line in found if line.get("trial") == number]
        assert own[0] == "trial_started"
        assert {"phase", "stage_measured", "trial_ended"} <= set(own)
    assert all(line["attempt"] == 0 for line in found if "trial" in line)


def test_text_stays_quiet_and_tells_more_when_asked(tmp_path: Path) -> None:
    path = studies.write(tmp_path, studies.experiment(engines={"simulated": {"startup_s": 0.1}},
                                                      search={"baseline": True}))  # fmt: skip
    done = studies.servetune("run", path, "--results", tmp_path / "a", "--log-level", "info")
    assert done.returncode == 0, done.stderr
    assert "INFO orchestrator.study: trial 0 started on " in done.stderr
    assert "trial   0  started" in done.stderr
