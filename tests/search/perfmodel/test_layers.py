"""Layers of a model as groups: how many of each kind, and the degrees each gets."""

from __future__ import annotations

import pytest

from runtimes.model import ModelFacts
from search.perfmodel.layers import LayerGroup, LayerKind, layers_of, spread_layers
from search.perfmodel.question import Spread
from tests.search.perfmodel.deployments import EXPERTS, LATENT, LLAMA, WINDOWED, catalogue, known


@pytest.mark.parametrize("model", catalogue(), ids=lambda model: model.name)
def test_every_decoder_layer_attends_once_and_has_one_mlp(model: ModelFacts) -> None:
    counts = layers_of(model)
    attending = sum(count for kind, count in counts.items() if kind.attends)
    mlps = counts.get(LayerKind.FEEDFORWARD, 0) + counts.get(LayerKind.MOE, 0)
    assert attending == mlps == model.layers
    assert counts[LayerKind.NORM] == 2 * model.layers + 1
    assert counts[LayerKind.EMBEDDING] == counts[LayerKind.LM_HEAD] == 1
    assert all(count > 0 for count in counts.values())


def test_kinds_follow_the_facts() -> None:
    assert set(layers_of(known(LLAMA))) == {
        LayerKind.EMBEDDING, LayerKind.ATTENTION, LayerKind.FEEDFORWARD, LayerKind.NORM,
        LayerKind.LM_HEAD,
    }  # fmt: skip
    deepseek = layers_of(known(LATENT))
    assert deepseek[LayerKind.LATENT_ATTENTION] == 61
    assert (deepseek[LayerKind.FEEDFORWARD], deepseek[LayerKind.MOE]) == (3, 58)
    gemma = known(WINDOWED)
    assert layers_of(gemma)[LayerKind.WINDOWED_ATTENTION] == gemma.windowed_layers > 0


def groups_of(model: str, spread: Spread) -> dict[LayerKind, LayerGroup]:
    return {group.kind: group for group in spread_layers(known(model), spread)}


def test_experts_and_dense_mlps_have_degrees_of_their_own() -> None:
    spread = Spread(tp=2, groups=4, dense_tp=8, expert_tp=1, expert_ep=8)
    found = groups_of(LATENT, spread)
    attention, dense = found[LayerKind.LATENT_ATTENTION], found[LayerKind.FEEDFORWARD]
    assert (attention.tp, attention.groups) == (2, 1)
    assert (dense.tp, dense.groups) == (8, 4)
    moe = found[LayerKind.MOE]
    assert (moe.tp, moe.ep, moe.groups) == (1, 8, 4)


def test_context_and_sequence_parallelism_reach_every_layer() -> None:
    spread = Spread(tp=4, pcp=2, dcp=2, sequence_parallel=True, dense_tp=4, expert_tp=8)
    for group in spread_layers(known(EXPERTS), spread):
        assert (group.cp, group.sp, group.kv_split) == (2, 4, 4)


def test_what_attends_is_told_by_its_kind() -> None:
    assert {kind for kind in LayerKind if kind.attends} == {
        LayerKind.ATTENTION, LayerKind.WINDOWED_ATTENTION, LayerKind.LATENT_ATTENTION,
        LayerKind.LINEAR_ATTENTION,
    }  # fmt: skip
