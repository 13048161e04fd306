"""What SGLang would refuse of how experts are spread, and of what computes them."""

from __future__ import annotations

from runtimes.engines._rules import divisors, nearest
from runtimes.engines._sglang_case import Case, Rule
from runtimes.engines.base import Refusal

_TRTLLM_METHODS = frozenset(
    {
        "compressed-tensors", "fp8", "modelopt_fp4", "modelopt_fp8", "modelopt_mixed", "mxfp8",
        "nvfp4_online",
    }
)  # fmt: skip
_RUNNER_METHODS = {
    "flashinfer_cutlass": frozenset({"modelopt_fp4", "modelopt_fp8", "modelopt_mixed"}),
    "flashinfer_cutedsl": frozenset({"modelopt_fp4", "modelopt_mixed", "nvfp4_online"}),
    "flashinfer_trtllm": _TRTLLM_METHODS,
    "experimental_sgl_trtllm": _TRTLLM_METHODS,
    "flashinfer_trtllm_routed": frozenset(
        {"fp8", "modelopt_fp4", "modelopt_mixed", "mxfp8", "nvfp4_online"}
    ),
}
_WHOLE_OR_NONE = ("flashinfer_cutlass", "flashinfer_cutedsl")


def experts_named_once(case: Case) -> Refusal | None:
    """One degree, `--ep-size`, has two names: ep and moe_ep."""
    ep, other = case.config.layout.ep, case.config.layout.moe_ep
    if other in (None, ep) or ep == 1:
        return None
    return Refusal("experts_named_once", f"ep={ep} and moe_ep={other} name one thing; give one")


def experts_needed(case: Case) -> Refusal | None:
    """Only experts can be spread: without them ep starts the same server as ep=1."""
    if case.model is None or case.model.experts or case.ep == 1:
        return None
    return Refusal(
        "experts_needed", f"ep={case.ep}, but {case.model.name} has no experts; valid: 1"
    )


def experts_divide_tp(case: Case) -> Refusal | None:
    """Experts are spread within tp (runtime_context.py, `derive_parallel_widths`)."""
    if case.tp % (case.ep * case.moe_dp) == 0:
        return None
    name = "ep" if case.moe_dp == 1 else "ep * moe-dp-size"
    spread = case.ep * case.moe_dp
    valid = nearest(spread, divisors(case.tp))
    return Refusal(
        "experts_divide_tp", f"{name}={spread} does not divide tp={case.tp}; valid: {valid}"
    )


def moe_tp_implied(case: Case) -> Refusal | None:
    """Ranks that share an expert are what is left of tp (runtime_context.py)."""
    wanted = case.config.layout.moe_tp
    implied = case.tp // case.ep // case.moe_dp
    if wanted in (None, implied):
        return None
    return Refusal(
        "moe_tp_implied",
        f"moe_tp={wanted}, but tp={case.tp} over ep={case.ep} leaves {implied}; valid: {implied}",
    )


def expert_divided(case: Case) -> Refusal | None:
    """An expert is split evenly over its ranks (layers/moe/fused_moe_triton/layer.py)."""
    model, ranks = case.model, max(case.tp // case.ep // case.moe_dp, 1)
    if model is None or not model.moe_intermediate or model.moe_intermediate % ranks == 0:
        return None
    valid = nearest(ranks, divisors(model.moe_intermediate))
    return Refusal(
        "expert_divided",
        f"tp/ep={ranks} does not divide {model.moe_intermediate} columns of an expert "
        f"(moe_intermediate_size); valid: {valid}",
    )


def experts_divided(case: Case) -> Refusal | None:
    """Every rank holds equally many experts.

    layers/moe/token_dispatcher/deepep.py, and the floor division in fused_moe_triton/layer.py.
    """
    model = case.model
    redundant = case.settings.integer("ep-num-redundant-experts", 0) or 0
    if model is None or not model.experts or (model.experts + redundant) % case.ep == 0:
        return None
    valid = nearest(case.ep, divisors(model.experts + redundant))
    return Refusal(
        "experts_divided",
        f"ep={case.ep} does not divide {model.experts + redundant} experts; valid: {valid}",
    )


def moe_replicas(case: Case) -> Refusal | None:
    """`--moe-dp-size` fills tp, without stages (arg_groups/parallel_hook.py)."""
    replicas, rule = case.moe_dp, "moe_replicas"
    if replicas == 1:
        return None
    if case.pp > 1:
        return Refusal(rule, f"moe-dp-size={replicas} does not go with pp={case.pp}; valid: pp=1")
    if case.ep > 1 and case.ep * replicas != case.tp:
        return Refusal(
            rule, f"ep={case.ep} times moe-dp-size={replicas} must be tp={case.tp} when ep is used"
        )
    if case.attention_cp != replicas:
        return Refusal(
            rule, f"moe-dp-size={replicas} must be cp={case.attention_cp} when it is used"
        )
    return None


def moe_dense_tp_valid(case: Case) -> Refusal | None:
    """Dense MLPs stand whole on every rank or are split over all (validation_hook.py)."""
    ranks = case.settings.integer("moe-dense-tp-size")
    if ranks in (None, 1, case.tp):
        return None
    valid = ", ".join(str(n) for n in sorted({1, case.tp}))
    return Refusal("moe_dense_tp_valid", f"moe_dense_tp={ranks} at tp={case.tp}; valid: {valid}")


def runner_spreads_whole(case: Case) -> Refusal | None:
    """Some runners take all ranks for experts, or none (arg_groups/moe_hook.py)."""
    runner, rule = case.settings.text("moe-runner-backend", "auto"), "runner_spreads_whole"
    if runner in _WHOLE_OR_NONE and case.ep not in (1, case.tp):
        valid = ", ".join(str(n) for n in sorted({1, case.tp}))
        return Refusal(rule, f"moe-runner-backend={runner} with ep={case.ep}; valid: ep {valid}")
    if case.ep == 1:
        return None
    if runner == "cutlass" and case.method in ("fp8", "mxfp8"):
        return Refusal(
            rule, f"moe-runner-backend=cutlass in {case.method} with ep={case.ep}; valid: ep 1"
        )
    gpt_oss = case.model is not None and case.model.architecture == "GptOssForCausalLM"
    if runner == "triton_kernel" and gpt_oss:
        return Refusal(rule, f"moe-runner-backend=triton_kernel with ep={case.ep}; valid: ep 1")
    return None


def runner_takes_method(case: Case) -> Refusal | None:
    """A runner computes some quantisations only (arg_groups/moe_hook.py)."""
    runner = case.settings.text("moe-runner-backend", "auto")
    methods = _RUNNER_METHODS.get(runner)
    if methods is None or case.method is None or case.method in methods:
        return None
    return Refusal(
        "runner_takes_method",
        f"moe-runner-backend={runner} with quantization={case.method}; "
        f"valid: none, {', '.join(sorted(methods))}",
    )


def all_to_all_groups(case: Case) -> Refusal | None:
    """Some backends carry tokens between attention groups only (arg_groups/moe_hook.py)."""
    backend, groups = case.all_to_all, case.attention_dp
    if backend == "flashinfer" and groups != case.tp and not _is_muse_spark(case):
        valid = f"attention_dp {case.tp}"
    elif backend == "pplx" and groups < 2:
        valid = "attention_dp 2 or more"
    else:
        return None
    return Refusal(
        "all_to_all_groups", f"moe-a2a-backend={backend} with attention_dp={groups}; valid: {valid}"
    )


def overlap_has_traffic(case: Case) -> Refusal | None:
    """Two batches overlap in the traffic of experts or of attention groups (validation_hook.py)."""
    if not case.settings.on("enable-two-batch-overlap"):
        return None
    if case.all_to_all != "none" or case.attention_dp > 1:
        return None
    return Refusal(
        "overlap_has_traffic",
        "enable-two-batch-overlap needs a moe-a2a-backend or attention_dp above 1, "
        "got moe-a2a-backend=none attention_dp=1",
    )


def head_split_fits(case: Case) -> Refusal | None:
    """`--enable-tp-lm-head-all-to-all` needs one attention group per rank (overrides.py)."""
    if not case.settings.on("enable-tp-lm-head-all-to-all"):
        return None
    rule, name = "head_split_fits", "enable-tp-lm-head-all-to-all"
    if case.attention_dp == 1 or case.attention_dp != case.tp:
        wanted = f"attention_dp={case.tp}" if case.tp > 1 else "tp and attention_dp above 1"
        return Refusal(rule, f"{name} needs {wanted}, got attention_dp={case.attention_dp}")
    if case.settings.on("enable-dp-lm-head"):
        return Refusal(rule, f"{name} does not go with enable-dp-lm-head; give one")
    return None


def _is_muse_spark(case: Case) -> bool:
    """That model has a backend path of its own (arg_groups/moe_hook.py)."""
    return case.model is not None and case.model.architecture.startswith("MuseSpark")


MOE_RULES: tuple[Rule, ...] = (
    experts_named_once,
    experts_needed,
    experts_divide_tp,
    moe_tp_implied,
    expert_divided,
    experts_divided,
    moe_replicas,
    moe_dense_tp_valid,
    runner_spreads_whole,
    runner_takes_method,
    all_to_all_groups,
    overlap_has_traffic,
    head_split_fits,
)
