"""Our rules against SGLang's own resolution and checks of its arguments, without a GPU."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest

from runtimes.engines.sglang import SglangEngine
from runtimes.json_types import Json
from runtimes.model import ModelFacts, find_model
from runtimes.parallel import ParallelLayout as Layout
from runtimes.plan import EngineConfig
from tests.runtimes.sglang_cases import ask_sglang

ENGINE = SglangEngine()
SAMPLE = 300

SHAPE: dict[str, Json] = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "hidden_size": 256,
    "intermediate_size": 768,
    "moe_intermediate_size": 192,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 16,
    "num_hidden_layers": 6,
    "num_experts": 24,
    "num_experts_per_tok": 4,
    "vocab_size": 1024,
    "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16",
}

IN_WORKERS = frozenset(
    {
        # S3, S4, S8, S12 and their kin strike when a worker builds the model.
        "heads_divided", "kv_heads_shared", "mlp_divided", "stages_have_layers", "dcp_divides_tp",
        "experts_divide_tp", "expert_divided", "experts_divided",
        # degrees that are words of ours, which no argument carries
        "moe_tp_implied",
    }
)  # fmt: skip


def sampled(name: str) -> list[EngineConfig]:
    """A fixed sample of layouts, arguments and nodes."""
    layouts = product(
        (1, 2, 3, 4, 8), (1, 2), (1, 2), (1, 2, 4), (1, 1, 2), (1, 1, 2, 3), (1, 2, 3), (None, 1, 2)
    )
    serving: list[dict[str, Json]] = [
        {},
        {},
        {"chunked-prefill-size": 1000, "page-size": 64},
        {"chunked-prefill-size": 1024, "page-size": 64},
        {"enable-priority-scheduling": True, "schedule-policy": "lpm"},
        {"enable-priority-scheduling": True, "schedule-policy": "lof"},
        {"retraction-policy": "priority"},
        {"enable-two-batch-overlap": True},
        {"enable-hierarchical-cache": True, "disable-radix-cache": True},
        {"enable-tp-lm-head-all-to-all": True},
        {"dcp-comm-backend": "a2a"},
        {"min-free-slots-delay": 2},
        {"context-length": 8192},
        {"moe-runner-backend": "flashinfer_cutlass"},
        {"moe-dp-size": 2},
    ]
    chosen = random.Random(7)
    picks = chosen.sample(list(layouts), SAMPLE)
    return [
        EngineConfig(
            "sglang",
            name,
            layout=Layout(
                tp=tp, pp=pp, dp=dp, attention_dp=groups, cp=cp, dcp=dcp, ep=ep, moe_dense_tp=dense
            ),
            args={"device": "cpu", **chosen.choice(serving)},
            nodes=chosen.choice((1, 1, 1, 2)),
        )
        for tp, pp, dp, groups, cp, dcp, ep, dense in picks
    ]


def arguments(config: EngineConfig) -> tuple[str, ...]:
    filled = (
        ENGINE.plan(config)
        .processes[0]
        .command(host="127.0.0.1", port=23456, master_host="127.0.0.1", master_port=25000)
    )
    return filled[filled.index("--model-path") :]


BY_ITSELF: list[tuple[dict[str, Json], str, Json]] = [
    ({"moe-a2a-backend": "mooncake", "tp-size": 4}, "ep_size", 4),
    ({"pp-size": 2}, "disable_overlap_schedule", True),
    ({}, "page_size", 1),
    ({"tp-size": 4, "attn-dp-size": 2}, "chunked_prefill_size", 2048),
]
"""Arguments, and what SGLang makes of another one because of them."""


@dataclass(frozen=True)
class Asked:
    """What SGLang answered to the sampled configurations, and to `BY_ITSELF`."""

    facts: ModelFacts
    sample: list[tuple[EngineConfig, dict[str, Any]]]
    by_itself: list[dict[str, Any]]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    folder = tmp_path_factory.mktemp("model")
    (folder / "config.json").write_text(json.dumps(SHAPE), encoding="utf-8")
    facts = find_model(str(folder))
    assert facts is not None and facts.experts == 24
    configs = sampled(str(folder))
    plain = [
        ["--model-path", str(folder), "--device", "cpu"]
        + [part for name, value in given.items() for part in (f"--{name}", str(value))]
        for given, _, _ in BY_ITSELF
    ]
    argvs = [*map(arguments, configs), *plain]
    answers = ask_sglang(argvs, tmp_path_factory.mktemp("home"), resolve=True)
    sample = list(zip(configs, answers, strict=False))
    return Asked(facts, sample, answers[len(configs) :])


@pytest.mark.sglang
def test_what_sglang_refuses_we_refuse_and_what_we_accept_it_accepts(asked: Asked) -> None:
    counts = {"both accept": 0, "both refuse": 0, "workers refuse": 0}
    wrong = []
    for config, answer in asked.sample:
        refusal = ENGINE.refuse(config, asked.facts, None)
        theirs = answer.get("refused")
        if refusal is None and theirs is None:
            counts["both accept"] += 1
        elif refusal is not None and theirs is not None:
            counts["both refuse"] += 1
        elif refusal is not None and refusal.rule in IN_WORKERS:
            counts["workers refuse"] += 1
        else:
            wrong.append((str(config.layout), dict(config.args), config.nodes, refusal, theirs))
    assert wrong == []
    assert sum(counts.values()) == SAMPLE
    assert min(counts.values()) >= 10, counts


@pytest.mark.sglang
def test_sglang_arrives_at_the_degrees_we_count_with(asked: Asked) -> None:
    for config, answer in asked.sample:
        if ENGINE.refuse(config, asked.facts, None) is not None:
            continue
        values = answer["values"]
        gpus = values["tp_size"] * values["pp_size"] * values["dp_size"]
        assert gpus == ENGINE.plan(config).gpus
        assert values["attn_dp_size"] == config.layout.attention_dp
        assert values["ep_size"] == config.layout.ep
        if config.layout.pp > 1:
            assert values["disable_overlap_schedule"] is True


@pytest.mark.sglang
def test_sglang_takes_what_we_say_it_takes_by_itself(asked: Asked) -> None:
    for (given, name, expected), answer in zip(BY_ITSELF, asked.by_itself, strict=True):
        assert answer["values"][name] == expected, given
