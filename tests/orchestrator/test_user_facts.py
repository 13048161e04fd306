"""Accelerators and models of a user's own: what a file may say, and what it is told of mistakes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from orchestrator.spec.experiment import Experiment
from orchestrator.user_facts import (
    accelerator_called,
    load_hardware_yaml,
    load_models_yaml,
    model_called,
)
from orchestrator.wiring import wire
from runtimes.errors import SpecError, UnknownNameError, UserError
from runtimes.hardware import ACCELERATORS
from runtimes.json_types import Json
from runtimes.model import MlaShape, find_model
from runtimes.quantization import CheckpointQuantization
from tests.runtimes.model_configs import TINY, known, written

DOCUMENT = (Path(__file__).parents[2] / "docs/prediction.md").read_text(encoding="utf-8")
OWN_GPU = """
accelerators:
  slow-h100:
    like: h100
    memory_bytes_per_s: 2e12
    memory_bytes: 64e9
    fp8_flops: null
    capability: 9.0
"""
EXPERIMENT: dict[str, Json] = {
    "name": "own",
    "model": "meta-llama/Llama-3.1-8B",
    "engines": {"vllm": {}},
    "parallel": {"tp": [1, 2]},
}


def written_yaml(folder: Path, text: str) -> Path:
    file = folder / "facts.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def problems(folder: Path, text: str) -> dict[str, str]:
    """Rule and remedy by place, the same whichever part of the file is asked for."""
    file = written_yaml(folder, text)
    with pytest.raises(SpecError) as caught:
        load_hardware_yaml(file)
    return {each.path: f"{each.message}; {each.remedy}" for each in caught.value.problems}


def test_an_accelerator_is_like_another_but_for_what_it_says(tmp_path: Path) -> None:
    found = load_hardware_yaml(written_yaml(tmp_path, OWN_GPU))
    own, h100 = found["slow-h100"], ACCELERATORS["H100"]
    assert (own.name, own.id) == ("slow-h100", "slow-h100")
    assert (own.memory_bytes_per_s, own.memory_bytes) == (2e12, 64_000_000_000)
    assert own.fp8_flops is None
    assert (own.bf16_flops, own.link_bytes_per_s) == (h100.bf16_flops, h100.link_bytes_per_s)
    assert own.capability == (9, 0)
    assert own.source == str(tmp_path / "facts.yaml")


def test_an_accelerator_of_its_own_has_the_usual_values_where_it_says_nothing(
    tmp_path: Path,
) -> None:
    text = (
        "accelerators: {npu: {vendor: intel, memory_bytes: 32000000000, bf16_flops: 1e14,"
        " memory_bytes_per_s: 1e12, link_bytes_per_s: 5e10, capability: [8, 9]}}"
    )
    own = load_hardware_yaml(written_yaml(tmp_path, text))["npu"]
    assert (own.bf16_flops, own.scale_up, own.power_w) == (1e14, 8, None)
    assert own.capability == (8, 9)


def test_all_problems_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        """
accelerators:
  a: {memory_bytes: lots, bf16_flop: 989e12, vendor: nvdia, link_bytes_per_s: -1}
  b: {like: H10, capability: nine, memory_bytes: 0.5}
  5: {like: H100}
models:
  c: {layers: 0, hiden: 3, kv_heads: 4, head_dim: 128, intermediate: 0, vocab: 10}
  d: {config: x, like: y}
  e: {like: meta-llama/Llama-3.1-8B, quantization: {metod: fp8}}
""",
    )
    expected = {
        "accelerators.a.vendor": "did you mean 'nvidia'?",
        "accelerators.a.memory_bytes": "takes a number; write it in the unit",
        "accelerators.a.bf16_flop": "did you mean 'bf16_flops'?",
        "accelerators.a.link_bytes_per_s": "above 0",
        "accelerators.a.memory_bytes_per_s": "required and missing; add it, or name what is known",
        "accelerators.b.like": "did you mean 'H100'?",
        "accelerators.b.capability": "write it as 9.0",
        "accelerators.b.memory_bytes": "whole number of bytes",
        "accelerators.5": "put it in quotes",
        "models.c.layers": "at least 1",
        "models.c.hiden": "did you mean 'hidden'?",
        "models.c.heads": "required and missing",
        "models.d": "both say what the model starts from",
        "models.e.quantization.metod": "did you mean 'method'?",
    }
    for place, words in expected.items():
        assert words in found[place], place
    assert found.keys() == expected.keys()


@pytest.mark.parametrize(
    ("entry", "unit"),
    [
        ("memory_bytes: 80", "bytes; write bytes: an H100 has"),
        ("memory_bytes_per_s: 3350", "bytes per second; write bytes per second: an H100 has"),
        ("memory_bytes_per_s: 1e-300", "bytes per second"),
        ("link_bytes_per_s: 900", "bytes per second in one direction"),
        ("network_bytes_per_s: 1e300", "bytes per second"),
        ("bf16_flops: 989", "write FLOP/s: an H100 has 989e12"),
        ("power_w: 7e5", "watts"),
    ],
)
def test_figures_in_another_unit_are_told_from_those_in_ours(
    tmp_path: Path, entry: str, unit: str
) -> None:
    found = problems(tmp_path, f"accelerators: {{a: {{like: H100, {entry}}}}}")
    assert found.keys() == {f"accelerators.a.{entry.partition(':')[0]}"}
    (words,) = found.values()
    assert words.startswith("must lie between")
    assert unit in words


def test_every_built_in_figure_lies_within_the_bounds(tmp_path: Path) -> None:
    keys = ("memory_bytes", "bf16_flops", "fp8_flops", "fp4_flops", "int8_ops", "power_w",
            "memory_bytes_per_s", "link_bytes_per_s", "network_bytes_per_s")  # fmt: skip
    entries = {
        f"own {name}": {"like": name, **{key: getattr(accelerator, key) for key in keys}}
        for name, accelerator in ACCELERATORS.items()
    }
    file = written_yaml(tmp_path, json.dumps({"accelerators": entries}))
    assert load_hardware_yaml(file).keys() == entries.keys()


def test_names_that_cannot_be_told_apart_or_listed(tmp_path: Path) -> None:
    like = "{like: H100}"
    found = problems(
        tmp_path, f"accelerators: {{Gpu: {like}, gPU: {like}, '': {like}, 'a,b': {like}}}"
    )
    assert found == {
        "accelerators.gPU": "differs from 'Gpu' only in upper and lower case; keep one of them, or "
        "name it otherwise",
        "accelerators.": "a name is not empty and holds no comma; give it another name",
        "accelerators.a,b": "a name is not empty and holds no comma; give it another name",
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("models: {a: {like: meta-llama/Llama-3.1-8B}}", "the file names none"),
        ("accelerators: {}", "the file names none"),
        ("accelerators: [H100]", "takes keys with values"),
        ("accelerator: {a: {like: H100}}", "did you mean 'accelerators'?"),
        ("- a", "start with `accelerators:`"),
        ("accelerators: {a: {like: H100}, a: {like: H200}}", "stands here and in line"),
    ],
)
def test_a_file_that_names_no_accelerator(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SpecError, match=re.escape(words)):
        load_hardware_yaml(written_yaml(tmp_path, text))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="name a file of models"):
        load_models_yaml(tmp_path / "absent.yaml")


def test_a_model_is_read_from_its_configuration_beside_the_file(tmp_path: Path) -> None:
    written(tmp_path / "tiny", {**TINY, "model_type": "llama"})
    file = written_yaml(
        tmp_path,
        "models:\n  a: {config: tiny/config.json}\n  b: {config: tiny, layers: 6, tied: true}\n",
    )
    found = load_models_yaml(file)
    assert (found["a"].name, found["a"].layers, found["a"].vocab) == ("a", 4, 2048)
    assert (found["b"].layers, found["b"].tied) == (6, True)


def test_a_model_by_its_shape(tmp_path: Path) -> None:
    text = """
models:
  own:
    {layers: 4, hidden: 64, heads: 8, kv_heads: 8, head_dim: 8, intermediate: 128, vocab: 100,
     experts: 8, experts_per_token: 2, moe_intermediate: 32, dense_layers: 1,
     mla: {q_lora: 0, kv_lora: 16, nope: 8, rope: 4, value: 8},
     quantization: {method: fp8, weights: fp8_block}}
  wider: {like: meta-llama/Llama-3.1-8B, hidden: 8192}
  plain: {like: deepseek-ai/DeepSeek-V3, quantization: null}
"""
    file = written_yaml(tmp_path, text)
    found = load_models_yaml(file)
    assert found["own"].mla == MlaShape(0, 16, 8, 4, 8)
    assert found["own"].quantization == CheckpointQuantization("fp8", "fp8_block", source=str(file))
    assert found["own"].moe_layers == 3
    assert found["wider"].parameters > known("meta-llama/Llama-3.1-8B").parameters
    assert found["plain"].quantization is None
    assert found["plain"].weight_bytes > known("deepseek-ai/DeepSeek-V3").weight_bytes


def test_a_shape_that_contradicts_itself(tmp_path: Path) -> None:
    file = written_yaml(
        tmp_path,
        """
models:
  a: {like: meta-llama/Llama-3.1-8B, kv_heads: 5, windowed_layers: 40}
  b: {config: nowhere/config.json}
  c: {like: acme/unheard-of}
  d: {like: meta-llama/Llama-3.1-8B, experts: 4, dense_layers: 32}
  e: {like: meta-llama/Llama-3.1-8B, intermediate: 0}
  f: {like: meta-llama/Llama-3.1-8B, linear_layers: 8}
""",
    )
    with pytest.raises(SpecError) as caught:
        load_models_yaml(file)
    places = {each.path: each.message for each in caught.value.problems}
    assert "does not divide heads, which are 32" in places["models.a.kv_heads"]
    assert places["models.a.windowed_layers"] == "is more than layers"
    assert "models.a.sliding_window" in places
    assert str(tmp_path / "nowhere") in places["models.b.config"]
    assert "acme/unheard-of" in places["models.c.like"]
    assert {"models.d.experts_per_token", "models.d.moe_intermediate"} <= places.keys()
    assert "models.e.intermediate" in places
    assert places["models.f.linear"] == "is missing, and linear_layers are not 0"
    assert "models.d.intermediate" not in places


def test_own_facts_are_found_before_the_built_in_ones(tmp_path: Path) -> None:
    own = load_hardware_yaml(written_yaml(tmp_path, "accelerators: {H200: {like: L4}}"))
    assert accelerator_called("h200", own).memory_bytes == ACCELERATORS["L4"].memory_bytes
    assert accelerator_called("h100", own) == ACCELERATORS["H100"]
    with pytest.raises(UnknownNameError, match=r"did you mean 'H200'\?.*--hardware"):
        accelerator_called("H-200x", own)
    models = load_models_yaml(
        written_yaml(tmp_path, "models: {acme/m: {like: meta-llama/Llama-3.1-8B}}")
    )
    assert model_called("acme/m", models).layers == 32
    assert model_called("meta-llama/Llama-3.1-70B", models) == find_model(
        "meta-llama/Llama-3.1-70B"
    )
    with pytest.raises(UserError, match=r"acme/m.*--models"):
        model_called("acme/n", models)


def test_an_experiment_names_an_accelerator_of_a_file(tmp_path: Path) -> None:
    file = written_yaml(tmp_path, OWN_GPU)
    cluster: Json = {"hardware": [str(file)], "accelerator": "Slow-H100"}
    experiment = Experiment.from_dict({**EXPERIMENT, "cluster": cluster})
    study = wire(experiment)
    assert study.accelerator is not None
    assert study.accelerator.memory_bytes_per_s == 2e12
    again = Experiment.from_dict(experiment.resolved())
    assert again.spec.cluster == experiment.spec.cluster


def test_an_experiment_is_told_what_is_wrong_with_its_hardware(tmp_path: Path) -> None:
    def wrong(cluster: Json, **others: Json) -> str:
        with pytest.raises(SpecError) as caught:
            Experiment.from_dict({**EXPERIMENT, **others, "cluster": cluster})
        return str(caught.value)

    file = str(written_yaml(tmp_path, OWN_GPU))
    assert "did you mean 'slow-h100'?" in wrong({"hardware": [file], "accelerator": "slow-h10"})
    absent = wrong({"hardware": ["nowhere.yaml"], "accelerator": "slow-h100"})
    assert "cluster.hardware[0]" in absent
    assert "there is no such file" in absent
    assert "unknown accelerator" not in absent
    simulated = wrong(
        {"hardware": [file], "accelerator": "slow-h100", "simulated_gpus": 2},
        engines={"simulated": {}},
    )
    assert "the simulated engine imitates none of a file of hardware" in simulated


def test_the_documented_file_loads(tmp_path: Path) -> None:
    written(tmp_path / "my-model", {**TINY, "model_type": "llama"})
    blocks = re.findall(r"^```yaml\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    (text,) = [block for block in blocks if "accelerators:" in block]
    file = written_yaml(tmp_path, text)
    assert load_hardware_yaml(file)
    assert load_models_yaml(file)
