"""The experiment file: what it may say, its defaults, and that it survives a round trip."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.spec import Experiment
from orchestrator.spec.dimensions import (
    Conditional,
    Searched,
    domain_as_json,
    parse_dimension,
)
from orchestrator.spec.experiment import dump_yaml
from orchestrator.spec.loads import ConcurrencyLoadSpec, PoissonLoadSpec
from orchestrator.spec.models import ExperimentSpec, SecretSpec
from orchestrator.spec.searched import engine_dimensions, fixed_arguments
from orchestrator.spec.ties import Tie
from orchestrator.spec.values import parse_duration_s
from runtimes.errors import SpecError
from runtimes.json_types import Json
from runtimes.slo import SloLimit
from search.constraints import Condition
from search.space import Choice, FloatRange, IntRange

MINIMAL = "name: least\nmodel: acme/model\nengines: {vllm: {}}\n"

DESIGN = """
name: llama-70b-chat
model: {id: meta-llama/Llama-3.3-70B-Instruct, revision: main}
engines:
  vllm:
    environment: {python: /opt/vllm/bin/python}
    args: {gpu-memory-utilization: 0.92}
    env: {VLLM_USE_FLASHINFER_SAMPLER: "1"}
    search:
      max-num-seqs: {int: [64, 1024], log: true}
      max-num-batched-tokens: [2048, 8192, 16384]
parallel: {tp: [1, 2, 4, 8], pp: [1, 2], dp: [1, 2]}
constraints: ["tp * pp * dp <= 8"]
deployment: {kind: colocated}
workload:
  kind: synthetic
  input_tokens: {mean: 1024, stddev: 256}
  output_tokens: 256
  load: {kind: poisson, rate: 8}
slo: {ttft_ms: {p99: 500}, tpot_ms: {p99: 40}}
objectives: [{maximize: goodput_per_gpu}, {minimize: cost_per_million_tokens}]
search: {sampler: auto, seed: 7, baseline: true}
budget: {trials: 60, gpu_hours: 40, wall_clock: 6h}
cluster: {kind: ray, address: auto, accelerator: H200, gpu_price_per_hour: 3.5, max_gpus: 64}
metrics: {port: 9100}
results: ./runs
"""

RICH = """
name: everything
model: {path: ~/models/x}
engines:
  vllm:
    environment: {python: ~/venv/bin/python}
    entrypoint: module
    args: {compilation-config: {level: 3, sizes: [1, 2]}, seed: null, async-scheduling: false}
    env:
      HF_TOKEN: {from_env: MY_TOKEN}
      OMP_NUM_THREADS: [1, "4"]
      HF_HUB_OFFLINE: true
    search:
      max-num-seqs: {int: [8, 64], step: 8}
      block-size: [16, null]
      gpu-memory-utilization: {float: [0.8, 0.95]}
      hf-overrides: {choice: [null, {nested: [1, 2.5, true]}]}
      cpu-offload-gb: {float: [1, 4], step: 0.5}
      enforce-eager: {choice: [true], when: "tp > 1 and block_size == 16"}
      max-num-batched-tokens: {equals: requests}
      max-cudagraph-capture-size: {equals: concurrency, when: enforce_eager == False}
parallel: {presets: [balanced], tp: [1, 2], ep: 2, moe_dense_tp: 1}
quantization: {presets: dynamic-fp8, gemm: [null, fp8], kv_cache: fp8}
combinations:
  - {tp: 4, quantization: {gemm: null}, args: {max_num_seqs: {equals: concurrency}}, env.A: 1}
weights: dummy
offline: true
workload: {load: {kind: concurrency, value: 4, requests: 9}, warmup_requests: 0}
budget: {wall_clock: 90}
cluster: {kind: local, simulated_gpus: 2, accelerator: h100}
timeouts: {start: 2m, stall: 500ms}
"""


def load(folder: Path, text: str) -> Experiment:
    path = folder / "experiment.yaml"
    path.write_text(text, encoding="utf-8")
    return Experiment.load(path)


def test_the_designs_example_loads(tmp_path: Path) -> None:
    spec = load(tmp_path, DESIGN).spec
    vllm = spec.engines["vllm"]
    assert spec.model.source == "meta-llama/Llama-3.3-70B-Instruct"
    assert vllm.args == {"gpu-memory-utilization": 0.92}
    assert vllm.search["max-num-seqs"] == IntRange(64, 1024, log=True)
    assert vllm.search["max-num-batched-tokens"] == Choice((2048, 8192, 16384))
    assert spec.parallel.tp == [1, 2, 4, 8]
    assert spec.workload.load == PoissonLoadSpec(kind="poisson", rate=8)
    assert spec.limits().limits == (SloLimit("ttft_ms", "p99", 500), SloLimit("tpot_ms", "p99", 40))
    assert [(goal.name, goal.direction) for goal in spec.objectives] == [
        ("goodput_per_gpu", "maximize"),
        ("cost_per_million_tokens", "minimize"),
    ]
    assert spec.budget.wall_clock == 6 * 3600


def test_every_default(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL).resolved() == {
        "name": "least",
        "model": {"id": "acme/model"},
        "engines": {"vllm": {}},
        "weights": "checkpoint",
        "offline": False,
        "parallel": {"tp": [1], "pp": [1], "dp": [1]},
        "quantization": {},
        "constraints": [],
        "combinations": [],
        "deployment": {"kind": "colocated"},
        "workload": {
            "kind": "synthetic",
            "input_tokens": 512,
            "output_tokens": 128,
            "skip_special_ids": False,
            "api": "completions",
            "cache": "auto",
            "load": {"kind": "concurrency", "value": 16, "processes": "auto", "engine": "own"},
        },
        "slo": {},
        "objectives": [{"maximize": "output_throughput_per_gpu"}],
        "search": {"sampler": "auto", "warm_start": "auto", "seed": 0, "baseline": True,
                   "reference_per_node": False},
        "budget": {},
        "cluster": {
            "kind": "ray", "address": "auto", "hardware": [], "curves": [], "isolation": "gpu",
        },
        "metrics": {"host": "127.0.0.1", "port": 0, "sample_hz": 10.0, "linger": 15.0},
        "timeouts": {
            "start": 1800.0, "stall": 60.0, "request": 600.0, "trial": 7200.0, "stop": 15.0,
            "release": 60.0,
        },
        "results": "./runs",
    }  # fmt: skip


@pytest.mark.parametrize("text", [MINIMAL, DESIGN, RICH], ids=["minimal", "design", "rich"])
def test_a_resolved_experiment_loads_again_and_is_equal(tmp_path: Path, text: str) -> None:
    experiment = load(tmp_path, text)
    again = load(tmp_path, dump_yaml(experiment.resolved()))
    assert again.spec == experiment.spec
    assert again.resolved() == experiment.resolved()


def test_values_are_taken_as_they_were_meant(tmp_path: Path) -> None:
    spec = load(tmp_path, RICH).spec
    vllm, home = spec.engines["vllm"], str(Path.home())
    assert spec.model.path == f"{home}/models/x"
    assert vllm.environment is not None
    assert vllm.environment.python == f"{home}/venv/bin/python"
    assert vllm.options == {"entrypoint": "module"}
    assert vllm.args["seed"] is None
    assert vllm.args["async-scheduling"] is False
    assert vllm.env == {
        "HF_TOKEN": SecretSpec(from_env="MY_TOKEN"),
        "OMP_NUM_THREADS": ["1", "4"],
        "HF_HUB_OFFLINE": "1",
    }
    assert spec.workload.load == ConcurrencyLoadSpec(kind="concurrency", value=4, requests=9)
    assert spec.workload.warmup_requests == 0
    assert spec.cluster.accelerator == "H100"
    assert (spec.timeouts.start, spec.timeouts.stall) == (120.0, 0.5)


@pytest.mark.parametrize("name", ["max-num-seqs", "max_num_seqs", "--max-num-seqs"])
def test_an_argument_may_be_spelt_as_on_the_command_line(tmp_path: Path, name: str) -> None:
    text = f"name: n\nmodel: m\nengines: {{vllm: {{args: {{{name}: 8}}}}}}\n"
    assert load(tmp_path, text).spec.engines["vllm"].args == {"max-num-seqs": 8}


def test_keys_of_an_engines_own_json_keep_their_spelling(tmp_path: Path) -> None:
    text = "name: n\nmodel: m\nengines: {vllm: {args: {compilation_config.pass_config: 1}}}\n"
    assert load(tmp_path, text).spec.engines["vllm"].args == {"compilation-config.pass_config": 1}


def test_an_engine_without_anything_takes_its_defaults(tmp_path: Path) -> None:
    experiment = load(tmp_path, "name: n\nmodel: m\nengines:\n  vllm:\n")
    assert experiment.resolved()["engines"] == {"vllm": {}}


def test_merge_keys_and_anchors_of_yaml_work(tmp_path: Path) -> None:
    spec = load(
        tmp_path,
        "name: n\nmodel: Qwen/Qwen3-8B\nengines:\n  simulated: &one\n"
        "    search: {max-num-seqs: [1, 2]}\n"
        "  vllm: {<<: *one, args: {seed: 1}}\ncluster: {accelerator: H100}\n",
    ).spec
    assert spec.engines["vllm"].search == spec.engines["simulated"].search
    assert spec.engines["vllm"].search == {"max-num-seqs": Choice((1, 2))}


# --- secrets ------------------------------------------------------------------------------------

LITERAL = """
name: n
model: m
engines:
  vllm: {env: {HF_TOKEN: hf_planted_secret, VLLM_API_KEY: {from_env: THEIR_KEY}, PLAIN: x}}
"""


def test_a_literal_secret_is_never_written_down(tmp_path: Path) -> None:
    experiment = load(tmp_path, LITERAL)
    written = dump_yaml(experiment.resolved())
    assert "hf_planted_secret" not in written
    assert yaml.safe_load(written)["engines"]["vllm"]["env"] == {
        "HF_TOKEN": {"from_env": "HF_TOKEN"},
        "VLLM_API_KEY": {"from_env": "THEIR_KEY"},
        "PLAIN": "x",
    }


# --- durations and paths ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (90, 90),
        (0.5, 0.5),
        ("250ms", 0.25),
        ("45s", 45),
        ("3m", 180),
        ("1.5h", 5400),
        ("2 d", 172800),
    ],
)
def test_durations(written: object, seconds: float) -> None:
    assert parse_duration_s(written) == seconds


@pytest.mark.parametrize(
    "written", ["soon", "5", "-3s", "1h30m", "", True, None, 0, -1, "0s", float("inf")]
)
def test_what_is_no_duration(written: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration_s(written)


def test_paths_are_filled_in_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ST_MODELS", "/models")
    text = "name: n\nmodel: {path: $ST_MODELS/x}\nengines: {vllm: {}}\nresults: '${ST_MODELS}/r'\n"
    spec = load(tmp_path, text).spec
    assert (spec.model.path, spec.results) == ("/models/x", "/models/r")


def test_a_dollar_in_a_variables_value_is_no_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ST_MODELS", "/a$b")
    text = "name: n\nmodel: {path: $ST_MODELS/x}\nengines: {vllm: {}}\n"
    assert load(tmp_path, text).spec.model.path == "/a$b/x"


# --- searched values ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "domain"),
    [
        ([1, 2], Choice((1, 2))),
        (["a", None, True, 1], Choice(("a", None, True, 1))),
        ("fcfs", Choice(("fcfs",))),
        (False, Choice((False,))),
        (None, Choice((None,))),
        ({"choice": [{"a": [1]}]}, Choice(({"a": [1]},))),
        ({"int": [1, 8]}, IntRange(1, 8)),
        ({"int": [1, 8], "log": True}, IntRange(1, 8, log=True)),
        ({"int": [0, 8], "step": 4}, IntRange(0, 8, step=4)),
        ({"float": [0, 1]}, FloatRange(0.0, 1.0)),
        ({"float": [0.5, 2], "step": 0.5}, FloatRange(0.5, 2.0, step=0.5)),
        ({"float": [0.1, 10], "log": True}, FloatRange(0.1, 10.0, log=True)),
        ({"equals": "requests"}, Tie("requests")),
        (
            {"choice": [1, None], "when": "tp  > 1"},
            Conditional(Choice((1, None)), Condition.parse("tp > 1")),
        ),
        (
            {"int": [1, 8], "log": True, "when": "gpus > 1"},
            Conditional(IntRange(1, 8, log=True), Condition.parse("gpus > 1")),
        ),
        (
            {"equals": "rate", "when": "gpus > 1"},
            Conditional(Tie("rate"), Condition.parse("gpus > 1")),
        ),
    ],
    ids=str,
)
def test_forms_of_a_searched_value(written: object, domain: Searched) -> None:
    parsed = parse_dimension(written)
    assert parsed == domain
    assert type(parsed) is type(domain)
    assert parse_dimension(domain_as_json(domain)) == domain


@pytest.mark.parametrize(
    ("tie", "load", "value"),
    [
        ("concurrency", "{kind: concurrency, value: 24}", 24),
        ("requests", "{kind: concurrency, value: 24}", 192),
        ("requests", "{kind: concurrency, value: 2}", 32),
        ("requests", "{kind: poisson, rate: 8}", 200),
        ("rate", "{kind: poisson, rate: 8}", 8),
        ("input_tokens", "{kind: poisson, rate: 8}", 300),
        ("output_tokens", "{kind: poisson, rate: 8}", 128),
    ],
)
def test_an_argument_is_what_the_workload_has(
    tmp_path: Path, tie: str, load: str, value: int
) -> None:
    spec = load_spec(
        tmp_path,
        f"args: {{max-num-seqs: {{equals: {tie}}}}}, search: {{seed: {{equals: {tie}}}}}",
        f"workload: {{input_tokens: 300, load: {load}}}",
    )
    assert fixed_arguments(spec, "vllm") == {"max-num-seqs": value}
    (dimension,) = engine_dimensions(spec, "vllm").dimensions
    assert dimension.domain == Choice((value,))


def test_what_waits_stands_behind_what_it_waits_for(tmp_path: Path) -> None:
    spec = load_spec(
        tmp_path,
        "search: {seed: {choice: [1, 2], when: max_num_seqs > 8}, block-size: [16, 32], "
        "max-num-seqs: {choice: [8, 16], when: block_size > 16 and env_A == 'x'}}, "
        "env: {A: [x, y]}",
    )
    names = [item.name for item in engine_dimensions(spec, "vllm").dimensions]
    assert names == ["block-size", "env.A", "max-num-seqs", "seed"]


def load_spec(folder: Path, section: str, rest: str = "") -> ExperimentSpec:
    text = f"name: n\nmodel: m\nengines:\n  vllm: {{{section}}}\n{rest}\n"
    return load(folder, text).spec


_NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
_TEXT = st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), max_size=12)
_SCALARS = st.none() | st.booleans() | _NUMBERS | _TEXT
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner) | st.dictionaries(_TEXT, inner), max_leaves=6
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), _VALUES, max_size=3))
def test_any_json_survives_as_an_argument_and_as_a_choice(values: dict[str, Json]) -> None:
    # Of a dotted argument the engine's parser looks at no value.
    search = {f"hf-overrides.{name}": {"choice": [value]} for name, value in values.items()}
    args = {
        f"additional-config.{name}": value
        for name, value in values.items()
        if not isinstance(value, dict)
    }
    engines: Json = {"vllm": {"args": args, "search": search}}  # type: ignore[dict-item]  # JSON
    experiment = Experiment.from_dict({"name": "n", "model": "m", "engines": engines})
    assert experiment.spec.engines["vllm"].args == args
    loaded = yaml.safe_load(dump_yaml(experiment.resolved()))
    assert Experiment.from_dict(loaded).spec == experiment.spec


# --- the file itself ----------------------------------------------------------------------------


def test_a_python_dictionary_is_checked_as_a_file_is() -> None:
    with pytest.raises(SpecError) as caught:
        Experiment.from_dict({"name": "n", "model": "m", "engines": {"vllm": {}}, "oops": 1})
    assert [problem.path for problem in caught.value.problems] == ["oops"]
    assert caught.value.source == "experiment"


def test_checking_does_not_change_what_it_is_given() -> None:
    data: dict[str, Json] = {
        "name": "n", "model": "m", "engines": {"vllm": {"search": {"a": []}}}, "objectives": [{}],
    }  # fmt: skip
    before = repr(data)
    with pytest.raises(SpecError):
        Experiment.from_dict(data)
    assert repr(data) == before
