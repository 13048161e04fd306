"""The `workload` section: what its loads become, its defaults, and workloads of somebody else."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import yaml

from orchestrator.planning import make_plan
from orchestrator.scheduler import Waiting
from orchestrator.spec import Experiment
from orchestrator.spec.experiment import dump_yaml
from orchestrator.wiring import Study, wire
from runtimes.cache_state import CacheState
from runtimes.errors import SpecError
from runtimes.json_types import Json
from runtimes.load.arrivals import (
    ConcurrencyLoad,
    ConstantLoad,
    GammaLoad,
    Load,
    PoissonLoad,
    RampLoad,
    ReplayLoad,
    StopRules,
)
from runtimes.load.program import LoadProgram, SingleStage
from runtimes.load.programs import MaxUnderSloProgram, StagesProgram, SweepProgram
from runtimes.plan import Allocation
from runtimes.slo import Slo, SloLimit
from runtimes.tokenizer import template_sha256
from search.trial import Params
from tests.runtimes.workload_files import burstgpt_file, tiny_model

TTFT = Slo((SloLimit("ttft_ms", "p99", 500.0),))


def experiment(workload: str, rest: str = "") -> Experiment:
    text = f"""
name: n
model: meta-llama/Llama-3.1-8B
engines: {{simulated: {{}}}}
cluster: {{kind: in_process, accelerator: H100, simulated_gpus: 1}}
workload: {{{workload}}}
{rest}
"""
    return Experiment.from_dict(yaml.safe_load(text))


def load(section: str, rest: str = "") -> Study:
    return wire(experiment(f"load: {{{section}}}", rest))


def after(seconds: float, *, reserve: bool = True) -> StopRules:
    """Ends for time; with `reserve`, no number of requests was asked for."""
    return StopRules(duration_s=seconds, reserve=reserve)


# --- loads --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("kind: concurrency, value: 2", ConcurrencyLoad(2, 32)),
        ("kind: concurrency, value: 24", ConcurrencyLoad(24, 192)),
        ("kind: concurrency, value: 24, requests: 24", ConcurrencyLoad(24, 24)),
        ("kind: concurrency, value: 24, duration: 1m", ConcurrencyLoad(24, 2880, after(60))),
        ("kind: concurrency, value: 24, duration: 1s", ConcurrencyLoad(24, 192, after(1))),
        ("kind: constant, rate: 8", ConstantLoad(8, 200)),
        ("kind: constant, rate: 8, duration: 10s", ConstantLoad(8, 128, after(10))),
        ("kind: poisson, rate: 2.5, requests: 7", PoissonLoad(2.5, 7)),
        ("kind: gamma, rate: 8, cv: 2", GammaLoad(8, 2, 200)),
        (
            "kind: ramp, of: rate, from: 0, to: 10, over: 1m",
            RampLoad("rate", 0, 10, 60, 392, after(60)),
        ),
        (
            "kind: ramp, of: rate, from: 0, to: 10, over: 1m, duration: 2m",
            RampLoad("rate", 0, 10, 60, 1112, after(120)),
        ),
        (
            "kind: ramp, of: rate, from: 0, to: 10, over: 1m, duration: 30s",
            RampLoad("rate", 0, 10, 60, 122, after(30)),
        ),
        (
            "kind: ramp, of: rate, from: 4, to: 1, over: 1m, requests: 50",
            RampLoad("rate", 4, 1, 60, 50),
        ),
        (
            "kind: ramp, of: concurrency, from: 1, to: 63, over: 10s",
            RampLoad("concurrency", 1, 63, 10, 640, after(10)),
        ),
        (
            "kind: poisson, rate: 1, duration: 1s, output_tokens: 9, error_rate: 0.5, "
            "interval_width: 0.1",
            PoissonLoad(1, 34, StopRules(1, 9, 0.5, 0.1, reserve=True)),
        ),
    ],
)
def test_a_load_of_one_stage(section: str, expected: Load) -> None:
    assert load(section).program == SingleStage(expected)


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (
            "kind: stages, duration: 10s, requests: 90, stages: [{kind: concurrency, value: 4}, "
            "{kind: poisson, rate: 2, requests: 5}, {kind: constant, rate: 3, duration: 2s}]",
            StagesProgram(
                (
                    ConcurrencyLoad(4, 90, after(10, reserve=False)),
                    PoissonLoad(2, 5, after(10, reserve=False)),
                    ConstantLoad(3, 90, after(2, reserve=False)),
                )
            ),
        ),
        ("kind: sweep", SweepProgram(8, 1000, TTFT)),
        (
            "kind: sweep, points: 3, max_concurrency: 9, requests: 60, duration: 5s",
            SweepProgram(3, 60, TTFT, after(5, reserve=False), 9),
        ),
        ("kind: max_under_slo", MaxUnderSloProgram(TTFT, 4000)),
        (
            "kind: max_under_slo, start_rate: 1, max_rate: 9, resolution: 0.1, requests: 80",
            MaxUnderSloProgram(TTFT, 80, StopRules(), 1, 9, 0.1),
        ),
    ],
)
def test_a_load_of_several_stages(section: str, expected: LoadProgram) -> None:
    assert load(section, "slo: {ttft_ms: {p99: 500}}").program == expected


@pytest.mark.parametrize(
    ("section", "lines"),
    [
        ("kind: concurrency, value: 1", ["1 request in flight, until 32 requests"]),
        (
            "kind: constant, rate: 2.5, requests: 9",
            ["2.5 requests/s at equal gaps, until 9 requests"],
        ),
        (
            "kind: poisson, rate: 8, duration: 1m, error_rate: 0.1",
            [
                "8 requests/s at random times, until 608 requests, 60 s or 10 % of requests failed",
            ],
        ),
        (
            "kind: gamma, rate: 8, cv: 2, output_tokens: 5000, interval_width: 0.05",
            [
                "8 requests/s, gaps varying by 2 times their mean, until 200 requests, 5,000 "
                "output tokens or intervals of 5 %",
            ],
        ),
        (
            "kind: ramp, of: concurrency, from: 1, to: 64, over: 30s, requests: 99",
            ["from 1 to 64 requests in flight over 30 s, until 99 requests"],
        ),
        (
            "kind: stages, stages: [{kind: concurrency, value: 4}, {kind: poisson, rate: 2}]",
            [
                "2 stages on one running engine, the last decides:",
                "  4 requests in flight, until 32 requests",
                "  2 requests/s at random times, until 200 requests",
            ],
        ),
        (
            "kind: sweep, points: 5",
            [
                "from one stream to saturation, 5 stages, each until 1,000 requests;",
                "  the one with the highest goodput decides",
            ],
        ),
        (
            "kind: max_under_slo",
            [
                "the highest rate at which ttft p99 ≤ 500 ms holds, to 5 %;",
                "  each stage until 4,000 requests, or sooner where it is far from the limit",
            ],
        ),
    ],
)
def test_a_plan_says_the_load_in_words(section: str, lines: list[str]) -> None:
    made = make_plan(experiment(f"load: {{{section}}}", "slo: {ttft_ms: {p99: 500}}"), limit=1)
    cache = "synthetic requests to /v1/completions, each stage from a cold prefix cache"
    assert list(made.load) == [*lines, cache]


# --- recorded workloads -------------------------------------------------------------------------


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, which is the current one, with a trace of 20 requests in 10 s."""
    rows = [f"2023-11-16 18:00:{number / 2:06.3f},64,{8 + number}" for number in range(20)]
    text = "\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows])
    (tmp_path / "trace.csv").write_text(f"{text}\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ST_TRACES", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", ["trace.csv", "./trace.csv", "$ST_TRACES/trace.csv"])
def test_files_are_found_from_anywhere_once_the_experiment_is_read(
    trace: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    found = experiment(f"kind: trace, file: {name}, load: {{kind: replay, speed: 2}}")
    monkeypatch.chdir("/")
    again = Experiment.from_dict(yaml.safe_load(dump_yaml(found.resolved())))
    assert again.spec == found.spec
    assert again.spec.workload.settings["file"] == f"{trace}/trace.csv"
    assert wire(again).program == SingleStage(ReplayLoad(2, 20))


def test_no_stage_is_asked_for_more_than_a_trace_has(trace: Path) -> None:
    study = wire(experiment("kind: trace, file: trace.csv, load: {kind: concurrency, value: 8}"))
    assert study.program == SingleStage(ConcurrencyLoad(8, 20))
    with pytest.raises(SpecError, match="the workload trace has 20 requests"):
        experiment("kind: trace, file: trace.csv, load: {kind: replay, requests: 21}")


def test_a_replay_in_words(trace: Path) -> None:
    for speed, words in ((1, "as recorded"), (2.5, "as recorded, 2.5 times as fast")):
        found = experiment(f"kind: trace, file: trace.csv, load: {{kind: replay, speed: {speed}}}")
        assert make_plan(found, limit=1).load[0] == f"{words}, until 20 requests"


# --- what else a trial is told ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "state"),
    [
        ("kind: synthetic", CacheState.COLD),
        ("kind: shared_prefix", CacheState.WARM),
        ("kind: shared_prefix, share: 0", CacheState.COLD),
        ("kind: shared_prefix, cache: cold", CacheState.COLD),
        ("kind: append_prefill, cache: warm", CacheState.WARM),
    ],
)
def test_each_stage_starts_warm_where_there_is_something_to_warm_with(
    section: str, state: CacheState
) -> None:
    assert wire(experiment(section)).cache is state


@pytest.mark.parametrize(
    ("section", "note"),
    [
        ("search: {speculative-config: [null, {method: ngram, num_speculative_tokens: 4}]}", True),
        ("search: {max-num-seqs: [8, 16]}", False),
        ("args: {speculative-config: {method: ngram, num_speculative_tokens: 4}}", False),
    ],
)
def test_a_plan_says_what_synthetic_requests_cannot_tell(section: str, note: bool) -> None:
    text = f"name: n\nmodel: meta-llama/Llama-3.1-8B\nengines: {{vllm: {{{section}}}}}\n"
    notes = make_plan(Experiment.from_dict(yaml.safe_load(text)), limit=1).notes
    assert list(notes) == [
        "speculative-config: what is gained depends on what requests say, and synthetic ones say "
        "nothing; such results are flagged content_sensitive"
    ] * note  # fmt: skip


@pytest.mark.parametrize(
    ("engine", "argument"),
    [
        ("vllm", "enable-eplb: [true, false]"),
        ("sglang", "enable-eplb: [true, false]"),
        ("sglang", "ep-num-redundant-experts: [0, 16]"),
    ],
)
def test_a_plan_says_so_of_copies_of_experts_too(engine: str, argument: str) -> None:
    text = f"name: n\nmodel: Qwen/Qwen3-30B-A3B\nengines: {{{engine}: {{search: {{{argument}}}}}}}"
    (note,) = make_plan(Experiment.from_dict(yaml.safe_load(text)), limit=1).notes
    assert note.startswith(f"{argument.partition(':')[0]}: what is gained depends on")


def test_a_plan_says_what_of_a_trace_is_left_out(tmp_path: Path) -> None:
    path = burstgpt_file(tmp_path, [(0, 10, 1), (1, 20, 2), (2, 3000, 3), (3, 40, 0)])
    made = experiment(f"kind: trace, file: {path}, max_input_tokens: 2000")
    words = make_plan(made, limit=1).load[-1]
    assert words.startswith("took 2 requests of the file and left 2 out, which ")
    assert wire(experiment(f"kind: trace, file: {path}, limit: 2")).load_words()[-1] != words


# --- tokenizer and chat template ----------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_model(tmp_path_factory.mktemp("section") / "model")
    (folder / "chat_template.jinja").write_text("its own: {{ messages }}", encoding="utf-8")
    return folder


def chats_of(section: str, model: Path) -> Study:
    text = f"""
name: n
model: {{id: served, tokenizer: {model}}}
engines: {{vllm: {{{section}}}}}
workload: {{api: chat, load: {{kind: concurrency, value: 2}}}}
cluster: {{kind: in_process, simulated_gpus: 1}}
"""
    return wire(Experiment.from_dict(yaml.safe_load(text)))


def template_of(study: Study, **values: Json) -> str:
    """The hash that the record of such a trial has."""
    params = Params("vllm", {"tp": 1, "pp": 1, "dp": 1, **values})
    plan = study.admission.plan(params)
    devices = Allocation("bundle", "node", ("0",), visible=False)
    return study.order("run", Waiting(0, params, 1), plan, devices).template_sha256


def test_a_tokenizer_may_be_elsewhere_than_the_model(model: Path) -> None:
    study = chats_of("", model)
    assert study.source == "served"
    assert all(prompt.messages for prompt in study.workload.prompts("0", 4))
    assert template_of(study) == template_sha256(str(model))
    resolved = study.experiment.resolved()
    assert resolved["model"] == {"id": "served", "tokenizer": str(model)}


def test_a_trial_names_the_template_that_it_was_rendered_with(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jinja"
    other.write_text("{{ messages }}", encoding="utf-8")
    hashed = hashlib.sha256(b"{{ messages }}").hexdigest()
    assert template_of(chats_of(f"args: {{chat-template: {other}}}", model)) == hashed
    assert template_of(chats_of(f"args: {{chat_template: {other}}}", model)) == hashed
    for unreadable in ("other.jinja", tmp_path / "absent.jinja", "llama-2"):
        assert template_of(chats_of(f"args: {{chat-template: {unreadable}}}", model)) == ""

    searched = chats_of(f"search: {{chat-template: [null, {other}]}}", model)
    own = template_of(searched, **{"chat-template": None})
    assert own == template_sha256(str(model)) != hashed
    assert template_of(searched, **{"chat-template": str(other)}) == hashed


# --- processes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "processes"),
    [
        ("kind: concurrency, value: 4", 1),
        ("kind: concurrency, value: 4, processes: 3", 3),
        ("kind: concurrency, value: 100000", 8),
        ("kind: sweep, max_concurrency: 600, requests: 4000", 3),
        (
            "kind: stages, stages: [{kind: concurrency, value: 300, requests: 600}, "
            "{kind: concurrency, value: 1}]",
            2,
        ),
        ("kind: poisson, rate: 180", 3),
        ("kind: max_under_slo, max_rate: 180", 3),
        ("kind: max_under_slo", 4),
        # Streams, requests per second and the speed of a replay cannot be held against each other.
        ("kind: stages, stages: [{kind: poisson, rate: 180}, {kind: concurrency, value: 200}]", 3),
    ],
)
def test_as_many_processes_as_the_heaviest_stage_needs(section: str, processes: int) -> None:
    study = wire(
        experiment(f"output_tokens: 1000, load: {{{section}}}", "slo: {ttft_ms: {p99: 500}}")
    )
    assert study.load_processes() == processes
