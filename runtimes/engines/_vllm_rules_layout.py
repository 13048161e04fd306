"""vLLM's rules of the layout: degrees, heads, layers, context parallelism, nodes."""

from __future__ import annotations

from runtimes.engines._rules import divisors, nearest, not_divided, unsupported_degree
from runtimes.engines._vllm_case import Case
from runtimes.engines._vllm_layout import EXECUTOR
from runtimes.engines.base import Refusal

_DEGREES = ("tp", "pp", "dp", "ep", "dcp", "pcp", "cp", "attention_dp", "moe_tp", "moe_ep")
_EXECUTORS_OVER_NODES = ("mp", "uni", "external_launcher")


def degree_supported(case: Case) -> Refusal | None:
    """There is no flag for the dense MLPs' own degree or for clusters of experts."""
    dense = case.layout.moe_dense_tp
    if dense is not None:
        known = ", ".join(_DEGREES)
        words = f"vllm has no moe_dense_tp (got moe_dense_tp={dense}); it knows {known}"
        return Refusal("degree_supported", words)
    return unsupported_degree("vllm", case.layout, _DEGREES)


def context_named_once(case: Case) -> Refusal | None:
    """`cp` and `pcp` are one degree in vLLM."""
    cp, pcp = case.layout.cp, case.layout.pcp
    if 1 in (cp, pcp) or cp == pcp:
        return None
    words = f"cp={cp} and pcp={pcp} are one degree in vLLM; valid: one of them"
    return Refusal("context_named_once", words)


def attention_groups(case: Case) -> Refusal | None:
    """Groups that attend apart divide the tensor ranks, and are vLLM's data-parallel ranks."""
    layout = case.layout
    if layout.attention_dp == 1:
        return None
    if layout.dp > 1:
        words = (
            f"attention_dp={layout.attention_dp} and dp={layout.dp} are one degree in vLLM "
            "(--data-parallel-size); valid: one of them"
        )
        return Refusal("attention_groups", words)
    return not_divided(
        "attention_groups", "attention_dp", layout.attention_dp, layout.tp, "tensor ranks (tp)"
    )


def heads_divided(case: Case) -> Refusal | None:
    """The tensor degree divides the attention heads (config/model.py)."""
    if case.model is None:
        return None
    return not_divided(
        "heads_divided", case.tp_words, case.spread.tp, case.model.heads, "attention heads"
    )


def kv_heads_shared(case: Case) -> Refusal | None:
    """KV heads are split evenly or copied evenly (model_executor/models/llama.py)."""
    if case.model is None or case.model.mla is not None:
        return None
    tp, kv_heads = case.spread.tp, case.model.kv_heads
    if kv_heads < 1 or kv_heads % tp == 0 or tp % kv_heads == 0:
        return None
    valid = (n for n in range(1, 2 * tp + 1) if kv_heads % n == 0 or n % kv_heads == 0)
    words = (
        f"{case.tp_words}={tp} neither divides {kv_heads} KV heads nor is a multiple of them; "
        f"valid: {nearest(tp, valid)}"
    )
    return Refusal("kv_heads_shared", words)


def intermediate_divided(case: Case) -> Refusal | None:
    """The tensor degree divides the MLP's inner width (model_executor/layers/linear.py)."""
    if case.model is None or not case.model.intermediate:
        return None
    return not_divided(
        "intermediate_divided",
        case.tp_words,
        case.spread.tp,
        case.model.intermediate,
        "columns of the MLP (intermediate_size)",
    )


def stages_have_layers(case: Case) -> Refusal | None:
    """Every pipeline stage has a layer (distributed/utils.py)."""
    if case.model is None or case.spread.pp <= case.model.layers:
        return None
    layers = case.model.layers
    words = f"pp={case.spread.pp} exceeds {layers} layers; valid: 1 to {layers}"
    return Refusal("stages_have_layers", words)


def decode_context_divides(case: Case) -> Refusal | None:
    """Decode context parallelism reuses whole groups of ranks (config/parallel.py)."""
    tp, pcp, dcp = case.spread.tp, case.spread.pcp, case.spread.dcp
    if pcp == 1:
        return not_divided(
            "decode_context_divides", "dcp", dcp, tp, f"tensor ranks ({case.tp_words})"
        )
    valid = sorted({1, pcp, tp * pcp})
    if dcp in valid:
        return None
    shown = ", ".join(map(str, valid))
    words = f"dcp={dcp} is neither 1, pcp={pcp} nor tp*pcp={tp * pcp}; valid: {shown}"
    return Refusal("decode_context_divides", words)


def decode_context_over_heads(case: Case) -> Refusal | None:
    """Without MLA, the KV cache is split among ranks that would hold copies (config/model.py)."""
    model, tp, dcp = case.model, case.spread.tp, case.spread.dcp
    if model is None or dcp == 1 or model.mla is not None or model.kv_heads < 1:
        return None
    copies = tp // model.kv_heads
    queries = model.heads // model.kv_heads
    limit = copies if tp > model.kv_heads else 1
    if dcp <= limit and queries % dcp == 0:
        return None
    valid = [n for n in divisors(queries) if n <= limit and tp % n == 0]
    words = (
        f"dcp={dcp} needs as many copies of the {model.kv_heads} KV heads (tp={tp} makes "
        f"{max(copies, 1)}) and must divide the {queries} query heads of each; "
        f"valid: {nearest(dcp, valid)}"
    )
    return Refusal("decode_context_over_heads", words)


def context_interleave(case: Case) -> Refusal | None:
    """A block of the cache holds whole turns of the ranks (config/vllm.py)."""
    block, turn = case.count("block-size"), case.count("cp-kv-cache-interleave-size")
    if case.spread.dcp == 1 or block is None or turn is None or block % turn == 0:
        return None
    words = (
        f"cp-kv-cache-interleave-size={turn} does not divide block-size={block}; "
        f"valid: {nearest(turn, divisors(block))}"
    )
    return Refusal("context_interleave", words)


def prefill_context_supported(case: Case) -> Refusal | None:
    """Prefill context parallelism is made for plain MLA models (v1/worker/gpu/pcp_manager.py)."""
    if case.spread.pcp == 1:
        return None
    why = _prefill_context_obstacle(case)
    if why is None:
        return None
    words = f"pcp={case.spread.pcp} {why}; valid: pcp=1"
    return Refusal("prefill_context_supported", words)


def _prefill_context_obstacle(case: Case) -> str | None:
    if case.config.env.get("VLLM_USE_V2_MODEL_RUNNER") == "0":
        return "needs the V2 model runner, which VLLM_USE_V2_MODEL_RUNNER=0 turns off"
    if case.model is not None and case.model.mla is None:
        return f"needs multi-head latent attention, which {case.model.name} has not"
    if case.model is not None and case.model.multimodal:
        return f"is not made for multimodal models such as {case.model.name}"
    if case.on("enable-lora"):
        return "does not go with enable-lora"
    method = case.mapping("speculative-config").get("method") or case.text("spec-method")
    if method is not None and method != "dspark" and not str(method).endswith("mtp"):
        return f"goes with the drafters mtp and dspark only, not with {method}"
    if case.spread.dcp > 1 and case.text("dcp-comm-backend") not in (None, "ag_rs"):
        return f"with dcp needs dcp-comm-backend=ag_rs, got {case.text('dcp-comm-backend')}"
    return None


def nodes_share_ranks(case: Case) -> Refusal | None:
    """Nodes hold equal shares: whole replicas, or equal parts of one (engine/arg_utils.py)."""
    nodes, spread = case.config.nodes, case.spread
    if nodes == 1:
        return None
    fits = spread.gpus % nodes == 0
    if fits and (spread.dp == 1 or spread.dp % nodes == 0 or nodes % spread.dp == 0):
        return None
    valid = [
        n
        for n in divisors(spread.gpus)
        if spread.dp == 1 or spread.dp % n == 0 or n % spread.dp == 0
    ]
    words = (
        f"nodes={nodes} do not share {spread.gpus} GPUs in {spread.dp} replicas evenly; "
        f"valid: {nearest(nodes, valid)}"
    )
    return Refusal("nodes_share_ranks", words)


def executor_over_nodes(case: Case) -> Refusal | None:
    """Servers over several nodes run on the multiprocessing executor (config/parallel.py)."""
    if case.config.nodes == 1:
        return None
    executor, backend = case.text(EXECUTOR), case.text("data-parallel-backend")
    if executor is not None and executor not in _EXECUTORS_OVER_NODES:
        known = ", ".join(_EXECUTORS_OVER_NODES)
        words = f"{EXECUTOR}={executor} does not span nodes={case.config.nodes}; valid: {known}"
        return Refusal("executor_over_nodes", words)
    if backend not in (None, "mp"):
        words = (
            f"data-parallel-backend={backend} does not go with nodes={case.config.nodes}; valid: mp"
        )
        return Refusal("executor_over_nodes", words)
    if case.config.options.get("entrypoint", "serve") != "serve":
        words = (
            f"nodes={case.config.nodes} need --headless, which only the entrypoint serve has, "
            f"not {case.config.options.get('entrypoint')}"
        )
        return Refusal("executor_over_nodes", words)
    return None


RULES = (
    degree_supported,
    context_named_once,
    attention_groups,
    heads_divided,
    kv_heads_shared,
    intermediate_divided,
    stages_have_layers,
    decode_context_divides,
    decode_context_over_heads,
    context_interleave,
    prefill_context_supported,
    nodes_share_ranks,
    executor_over_nodes,
)
