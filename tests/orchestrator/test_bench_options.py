"""`servetune bench`: its options as an experiment, and what it says of wrong ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.attach import RunningServer
from orchestrator.bench import BenchRequest, Section, bench_experiment, read_section
from orchestrator.cli import main
from runtimes.errors import SpecError, UserError
from tests.orchestrator.commands import servetune

URL = "http://127.0.0.1:9"
SERVER = ("bench", "--url", URL, "--model", "acme/tiny")
NOTHING = Section({})
LOAD = Section({"kind": "concurrency", "value": 2, "requests": 8})
EXPERIMENT = """
name: chat
model: acme/tiny
engines: {vllm: {}}
workload:
  input_tokens: 32
  output_tokens: 4
  load: {kind: poisson, rate: 2, requests: 8}
"""


WRONG = """
name: chat
workload:
  input_tokens: 0
  load: {kind: poisson, rate: .nan, duration: 1 parsec}
"""


def test_the_options_become_an_experiment_of_one_trial() -> None:
    experiment = bench_experiment(
        BenchRequest(
            RunningServer(URL, gpus=4),
            "acme/Tiny-1B",
            Section({"input_tokens": 32, "output_tokens": 4}),
            Section({"kind": "constant", "rate": 2.0, "requests": 8}),
            {"ttft_ms": {"p99": 500}},
            seed=5,
        )
    )
    spec = experiment.spec
    assert (spec.name, spec.model.id) == ("bench-tiny-1b", "acme/Tiny-1B")
    assert list(spec.engines) == ["external"]
    assert (spec.search.seed, spec.budget.trials, spec.cluster.simulated_gpus) == (5, 1, 4)
    assert [objective.name for objective in spec.objectives] == ["goodput"]


def test_without_limits_the_output_decides() -> None:
    experiment = bench_experiment(BenchRequest(RunningServer(URL), "/models/tiny", NOTHING, LOAD))
    assert [objective.name for objective in experiment.spec.objectives] == ["output_throughput"]
    # A server may have it under the path of a folder that is not here.
    assert experiment.spec.model.id == "/models/tiny"


def test_a_folder_here_tells_the_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        bench_experiment(BenchRequest(RunningServer(URL), str(tmp_path), NOTHING, LOAD))
    assert "config.json" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--concurrency", "0"), "--concurrency: must be at least 1 (got 0)"),
        (("--rate", "-3"), "--rate: must be at least 0.0001 (got -3.0)"),
        (
            ("--duration", "0"),
            "--duration: a duration must be above zero and finite (got 0.0)",
        ),
        (("--requests", "0"), "--requests: must be at least 1 (got 0)"),
        (("--input-tokens", "0"), "--input-tokens: must be at least 1 token (got 0)"),
        (("--ttft-p99", "-1"), "--ttft-p99: p99: must be above 0 (got -1.0)"),
        (("--arrivals", "poisson"), "--arrivals says how --rate arrives; give a rate"),
        (("--load", "absent.yaml"), "absent.yaml"),
        (
            ("--workload", "x.yaml", "--input-tokens", "4"),
            "--input-tokens and --workload both say what is sent; give one of them",
        ),
        (("--api", "chat"), "--api: needs the model's tokenizer.json"),
        (("--tokenizer", ""), "--tokenizer: the path is empty"),
        (("--tokenizer", "acme/absent", "--api", "chat"), "--tokenizer), or, of a Hub id, fetch"),
        (("--drop-fields", "top_k,prompt"), "--drop-fields: option drop_fields: requests can do"),
        (("--load", "odd.yaml"), "odd.yaml: kind: unknown kind (got 'odd')"),
        (("--workload", "odd.yaml"), "odd.yaml: kind: unknown workload (got 'odd')"),
        (("--load", "max.yaml"), "max.yaml: kind: looks for where the limits of `slo` hold"),
        (("--load", "low.yaml"), "low.yaml: value: must be at least 1 (got -3)"),
        (("--load", "low.yaml", "--requests", "0"), "--requests: must be at least 1 (got 0)"),
        (("--load", "wrong.yaml"), "wrong.yaml: workload.load.rate: takes a finite number"),
        (("--load", "wrong.yaml"), "wrong.yaml: workload.load.duration: "),
        (("--workload", "wrong.yaml"), "wrong.yaml: workload.input_tokens: must be at least"),
        (("--workload", "wrong.yaml"), "wrong.yaml: workload.load.rate: takes a finite number"),
        (("--workload", "wrong.yaml", "--rate", "-3"), "--rate: must be at least 0.0001"),
        (
            ("--api-key-env", "NO_SUCH_KEY"),
            "--api-key-env: no such environment variable is set here (got NO_SUCH_KEY)",
        ),
        (("--model", ""), "--model: must not be empty"),
        (("--load", "empty.yaml"), "start with `kind: concurrency`"),
        (("--workload", "empty.yaml"), "start with `input_tokens: 512`"),
        (("--timeout", "0"), "--timeout: a duration must be above zero and finite (got 0.0)"),
    ],
)
def test_wrong_options(
    options: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text(EXPERIMENT)
    (tmp_path / "odd.yaml").write_text("kind: odd\n")
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "max.yaml").write_text("kind: max_under_slo\n")
    (tmp_path / "low.yaml").write_text("{kind: concurrency, value: -3, requests: 8}")
    (tmp_path / "wrong.yaml").write_text(WRONG)
    assert main([*SERVER, *options]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    given = {option for option in options if option.startswith("--")}
    named = set(re.findall(r"^  - (--[a-z0-9-]+)", printed.err, re.MULTILINE))
    assert named <= given
    assert not (tmp_path / "runs").exists()


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    done = servetune(
        *("bench", "--url", "foo", "--model", "acme/tiny", "--rate", "-3", "--output-tokens", "0"),
        cwd=tmp_path,
    )
    assert "3 problems" in done.stderr
    for said in (
        "--rate: must be at least 0.0001 (got -3.0)",
        "--output-tokens: must be at least 1 token (got 0)",
        "--url: option url: 'foo' does not begin with http:// or https://",
    ):
        assert said in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [(("--gpus", "0"), "--gpus: must be at least 1 (got 0)"), (("--timeout", "x"), "--timeout: ")],
)
def test_one_wrong_value_is_one_problem(
    options: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SERVER, *options]) == 2
    printed = capsys.readouterr().err
    assert "1 problem" in printed
    assert said in printed


def test_a_timeout_bounds_requests_silences_and_the_first_answer() -> None:
    request = BenchRequest(RunningServer(URL), "acme/tiny", NOTHING, LOAD, timeout=5.0)
    limits = bench_experiment(request).spec.timeouts
    assert (limits.request, limits.stall, limits.start) == (5.0, 5.0, 5.0)


def test_options_that_exclude_each_other(tmp_path: Path) -> None:
    done = servetune(*SERVER, "--rate", "2", "--concurrency", "4", cwd=tmp_path)
    assert done.returncode == 2
    assert "not allowed with argument" in done.stderr


def test_a_section_of_an_experiment_and_one_of_its_own(tmp_path: Path) -> None:
    whole, alone = tmp_path / "x.yaml", tmp_path / "load.yaml"
    whole.write_text(EXPERIMENT)
    alone.write_text("{kind: sweep, points: 3, requests: 16}")
    found = read_section(whole, "workload", "load")
    assert found.values == {"kind": "poisson", "rate": 2, "requests": 8}
    assert found.origin("rate") == f"{whole}: workload.load.rate"
    found = read_section(alone, "workload", "load")
    assert found.values["kind"] == "sweep"
    assert found.overridden({"requests": 3}, {"requests": "--requests"}) == Section(
        {"kind": "sweep", "points": 3, "requests": 3}, {"requests": "--requests"}, alone
    )
    assert (found.origin("points"), found.origin("")) == (f"{alone}: points", str(alone))
    whole.write_text("name: x\nengines: {}\n")
    with pytest.raises(UserError, match=r"this experiment has no section `workload\.load`"):
        read_section(whole, "workload", "load")
