"""How vLLM spreads a layout: from the neutral degrees to its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from runtimes.json_types import Json
from runtimes.parallel import ParallelLayout
from runtimes.plan import MASTER_HOST, MASTER_PORT, RPC_PORT

EXPERT_PARALLEL = "enable-expert-parallel"
DECODE_CONTEXT = "decode-context-parallel-size"
EXECUTOR = "distributed-executor-backend"


@dataclass(frozen=True, slots=True)
class Spread:
    """A layout in vLLM's terms.

    Attributes:
        tp, pp, pcp, dcp: degrees of one replica; `dcp` reuses ranks that are there anyway.
        dp: data-parallel ranks. Those of a mixture of experts share the experts out among them.
        expert_parallel: True holds whole experts on each rank, always over the whole span.
    """

    tp: int = 1
    pp: int = 1
    pcp: int = 1
    dcp: int = 1
    dp: int = 1
    expert_parallel: bool = False

    @property
    def replica(self) -> int:
        """GPUs of one data-parallel rank (`world_size` in config/parallel.py)."""
        return self.tp * self.pp * self.pcp

    @property
    def gpus(self) -> int:
        """GPUs in all; neither dcp nor expert parallelism adds any."""
        return self.replica * self.dp

    @property
    def span(self) -> int:
        """Ranks of one pipeline stage that share the experts (distributed/parallel_state.py)."""
        return self.tp * self.pcp * self.dp


def spread_of(layout: ParallelLayout, args: Mapping[str, Json]) -> Spread:
    """What vLLM makes of `layout`; what `args` say of the same wins.

    Attention data parallelism is data parallelism in vLLM: n groups of tp/n ranks each. A layout
    that vLLM has no words for gets the nearest one of as many GPUs; the rules refuse it.
    """
    groups = layout.attention_dp if layout.tp % layout.attention_dp == 0 else 1
    experts = args.get(EXPERT_PARALLEL)
    dcp = args.get(DECODE_CONTEXT)
    return Spread(
        tp=layout.tp // groups,
        pp=layout.pp,
        pcp=max(layout.pcp, layout.cp),
        dcp=dcp if isinstance(dcp, int) and not isinstance(dcp, bool) else layout.dcp,
        dp=layout.dp * groups,
        expert_parallel=experts_wanted(layout) if experts is None else experts is True,
    )


def layout_of(layout: ParallelLayout, spread: Spread) -> ParallelLayout:
    """The neutral layout of `spread`, which `layout` and the arguments came to."""
    if spread.expert_parallel != experts_wanted(layout):
        layout = replace(layout, ep=spread.span if spread.expert_parallel else 1, moe_ep=None)
    return replace(layout, dcp=max(spread.dcp, 1))


def experts_wanted(layout: ParallelLayout) -> bool:
    """True when the layout asks for experts on different ranks."""
    return max(layout.ep, layout.moe_ep or 1) > 1


def layout_args(spread: Spread, args: Mapping[str, Json], nodes: int) -> dict[str, Json]:
    """Arguments that say `spread`, without those that `args` give."""
    degrees = {
        "tensor-parallel-size": spread.tp,
        "pipeline-parallel-size": spread.pp,
        "prefill-context-parallel-size": spread.pcp,
        "data-parallel-size": spread.dp,
        DECODE_CONTEXT: spread.dcp,
    }
    made: dict[str, Json] = {name: n for name, n in degrees.items() if n > 1}
    if spread.expert_parallel:
        made[EXPERT_PARALLEL] = True
    # Started from inside a Ray actor, vLLM would otherwise look for a placement group and choose
    # its ray executor (config/parallel.py).
    if spread.replica > 1 or nodes > 1:
        made[EXECUTOR] = "mp"
    return {name: value for name, value in made.items() if name not in args}


def replicas_per_node(spread: Spread, nodes: int) -> int:
    """Whole replicas on each node; 0 when a replica is spread over nodes."""
    return spread.dp // nodes if spread.dp > 1 and spread.dp % nodes == 0 else 0


def node_args(spread: Spread, nodes: int, node: int) -> dict[str, Json]:
    """Arguments of node `node` of a server over several nodes (engine/arg_utils.py).

    Nodes that hold whole replicas meet at the data-parallel address; those that share one meet
    where torch.distributed does.
    """
    if nodes == 1:
        return {}
    headless: dict[str, Json] = {"headless": True} if node else {}
    local = replicas_per_node(spread, nodes)
    if local:
        start: dict[str, Json] = {"data-parallel-start-rank": node * local} if node else {}
        return {
            "data-parallel-size-local": local,
            "data-parallel-address": MASTER_HOST,
            "data-parallel-rpc-port": RPC_PORT,
            **start,
            **headless,
        }
    made: dict[str, Json] = {
        "nnodes": nodes,
        "node-rank": node,
        "master-addr": MASTER_HOST,
        "master-port": MASTER_PORT,
    }
    if spread.dp > 1:
        made["data-parallel-rpc-port"] = RPC_PORT
    return {**made, **headless}


def node_ports(spread: Spread, nodes: int, node: int) -> dict[str, tuple[int, ...]]:
    """Ports that node `node` binds; the meeting points are on the first."""
    if node:
        return {}
    if nodes == 1:
        return {"port": (0,)}
    if replicas_per_node(spread, nodes):
        return {"port": (0,), "rpc_port": (0,)}
    further: dict[str, tuple[int, ...]] = {"rpc_port": (0,)} if spread.dp > 1 else {}
    return {"port": (0,), "master_port": (0,), **further}
