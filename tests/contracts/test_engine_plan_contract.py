"""What every engine that servetune starts promises of layouts, nodes, identity and refusals."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pytest

from runtimes.engines.base import ENGINES, Refusal, create_engine
from runtimes.json_types import canonical_json
from runtimes.model import ModelFacts, find_model
from runtimes.parallel import DEGREES, ParallelLayout
from runtimes.plan import PLACEHOLDERS, EngineConfig
from runtimes.quantization import PARTS, PRECISIONS, Quantization
from tests.contracts.test_engine_contract import STARTED, config_of

DENSE, MIXTURE = "meta-llama/Llama-3.1-8B-Instruct", "deepseek-ai/DeepSeek-V3"
RULE = re.compile(r"[a-z][a-z0-9_]*")
PLACEHOLDER = re.compile(r"\{[a-z_]+\}")


def layouts() -> Iterator[ParallelLayout]:
    """Every degree alone, and beside tensor ranks."""
    for name, degree, tp in product(DEGREES, (1, 2, 4), (1, 8)):
        degrees = {"tp": tp, name: degree}
        yield ParallelLayout(**degrees)


def precisions() -> Iterator[Quantization]:
    """Every format alone in every part."""
    for part, precision in product(PARTS, PRECISIONS):
        yield replace(Quantization(), **{part: precision})


def configs(name: str) -> Iterator[EngineConfig]:
    """All of them, on one node and on two."""
    plain = config_of(name)
    for layout, nodes in product(layouts(), (1, 2)):
        yield replace(plain, layout=layout, nodes=nodes)
    for quantization in precisions():
        yield replace(plain, quantization=quantization)


@pytest.mark.parametrize("name", STARTED)
class TestPlans:
    def test_every_layout_has_a_plan_of_its_gpus(self, name: str) -> None:
        engine = create_engine(name)
        for config in configs(name):
            plan = engine.plan(config)
            assert plan.gpus == engine.gpus(config.layout) >= 1, config
            assert plan.servers, config
            assert plan == engine.plan(config)

    def test_placeholders_are_known_and_their_ports_declared(self, name: str) -> None:
        engine = create_engine(name)
        for config in configs(name):
            plan = engine.plan(config)
            declared = {port for process in plan.processes for port in process.ports}
            for process in plan.processes:
                words = " ".join([*process.argv, *process.files.values()])
                used = {found for found in PLACEHOLDER.findall(words) if found in PLACEHOLDERS}
                ports = {found.strip("{}") for found in used if "port" in found}
                assert ports <= declared, (config, ports, declared)
                assert all(0 in offsets for offsets in process.ports.values())

    def test_nodes_are_ranked_within_each_server(self, name: str) -> None:
        engine = create_engine(name)
        for config in configs(name):
            ranks: dict[int, list[int]] = {}
            for process in engine.plan(config).processes:
                ranks.setdefault(process.server, []).append(process.node)
            assert list(ranks) == list(range(len(ranks)))
            assert all(nodes == list(range(len(nodes))) for nodes in ranks.values())

    def test_ports_are_no_part_of_the_identity(self, name: str) -> None:
        for config in configs(name):
            text = canonical_json(create_engine(name).plan(config).effective)
            assert "{port}" not in text
            assert "{master_port}" not in text

    def test_notes_and_losses_are_sentences_and_words(self, name: str) -> None:
        for config in configs(name):
            plan = create_engine(name).plan(config)
            assert all(note.strip() for note in (*plan.notes, *plan.lossy))

    def test_sixteen_bits_lose_nothing(self, name: str) -> None:
        assert create_engine(name).plan(config_of(name)).lossy == ()


@pytest.mark.parametrize("name", ENGINES.names())
@pytest.mark.parametrize("model", [DENSE, MIXTURE, None])
def test_refusals_have_a_rule_and_words(name: str, model: str | None) -> None:
    engine = create_engine(name)
    facts: ModelFacts | None = find_model(model) if model else None
    for config in configs(name):
        refusal = engine.refuse(config, facts, None)
        assert refusal == engine.refuse(config, facts, None)
        if refusal is not None:
            assert isinstance(refusal, Refusal)
            assert RULE.fullmatch(refusal.rule), refusal
            assert refusal.message == refusal.message.strip() != ""
            assert "\n" not in refusal.message


@pytest.mark.parametrize("name", ENGINES.names())
def test_an_engines_own_table_finds_nothing_wrong_with_its_defaults(name: str) -> None:
    engine = create_engine(name)
    table = engine.flags(None)
    if table is None:
        assert engine.argument_problems({"anything": 1}, None) == {}
        return
    for flag in table.flags.values():
        assert engine.argument_problems({flag.name: flag.default}, None) == {}
