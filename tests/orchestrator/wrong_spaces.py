"""Wrong presets, precisions, conditions, ties and combinations, and what is said about each."""

from __future__ import annotations

from runtimes.errors import Problem
from runtimes.parallel import DEGREES
from runtimes.quantization import PRECISIONS
from search.values import COMMON_NAMES
from tests.orchestrator.wrong_files import BASE, EXPRESSION, HEAD, vllm, wrong

_LAYOUTS = (
    "balanced, high-throughput, large-model-tp, large-model-tp-pp, long-context, moe-optimized, "
    "single-gpu"
)
_PRECISION_PRESETS = "aggressive-moe, bf16-stable, default, dynamic-fp8, kv-cache-fp8"
_DEGREES = ", ".join(sorted((*DEGREES, "presets")))
_TIED = "concurrency, input_tokens, output_tokens, rate, requests"
_FORMS = (
    "write [a, b, …], {int: [low, high], log, step}, {float: [low, high], log, step}, "
    "{choice: […]} or {equals: concurrency}, the last four also with `when`"
)
_OUTSIDE = "layouts stand outside the engine"
_NO_ARGUMENT = "no argument of version 0.32.0, 0.33.0 is called"
_SEQS = "engines.vllm.search.max-num-seqs"
_FIXED_SEQS = "engines.vllm.args.max-num-seqs"
_TWO = f"{HEAD}engines: {{vllm: {{}}, simulated: {{}}}}\ncluster: {{accelerator: H100}}\n"
_NUMBER = "write the number itself"


def known(*names: str) -> str:
    return ", ".join(sorted({*COMMON_NAMES, *names}))


LAYOUTS = [
    wrong(
        "unknown-layout-preset",
        f"{BASE}parallel: {{presets: [balancd]}}\n",
        Problem("parallel.presets", "'balancd' is no layout preset", "['balancd']",
                f"did you mean 'balanced'? known here: {_LAYOUTS}"),
    ),
    wrong(
        "presets-none-or-twice",
        f"{BASE}parallel: {{presets: [balanced, balanced]}}\nquantization: {{presets: []}}\n",
        Problem("parallel.presets", "names no preset, or one twice", "['balanced', 'balanced']",
                "write [single-gpu, high-throughput]"),
        Problem("quantization.presets", "names no preset, or one twice", "[]",
                "write [default, bf16-stable]"),
    ),
    wrong(
        "unknown-degree",
        f"{BASE}parallel: {{tpp: 2}}\n",
        Problem("parallel.tpp", "unknown key 'tpp'", None,
                f"did you mean 'tp'? known here: {_DEGREES}"),
    ),
    wrong(
        "degrees-of-every-kind",
        f"{BASE}parallel: {{ep: two, dcp: [1, 1.5], moe_tp: true}}\n",
        Problem("parallel.ep", "degrees are whole numbers from 1", "'two'",
                "write 2 or [1, 2, 4]"),
        Problem("parallel.dcp", "degrees are whole numbers from 1", "[1, 1.5]",
                "write 2 or [1, 2, 4]"),
        Problem("parallel.moe_tp", "degrees are whole numbers from 1", "True",
                "write 2 or [1, 2, 4]"),
    ),
    wrong(
        "unknown-precision-preset",
        f"{BASE}quantization: {{presets: [dynamic-fp9]}}\n",
        Problem("quantization.presets", "'dynamic-fp9' is no precision preset",
                "['dynamic-fp9']",
                f"did you mean 'dynamic-fp8'? known here: {_PRECISION_PRESETS}"),
    ),
    wrong(
        "unknown-precision",
        f"{BASE}quantization: {{gemm: fp9, kv_cache: [fp8, fp8]}}\n",
        Problem("quantization.gemm", "'fp9' is no precision", "'fp9'",
                "did you mean 'fp8'? known here: "
                + ", ".join(sorted((*PRECISIONS, "null")))),
        Problem("quantization.kv_cache", "names no precision, or one twice", "['fp8', 'fp8']",
                "write fp8 or [null, fp8]"),
    ),
    wrong(
        "unknown-part-of-a-precision",
        f"{BASE}quantization: {{weights: fp8}}\n",
        Problem("quantization.weights", "unknown key 'weights'", None,
                "known here: attention, gemm, kv_cache, moe, presets"),
    ),
    wrong(
        "precision-as-a-list",
        f"{BASE}quantization: [fp8]\n",
        Problem("quantization", "takes keys with values", "a list",
                "write `key: value` below it"),
    ),
    wrong(
        "weights-and-offline",
        f"{BASE}weights: random\noffline: sometimes\n",
        Problem("weights", "unknown weights", "'random'", "known here: checkpoint, dummy"),
        Problem("offline", "takes true or false", "'sometimes'"),
    ),
    wrong(
        "gpus-per-node",
        f"{BASE}cluster: {{gpus_per_node: 0}}\n",
        Problem("cluster.gpus_per_node", "must be at least 1", "0"),
    ),
]  # fmt: skip

CONDITIONS = [
    wrong(
        "when-is-no-text",
        vllm("search: {max-num-seqs: {choice: [8, 16], when: 3}}"),
        Problem(_SEQS, "`when` takes an expression", "{'choice': [8, 16], 'when': 3}",
                'write {choice: […], when: "tp > 1"}'),
    ),
    wrong(
        "when-cannot-be-read",
        vllm("search: {max-num-seqs: {choice: [8, 16], when: tp >}}"),
        Problem(_SEQS, f"`when`: `tp >` cannot be read at column 1: invalid syntax; {EXPRESSION}",
                "{'choice': [8, 16], 'when': 'tp >'}"),
    ),
    wrong(
        "when-stands-alone",
        vllm("search: {max-num-seqs: {when: tp > 1}}"),
        Problem(_SEQS, "is no searched value", "{'when': 'tp > 1'}", _FORMS),
    ),
    wrong(
        "when-reads-a-misspelt-name",
        vllm("search: {max-num-seqs: {choice: [8, 16], when: block_sise > 8}, "
             "block-size: [16, 32]}"),
        Problem(_SEQS, "`when` reads 'block_sise', which is neither set nor searched for this "
                "engine", "'block_sise > 8'",
                f"did you mean 'block_size'? known here: {known('block_size', 'max_num_seqs')}"),
    ),
    wrong(
        "when-reads-another-engines-argument",
        f"{HEAD}engines:\n"
        "  vllm: {search: {max-num-seqs: {choice: [8, 16], when: watermark > 0}}}\n"
        "  simulated: {search: {watermark: [0.1, 0.2]}}\ncluster: {accelerator: H100}\n",
        Problem(_SEQS, "`when` reads 'watermark', which is neither set nor searched for this "
                "engine", "'watermark > 0'", f"known here: {known('max_num_seqs')}"),
    ),
    wrong(
        "when-without-a-truth-value",
        vllm("search: {max-num-seqs: {choice: [8, 16], when: tp + 1}}"),
        Problem(_SEQS, "`when`: condition `tp + 1` cannot be decided for tp=1: it gives 2, not "
                "true or false; compare it with something"),
    ),
    wrong(
        "when-waits-for-itself",
        vllm("search: {max-num-seqs: {choice: [8, 16], when: max_num_seqs > 8}}"),
        Problem(_SEQS, "`when`: waits for itself", None,
                "let a condition read only what is searched without it"),
    ),
    wrong(
        "when-in-a-circle",
        vllm("search: {max-num-seqs: {choice: [8, 16], when: block_size > 16}, "
             "block-size: {choice: [16, 32], when: max_num_seqs > 8}}"),
        Problem(_SEQS, "`when`: max-num-seqs, block-size wait for each other", None,
                "let a condition read only what is searched without it"),
    ),
    wrong(
        "when-among-fixed-values",
        vllm("args: {max-num-seqs: {equals: concurrency, when: tp > 1}, "
             "block-size: {choice: [16], when: tp > 1}}"),
        Problem(_FIXED_SEQS, "a searched value among fixed ones",
                "{'equals': 'concurrency', 'when': 'tp > 1'}", "move it to `search`"),
        Problem("engines.vllm.args.block-size", "a searched value among fixed ones",
                "{'choice': [16], 'when': 'tp > 1'}", "move it to `search`"),
    ),
]  # fmt: skip

TIES = [
    wrong(
        "equals-nothing",
        vllm("args: {max-num-seqs: {equals: concurency}}"),
        Problem(_FIXED_SEQS, "`equals` names no value of the workload", "{'equals': 'concurency'}",
                f"did you mean 'concurrency'? known here: {_TIED}"),
    ),
    wrong(
        "equals-a-number",
        vllm("search: {block-size: {equals: 16}}"),
        Problem("engines.vllm.search.block-size", "`equals` names no value of the workload",
                "{'equals': 16}", f"known here: {_TIED}"),
    ),
    wrong(
        "equals-what-the-load-has-not",
        vllm("args: {block-size: {equals: rate}}, search: {max-num-seqs: {equals: concurrency}}")
        + "workload: {load: {kind: poisson, rate: 8.5}}\n",
        Problem(_SEQS, "the load poisson has no concurrency of its own",
                "{'equals': 'concurrency'}", _NUMBER),
        Problem("engines.vllm.args.block-size", "takes a whole number, got 8.5"),
    ),
    wrong(
        "equals-what-differs",
        vllm("args: {max-num-seqs: {equals: input_tokens}}")
        + "workload: {input_tokens: {mean: 5, stddev: 1}}\n",
        Problem(_FIXED_SEQS, "input_tokens differs from request to request, so nothing can equal "
                "it", "{'equals': 'input_tokens'}", _NUMBER),
    ),
    wrong(
        "equals-and-more",
        vllm("search: {max-num-seqs: {equals: rate, log: true}}"),
        Problem(_SEQS, "'log' does not belong here", "{'equals': 'rate', 'log': True}", _FORMS),
    ),
]  # fmt: skip

COMBINATIONS = [
    wrong(
        "combination-that-is-none",
        f"{BASE}combinations: [8]\n",
        Problem("combinations[0]", "is no combination", "8", "write {tp: 2, max-num-seqs: 64}"),
    ),
    wrong(
        "combinations-that-are-no-list",
        f"{BASE}combinations: {{tp: 8}}\n",
        Problem("combinations", "takes a list", "{'tp': 8}", "write [a, b]"),
    ),
    wrong(
        "combination-of-no-engine",
        f"{_TWO}combinations: [{{tp: 2}}, {{engine: simulate, tp: 2}}]\n",
        Problem("combinations[0]", "names none of the engines", None,
                "write one of them, as `engine: simulated`; known here: simulated, vllm"),
        Problem("combinations[1].engine", "is none of the engines of this file", "'simulate'",
                "did you mean 'simulated'? known here: simulated, vllm"),
    ),
    wrong(
        "combination-that-stands-twice",
        f"{BASE}combinations: [{{tp: 2, max-num-seqs: 8}}, "
        "{args: {max_num_seqs: 8}, parallel: {tp: 2}, engine: vllm}]\n",
        Problem("combinations[1]", "stands in the list already, as combinations[0]", None,
                "keep one of them"),
    ),
    wrong(
        "combination-that-says-a-value-twice",
        f"{BASE}combinations: [{{tp: 2, parallel: {{tp: 2}}}}]\n",
        Problem("combinations[0]", "'tp' and 'parallel.tp' are the same",
                "{'tp': 2, 'parallel': {'tp': 2}}", "keep one of them"),
    ),
    wrong(
        "combination-with-unknown-keys",
        f"{BASE}combinations: [{{parallel: {{tpp: 2}}}}, {{quantization.gem: fp8}}]\n",
        Problem("combinations[0]", "unknown key 'parallel.tpp'", "{'parallel': {'tpp': 2}}",
                "did you mean 'tp'? known here: " + ", ".join(sorted((*DEGREES, "preset")))),
        Problem("combinations[1]", "unknown key 'quantization.gem'", "{'quantization.gem': 'fp8'}",
                "did you mean 'gemm'? known here: attention, gemm, kv_cache, moe, preset"),
    ),
    wrong(
        "combination-with-wrong-values",
        f"{BASE}combinations: [{{tp: [1, 2], quantization.gemm: fp9}}, "
        "{parallel.preset: fast, quantization.preset: bold}]\n",
        Problem("combinations[0].tp", "a degree is a whole number from 1", "[1, 2]",
                "write one, as 2"),
        Problem("combinations[0].quantization.gemm", "is no precision", "'fp9'",
                "did you mean 'fp8'? known here: " + ", ".join(sorted(PRECISIONS))),
        Problem("combinations[1].parallel.preset", "is no layout preset", "'fast'",
                f"known here: {_LAYOUTS}"),
        Problem("combinations[1].quantization.preset", "is no precision preset", "'bold'",
                f"known here: {_PRECISION_PRESETS}"),
    ),
    wrong(
        "combination-with-a-preset-and-more",
        f"{BASE}combinations: [{{tp: 2, parallel.preset: balanced}}, "
        "{quantization: {preset: default, moe: fp8}}]\n",
        Problem("combinations[0].tp", "stands beside parallel.preset, which says it already", "2",
                "keep one of them"),
        Problem("combinations[1].quantization.moe",
                "stands beside quantization.preset, which says it already", "'fp8'",
                "keep one of them"),
    ),
    wrong(
        "combination-with-wrong-arguments",
        f"{BASE}combinations: [{{max-num-seq: 8, block-size: sixteen, seed: {{int: [1, 2]}}, "
        "max-model-len: {equals: rate}}]\n",
        Problem("combinations[0].seed", "a combination holds single values", "{'int': [1, 2]}",
                "write the value"),
        Problem("combinations[0].max-model-len", "the load concurrency has no rate of its own",
                "{'equals': 'rate'}", _NUMBER),
        Problem("combinations[0].max-num-seq",
                f"{_NO_ARGUMENT} max-num-seq; did you mean max-num-seqs?"),
        Problem("combinations[0].block-size", 'takes a whole number, got "sixteen"'),
    ),
    wrong(
        "combination-with-what-is-not-the-users",
        f"{BASE}combinations: [{{tensor-parallel-size: 2, api-key: planted-secret}}]\n",
        Problem("combinations[0].tensor-parallel-size", "servetune sets this argument itself",
                None, "remove it; layouts go under `parallel`, the model under `model`"),
        Problem("combinations[0].api-key",
                "a secret must not stand on a command line, where everybody can read it", None,
                "pass it through `env`, as `VLLM_API_KEY: {from_env: VLLM_API_KEY}`"),
    ),
    wrong(
        "combination-with-wrong-variables",
        f"{BASE}combinations: [{{env.HF_TOKEN: planted-secret, env.A-B: 1, env.C: [1]}}]\n",
        Problem("combinations[0].env.HF_TOKEN", "a secret cannot be searched", None,
                "write {from_env: HF_TOKEN} under the engine's `env`"),
        Problem("combinations[0].env.A-B", "is no name of an environment variable", "'A-B'",
                "use letters, digits, _"),
        Problem("combinations[0].env.C", "a variable holds text", "[1]", "write one text"),
    ),
]  # fmt: skip

ARGUMENTS = [
    wrong(
        "misspelt-arguments",
        vllm("args: {max-num-seq: 8}, search: {block-sise: [8, 16]}"),
        Problem("engines.vllm.args.max-num-seq",
                f"{_NO_ARGUMENT} max-num-seq; did you mean max-num-seqs?"),
        Problem("engines.vllm.search.block-sise",
                f"{_NO_ARGUMENT} block-sise; did you mean block-size?"),
    ),
    wrong(
        "arguments-of-the-wrong-kind",
        vllm("args: {max-num-seqs: many, enable-prefix-caching: 1}, "
             "search: {block-size: [16, big], gpu-memory-utilization: [0.9, high]}"),
        Problem(_FIXED_SEQS, 'takes a whole number, got "many"'),
        Problem("engines.vllm.args.enable-prefix-caching", "takes true or false, got 1"),
        Problem("engines.vllm.search.block-size", 'takes a whole number, got "big"'),
        Problem("engines.vllm.search.gpu-memory-utilization", 'takes a number, got "high"'),
    ),
    wrong(
        "range-of-the-wrong-kind",
        vllm("search: {max-num-seqs: {float: [0.5, 8]}}"),
        Problem(_SEQS, "takes a whole number, got 0.5"),
    ),
    wrong(
        "no-such-choice",
        vllm("search: {dtype: [auto, fp7]}"),
        Problem("engines.vllm.search.dtype", "has no value 'fp7'; known: auto, bfloat16, float, "
                "float16, float32, half"),
    ),
    wrong(
        "arguments-of-the-imitated-engine",
        f"{HEAD}engines: {{simulated: {{args: {{max-num-seq: 8}}}}}}\n"
        "cluster: {accelerator: H100}\n",
        Problem("engines.simulated.args.max-num-seq",
                f"{_NO_ARGUMENT} max-num-seq; did you mean max-num-seqs?"),
    ),
    wrong(
        "degrees-as-arguments",
        vllm("args: {ep: 2}, search: {attention_dp: [1, 2]}"),
        Problem("engines.vllm.args.ep", _OUTSIDE, None, "write `parallel: {ep: …}`"),
        Problem("engines.vllm.search.attention-dp", _OUTSIDE, None,
                "write `parallel: {attention_dp: …}`"),
    ),
]  # fmt: skip

ALL = [*LAYOUTS, *CONDITIONS, *TIES, *COMBINATIONS, *ARGUMENTS]
