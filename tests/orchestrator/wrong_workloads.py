"""Wrong `workload` sections of experiment files, and exactly what is said about each."""

from __future__ import annotations

from runtimes.errors import Problem
from runtimes.workloads.base import WORKLOADS
from tests.orchestrator.wrong_files import wrong
from tests.orchestrator.wrong_loads import NO_ARRIVALS, RECORDED, load, workload

_EIGHT_REQUESTS = "kind: append_prefill, context_length: 1024, append_length: 128, repeats: 8"
_EIGHT = "the workload append_prefill has 8 requests"
_FEWER = "write fewer, or remove it to send as many as there are"

ALL = [
    wrong(
        "unknown-workload",
        workload("kind: syntetic"),
        Problem("workload.kind", "unknown workload", "'syntetic'",
                f"did you mean 'synthetic'? known here: {', '.join(WORKLOADS.names())}"),
    ),
    wrong(
        "misspelt-setting",
        workload("inputtokens: 512, cach: warm"),
        Problem("workload.inputtokens", "unknown key 'inputtokens'", None,
                "did you mean 'input_tokens'? known here: api, cache, input_tokens, kind, "
                "load, output_tokens, skip_special_ids, warmup_requests"),
        Problem("workload.cach", "unknown key 'cach'", None,
                "did you mean 'cache'? known here: api, cache, input_tokens, kind, load, "
                "output_tokens, skip_special_ids, warmup_requests"),
    ),
    wrong(
        "setting-of-another-workload",
        workload("prefix_tokens: 512"),
        Problem("workload.prefix_tokens", "unknown key 'prefix_tokens'", None,
                "did you mean 'input_tokens'? known here: api, cache, input_tokens, kind, "
                "load, output_tokens, skip_special_ids, warmup_requests"),
    ),
    wrong(
        "lengths",
        workload("input_tokens: many, output_tokens: {mean: 8, sd: 2}"),
        Problem("workload.input_tokens",
                "must be a whole number of tokens or a mapping with a distribution (normal, "
                "lognormal, uniform, constant, empirical, mixture)", "'many'"),
        Problem("workload.output_tokens.sd", "unknown", "{'mean': 8, 'sd': 2}",
                "known: mean, stddev, min, max"),
    ),
    wrong(
        "setting-that-is-no-json",
        workload("input_tokens: 2026-01-01"),
        Problem("workload.input_tokens", "is no JSON value", "datetime.date(2026, 1, 1)",
                "put dates in quotes"),
    ),
    wrong(
        "unknown-api",
        workload("api: chats, cache: hot, warmup_requests: -1"),
        Problem("workload.api", "unknown api", "'chats'",
                "did you mean 'chat'? known here: chat, completions"),
        Problem("workload.cache", "unknown cache", "'hot'", "known here: auto, cold, warm"),
        Problem("workload.warmup_requests", "must be at least 0", "-1"),
    ),
    wrong(
        "warm-without-prefixes",
        workload("cache: warm"),
        Problem("workload.cache", "the workload synthetic has no prefixes to warm a cache with",
                "'warm'", "write auto or cold"),
    ),
    wrong(
        "nothing-to-replay",
        load("kind: replay"),
        Problem("workload.load.kind", NO_ARRIVALS, "'replay'", RECORDED),
    ),
    wrong(
        "nothing-to-replay-in-stages",
        load("kind: stages, stages: [{kind: poisson, rate: 2}, {kind: replay, speed: 2}]"),
        Problem("workload.load.stages[1].kind", NO_ARRIVALS, "'replay'", RECORDED),
    ),
    wrong(
        "more-requests-than-there-are",
        workload(
            f"{_EIGHT_REQUESTS}, load: {{kind: concurrency, value: 1, requests: 9}}",
        ),
        Problem("workload.load.requests", _EIGHT, "9", _FEWER),
    ),
    wrong(
        "more-requests-than-there-are-in-a-stage",
        workload(
            f"{_EIGHT_REQUESTS}, load: {{kind: stages, requests: 16, "
            "stages: [{kind: concurrency, value: 1}, {kind: poisson, rate: 2, requests: 9}]}",
        ),
        Problem("workload.load.requests", _EIGHT, "16", _FEWER),
        Problem("workload.load.stages[1].requests", _EIGHT, "9", _FEWER),
    ),
    wrong(
        "more-prompts-than-memory",
        workload(
            "input_tokens: 100, output_tokens: 28, load: {kind: concurrency, value: 100000000}",
        ),
        Problem("workload.load", "the requests of a stage hold more than 2,000,000,000 tokens",
                "800,000,000 requests of up to 128 tokens",
                "send fewer (`requests`), or shorter ones"),
    ),
    wrong(
        "unset-variable-in-a-file",
        workload(
            "input_tokens: {distribution: empirical, file: $ST_NOT_SET/lengths.csv, column: a}",
        ),
        Problem("workload.input_tokens.file", "the environment variable ST_NOT_SET is not set",
                "'$ST_NOT_SET/lengths.csv'", "export it first, or write the path"),
    ),
    wrong(
        "no-such-file",
        workload("input_tokens: {distribution: empirical, file: /no/such/lengths.csv, column: a}"),
        Problem("workload.input_tokens.file", "no such file", "'/no/such/lengths.csv'"),
    ),
    wrong(
        "chat-without-a-tokenizer",
        "name: n\nmodel: acme/odd\nengines: {vllm: {}}\nworkload: {api: chat}\n",
        Problem("workload.api", "needs the model's tokenizer.json, which is not on this machine",
                "'acme/odd'",
                "name a folder that has it as `model.tokenizer` (servetune bench: --tokenizer), "
                "or, of a Hub id, fetch it with `hf download acme/odd tokenizer.json "
                "tokenizer_config.json`"),
    ),
]  # fmt: skip
