"""vLLM's rules of mixtures of experts: where experts are held, balanced and exchanged."""

from __future__ import annotations

from runtimes.engines._rules import not_divided
from runtimes.engines._vllm_case import Case
from runtimes.engines._vllm_layout import EXPERT_PARALLEL, experts_wanted
from runtimes.engines.base import Refusal

_MICROBATCHED = ("deepep_low_latency", "deepep_high_throughput", "nixl_ep")
"""Exchanges that overlap two batches (config/vllm.py)."""


def experts_named_once(case: Case) -> Refusal | None:
    """`ep` and `moe_ep` are two words for one degree."""
    ep, moe_ep = case.layout.ep, case.layout.moe_ep
    if moe_ep is None or ep in (1, moe_ep):
        return None
    words = f"ep={ep} and moe_ep={moe_ep} name one degree; valid: one of them"
    return Refusal("experts_named_once", words)


def experts_over_all_ranks(case: Case) -> Refusal | None:
    """Whole experts are spread over all tensor and data ranks (distributed/parallel_state.py)."""
    degree = max(case.layout.ep, case.layout.moe_ep or 1)
    span = case.spread.span
    if degree in (1, span) or EXPERT_PARALLEL in case.given:
        return None
    words = f"ep={degree} is not the {span} ranks of tp*pcp*dp; valid: {_either(span)}"
    return Refusal("experts_over_all_ranks", words)


def experts_sharded_or_whole(case: Case) -> Refusal | None:
    """Each expert is on one rank, or shared by all; vLLM mixes the two in no way."""
    moe_tp, span = case.layout.moe_tp, case.spread.span
    needed = 1 if case.spread.expert_parallel else span
    if moe_tp in (None, needed):
        return None
    ep = max(case.layout.ep, case.layout.moe_ep or 1)
    words = (
        f"moe_tp={moe_tp} with ep={ep} does not share out the {span} ranks of tp*pcp*dp; "
        f"valid: moe_tp={span} ep=1, moe_tp=1 ep={span}"
    )
    return Refusal("experts_sharded_or_whole", words)


def experts_exist(case: Case) -> Refusal | None:
    """Degrees of the experts need a mixture of experts (config/model.py)."""
    model = case.model
    if model is None or model.experts > 0:
        return None
    asked = [
        (case.spread.expert_parallel, EXPERT_PARALLEL if not experts_wanted(case.layout) else "ep"),
        (case.layout.moe_tp not in (None, 1), f"moe_tp={case.layout.moe_tp}"),
        (case.layout.attention_dp > 1, f"attention_dp={case.layout.attention_dp}"),
        (case.config.quantization.moe is not None, f"moe {case.config.quantization.moe}"),
    ]
    named = next((words for wanted, words in asked if wanted), None)
    if named is None:
        return None
    words = f"{named} needs a mixture of experts; {model.name} has no experts"
    return Refusal("experts_exist", words)


def expert_width_divided(case: Case) -> Refusal | None:
    """Experts that all ranks share are cut evenly (model_executor/layers/fused_moe/config.py)."""
    model = case.model
    if model is None or not model.experts or not model.moe_intermediate:
        return None
    if case.spread.expert_parallel:
        return None
    return not_divided(
        "expert_width_divided",
        "tp*pcp*dp",
        case.spread.span,
        model.moe_intermediate,
        "columns of each expert (moe_intermediate_size)",
    )


def experts_balanced(case: Case) -> Refusal | None:
    """Balancing needs whole experts on more than one rank (config/parallel.py)."""
    redundant = case.mapping("eplb-config").get("num_redundant_experts")
    if not case.on("enable-eplb"):
        if isinstance(redundant, int) and redundant > 0:
            words = (
                f"eplb-config.num_redundant_experts={redundant} needs enable-eplb; "
                "valid: 0, or enable-eplb true"
            )
            return Refusal("experts_balanced", words)
        return None
    if not case.spread.expert_parallel:
        words = f"enable-eplb needs expert parallelism; valid: ep={case.spread.span}"
        return Refusal("experts_balanced", words)
    if case.spread.span == 1:
        return Refusal("experts_balanced", "enable-eplb needs more than one rank (tp*pcp*dp)")
    return None


def elastic_experts(case: Case) -> Refusal | None:
    """Elastic expert parallelism balances, and has no pipeline (config/parallel.py)."""
    if not case.on("enable-elastic-ep"):
        return None
    if not case.on("enable-eplb"):
        return Refusal("elastic_experts", "enable-elastic-ep needs enable-eplb true")
    if case.spread.pp > 1:
        words = f"enable-elastic-ep does not go with pp={case.spread.pp}; valid: pp=1"
        return Refusal("elastic_experts", words)
    return None


def microbatches_exchanged(case: Case) -> Refusal | None:
    """Overlapped batches need an exchange made for them (config/vllm.py, config/parallel.py)."""
    batches = 2 if case.on("enable-dbo") else (case.integer("ubatch-size") or 0)
    if batches < 2 or (case.accelerator is not None and case.accelerator.vendor == "amd"):
        return None
    backend = case.text("all2all-backend") or "allgather_reducescatter"
    if backend not in _MICROBATCHED:
        words = (
            f"microbatches need all2all-backend to be one of {', '.join(_MICROBATCHED)}; "
            f"got {backend}"
        )
        return Refusal("microbatches_exchanged", words)
    for name in ("dbo-decode-token-threshold", "dbo-prefill-token-threshold"):
        threshold = case.integer(name)
        if threshold is not None and threshold < batches:
            words = f"{name}={threshold} is below {batches} microbatches; valid: {batches} or more"
            return Refusal("microbatches_exchanged", words)
    return None


def moonep_plain(case: Case) -> Refusal | None:
    """The moonep exchange knows bf16 experts placed in order (config/vllm.py)."""
    if case.text("all2all-backend") != "moonep":
        return None
    dtype = case.text("dtype")
    quantized = case.model is not None and case.model.quantization is not None
    obstacles = [
        (case.text("quantization") is not None or quantized, "quantised weights"),
        (dtype not in (None, "auto", "bfloat16"), f"dtype={dtype}"),
        (case.on("enable-eplb"), "enable-eplb"),
        (
            case.text("expert-placement-strategy") not in (None, "linear"),
            f"expert-placement-strategy={case.text('expert-placement-strategy')}",
        ),
    ]
    why = next((words for present, words in obstacles if present), None)
    if why is None:
        return None
    words = f"all2all-backend=moonep does not go with {why}; it serves plain bf16 experts only"
    return Refusal("moonep_plain", words)


def _either(span: int) -> str:
    return "1" if span == 1 else f"1, {span}"


RULES = (
    experts_named_once,
    experts_over_all_ranks,
    experts_sharded_or_whole,
    experts_exist,
    expert_width_divided,
    experts_balanced,
    elastic_experts,
    microbatches_exchanged,
    moonep_plain,
)
