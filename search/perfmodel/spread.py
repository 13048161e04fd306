"""How a layout lies over GPUs, in terms that every engine shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypedDict

from runtimes.model import ModelFacts
from runtimes.parallel import ParallelLayout


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How one replica of an engine lies over its GPUs: a layout with nothing left open.

    A pipeline stage has `tp · groups · pcp` GPUs, and so have its experts:
    `expert_tp · expert_ep`.

    Attributes:
        tp: ranks that share the attention of one sequence.
        groups: groups of such ranks with sequences of their own that share one set of experts
            (attention data parallel).
        pp: pipeline stages.
        pcp: ranks among which one prompt and its KV cache are split.
        dcp: ranks, of the `tp`, among which the KV cache of one sequence is split further.
        sequence_parallel: True when what lies between the blocks is split over the `tp` ranks.
        dense_tp: ranks that share a dense MLP.
        expert_tp: ranks that share each expert.
        expert_ep: ranks with different experts.
        replicas: copies of all this that share nothing.
    """

    tp: int = 1
    groups: int = 1
    pp: int = 1
    pcp: int = 1
    dcp: int = 1
    sequence_parallel: bool = False
    dense_tp: int = 1
    expert_tp: int = 1
    expert_ep: int = 1
    replicas: int = 1

    @property
    def stage_gpus(self) -> int:
        """GPUs of one pipeline stage."""
        return self.tp * self.groups * self.pcp

    @property
    def gpus(self) -> int:
        """GPUs in all."""
        return self.stage_gpus * self.pp * self.replicas


class _ExpertDegrees(TypedDict):
    expert_tp: int
    expert_ep: int


def spread_of(engine: str, layout: ParallelLayout, model: ModelFacts) -> Spread:
    """How the engine called `engine` spreads `layout`; an unknown one as the degrees are defined.

    As many GPUs as `Engine.gpus` says. A layout that the engine refuses gets the nearest spread
    that there are words for. What arguments make of a layout, `Engine.layout` says.
    """
    return _ENGINES.get(engine, _plain)(layout, model)


def _plain(layout: ParallelLayout, model: ModelFacts) -> Spread:
    groups = _groups(layout)
    pcp = max(layout.pcp, layout.cp)
    return Spread(
        tp=layout.tp // groups,
        groups=groups,
        pp=layout.pp,
        pcp=pcp,
        dcp=layout.dcp,
        dense_tp=layout.moe_dense_tp or layout.tp,
        replicas=layout.dp,
        **_experts(model, layout.tp * pcp, _expert_ranks(layout)),
    )


def _vllm(layout: ParallelLayout, model: ModelFacts) -> Spread:
    """Attention data parallelism is data parallelism, and that of experts shares them.

    Experts lie over all ranks of a stage, whole ones with expert parallelism and slices of all
    without; ranks of a dense model share nothing. The ranks of `dcp` are those of `pcp` first
    (config/parallel.py and distributed/parallel_state.py of 0.33).
    """
    groups = _groups(layout)
    tp, pcp, dp = layout.tp // groups, max(layout.pcp, layout.cp), layout.dp * groups
    span = tp * pcp * (dp if model.is_moe else 1)
    return Spread(
        tp=tp,
        groups=dp if model.is_moe else 1,
        pp=layout.pp,
        pcp=pcp,
        dcp=layout.dcp // pcp if layout.dcp % pcp == 0 else layout.dcp,
        dense_tp=tp,
        replicas=1 if model.is_moe else dp,
        **_experts(model, span, span if _expert_ranks(layout) > 1 else 1),
    )


def _sglang(layout: ParallelLayout, model: ModelFacts) -> Spread:
    """Attention groups, prefill context ranks and experts all lie within the tensor ranks.

    `attn_tp = tp / attn_dp / attn_cp`, `moe_tp = tp / ep` (runtime_context.py of 0.5.23). Dense
    MLPs are split over all tensor ranks, or over `moe_dense_tp`.
    """
    groups = _groups(layout)
    wanted = max(layout.pcp, layout.cp)
    pcp = wanted if (layout.tp // groups) % wanted == 0 else 1
    tp = layout.tp // groups // pcp
    return Spread(
        tp=tp,
        groups=groups,
        pp=layout.pp,
        pcp=pcp,
        dcp=layout.dcp if tp % layout.dcp == 0 else 1,
        dense_tp=layout.moe_dense_tp or layout.tp,
        replicas=layout.dp,
        **_experts(model, layout.tp, _expert_ranks(layout)),
    )


def _tensorrt_llm(layout: ParallelLayout, model: ModelFacts) -> Spread:
    """Attention data parallelism is over all tensor ranks, and then dense MLPs are copied.

    Context parallelism splits the KV cache with the prompt; that of decode (Helix) lends its ranks
    to the MLPs (mapping.py of the 1.2 line; modeling_deepseekv3.py).
    """
    groups = layout.tp if layout.attention_dp > 1 else 1
    cp = max(layout.cp, layout.pcp, layout.dcp)
    span = layout.tp * (layout.dcp if layout.dcp > 1 else 1)
    ranks = _expert_ranks(layout)
    if ranks == 1 and layout.moe_tp is not None:
        ranks = max(1, span // (layout.moe_tp * layout.moe_cluster))
    return Spread(
        tp=layout.tp // groups,
        groups=groups,
        pp=layout.pp,
        pcp=cp,
        dense_tp=1 if groups > 1 else span,
        replicas=layout.dp,
        **_experts(model, max(1, span // layout.moe_cluster), ranks),
    )


_ENGINES: Mapping[str, Callable[[ParallelLayout, ModelFacts], Spread]] = {
    "vllm": _vllm,
    "sglang": _sglang,
    "tensorrt_llm": _tensorrt_llm,
}


def _groups(layout: ParallelLayout) -> int:
    return layout.attention_dp if layout.tp % layout.attention_dp == 0 else 1


def _expert_ranks(layout: ParallelLayout) -> int:
    """Ranks with different experts, by whichever of `ep` and `moe_ep` says so."""
    return max(layout.ep, layout.moe_ep or 1)


def _experts(model: ModelFacts, ranks: int, ep: int) -> _ExpertDegrees:
    """How experts lie over `ranks`, of which `ep` have different ones."""
    if not model.is_moe or ranks % ep:
        return {"expert_tp": ranks, "expert_ep": 1}
    return {"expert_tp": ranks // ep, "expert_ep": ep}
