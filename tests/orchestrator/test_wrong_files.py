"""Wrong experiment files: every problem, where it is, what stood there, what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.spec import Experiment
from runtimes.errors import SpecError
from tests.orchestrator import (
    wrong_bounds,
    wrong_files,
    wrong_loads,
    wrong_rules,
    wrong_spaces,
    wrong_values,
    wrong_workloads,
)
from tests.orchestrator.commands import servetune
from tests.orchestrator.wrong_files import Wrong

SECRET = "planted_secret_7f3a"
ALL = [
    *wrong_files.KEYS,
    *wrong_files.YAML,
    *wrong_values.VALUES,
    *wrong_values.SEARCHED,
    *wrong_values.ENVIRONMENTS,
    *wrong_rules.NOT_YET,
    *wrong_rules.CROSS,
    *wrong_spaces.ALL,
    *wrong_bounds.ALL,
    *wrong_loads.ALL,
    *wrong_workloads.ALL,
    wrong_rules.SEVERAL,
]


def refusal(folder: Path, text: str) -> SpecError:
    path = folder / "wrong.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        Experiment.load(path)
    return caught.value


@pytest.mark.parametrize("wrong", ALL, ids=lambda wrong: wrong.id)
def test_the_message_of_a_wrong_file(tmp_path: Path, wrong: Wrong) -> None:
    error = refusal(tmp_path, wrong.text)
    assert error.problems == wrong.problems
    count = len(wrong.problems)
    head, *rest = str(error).splitlines()
    assert head == f"{tmp_path}/wrong.yaml: {count} problem{'s' if count > 1 else ''}"
    assert len(rest) >= count
    assert "planted" not in str(error)


def test_there_are_no_two_cases_of_one_name() -> None:
    names = [wrong.id for wrong in ALL]
    assert len(set(names)) == len(names) >= 10


# --- a secret is never repeated in a message ---------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        wrong_files.vllm(f"args: {{api-key: {SECRET}}}"),
        wrong_files.vllm(f"args: [api-key, {SECRET}]"),
        wrong_files.vllm(f"args: {{api-key: {{equals: {SECRET}}}}}"),
        wrong_files.vllm(f"search: {{api-key: [{SECRET}, {SECRET}]}}"),
        wrong_files.vllm(f"search: {{api-key: {{int: [{SECRET}]}}}}"),
        wrong_files.vllm(f"env: {{HF_TOKEN: {{value: {SECRET}}}}}"),
        wrong_files.vllm(f"env: {{HF_TOKEN: [{SECRET}, {SECRET}]}}"),
        wrong_files.vllm(f"env: [HF_TOKEN={SECRET}]"),
        wrong_files.vllm(f"env: HF_TOKEN={SECRET}"),
        wrong_files.vllm(f"api_key: {SECRET}"),
        wrong_files.vllm(f"environment: {{requirements: ['x @ https://u:{SECRET}@host/x.whl']}}"),
        wrong_files.vllm(f"environment: {{wheels: ['https://{SECRET}@host/x']}}"),
        wrong_files.vllm(f"env: {{HF_TOKEN: {SECRET}}}, search: {{a: {{choice: x{SECRET}}}}}"),
        wrong_files.vllm(f"search: {{api-key: {{choice: [{SECRET}], when: tp > 1}}}}"),
        f"{wrong_files.BASE}combinations: [{{api-key: {SECRET}}}]\n",
        f"{wrong_files.BASE}combinations: [{{env.HF_TOKEN: {SECRET}}}]\n",
        f"{wrong_files.BASE}combinations: [{{api_key: {SECRET}, api-key: {SECRET}}}]\n",
        wrong_files.vllm(f"args: {{api-key: {SECRET}}}") + "constraints: [api_key == 1]\n",
        f"{wrong_files.BASE}objectives: {{HF_TOKEN: {SECRET}}}\n",
        f"{wrong_files.BASE}HF_TOKEN: {SECRET}\nresults: s3://{SECRET}\n",
        f"HF_TOKEN={SECRET}\n",
        f"HF_TOKEN: *{SECRET}\n",
        f"HF_TOKEN: !{SECRET}\n",
    ],
)
def test_no_message_repeats_a_secret(tmp_path: Path, text: str) -> None:
    assert SECRET not in str(refusal(tmp_path, text))


def test_a_secret_may_be_short(tmp_path: Path) -> None:
    text = wrong_files.vllm("env: {PASSWORD: {value: pw1}}, search: {api-key: {int: [pw1]}}")
    assert "pw1" not in str(refusal(tmp_path, text))


# --- problems of one kind do not hide those of another -----------------------------------------


def test_what_is_broken_by_itself_causes_no_further_problem(tmp_path: Path) -> None:
    text = f"""{wrong_files.HEAD}
engines: {{vllm: {{search: {{foo: []}}}}}}
constraints: ["foo > 1"]
objectives: [{{maximize: cost_per_million_tokens}}]
cluster: {{gpu_price_per_hour: cheap}}
"""
    paths = [problem.path for problem in refusal(tmp_path, text).problems]
    assert paths == ["engines.vllm.search.foo", "cluster.gpu_price_per_hour"]


def test_names_of_an_engine_that_is_not_understood_may_be_read_by_constraints(
    tmp_path: Path,
) -> None:
    text = f"{wrong_files.HEAD}engines: {{vlm: {{search: {{foo: [1]}}}}}}\nconstraints: [foo > 1]\n"
    assert [problem.path for problem in refusal(tmp_path, text).problems] == ["engines.vlm"]


def test_elements_behind_a_broken_one_keep_their_place(tmp_path: Path) -> None:
    text = (
        f"{wrong_files.BASE}constraints: ['tp +', 'tp > nope']\n"
        "objectives: [{maximize: x}, {maximize: goodput}, {minimize: goodput}]\n"
    )
    paths = [problem.path for problem in refusal(tmp_path, text).problems]
    assert paths == ["constraints[0]", "objectives[0].maximize", "constraints[1]", "objectives[2]"]


def test_a_model_folder_that_cannot_be_read_is_one_problem_of_several(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    text = f"name: n\nmodel: {{path: {model}}}\nengines: {{vllm: {{args: {{tp: 2}}}}}}\n"
    problems = refusal(tmp_path, text).problems
    assert [problem.path for problem in problems] == ["engines.vllm.args.tp", "model"]
    assert "config.json: no such file" in problems[1].message


# --- files that cannot be read ------------------------------------------------------------------


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="there is no such file") as caught:
        Experiment.load(tmp_path / "absent.yaml")
    assert caught.value.problems[0].remedy == "name an experiment file"


def test_a_folder_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read: Is a directory"):
        Experiment.load(tmp_path)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match="is no text in UTF-8"):
        Experiment.load(tmp_path / "bytes")


# --- as a user meets them ----------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "plan"])
def test_the_command_line_says_it_and_leaves_nothing_behind(tmp_path: Path, command: str) -> None:
    wrong = wrong_rules.SEVERAL
    (tmp_path / "wrong.yaml").write_text(wrong.text, encoding="utf-8")
    done = servetune(command, "wrong.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == f"servetune: {SpecError('wrong.yaml', wrong.problems)}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["wrong.yaml"]


def test_a_secret_that_is_not_set_is_said_before_anything_starts(tmp_path: Path) -> None:
    text = wrong_files.vllm("env: {HF_TOKEN: {from_env: ST_NOT_SET_TOKEN}}")
    (tmp_path / "study.yaml").write_text(f"{text}cluster: {{kind: local, simulated_gpus: 1}}\n")
    done = servetune("run", "study.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "servetune: engines.vllm.env.HF_TOKEN: the environment variable ST_NOT_SET_TOKEN is not "
        "set here; export it where servetune runs\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]
