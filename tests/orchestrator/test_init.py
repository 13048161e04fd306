"""`servetune init`: files that `plan` accepts as they are, for every engine and many models."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from orchestrator.cli import main
from orchestrator.spec.experiment import Experiment
from orchestrator.starter import StarterRequest, starter_file
from orchestrator.starter_layouts import suggest
from runtimes.engines.base import ENGINES, create_engine
from runtimes.errors import SpecError, UserError
from runtimes.hardware import find_accelerator
from runtimes.model import find_model

GOLDEN = Path(__file__).parents[1] / "golden" / "init_vllm.yaml"
LLAMA_70B = "meta-llama/Llama-3.3-70B-Instruct"
MODELS = [
    "meta-llama/Llama-3.1-8B-Instruct",
    "deepseek-ai/DeepSeek-R1",
    "openai/gpt-oss-120b",
    "google/gemma-3-27b-it",
    "Qwen/Qwen3-32B-AWQ",
]
SERVING = [name for name in ENGINES.names() if not ENGINES.get(name).attaches]


@pytest.fixture(autouse=True)
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


def made(*engines: str, model: str = LLAMA_70B, gpus: int = 8, on: str | None = "H200") -> str:
    return starter_file(StarterRequest(engines, model, gpus, on), path="x.yaml")


@pytest.mark.parametrize("engine", SERVING)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("accelerator", ["H200", "A100-80GB"])
def test_every_engine_and_model_makes_a_file_that_can_be_wired(
    engine: str, model: str, accelerator: str
) -> None:
    text = made(engine, model=model, on=accelerator)
    spec = Experiment.from_dict(yaml.safe_load(text)).spec
    assert set(spec.engines) == {engine}
    assert spec.model.id == model
    assert spec.cluster.accelerator == accelerator
    assert spec.engines[engine].search, "something is searched"
    assert max(len(line) for line in text.splitlines()) <= 100


@pytest.mark.parametrize("engine", [name for name in SERVING if name != "simulated"])
def test_what_is_commented_out_can_be_taken_in(engine: str) -> None:
    """All of it together, which is what a `when` that names another argument needs."""
    text = made(engine, model="deepseek-ai/DeepSeek-R1")
    hints = create_engine(engine).search_hints(
        find_model("deepseek-ai/DeepSeek-R1"), find_accelerator("H200")
    )
    advanced = [hint for hint in hints if hint.advanced]
    assert len(advanced) >= 3
    pattern = re.compile(r"^      # (?=[a-z_.\-0-9]+:|  - |  [a-z]+: |# )", re.MULTILINE)
    whole = pattern.sub("      ", text)
    search = yaml.safe_load(whole)["engines"][engine]["search"]
    assert set(search) == {hint.name for hint in hints}
    spec = Experiment.from_dict(yaml.safe_load(whole)).spec
    assert len(spec.engines[engine].search) == len(search)


def test_several_engines_stand_in_one_file() -> None:
    text = made("vllm", "sglang")
    spec = Experiment.from_dict(yaml.safe_load(text)).spec
    assert list(spec.engines) == ["vllm", "sglang"]


def test_a_server_that_runs_already_has_nothing_to_search() -> None:
    text = made("external")
    data = yaml.safe_load(text)
    assert "search" not in data["engines"]["external"]
    assert "parallel" not in data
    assert Experiment.from_dict(data).spec.engines["external"].options["url"]


def test_a_simulated_node() -> None:
    data = yaml.safe_load(made("simulated", model=MODELS[0]))
    assert data["cluster"]["simulated_gpus"] == 8
    assert data["engines"]["simulated"]["imitates"] == "vllm"
    assert "max-num-seqs" in data["engines"]["simulated"]["search"]


def test_the_file_as_a_reader_sees_it() -> None:
    """To accept a change: `python -m tests.orchestrator.test_init`."""
    assert made("vllm") == GOLDEN.read_text(encoding="utf-8")


# --- layouts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "accelerator", "gpus", "tp", "pp", "dp"),
    [
        ("meta-llama/Llama-3.1-8B", "H100", 8, (1, 2, 4, 8), (1,), (1, 2, 4, 8)),
        (LLAMA_70B, "H200", 8, (2, 4, 8), (1,), (1, 2, 4)),
        (LLAMA_70B, "L4", 8, (8,), (1,), (1,)),
        ("meta-llama/Llama-3.1-405B", "H100", 8, (8,), (2,), (1,)),
        ("Qwen/Qwen2.5-14B", "H100", 6, (1, 2, 4), (1,), (1, 2, 4)),
        ("Qwen/Qwen2.5-7B", "L4", 1, (1,), (1,), (1,)),
        ("moonshotai/Kimi-K2", "L4", 1, (1,), (1,), (1,)),
    ],
)
def test_layouts_are_those_that_hold_the_weights(
    model: str,
    accelerator: str,
    gpus: int,
    tp: tuple[int, ...],
    pp: tuple[int, ...],
    dp: tuple[int, ...],
) -> None:
    found = suggest(find_model(model), find_accelerator(accelerator), gpus)
    assert (found.tp, found.pp, found.dp) == (tp, pp, dp)


def test_the_reason_stands_beside_the_layouts() -> None:
    eight = suggest(find_model("meta-llama/Llama-3.1-405B"), find_accelerator("H100"), 8)
    assert eight.why == (
        "Weights: 756 GiB; 8 × H100 cannot hold them, so that each of 2 nodes holds a part of "
        "the layers."
    )
    assert eight.gpus == 16
    never = suggest(find_model("moonshotai/Kimi-K2"), find_accelerator("L4"), 1)
    assert never.why.endswith("nor can 8 such nodes: name a quantised checkpoint.")
    unknown = suggest(None, find_accelerator("L4"), 4)
    assert unknown.tp == (1, 2, 4)
    assert unknown.why.startswith("The model's shape is not known")
    somewhere = suggest(find_model(LLAMA_70B), None, 4)
    assert somewhere.why.startswith("The accelerator is not known")


def test_experts_are_spread_where_the_node_holds_them() -> None:
    accelerator = find_accelerator("H200")
    assert suggest(find_model("openai/gpt-oss-120b"), accelerator, 8).presets == ("moe-optimized",)
    assert suggest(find_model("openai/gpt-oss-120b"), accelerator, 1).presets == ()
    assert suggest(find_model(LLAMA_70B), accelerator, 8).presets == ()


# --- the command --------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", SERVING)
def test_plan_accepts_the_file_unchanged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], engine: str
) -> None:
    path = tmp_path / "study.yaml"
    arguments = ["--gpus", "8", "--accelerator", "h200", "--out", str(path)]
    assert main(["init", "--engine", engine, "--model", MODELS[0], *arguments]) == 0
    assert f"wrote {path}; next: servetune plan {path}" in capsys.readouterr().err
    assert main(["plan", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "First the baseline" in shown
    assert "No combination is valid" not in shown


def test_a_model_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "my model"
    folder.mkdir()
    (folder / "config.json").write_text(
        '{"num_hidden_layers": 4, "hidden_size": 128, "num_attention_heads": 4,'
        ' "num_key_value_heads": 2, "intermediate_size": 256, "vocab_size": 2048}'
    )
    monkeypatch.chdir(tmp_path)
    arguments = ["--gpus", "8", "--accelerator", "L4"]
    assert main(["init", "--engine", "vllm", "--model", "my model", *arguments]) == 0
    experiment = Experiment.load(tmp_path / "my-model.yaml")
    assert experiment.spec.model.path == str(folder)
    assert experiment.spec.parallel.tp == [1, 2, 4], "4 heads"


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("precious")
    arguments = ["--engine", "vllm", "--model", MODELS[0], "--gpus", "1", "--accelerator", "H100"]
    assert main(["init", *arguments, "--out", str(path)]) == 2
    assert f"{path}: is there already; name another file with --out" in capsys.readouterr().err
    assert path.read_text() == "precious"
    assert main(["init", *arguments, "--out", str(tmp_path / "absent" / "x.yaml")]) == 2
    assert "cannot be written: No such file or directory" in capsys.readouterr().err


def test_printing_it(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--gpus", "8", "--accelerator", "H200", "--out", "-"]
    assert main(["init", "--engine", "vllm, vllm,", "--model", LLAMA_70B, *arguments]) == 0
    assert capsys.readouterr().out == made("vllm").replace("x.yaml", "FILE")


def test_a_machine_without_gpus_is_planned_for_eight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert main(["init", "--engine", "vllm", "--model", LLAMA_70B, "--out", "-"]) == 0
    data = yaml.safe_load(capsys.readouterr().out)
    assert data["parallel"]["tp"] == [1, 2, 4, 8]
    assert "accelerator" not in data["cluster"]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (StarterRequest(("vlm",), LLAMA_70B, 8, "H200"), "unknown engine 'vlm'. Did you mean"),
        (StarterRequest((), LLAMA_70B, 8, "H200"), "--engine: names none; known: "),
        (StarterRequest(("vllm",), LLAMA_70B, 8, "H21"), "unknown accelerator 'H21'"),
        (StarterRequest(("vllm",), LLAMA_70B, 0, "H200"), "--gpus 0: a node has at least 1"),
        (StarterRequest(("vllm",), "", 8, "H200"), "--model: names none; write a Hub id"),
        (StarterRequest(("simulated",), LLAMA_70B, 8), "--accelerator: simulated needs to know"),
    ],
)  # fmt: skip
def test_what_cannot_be(request_: StarterRequest, message: str) -> None:
    with pytest.raises(UserError) as caught:
        starter_file(request_, path="x.yaml")
    assert message in str(caught.value)


def test_a_simulation_of_the_unknown() -> None:
    with pytest.raises(SpecError, match="needs the model's shape and does not know it"):
        made("simulated", model="somebody/else")


if __name__ == "__main__":
    GOLDEN.write_text(made("vllm"), encoding="utf-8")
