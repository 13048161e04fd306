"""Rules between keys that experiment files break, and exactly what is said about each."""

from __future__ import annotations

from runtimes.errors import Problem
from search.objectives.base import OBJECTIVES
from search.values import COMMON_NAMES
from tests.orchestrator.wrong_files import BASE, EXPRESSION, HEAD, TOP_KEYS, vllm, wrong

LATER = "not yet supported by this version"

NOT_YET = [
    wrong(
        "finalists",
        f"{BASE}search: {{finalists: {{top: 3}}}}\n",
        Problem("search.finalists", LATER, None, "remove it"),
    ),
    wrong(
        "disaggregated",
        f"{BASE}deployment: {{kind: disaggregated, prefill: {{tp: 1}}}}\n",
        Problem("deployment.kind", LATER, "'disaggregated'", "use colocated"),
        Problem("deployment.prefill", LATER, None, "use {kind: colocated}"),
    ),
    wrong(
        "object-store",
        f"{BASE}results: s3://bucket/runs\n",
        Problem("results", f"object stores are {LATER}", "'s3://bucket/runs'",
                "name a local folder"),
    ),
    wrong(
        "later-names",
        f"{BASE}objectives: balanced\nsearch: {{sampler: nsga2}}\n",
        Problem("objectives", LATER, "'balanced'",
                "write [{maximize: NAME}] or [{minimize: NAME}]"),
        Problem("search.sampler", LATER, "'nsga2'", "use one of: auto, grid, random, tpe"),
    ),
]  # fmt: skip

CROSS = [
    wrong(
        "fixed-and-searched",
        vllm("args: {max-num-seqs: 1}, search: {max_num_seqs: [1, 2]}"),
        Problem("engines.vllm.search.max-num-seqs", "fixed under `args` and searched as well",
                None, "keep it in one of the two"),
    ),
    wrong(
        "two-spellings",
        vllm("args: {max-num-seqs: 1, max_num_seqs: 2}"),
        Problem("engines.vllm.args", "'max-num-seqs' and 'max_num_seqs' are the same argument",
                "{'max-num-seqs': 1, 'max_num_seqs': 2}", "keep one of them"),
    ),
    wrong(
        "searched-among-fixed",
        vllm("args: {max-num-seqs: {int: [1, 8]}}"),
        Problem("engines.vllm.args.max-num-seqs", "a searched value among fixed ones",
                "{'int': [1, 8]}", "move it to `search`"),
    ),
    wrong(
        "reserved-argument",
        vllm("args: {tensor-parallel-size: 2}, search: {--pipeline_parallel_size: [1, 2]}"),
        Problem("engines.vllm.args.tensor-parallel-size", "servetune sets this argument itself",
                None, "remove it; layouts go under `parallel`, the model under `model`"),
        Problem("engines.vllm.search.pipeline-parallel-size",
                "servetune sets this argument itself", None,
                "remove it; layouts go under `parallel`, the model under `model`"),
    ),
    wrong(
        "layout-as-argument",
        vllm("search: {tp: [1, 2]}"),
        Problem("engines.vllm.search.tp", "layouts stand outside the engine", None,
                "write `parallel: {tp: …}`"),
    ),
    wrong(
        "secret-as-argument",
        vllm("args: {api-key: sk-planted-secret, hf-token: hf-planted-secret}"),
        Problem("engines.vllm.args.api-key",
                "a secret must not stand on a command line, where everybody can read it", None,
                "pass it through `env`, as `VLLM_API_KEY: {from_env: VLLM_API_KEY}`"),
        Problem("engines.vllm.args.hf-token",
                "a secret must not stand on a command line, where everybody can read it", None,
                "pass it through `env`, as `HF_TOKEN: {from_env: HF_TOKEN}`"),
    ),
    wrong(
        "searched-secret",
        vllm("env: {HF_TOKEN: [hf-planted-secret, hf-other-secret]}"),
        Problem("engines.vllm.env.HF_TOKEN", "a secret cannot be searched", None,
                "write {from_env: HF_TOKEN}"),
    ),
    wrong(
        "constraint-with-an-unknown-name",
        f"{BASE}constraints: [tp * pq <= 8]\n",
        Problem("constraints[0]", "'pq' is neither set nor searched", "'tp * pq <= 8'",
                f"known here: {', '.join(sorted(COMMON_NAMES))}"),
    ),
    wrong(
        "constraint-without-a-truth-value",
        f"{BASE}constraints: [tp + 1, engine < 3]\n",
        Problem("constraints[0]", "constraint `tp + 1` cannot be decided for tp=1: it gives 2, "
                "not true or false; compare it with something"),
        Problem("constraints[1]", "constraint `engine < 3` cannot be decided for engine='vllm': "
                "'vllm' cannot be compared with 3"),
    ),
    wrong(
        "objective-named-twice",
        f"{BASE}objectives: [{{maximize: goodput}}, {{minimize: goodput}}]\n",
        Problem("objectives[1]", "named twice", "'goodput'", "keep one of them"),
    ),
    wrong(
        "price-needed",
        f"{BASE}objectives: [{{minimize: cost_per_million_tokens}}]\n",
        Problem("cluster.gpu_price_per_hour",
                "the objective cost_per_million_tokens needs the price of a GPU", None,
                "add it, in your currency, as `gpu_price_per_hour: 3.5`"),
    ),
    wrong(
        "context-too-long",
        f"{BASE}workload: {{input_tokens: 200000, output_tokens: 128}}\n",
        Problem("workload", "requests are longer than the model's context",
                "200128 tokens, the model takes 131072", "make prompts or outputs shorter"),
    ),
    wrong(
        "simulation-of-the-unknown",
        "name: n\nmodel: acme/odd\nengines: {simulated: {imitates: nobody, jitter: much}}\n",
        Problem("engines.simulated.jitter", "takes a number", "'much'"),
        Problem("engines.simulated.imitates", "names no engine", "'nobody'",
                "known here: external, sglang, tensorrt_llm, vllm"),
        Problem("cluster.accelerator", "the simulated engine needs to know what it imitates",
                None, "name one, as `accelerator: H100`"),
        Problem("model", "the simulated engine needs the model's shape and does not know it",
                "'acme/odd'", "name a folder with config.json (`path:`) or a known Hub id"),
    ),
    wrong(
        "what-the-engine-refuses",
        vllm("entrypoint: module"),
        Problem("engines.vllm", "option entrypoint 'module' needs an interpreter; set "
                "environment.python"),
    ),
]  # fmt: skip

SEVERAL = wrong(
    "several-at-once",
    f"""{HEAD}
engines:
  vllm:
    args: {{tensor-parallel-size: 2, api-key: sk-planted-secret}}
    search: {{max-num-seqs: []}}
workload: {{input_tokens: 0, load: {{kind: ramp_up}}}}
objectives: [{{maximize: nonsense}}, {{minimize: cost_per_million_tokens}}]
constraints: ["tp *", "max_num_seqs * pq <= 8"]
budgets: {{}}
""",
    Problem("engines.vllm.search.max-num-seqs", "an empty list leaves nothing to try", "[]",
            "give at least one value"),
    Problem("constraints[0]", f"`tp *` cannot be read at column 1: invalid syntax; {EXPRESSION}",
            "'tp *'"),
    Problem("workload.load.kind", "unknown kind", "'ramp_up'",
            "did you mean 'ramp'? known here: concurrency, constant, gamma, max_under_slo, "
            "poisson, ramp, replay, stages, sweep"),
    Problem("objectives[0].maximize", "unknown objective", "'nonsense'",
            f"known here: {', '.join(OBJECTIVES.names())}"),
    Problem("budgets", "unknown key 'budgets'", None,
            f"did you mean 'budget'? known here: {TOP_KEYS}"),
    Problem("engines.vllm.args.tensor-parallel-size", "servetune sets this argument itself", None,
            "remove it; layouts go under `parallel`, the model under `model`"),
    Problem("engines.vllm.args.api-key",
            "a secret must not stand on a command line, where everybody can read it", None,
            "pass it through `env`, as `VLLM_API_KEY: {from_env: VLLM_API_KEY}`"),
    Problem("constraints[1]", "'pq' is neither set nor searched", "'max_num_seqs * pq <= 8'",
            "known here: "
            + ", ".join(sorted({*COMMON_NAMES, "max_num_seqs", "tensor_parallel_size"}))),
    Problem("cluster.gpu_price_per_hour",
            "the objective cost_per_million_tokens needs the price of a GPU", None,
            "add it, in your currency, as `gpu_price_per_hour: 3.5`"),
    Problem("workload.input_tokens", "must be at least 1 token", "0"),
)  # fmt: skip
