"""What SGLang would refuse of a layout, and all its rules in order.

Rules are those of SGLang 0.5.23; each names the file that enforces them. Most of them strike only
in its workers, minutes after the start: SGLang itself checks neither heads nor experts while it
resolves its arguments.
"""

from __future__ import annotations

from runtimes.engines._rules import divisors, nearest, not_divided, unsupported_degree
from runtimes.engines._sglang_case import Case, Rule
from runtimes.engines._sglang_moe_rules import MOE_RULES
from runtimes.engines._sglang_precision_rules import PRECISION_RULES
from runtimes.engines._sglang_serving_rules import SERVING_RULES
from runtimes.engines._sglang_settings import DEGREES
from runtimes.engines.base import Refusal
from runtimes.hardware import Accelerator
from runtimes.model import ModelFacts
from runtimes.plan import EngineConfig

# Their attention is split over all tensor-parallel ranks, attention groups or not
# (models/llama.py); the other models' over those of one group.
_WHOLE_ATTENTION = frozenset(
    f"{family}ForCausalLM" for family in ("Llama", "Mistral", "Ministral3", "Phi3", "InternLM3")
)
_STRATEGIES = ("zigzag", "interleave")
_ONE_STRATEGY = {
    "DeepseekV32ForCausalLM": "interleave",
    "MiMoV2ForCausalLM": "zigzag",
    "MiMoV2FlashForCausalLM": "zigzag",
}


def broken_rule(
    config: EngineConfig, model: ModelFacts | None, accelerator: Accelerator | None
) -> Refusal | None:
    """The first rule `config` breaks; None when it breaks none that can be checked."""
    case = Case.of(config, model, accelerator)
    for rule in ALL_RULES:
        if refusal := rule(case):
            return refusal
    return None


def degree_supported(case: Case) -> Refusal | None:
    """SGLang has a word for the degree (arg_groups/fields/parallel.py)."""
    return unsupported_degree("SGLang", case.config.layout, sorted(DEGREES))


def one_context_parallel(case: Case) -> Refusal | None:
    """One degree, `--attn-cp-size`, has two names: cp and pcp."""
    cp, pcp = case.config.layout.cp, case.config.layout.pcp
    if 1 in (cp, pcp) or cp == pcp:
        return None
    return Refusal(
        "one_context_parallel", f"cp={cp} and pcp={pcp} name one thing in SGLang; give one"
    )


def replicas_without_attention_groups(case: Case) -> Refusal | None:
    """Replicas do not go with attention data parallelism (arg_groups/parallel_hook.py)."""
    dp, groups = case.settings.degree("dp-size"), case.attention_dp
    if dp == 1 or groups == 1:
        return None
    return Refusal(
        "replicas_without_attention_groups",
        f"dp={dp} does not go with attention_dp={groups}; valid: dp=1 or attention_dp=1",
    )


def attention_divides_tp(case: Case) -> Refusal | None:
    """attention_dp * cp divides tp (arg_groups/parallel_hook.py)."""
    groups, split = case.attention_dp, case.attention_cp
    if case.tp % (groups * split) == 0:
        return None
    name = "attention_dp" if split == 1 else "cp" if groups == 1 else "attention_dp*cp"
    return Refusal(
        "attention_divides_tp",
        f"{name}={groups * split} does not divide tp={case.tp}; "
        f"valid: {nearest(groups * split, divisors(case.tp))}",
    )


def heads_divided(case: Case) -> Refusal | None:
    """Ranks that share attention share its heads evenly (models/llama.py)."""
    if case.model is None:
        return None
    ranks, name = _attention_ranks(case)
    return not_divided("heads_divided", name, ranks, case.model.heads, "attention heads")


def kv_heads_shared(case: Case) -> Refusal | None:
    """KV heads are split evenly or copied evenly (models/llama.py); a latent is never split."""
    model = case.model
    if model is None or model.mla is not None:
        return None
    ranks, name = _attention_ranks(case)
    if model.kv_heads % ranks == 0 or ranks % model.kv_heads == 0:
        return None
    valid = (
        n for n in range(1, 2 * ranks + 1) if model.kv_heads % n == 0 or n % model.kv_heads == 0
    )
    return Refusal(
        "kv_heads_shared",
        f"{name}={ranks} neither divides {model.kv_heads} KV heads nor is a multiple of them; "
        f"valid: {nearest(ranks, valid)}",
    )


def mlp_divided(case: Case) -> Refusal | None:
    """Dense MLPs are split evenly over their ranks (layers/linear.py, `divide`)."""
    model = case.model
    ranks = case.settings.integer("moe-dense-tp-size") or case.tp
    if model is None or not model.intermediate:
        return None
    what = "columns of the MLP (intermediate_size)"
    return not_divided("mlp_divided", "tp", ranks, model.intermediate, what)


def stages_have_layers(case: Case) -> Refusal | None:
    """Every pipeline stage has a layer (distributed/utils.py, `get_pp_indices`)."""
    if case.model is None or case.pp <= case.model.layers:
        return None
    layers = case.model.layers
    return Refusal(
        "stages_have_layers", f"pp={case.pp} exceeds {layers} layers; valid: 1 to {layers}"
    )


def dcp_divides_tp(case: Case) -> Refusal | None:
    """The KV cache is split among tensor-parallel ranks (distributed/parallel_state.py)."""
    if case.tp % case.dcp == 0:
        return None
    valid = nearest(case.dcp, divisors(case.tp))
    return Refusal("dcp_divides_tp", f"dcp={case.dcp} does not divide tp={case.tp}; valid: {valid}")


def dcp_without_prefill_cp(case: Case) -> Refusal | None:
    """Contexts are split in prefill or in decode, not in both (arg_groups/parallel_hook.py)."""
    if case.dcp == 1 or not case.settings.on("enable-prefill-cp"):
        return None
    return Refusal(
        "dcp_without_prefill_cp",
        f"dcp={case.dcp} does not go with cp={case.attention_cp}; valid: dcp=1 or cp=1",
    )


def dcp_backend_fits(case: Case) -> Refusal | None:
    """`--dcp-comm-backend` and its switch need dcp (arg_groups/parallel_hook.py)."""
    backend, rule = case.settings.text("dcp-comm-backend"), "dcp_backend_fits"
    if case.dcp == 1 and backend in ("a2a", "fi_a2a"):
        return Refusal(rule, f"dcp-comm-backend={backend} needs dcp above 1, got dcp=1")
    if backend == "fi_a2a" and case.accelerator and case.accelerator.vendor != "nvidia":
        return Refusal(rule, "dcp-comm-backend=fi_a2a needs NVIDIA GPUs; valid: a2a, ag_rs")
    if not case.settings.on("dcp-replicate-q-proj"):
        return None
    if case.dcp == 1:
        return Refusal(rule, "dcp-replicate-q-proj needs dcp above 1, got dcp=1")
    if backend == "ag_rs":
        return Refusal(rule, "dcp-replicate-q-proj needs dcp-comm-backend a2a or fi_a2a, got ag_rs")
    return None


def prefill_cp_has_strategy(case: Case) -> Refusal | None:
    """Splitting a prompt needs a strategy that the model knows (arg_groups/parallel_hook.py)."""
    if not case.settings.on("enable-prefill-cp"):
        return None
    strategy = case.settings.text("cp-strategy")
    architecture = case.model.architecture if case.model else ""
    wanted = _ONE_STRATEGY.get(architecture)
    if strategy in _STRATEGIES and wanted in (None, strategy):
        return None
    valid = wanted or ", ".join(_STRATEGIES)
    whose = f" of {architecture}" if wanted else ""
    got = strategy or "none"
    return Refusal(
        "prefill_cp_has_strategy",
        f"cp={case.attention_cp}{whose} with cp-strategy={got}; valid: cp-strategy {valid}",
    )


def nodes_share_ranks(case: Case) -> Refusal | None:
    """Every node has equally many ranks (arg_groups/validation_hook.py)."""
    ranks = case.tp * case.pp
    return not_divided("nodes_share_ranks", "nodes", case.config.nodes, ranks, "ranks (tp * pp)")


def replicas_on_one_node(case: Case) -> Refusal | None:
    """Replicas of one server stand on one node (arg_groups/validation_hook.py)."""
    dp, nodes = case.settings.degree("dp-size"), case.config.nodes
    if dp == 1 or nodes == 1:
        return None
    return Refusal(
        "replicas_on_one_node",
        f"dp={dp} does not go with nodes={nodes}; valid: dp=1, or attention_dp across nodes",
    )


def _attention_ranks(case: Case) -> tuple[int, str]:
    """Ranks that share the attention of one request, and what to call them."""
    if case.model is not None and case.model.architecture in _WHOLE_ATTENTION:
        return case.tp, "tp"
    parts = [("attention_dp", case.attention_dp), ("cp", case.attention_cp)]
    return case.attention_tp, "/".join(["tp", *(name for name, n in parts if n > 1)])


LAYOUT_RULES: tuple[Rule, ...] = (
    degree_supported,
    one_context_parallel,
    replicas_without_attention_groups,
    attention_divides_tp,
    heads_divided,
    kv_heads_shared,
    mlp_divided,
    stages_have_layers,
    dcp_divides_tp,
    dcp_without_prefill_cp,
    dcp_backend_fits,
    prefill_cp_has_strategy,
    nodes_share_ranks,
    replicas_on_one_node,
)
ALL_RULES: tuple[Rule, ...] = (*LAYOUT_RULES, *MOE_RULES, *PRECISION_RULES, *SERVING_RULES)
"""Every rule, in the order in which they are asked."""
