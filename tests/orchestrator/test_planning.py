"""`servetune plan`: what would run, counted and spelt out, without starting anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from orchestrator.planning import make_plan
from orchestrator.spec import Experiment
from orchestrator.wiring import wire
from runtimes.json_types import Json
from runtimes.plan import HOST, PORT
from tests.orchestrator.commands import ROOT, servetune

FINITE = """
name: finite
model: meta-llama/Llama-3.3-70B-Instruct
engines:
  vllm:
    args: {max-model-len: 4096}
    env: {PLAIN: a b, HF_TOKEN: {from_env: ST_NOT_SET_TOKEN}}
    search: {max-num-seqs: [64, 128, null], block-size: [16]}
  simulated:
    search: {max-num-seqs: [64]}
parallel: {tp: [1, 2, 4]}
constraints: ["max_num_seqs != 128 or tp == 4"]
search: {sampler: grid}
cluster: {accelerator: H200, kind: local, simulated_gpus: 8}
"""
ENDLESS = """
name: endless
model: meta-llama/Llama-3.1-8B
engines:
  vllm: {search: {gpu-memory-utilization: {float: [0.8, 0.95]}, max-num-seqs: {int: [8, 64]}}}
search: {sampler: random, seed: 7}
"""
WEIGHTS = (
    "weights take 131.4 GiB per GPU at tp=1 pp=1, but 0.92 of an H200's 140.4 GiB is 129.2 GiB"
)


def written(folder: Path, text: str) -> Path:
    file = folder / "study.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def plan_json(folder: Path, text: str, *arguments: str) -> dict[str, Any]:
    """The one document of `plan --json`."""
    done = servetune("plan", written(folder, text), "--json", *arguments, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_the_document_of_a_space_that_can_be_counted(tmp_path: Path) -> None:
    document = plan_json(tmp_path, FINITE)
    assert list(document)[:6] == ["valid", "duplicates", "excluded", "trials", "rules", "mapped"]
    # 9 points of vllm and 3 of the simulation. The constraint excludes seqs=128 at tp=1 and
    # tp=2; of the others, those at tp=1 do not fit the memory: two of vllm, one simulated.
    assert (document["valid"], document["duplicates"]) == (7, 0)
    assert document["excluded"] == [
        {"reason": WEIGHTS, "count": 3},
        {"reason": "constraint `max_num_seqs != 128 or tp == 4` is false for "
                   "max_num_seqs=128, tp=1", "count": 2},
    ]  # fmt: skip
    assert [(rule["engine"], rule["rule"], rule["count"]) for rule in document["rules"]] == [
        ("vllm", "weights_fit", 2),
        (None, "constraint `max_num_seqs != 128 or tp == 4`", 2),
        ("simulated", "weights_fit", 1),
    ]
    assert len(document["trials"]) == 7
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"], "nothing was started"


def test_a_trial_of_the_document_is_what_would_be_started(tmp_path: Path) -> None:
    first = plan_json(tmp_path, FINITE)["trials"][0]
    assert first == first | {
        "engine": "vllm",
        "gpus": 2,
        "command": [
            *("vllm", "serve", "meta-llama/Llama-3.3-70B-Instruct", "--host", HOST),
            *("--port", PORT, "--tensor-parallel-size", "2"),
            *("--distributed-executor-backend", "mp", "--block-size", "16"),
            *("--max-model-len", "4096", "--max-num-seqs", "64"),
        ],
        "processes": [
            {"command": first["command"], "server": 0, "node": 0, "gpus": 2, "files": {}}
        ],
        "deploy_command": first["command"],
        "env": {"PLAIN": "a b"},
        "parameters": {"tp": 2, "pp": 1, "dp": 1, "max-num-seqs": 64, "block-size": 16},
        "baseline": False,
        "notes": [],
        "lossy": [],
    }


def test_a_simulated_trial_also_says_what_it_stands_for(tmp_path: Path) -> None:
    trial = plan_json(tmp_path, FINITE)["trials"][-1]
    assert trial["engine"] == "simulated"
    assert trial["command"][:3] == ["{python}", "-m", "runtimes.simulator"]
    assert {HOST, PORT} <= set(trial["command"])
    assert trial["deploy_command"][:2] == ["vllm", "serve"]


def test_the_limit_bounds_the_list_and_not_the_counts(tmp_path: Path) -> None:
    document = plan_json(tmp_path, FINITE, "--limit", "2")
    assert (document["valid"], len(document["trials"])) == (7, 2)
    done = servetune("plan", tmp_path / "study.yaml", "--limit", "0", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "servetune: --limit 0: at least 1 trial has to be listed\n"


def test_duplicates_are_counted() -> None:
    engine: dict[str, Json] = {"search": {"max-num-seqs": [8, "8"], "enforce-eager": [False, None]}}
    experiment = Experiment.from_dict(
        {
            "name": "n",
            "model": "m",
            "engines": {"vllm": engine},
            "combinations": [{"max_num_seqs": 8}],
        }
    )
    plan = make_plan(experiment, limit=10)
    assert (plan.size, plan.valid, plan.duplicates, len(plan.trials)) == (5, 1, 4, 1)


def test_an_endless_space_lists_the_baseline_and_proposals_that_repeat(tmp_path: Path) -> None:
    document = plan_json(tmp_path, ENDLESS)
    assert document["valid"] is None
    assert (document["duplicates"], document["excluded"]) == (0, [])
    trials = document["trials"]
    assert [trial["baseline"] for trial in trials] == [True] + 20 * [False]
    assert trials[0]["parameters"] == {"tp": 1, "pp": 1, "dp": 1}
    parameters = [trial["parameters"] for trial in trials]
    assert len({json.dumps(values) for values in parameters}) == 21
    assert all(0.8 <= values["gpu-memory-utilization"] <= 0.95 for values in parameters[1:])
    assert plan_json(tmp_path, ENDLESS) == document
    assert plan_json(tmp_path, ENDLESS.replace("seed: 7", "seed: 8"))["trials"] != trials
    assert plan_json(tmp_path, ENDLESS, "--limit", "3")["trials"] == trials[:4]


def test_proposals_are_those_a_run_begins_with() -> None:
    experiment = Experiment.from_dict(yaml.safe_load(ENDLESS))
    study = wire(experiment)
    first, second = make_plan(experiment, limit=2).trials[1:]
    sampler = study.sampler()
    assert (sampler.ask(1), sampler.ask(2)) == (first.params, second.params)


def test_no_proposal_is_a_baseline_again() -> None:
    text = ENDLESS.replace("engines:", "engines:\n  simulated: {search: {max-num-seqs: [null, 8]}}")
    experiment = Experiment.from_dict(yaml.safe_load(f"{text}cluster: {{accelerator: H100}}\n"))
    trials = make_plan(experiment, limit=20).trials
    assert [trial.params.engine for trial in trials].count("simulated") == 2
    commands = [trial.plan.config_id for trial in trials]
    assert len(set(commands)) == len(commands) == 22


def test_without_a_baseline_an_endless_space_lists_proposals_only(tmp_path: Path) -> None:
    text = ENDLESS.replace("seed: 7", "seed: 7, baseline: false")
    trials = plan_json(tmp_path, text, "--limit", "3")["trials"]
    assert [trial["baseline"] for trial in trials] == [False, False, False]


def test_a_space_too_large_to_be_walked_through_is_treated_as_endless(tmp_path: Path) -> None:
    text = ENDLESS.replace("{float: [0.8, 0.95]}", "0.9").replace(
        "[8, 64]}", "[8, 64]}, seed: {int: [1, 1000000]}"
    )
    document = plan_json(tmp_path, text, "--limit", "1")
    assert (document["valid"], len(document["trials"])) == (None, 2)
    done = servetune("plan", tmp_path / "study.yaml", cwd=tmp_path)
    assert "endless: 57,000,000 combinations, too many to be checked one by one" in done.stdout


# --- what a human sees --------------------------------------------------------------------------


def human(folder: Path, text: str, *, returncode: int = 0) -> str:
    done = servetune("plan", written(folder, text), cwd=folder)
    assert (done.returncode, done.stderr) == (returncode, "")
    return done.stdout


def test_counts_reasons_table_and_commands(tmp_path: Path) -> None:
    lines = human(tmp_path, FINITE).splitlines()
    assert lines[:4] == [
        "finite: 12 combinations",
        "       7  valid",
        "       0  duplicates of the command of an earlier one",
        "       5  excluded",
    ]
    assert f"                 2  vllm: {WEIGHTS} (weights_fit)" in lines
    assert f"                 1  simulated: {WEIGHTS} (weights_fit)" in lines
    assert "First the baseline: the defaults of vllm, simulated." in lines
    assert "Then sampler grid takes them in this order; the budget allows all of them." in lines
    rows = [[*words[:3], *words[17:]] for words in map(str.split, lines)]  # what is predicted apart
    assert ["1", "vllm", "2", "tp=2", "max-num-seqs=64", "block-size=16"] in rows
    assert ["baseline", "simulated", "2", "tp=2"] in rows
    assert (
        "       1  PLAIN='a b' vllm serve meta-llama/Llama-3.3-70B-Instruct --host {host} "
        "--port {port} --tensor-parallel-size 2 --distributed-executor-backend mp "
        "--block-size 16 --max-model-len 4096 --max-num-seqs 64" in lines
    )


def test_of_simulated_trials_the_real_command_is_shown_and_said_to_be_so(tmp_path: Path) -> None:
    text = human(tmp_path, FINITE)
    assert "Simulated trials start a simulator that stands in for the command shown" in text
    assert "{python}" not in text
    assert "runtimes.simulator" not in text


def test_long_plans_are_bounded(tmp_path: Path) -> None:
    many = ENDLESS.replace("{float: [0.8, 0.95]}", "[0.8, 0.9]").replace("random", "tpe")
    lines = human(tmp_path, many.replace("seed: 7", "seed: 7, baseline: false")).splitlines()
    assert lines[0] == "endless: 114 combinations"
    assert "No baseline runs first." in lines
    assert "Then sampler tpe chooses among these; the budget allows all of them." in lines
    assert "… and 94 more; `--json --limit 114` lists them" in lines
    assert len(lines) < 60


def test_many_reasons_are_bounded(tmp_path: Path) -> None:
    rules = ", ".join(f"seed != {number}" for number in range(20))
    text = (
        "name: n\nmodel: m\nengines: {vllm: {search: {seed: {int: [0, 20]}}}}\n"
        f"constraints: [{rules}]\n"
    )
    lines = human(tmp_path, text).splitlines()
    assert sum("constraint `seed" in line for line in lines) == 12
    assert "                 …  and 8 more reasons; --json has them all" in lines


def test_a_plan_with_nothing_in_it_says_so(tmp_path: Path) -> None:
    text = FINITE.replace("tp: [1, 2, 4]", "tp: [1]").replace("HF_TOKEN", "HF_OTHER_TOKEN")
    output = human(tmp_path, text, returncode=2)
    assert "       0  valid" in output
    assert WEIGHTS in output
    assert "No combination is valid: loosen what excludes them." in output
    assert "Commands" not in output


def test_an_endless_space_with_nothing_in_it_says_why(tmp_path: Path) -> None:
    text = ENDLESS.replace("search: {sampler", "parallel: {tp: 3}\nsearch: {sampler")
    output = human(tmp_path, text, returncode=2)
    assert "None was found to launch. Of 200 combinations drawn at random:" in output
    assert "               200  vllm: tp=3 does not divide 32 attention heads" in output
    assert "No combination is valid: loosen what excludes them." in output


# --- presets, precisions, combinations ----------------------------------------------------------

PRESETS = """
name: presets
model: meta-llama/Llama-3.1-8B
engines: {vllm: {}, tensorrt_llm: {}}
parallel: {presets: [single-gpu, large-model-tp], tp: [1, 2]}
quantization: {presets: [default, dynamic-fp8], kv_cache: fp8}
combinations:
  - {engine: vllm, tp: 2, quantization: {gemm: fp8}, args: {max-num-seqs: 77}}
search: {sampler: grid}
cluster: {accelerator: H100, kind: local, simulated_gpus: 4}
"""


def test_presets_and_lists_are_united_and_count_where_they_are_one_command(
    tmp_path: Path,
) -> None:
    document = plan_json(tmp_path, PRESETS)
    # Of each engine 4 layouts (2 presets, 2 degrees) by 3 precisions, and the combination.
    # tp=1 is the single GPU of the preset: of vLLM 3 duplicates, of TensorRT-LLM 2, since it
    # has no dynamic-fp8.
    assert (document["valid"], document["duplicates"]) == (1 + 9 + 6, 3 + 2)
    assert document["rules"] == [
        {
            "rule": "preset dynamic-fp8",
            "engine": "tensorrt_llm",
            "reason": "tensorrt_llm has no dynamic-fp8: TensorRT-LLM takes weights that were "
            "quantised beforehand; name such a checkpoint",
            "count": 4,
        }
    ]
    first = document["trials"][0]
    # What has a single value in the file stands in a combination too.
    assert first["parameters"] == {
        "pp": 1,
        "dp": 1,
        "quantization.kv_cache": "fp8",
        "tp": 2,
        "quantization.gemm": "fp8",
        "max-num-seqs": 77,
    }
    assert first["lossy"]
    assert document["trials"][1]["parameters"] == {
        "parallel.preset": "single-gpu",
        "quantization.preset": "default",
    }


def test_every_engine_says_what_it_makes_of_each_layout_and_precision(tmp_path: Path) -> None:
    rows = {row["words"]: row["engines"] for row in plan_json(tmp_path, PRESETS)["mapped"]}
    both = rows["large-model-tp, kv_cache fp8"]
    assert ["--tensor-parallel-size", "4"] in both["vllm"]["arguments"]
    assert ["--kv-cache-dtype", "fp8"] in both["vllm"]["arguments"]
    assert both["vllm"]["gpus"] == both["tensorrt_llm"]["gpus"] == 4
    assert ["--tp_size", "4"] in both["tensorrt_llm"]["arguments"]
    assert any("fp8" in line for lines in both["tensorrt_llm"]["files"].values() for line in lines)
    assert rows["single-gpu, dynamic-fp8"]["tensorrt_llm"] == {
        "refused": "no dynamic-fp8: TensorRT-LLM takes weights that were quantised beforehand; "
        "name such a checkpoint"
    }
    assert len(rows) == 1 + 9  # those of duplicates are the same by another name


def test_the_terminal_shows_engines_side_by_side_and_what_may_cost_accuracy(
    tmp_path: Path,
) -> None:
    text = human(tmp_path, PRESETS)
    lines = [line.split() for line in text.splitlines()]
    assert ["layout", "and", "precision", "vllm", "tensorrt_llm"] in lines
    assert "large-model-tp, default" in text
    assert "note  may cost accuracy: " in text
    assert "parallel.preset=null" not in text


def test_every_layout_is_shown_however_few_trials_are_listed(tmp_path: Path) -> None:
    document = plan_json(tmp_path, PRESETS, "--limit", "12")
    assert len(document["trials"]) == 12
    assert document["mapped"] == plan_json(tmp_path, PRESETS)["mapped"]
    done = servetune("plan", "study.yaml", "--limit", "12", cwd=tmp_path)
    assert " of the 14 listed)" in done.stdout


def test_many_layouts_are_bounded(tmp_path: Path) -> None:
    text = PRESETS.replace("tp: [1, 2]", "tp: [1, 2, 4], pp: [1, 2]")
    rows = len(plan_json(tmp_path, text)["mapped"])
    assert rows > 12
    assert f"… and {rows - 12} more; --json has them all" in human(tmp_path, text)


def test_combinations_alone_are_all_there_is(tmp_path: Path) -> None:
    text = """
name: alone
model: meta-llama/Llama-3.1-8B
engines: {vllm: {args: {max-num-seqs: 8}, search: {block-size: 32}}}
parallel: {tp: 2}
combinations: [{max-num-seqs: {equals: concurrency}}, {parallel.preset: single-gpu, block-size: 16}]
workload: {load: {kind: concurrency, value: 24}}
"""
    document = plan_json(tmp_path, text)
    assert [trial["parameters"] for trial in document["trials"]] == [
        {"tp": 2, "pp": 1, "dp": 1, "block-size": 32, "max-num-seqs": 24},
        {"parallel.preset": "single-gpu", "block-size": 16},
    ]
    assert [
        trial["command"][trial["command"].index("--max-num-seqs") + 1]
        for trial in document["trials"]
    ] == ["24", "8"]


def test_dummy_weights_and_no_network_reach_the_command(tmp_path: Path) -> None:
    text = PRESETS + "weights: dummy\noffline: true\n"
    text = text.replace("vllm: {}", "vllm: {env: {HF_HUB_OFFLINE: 0}}")
    trial = plan_json(tmp_path, text)["trials"][0]
    assert trial["command"][trial["command"].index("--load-format") + 1] == "dummy"
    assert trial["env"]["HF_HUB_OFFLINE"] == "0"
    assert trial["env"]["TRANSFORMERS_OFFLINE"] == "1"


def test_a_condition_reads_the_layout_that_a_preset_stands_for(tmp_path: Path) -> None:
    text = """
name: waiting
model: meta-llama/Llama-3.1-8B
engines:
  vllm:
    search:
      block-size: {choice: [16, 32], when: "max_num_seqs > 8"}
      max-num-seqs: {choice: [8, 16], when: "gpus == 4"}
parallel: {presets: [single-gpu, large-model-tp]}
cluster: {kind: local, simulated_gpus: 4}
"""
    trials = plan_json(tmp_path, text)["trials"]
    assert [trial["parameters"] for trial in trials] == [
        {"parallel.preset": "single-gpu"},
        {"parallel.preset": "large-model-tp", "max-num-seqs": 8},
        {"parallel.preset": "large-model-tp", "max-num-seqs": 16, "block-size": 16},
        {"parallel.preset": "large-model-tp", "max-num-seqs": 16, "block-size": 32},
    ]


def test_the_quickstart_can_be_planned(tmp_path: Path) -> None:
    done = servetune("plan", ROOT / "examples" / "quickstart.yaml", "--json", cwd=tmp_path)
    document = json.loads(done.stdout)
    assert done.returncode == 0
    assert document["valid"] + sum(item["count"] for item in document["excluded"]) == 24
