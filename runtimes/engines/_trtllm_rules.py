"""What TensorRT-LLM would refuse of a layout or an argument, found before a GPU is touched.

Each rule is one function that returns a `Refusal` or None. Where nothing else is said the source
is `tensorrt_llm/mapping.py` at b35ac1b (the 1.2 line), whose `Mapping` checks degrees at start.
"""

from __future__ import annotations

from collections.abc import Callable

from runtimes.engines._rules import divisors, nearest, not_divided, unsupported_degree
from runtimes.engines._trtllm_arguments import argument_problems
from runtimes.engines._trtllm_settings import (
    ATTENTION_DP,
    CLUSTERS,
    EXPERT_RANKS,
    EXPERT_SHARDS,
    Settings,
    context_degree,
    expert_group,
    expert_ranks,
    settle,
)
from runtimes.engines.base import Refusal
from runtimes.model import ModelFacts
from runtimes.parallel import DEGREES, ParallelLayout
from runtimes.plan import EngineConfig

_NOT_MAPPED = "moe_dense_tp"


def broken_rule(config: EngineConfig, model: ModelFacts | None) -> Refusal | None:
    """The first rule `config` breaks; None when it breaks none that can be checked."""
    layout, settings = config.layout, settle(config)
    for rule in _OF_LAYOUT:
        if (broken := rule(layout)) is not None:
            return broken
    found = (
        one_node(config)
        or known_arguments(config)
        or experts_fill_the_group(layout, settings)
        or clusters_exclude_expert_ranks(layout, settings)
        or ulysses_excludes_expert_ranks(layout, settings)
        or helix_decodes(config)
    )
    if found is not None or model is None:
        return found
    return (
        heads_divided(layout, settings, model)
        or more_stages_than_layers(layout, model)
        or experts_needed(settings, model)
        or helix_needs_latent_attention(layout, model)
        or context_too_long(settings, model)
    )


def degree_supported(layout: ParallelLayout) -> Refusal | None:
    """It has no degree of its own for the dense MLPs of a mixture of experts."""
    known = [name for name in DEGREES if name != _NOT_MAPPED]
    return unsupported_degree("TensorRT-LLM", layout, known)


def one_context_degree(layout: ParallelLayout) -> Refusal | None:
    """Prefill and decode share one context parallel degree (`--cp_size`)."""
    names = ("cp", "pcp", "dcp")
    given = {name: layout.used[name] for name in names if name in layout.used}
    if len(given) < 2 or ("dcp" not in given and len(set(given.values())) == 1):
        return None
    words = " ".join(f"{name}={degree}" for name, degree in given.items())
    return Refusal(
        "one_context_degree",
        f"TensorRT-LLM has one context parallel degree for all of cp, pcp and dcp, got {words}; "
        "valid: one of them, the others left at 1",
    )


def one_expert_degree(layout: ParallelLayout) -> Refusal | None:
    """`ep` and `moe_ep` name one thing."""
    try:
        layout.experts_over  # noqa: B018  # a property that raises
    except ValueError as error:
        return Refusal("one_expert_degree", str(error))
    return None


def attention_dp_is_tp(layout: ParallelLayout) -> Refusal | None:
    """Attention data parallelism is on or off: over all tensor parallel ranks, or none (T5)."""
    if layout.attention_dp in (1, layout.tp):
        return None
    return Refusal(
        "attention_dp_is_tp",
        f"attention_dp={layout.attention_dp} is neither 1 nor tp={layout.tp}; TensorRT-LLM "
        f"attends apart on all tensor parallel ranks or on none; valid: 1, {layout.tp}",
    )


def one_node(config: EngineConfig) -> Refusal | None:
    """The ranks of other nodes are MPI's, and nobody's here to watch and to end."""
    if config.nodes == 1:
        return None
    return Refusal(
        "one_node",
        f"one server over {config.nodes} nodes: MPI would start its ranks on the others through "
        "a remote shell, where servetune can neither watch nor end them; valid: 1 node. The "
        "command shown starts it by hand, to be measured with --server-url",
    )


def known_arguments(config: EngineConfig) -> Refusal | None:
    """Arguments are options or keys, and of their kind."""
    for name, words in argument_problems(config.args).items():
        return Refusal("known_arguments", f"{name} {words}")
    return None


def experts_fill_the_group(layout: ParallelLayout, settings: Settings) -> Refusal | None:
    """Shards, ranks and clusters of experts multiply to their group (T2)."""
    group = expert_group(layout)
    parts = {
        "moe_tp": layout.moe_tp or settings.integer(EXPERT_SHARDS),
        "ep": settings.integer(EXPERT_RANKS) or layout.moe_ep,
        "moe_cluster": settings.integer(CLUSTERS),
    }
    given = {name: degree for name, degree in parts.items() if degree is not None}
    product = 1
    for degree in given.values():
        product *= degree
    complete = "moe_tp" in given and "ep" in given
    divides = product != 0 and group % product == 0
    if product == group or (not complete and divides):
        return None
    words = " * ".join(f"{name}={degree}" for name, degree in given.items())
    if len(given) > 1:
        words += f" is {product}, which"
    group_words = f"tp={group}" if layout.dcp == 1 else f"tp * dcp={group}"
    must = "equal" if complete else "divide"
    valid = f"a product of {group}" if complete else nearest(product, divisors(group))
    return Refusal("experts_fill_the_group", f"{words} must {must} {group_words}; valid: {valid}")


def clusters_exclude_expert_ranks(layout: ParallelLayout, settings: Settings) -> Refusal | None:
    """Clusters of experts go with sharded experts only (T3)."""
    clusters, ranks = settings.integer(CLUSTERS) or 1, expert_ranks(layout, settings)
    if clusters == 1 or ranks == 1:
        return None
    return Refusal(
        "clusters_exclude_expert_ranks",
        f"moe_cluster={clusters} needs ep=1, got ep={ranks}; valid: one of the two",
    )


def ulysses_excludes_expert_ranks(layout: ParallelLayout, settings: Settings) -> Refusal | None:
    """Context parallelism other than Helix goes without expert parallelism (T3)."""
    context, ranks = max(layout.cp, layout.pcp), expert_ranks(layout, settings)
    if context == 1 or layout.dcp > 1 or ranks == 1:
        return None
    return Refusal(
        "ulysses_excludes_expert_ranks",
        f"cp={context} with ep={ranks}: expert parallelism goes with context parallelism only "
        "where that is Helix (dcp); valid: ep=1 or cp=1",
    )


def helix_decodes(config: EngineConfig) -> Refusal | None:
    """Helix serves decode workers of a disaggregated deployment (T7, the manual's page on it)."""
    role = config.args.get("server_role", config.args.get("server-role"))
    if config.layout.dcp == 1 or str(role).upper() == "GENERATION":
        return None
    return Refusal(
        "helix_decodes",
        f"dcp={config.layout.dcp}: Helix, its decode context parallelism, is for the decode "
        "workers of a disaggregated deployment; valid here: dcp=1",
    )


def helix_needs_latent_attention(layout: ParallelLayout, model: ModelFacts) -> Refusal | None:
    """Helix is made for multi-head latent attention (T7)."""
    if layout.dcp == 1 or model.mla is not None:
        return None
    return Refusal(
        "helix_needs_latent_attention",
        f"dcp={layout.dcp}: Helix needs multi-head latent attention, which {model.name} does not "
        "have; valid: dcp=1",
    )


def heads_divided(layout: ParallelLayout, settings: Settings, model: ModelFacts) -> Refusal | None:
    """Ranks share the heads evenly, unless each attends to requests of its own (T4, T5)."""
    if settings.values.get(ATTENTION_DP) is True:
        return None
    context = 1 if layout.dcp > 1 else context_degree(layout)
    name = "tp" if context == 1 else "tp * cp"
    return not_divided("heads_divided", name, layout.tp * context, model.heads, "attention heads")


def more_stages_than_layers(layout: ParallelLayout, model: ModelFacts) -> Refusal | None:
    """Stages may be uneven, but each has a layer (T8)."""
    if layout.pp <= model.layers:
        return None
    return Refusal(
        "more_stages_than_layers",
        f"pp={layout.pp} exceeds {model.layers} layers; valid: 1 to {model.layers}",
    )


def experts_needed(settings: Settings, model: ModelFacts) -> Refusal | None:
    """Degrees of experts say nothing of a model without any."""
    if model.experts:
        return None
    names = {EXPERT_RANKS: "ep", EXPERT_SHARDS: "moe_tp", CLUSTERS: "moe_cluster"}
    for setting, name in names.items():
        degree = settings.integer(setting)
        if degree is not None and (degree > 1 or setting == EXPERT_SHARDS):
            return Refusal(
                "experts_needed",
                f"{name}={degree} is for models with experts, and {model.name} has none; "
                f"valid: leave {name} out",
            )
    return None


def context_too_long(settings: Settings, model: ModelFacts) -> Refusal | None:
    """A request cannot be longer than the positions the model has (`llmapi/llm_args.py`)."""
    length = settings.integer("max_seq_len")
    if length is None or not model.max_context or length <= model.max_context:
        return None
    return Refusal(
        "context_too_long",
        f"max_seq_len={length} exceeds the {model.max_context} positions of {model.name}; "
        f"valid: up to {model.max_context}",
    )


_OF_LAYOUT: tuple[Callable[[ParallelLayout], Refusal | None], ...] = (
    degree_supported,
    one_context_degree,
    one_expert_degree,
    attention_dp_is_tp,
)
