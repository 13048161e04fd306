"""vLLM's rules of speculative decoding (config/speculative.py unless said otherwise)."""

from __future__ import annotations

from runtimes.engines._rules import nearest
from runtimes.engines._vllm_case import Case
from runtimes.engines.base import Refusal
from runtimes.json_types import Json

_LOOKUP = ("ngram", "ngram_gpu")
_NEED_TOKENS = (*_LOOKUP, "draft_model")
_NEED_MODEL = ("draft_model", "eagle", "eagle3")
_FORCE_V1 = ("suffix", "custom_class")


def _method(case: Case) -> str | None:
    """The drafter's method; a draft model without one is `draft_model`."""
    config = case.mapping("speculative-config")
    method = config.get("method") or case.text("spec-method")
    model = config.get("model") or case.text("spec-model")
    if method is None and model in ("ngram", "[ngram]"):
        return "ngram"
    if method is None and model is not None:
        return None if "eagle" in str(model).lower() else "draft_model"
    return str(method) if method is not None else None


def _setting(case: Case, name: str) -> Json:
    return case.mapping("speculative-config").get(name)


def drafted_tokens(case: Case) -> int | None:
    """Tokens drafted per step as they are told; None when they are not."""
    tokens = _setting(case, "num_speculative_tokens")
    return tokens if isinstance(tokens, int) else case.integer("spec-tokens")


def method_known(case: Case) -> Refusal | None:
    """The method is one of the version's."""
    flag = case.table.find("spec-method") if case.table else None
    method = _setting(case, "method")
    if flag is None or method is None or not flag.choices or method in flag.choices:
        return None
    known = ", ".join(str(choice) for choice in flag.choices if "mtp" not in str(choice))
    words = f"speculative-config.method={method} is none of version {_version(case)}"
    return Refusal("method_known", f"{words}; valid: {known}, mtp")


def _version(case: Case) -> str:
    return case.table.version if case.table else ""


def tokens_drafted(case: Case) -> Refusal | None:
    """A drafter drafts at least one token, and says how many where no model does."""
    method, tokens = _method(case), drafted_tokens(case)
    if tokens is not None and tokens < 1:
        words = f"num_speculative_tokens={tokens} is below 1; valid: 1 or more"
        return Refusal("tokens_drafted", words)
    if method in _NEED_TOKENS and tokens is None:
        words = f"the drafter {method} lacks num_speculative_tokens; valid: 1 or more"
        return Refusal("tokens_drafted", words)
    return None


def drafter_has_a_model(case: Case) -> Refusal | None:
    """Drafters that are models name theirs."""
    method = _method(case)
    model = _setting(case, "model") or case.text("spec-model")
    if method not in _NEED_MODEL or model is not None:
        return None
    return Refusal("drafter_has_a_model", f"the drafter {method} lacks model; name a draft model")


def lookup_in_order(case: Case) -> Refusal | None:
    """The shortest match looked for is no longer than the longest."""
    low, high = _setting(case, "prompt_lookup_min"), _setting(case, "prompt_lookup_max")
    if _method(case) not in _LOOKUP or not isinstance(low, int) or not isinstance(high, int):
        return None
    if low <= high:
        return None
    words = f"prompt_lookup_min={low} exceeds prompt_lookup_max={high}; valid: 1 to {high}"
    return Refusal("lookup_in_order", words)


def drafter_ranks(case: Case) -> Refusal | None:
    """A draft model runs on one rank or on all of the target's."""
    if _setting(case, "tensor_parallel_size") is not None:
        words = (
            "speculative-config.tensor_parallel_size is no setting of the drafter; "
            "valid: draft_tensor_parallel_size"
        )
        return Refusal("drafter_ranks", words)
    degree, tp = _setting(case, "draft_tensor_parallel_size"), case.spread.tp
    if not isinstance(degree, int) or degree in (1, tp) or _method(case) in (None, *_LOOKUP):
        return None
    words = f"draft_tensor_parallel_size={degree} is neither 1 nor tp={tp}; "
    return Refusal("drafter_ranks", words + f"valid: {nearest(degree, {1, tp})}")


def drafts_fit_the_batch(case: Case) -> Refusal | None:
    """With LoRA, a step holds every sequence's drafts (engine/arg_utils.py)."""
    tokens, seqs = case.count("max-num-batched-tokens"), case.count("max-num-seqs")
    drafted = drafted_tokens(case)
    if not case.on("enable-lora") or tokens is None or seqs is None or drafted is None:
        return None
    needed = seqs * (drafted + 1)
    if tokens >= needed:
        return None
    words = (
        f"max-num-batched-tokens={tokens} is below max-num-seqs={seqs} times "
        f"{drafted + 1} drafted tokens; valid: max-num-batched-tokens ≥ {needed}"
    )
    return Refusal("drafts_fit_the_batch", words)


def drafts_scheduled_ahead(case: Case) -> Refusal | None:
    """Drafters of the V1 runner are not scheduled ahead (config/vllm.py)."""
    method = _method(case)
    if not case.on("async-scheduling") or method is None:
        return None
    older = case.config.env.get("VLLM_USE_V2_MODEL_RUNNER") == "0"
    if method not in _FORCE_V1 and not (older and method == "ngram"):
        return None
    words = f"async-scheduling does not go with the drafter {method}; valid: async-scheduling false"
    return Refusal("drafts_scheduled_ahead", words)


RULES = (
    method_known,
    tokens_drafted,
    drafter_has_a_model,
    lookup_in_order,
    drafter_ranks,
    drafts_fit_the_batch,
    drafts_scheduled_ahead,
)
