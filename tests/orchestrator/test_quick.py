"""`servetune tune`: an experiment from a model, a few limits, and what this machine has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from orchestrator.attach import RunningServer
from orchestrator.quick import Request, experiment_for
from orchestrator.spec import Experiment
from runtimes.engines.base import create_engine
from runtimes.errors import SpecError, UserError
from runtimes.hardware import ACCELERATORS
from runtimes.model import find_model
from tests.orchestrator.commands import SYSTEM_PATH, executable, servetune

MODEL = "meta-llama/Llama-3.3-70B-Instruct"
ROWS = [f"echo '{index}, GPU-{index}, NVIDIA H200, 143771, 4'" for index in range(4)]


def test_a_dry_run_writes_a_file_that_loads(tmp_path: Path) -> None:
    done = servetune(
        *("tune", MODEL, "--simulate", "H200:8", "--ttft-p99", "500", "--tpot-p99", "40"),
        *("--dry-run", "--write", "used.yaml"),
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "wrote used.yaml\n")
    assert [path.name for path in tmp_path.iterdir()] == ["used.yaml"]
    spec = Experiment.load(tmp_path / "used.yaml").spec
    assert spec.name == "llama-3.3-70b-instruct"
    assert spec.model.id == MODEL
    assert list(spec.engines) == ["simulated"]
    assert spec.parallel.tp == [1, 2, 4, 8]
    assert (spec.cluster.simulated_gpus, spec.cluster.accelerator) == (8, "H200")
    assert spec.slo == {"ttft_ms": {"p99": 500.0}, "tpot_ms": {"p99": 40.0}}
    assert [objective.name for objective in spec.objectives] == ["goodput_per_gpu"]
    assert spec.search.baseline
    assert spec.budget.trials == 20


def test_a_dry_run_without_a_file_prints_it(tmp_path: Path) -> None:
    done = servetune("tune", MODEL, "--simulate", "H200:8", "--dry-run", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    data = yaml.safe_load(done.stdout)
    assert Experiment.from_dict(data).resolved() == data
    assert list(tmp_path.iterdir()) == []


def test_without_limits_throughput_is_what_counts() -> None:
    spec = experiment_for(Request(MODEL, simulate="H100:4")).spec
    assert [objective.name for objective in spec.objectives] == ["output_throughput_per_gpu"]
    assert spec.slo == {}


def test_what_was_asked_for_is_what_is_run() -> None:
    request = Request(
        MODEL, input_tokens=64, output_tokens=8, concurrency=4, requests=12, trials=3, seed=9,
        simulate="A100-80GB:3",
    )  # fmt: skip
    resolved = experiment_for(request).resolved()
    assert resolved["workload"] == {
        "kind": "synthetic",
        "input_tokens": 64,
        "output_tokens": 8,
        "skip_special_ids": False,
        "api": "completions",
        "cache": "auto",
        "load": {
            "kind": "concurrency", "value": 4, "requests": 12, "processes": "auto", "engine": "own",
        },
    }  # fmt: skip
    assert resolved["search"] == {
        "sampler": "auto",
        "warm_start": "auto",
        "seed": 9,
        "baseline": True,
        "reference_per_node": False,
    }
    assert resolved["budget"] == {"trials": 3}
    assert resolved["parallel"] == {"tp": [1, 2], "pp": [1], "dp": [1]}


# --- what this machine has ----------------------------------------------------------------------


def test_the_engine_on_path_and_the_free_gpus(tmp_path: Path) -> None:
    executable(tmp_path / "bin", "vllm", "exit 0")
    executable(tmp_path / "bin", "nvidia-smi", "\n".join(ROWS))
    done = servetune("tune", MODEL, "--dry-run", cwd=tmp_path, path=f"{tmp_path}/bin:{SYSTEM_PATH}")
    assert (done.returncode, done.stderr) == (0, "")
    data = yaml.safe_load(done.stdout)
    assert list(data["engines"]) == ["vllm"]
    assert "environment" not in data["engines"]["vllm"]
    assert data["parallel"]["tp"] == [1, 2, 4]
    assert data["cluster"] == {
        "kind": "ray", "address": "local", "accelerator": "H200", "max_gpus": 4,
        "isolation": "gpu", "hardware": [], "curves": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("command", "engine"),
    [("vllm", "vllm"), ("sglang", "sglang"), ("trtllm-serve", "tensorrt_llm")],
)
def test_an_engine_is_searched_by_its_own_hints(
    tmp_path: Path, command: str, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    executable(tmp_path / "bin", command, "exit 0")
    executable(tmp_path / "bin", "nvidia-smi", "\n".join(ROWS))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{SYSTEM_PATH}")
    searched = experiment_for(Request(MODEL)).spec.engines[engine].search
    hints = create_engine(engine).search_hints(find_model(MODEL), ACCELERATORS["H200"])
    telling = [hint.name.replace("_", "-") for hint in hints if not hint.advanced]
    assert searched
    assert {name.replace("_", "-") for name in searched} <= set(telling)
    assert {"max-num-seqs", "max-running-requests", "max-batch-size"} & set(searched)


def test_an_engine_without_gpus(tmp_path: Path) -> None:
    executable(tmp_path / "bin", "vllm", "exit 0")
    done = servetune("tune", MODEL, cwd=tmp_path, path=f"{tmp_path}/bin")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("servetune: no GPU: nvidia-smi is not on PATH or lists none. ")


def test_neither_engine_nor_gpus(tmp_path: Path) -> None:
    done = servetune("tune", MODEL, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "servetune: no engine: none of these commands is on PATH: sglang, "
    )
    assert list(tmp_path.iterdir()) == []


def test_a_cpu_build_needs_no_gpu(tmp_path: Path) -> None:
    executable(tmp_path / "bin", "vllm", "exit 0")
    done = servetune(
        "tune", "acme/tiny", "--cpu-slots", "2", "--dry-run", cwd=tmp_path, path=f"{tmp_path}/bin"
    )
    assert (done.returncode, done.stderr) == (0, "")
    data = yaml.safe_load(done.stdout)
    assert data["cluster"]["simulated_gpus"] == 2
    assert data["cluster"]["accelerator"] == "cpu"
    assert data["engines"]["vllm"]["env"] == {"VLLM_CPU_KVCACHE_SPACE": "1"}


def test_only_vllm_has_a_cpu_build(tmp_path: Path) -> None:
    executable(tmp_path / "bin", "sglang", "exit 0")
    done = servetune("tune", MODEL, "--cpu-slots", "1", cwd=tmp_path, path=f"{tmp_path}/bin")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("servetune: --cpu-slots: found sglang, ")


# --- a server that runs already -----------------------------------------------------------------

URL = "http://127.0.0.1:8000"


def test_a_running_server_takes_no_device_of_this_machine() -> None:
    request = Request(
        MODEL, ttft_p99_ms=500, seed=4, server=RunningServer(URL, 8, api_key_env="MY_KEY")
    )
    experiment = experiment_for(request)
    resolved = experiment.resolved()
    assert resolved["engines"] == {
        "external": {
            "url": URL, "gpus": 8, "env": {"OPENAI_API_KEY": {"from_env": "MY_KEY"}},
        }
    }  # fmt: skip
    assert resolved["budget"] == {"trials": 1}
    assert resolved["slo"] == {"ttft_ms": {"p99": 500.0}}
    spec = experiment.spec
    assert (spec.cluster.kind, spec.cluster.simulated_gpus) == ("in_process", 8)
    assert (spec.search.seed, spec.search.baseline) == (4, False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--server-url", "localhost"], "--server-url: option url: 'localhost' does not begin"),
        (["--server-url", URL, "--gpus", "0"], "--gpus: must be at least 1 (got 0)"),
        (["--gpus", "2"], "--gpus belongs to --server-url"),
        (["--api-key-env", "KEY"], "--api-key-env belongs to --server-url"),
        (["--server-url", URL, "--cpu-slots", "1"], "not allowed with argument"),
    ],
)
def test_mistakes_about_a_running_server(tmp_path: Path, options: list[str], words: str) -> None:
    done = servetune("tune", MODEL, *options, "--dry-run", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


def test_a_server_that_lives_on_gets_other_prompts_each_time(tmp_path: Path) -> None:
    def seed(*options: str) -> int:
        done = servetune("tune", MODEL, *options, "--dry-run", "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        found: int = json.loads(done.stdout)["search"]["seed"]
        return found

    assert seed("--server-url", URL) != seed("--server-url", URL)
    assert seed("--server-url", URL, "--seed", "5") == 5
    assert seed("--simulate", "H100:1") == 0


def test_a_key_that_is_not_set_is_told_before_anything_runs(tmp_path: Path) -> None:
    done = servetune("tune", MODEL, "--server-url", URL, "--api-key-env", "NO_KEY", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "the environment variable NO_KEY is not set here" in done.stderr
    assert list(tmp_path.iterdir()) == []


# --- mistakes, in the words of the command line -------------------------------------------------


def test_a_model_folder_is_taken_by_its_path(tmp_path: Path) -> None:
    config = {
        "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4,
        "intermediate_size": 128, "vocab_size": 1000,
    }  # fmt: skip
    folder = tmp_path / "My Model!"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    spec = experiment_for(Request(str(folder), simulate="H100:1")).spec
    assert (spec.model.path, spec.name) == (str(folder), "my-model")


@pytest.mark.parametrize("model", ["./absent", "/no/where", "~/nothing-here", "a/b/c"])
def test_a_folder_that_is_not_there_is_not_taken_for_a_hub_id(model: str) -> None:
    with pytest.raises(UserError, match="there is no such folder; name one, or a Hub id"):
        experiment_for(Request(model, simulate="H100:1"))


@pytest.mark.parametrize("node", ["H100", "H100:0", "H100:x", ":8", "8:H100"])
def test_a_simulated_node_is_an_accelerator_and_a_number(node: str) -> None:
    with pytest.raises(UserError, match="write an accelerator and a number, as H200:8"):
        experiment_for(Request(MODEL, simulate=node))


def test_values_that_make_no_experiment_are_told_by_their_flags() -> None:
    request = Request(
        "acme/unknown", ttft_p99_ms=-1, concurrency=0, trials=0, input_tokens=0, simulate="H900:8"
    )
    with pytest.raises(SpecError) as caught:
        experiment_for(request)
    assert [problem.path for problem in caught.value.problems] == [
        "--concurrency", "--ttft-p99", "--trials", "--simulate", "--input-tokens", "MODEL",
    ]  # fmt: skip
