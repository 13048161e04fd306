"""What SGLang would refuse of scheduling, caching, speculation and memory."""

from __future__ import annotations

from runtimes.engines._rules import nearest
from runtimes.engines._sglang_case import Case, Rule
from runtimes.engines._sglang_settings import made_of
from runtimes.engines.base import Refusal
from runtimes.fit import does_not_fit
from runtimes.quantization import Quantization

_MIB = 1 << 20
_WEIGHT_CHANGING = ("cpu-offload-gb", "json-model-override-args", "offload-group-size")
_TRUE = ("1", "true", "yes", "y")
# speculative/spec_info.py, `supports_mixed_chunk`; NEXTN is another word for EAGLE.
_MIXED_WITH = ("EAGLE", "EAGLE3", "NEXTN", "DFLASH", "DSPARK")
# Arguments that need one pipeline stage only (validation_hook.py, parallel_hook.py).
_ONE_STAGE = ("min-free-slots-delay", "enable-pdmux", "dwdp-size", "elastic-ep-backend")


def chunk_fills_pages(case: Case) -> Refusal | None:
    """A prefill chunk is whole pages; attention groups divide it first (validation_hook.py)."""
    chunk = case.settings.integer("chunked-prefill-size")
    if chunk is None or chunk <= 0:
        return None
    share, page = chunk // case.attention_dp, case.page_size
    if share % page == 0:
        return None
    step = page * case.attention_dp
    valid = nearest(chunk, (n * step for n in range(1, chunk // step + 3)))
    words = f" over attention_dp={case.attention_dp}" if case.attention_dp > 1 else ""
    return Refusal(
        "chunk_fills_pages",
        f"chunked-prefill-size={chunk}{words} is no multiple of page-size={page}; valid: {valid}",
    )


def stages_alone(case: Case) -> Refusal | None:
    """What does not go with pipeline stages (validation_hook.py, `check_pipeline_parallel_compat`).

    Speculation does where `SGLANG_ENABLE_PP_SPEC` is set, with EAGLE and without attention groups.
    """
    if case.pp == 1:
        return None
    rule = "stages_alone"
    for name in _ONE_STAGE:
        if case.settings.values.get(name) not in (None, False, 1, "none"):
            return Refusal(rule, f"{name} does not go with pp={case.pp}; valid: pp=1")
    algorithm = case.settings.text("speculative-algorithm")
    if not algorithm:
        return None
    allowed = case.config.env.get("SGLANG_ENABLE_PP_SPEC", "").lower() in _TRUE
    if allowed and algorithm.upper() == "EAGLE" and case.attention_dp == 1:
        return None
    return Refusal(
        rule, f"speculative-algorithm={algorithm} does not go with pp={case.pp}; valid: pp=1"
    )


def mixed_chunk_speculates(case: Case) -> Refusal | None:
    """Few speculative algorithms join a mixed step (validation_hook.py)."""
    algorithm = case.settings.text("speculative-algorithm")
    if not algorithm or not case.settings.on("enable-mixed-chunk"):
        return None
    if algorithm.upper() in _MIXED_WITH:
        return None
    return Refusal(
        "mixed_chunk_speculates",
        f"enable-mixed-chunk does not go with speculative-algorithm={algorithm}; "
        f"valid: {', '.join(_MIXED_WITH)}",
    )


def priorities_have_policy(case: Case) -> Refusal | None:
    """Priorities order two policies only (validation_hook.py)."""
    prioritised = case.settings.on("enable-priority-scheduling")
    policy, rule = case.settings.text("schedule-policy", "fcfs"), "priorities_have_policy"
    if prioritised and policy not in ("fcfs", "lof"):
        return Refusal(
            rule, f"enable-priority-scheduling with schedule-policy={policy}; valid: fcfs, lof"
        )
    if not prioritised and case.settings.text("retraction-policy") == "priority":
        return Refusal(rule, "retraction-policy=priority needs enable-priority-scheduling")
    return None


def tiers_have_tree(case: Case) -> Refusal | None:
    """The hierarchical cache lies below the radix tree (arg_groups/kv_cache_hook.py)."""
    if case.settings.on("enable-hierarchical-cache") and case.settings.on("disable-radix-cache"):
        return Refusal(
            "tiers_have_tree", "enable-hierarchical-cache and disable-radix-cache; give one"
        )
    return None


def tiers_hold_split_cache(case: Case) -> Refusal | None:
    """With dcp, host tiers know latent caches only (arg_groups/hicache_hook.py)."""
    if case.dcp == 1 or case.model is None or case.model.mla is not None:
        return None
    if not case.settings.on("enable-hierarchical-cache"):
        return None
    return Refusal(
        "tiers_hold_split_cache",
        f"enable-hierarchical-cache with dcp={case.dcp} needs multi-head latent attention, and "
        f"{case.model.name} has none; valid: dcp=1",
    )


def backend_reads_phase(case: Case) -> Refusal | None:
    """One backend decodes only (arg_groups/overrides.py)."""
    if case.settings.text("prefill-attention-backend") == "cutedsl_mla":
        return Refusal(
            "backend_reads_phase", "prefill-attention-backend=cutedsl_mla; it decodes only"
        )
    return None


def context_within_positions(case: Case) -> Refusal | None:
    """The context stays within the model's positions (configs/model_config.py)."""
    length, model = case.settings.integer("context-length"), case.model
    lifted = case.config.env.get("SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN", "").lower() in _TRUE
    if length is None or model is None or not model.max_context or lifted:
        return None
    if length <= model.max_context or case.settings.text("json-model-override-args"):
        return None
    return Refusal(
        "context_within_positions",
        f"context-length={length} exceeds the {model.max_context} positions of {model.name}; "
        f"valid: up to {model.max_context}",
    )


def name_without_colon(case: Case) -> Refusal | None:
    """A colon in the served name would begin an adapter's (validation_hook.py)."""
    model = case.config.model
    if ":" not in model or "://" in model:
        return None
    return Refusal(
        "name_without_colon",
        f"the model {model} is served under its name, where SGLang takes no ':'; rename the folder",
    )


def memory_share_valid(case: Case) -> Refusal | None:
    """Weights and KV cache take a part of the memory (arg_groups/memory_hook.py)."""
    share = case.settings.number("mem-fraction-static")
    if share is None or 0 < share < 1:
        return None
    return Refusal(
        "memory_share_valid", f"mem-fraction-static={share:g}; valid: above 0 and below 1"
    )


def weights_fit(case: Case) -> Refusal | None:
    """The weights leave room within mem-fraction-static, a fraction of all the GPU's memory.

    Skipped where arguments change what the weights weigh on the device in a way not known here.
    """
    model, device, method = case.model, case.accelerator, case.method
    made = made_of(method)
    own = model.quantization.method if model and model.quantization else None
    if model is None or device is None or (method not in (None, own) and made is None):
        return None
    if any(case.settings.values.get(name) not in (None, 0) for name in _WEIGHT_CHANGING):
        return None
    share = case.settings.number("mem-fraction-static") or _largest_share(case, device.memory_bytes)
    words = does_not_fit(
        model,
        device,
        layout=case.layout,
        memory_fraction=share,
        quantization=Quantization(gemm=made) if made else None,
        expert_ranks=case.tp,
    )
    return Refusal("weights_fit", words) if words else None


def _largest_share(case: Case, memory_bytes: int) -> float:
    """The most that SGLang takes by itself: it keeps at least 1536 MiB, and 128 more per rank.

    arg_groups/memory_hook.py, `handle_gpu_memory_settings`.
    """
    reserved = (1536 + 128 * case.tp * case.pp) * _MIB
    return round(max(memory_bytes - reserved, 0) / memory_bytes, 3)


SERVING_RULES: tuple[Rule, ...] = (
    chunk_fills_pages,
    stages_alone,
    mixed_chunk_speculates,
    priorities_have_policy,
    tiers_have_tree,
    tiers_hold_split_cache,
    backend_reads_phase,
    context_within_positions,
    name_without_colon,
    memory_share_valid,
    weights_fit,
)
