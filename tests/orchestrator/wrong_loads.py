"""Wrong loads of experiment files, and exactly what is said about each."""

from __future__ import annotations

from runtimes.errors import Problem
from tests.orchestrator.wrong_files import BASE, MISSING, vllm, wrong

NO_ARRIVALS = "the workload synthetic has no arrival times to replay"
RECORDED = "use a recorded workload that has them, or concurrency or poisson"
_PROCESSES = "takes auto or a number of processes, 1 to 256"
_MORE_REQUESTS = "send several times as many, or hold fewer in flight"
_RATE = "write requests per second, as `rate: 8`"
_STAGE_KINDS = "known here: concurrency, constant, gamma, poisson, ramp, replay"
_KINDS = (
    "known here: concurrency, constant, gamma, max_under_slo, poisson, ramp, replay, stages, sweep"
)


def workload(section: str, rest: str = "") -> str:
    """A file whose workload is written `{section}`, with further lines behind it."""
    return f"{BASE}workload: {{{section}}}\n{rest}\n"


def load(section: str, rest: str = "") -> str:
    """The same of its load."""
    return workload(f"load: {{{section}}}", rest)


ALL = [
    wrong(
        "unknown-load",
        load("kind: burst, rate: 3"),
        Problem("workload.load.kind", "unknown kind", "'burst'", _KINDS),
    ),
    wrong(
        "misspelt-load",
        load("kind: constat, rate: 3"),
        Problem("workload.load.kind", "unknown kind", "'constat'",
                "did you mean 'constant'? known here: concurrency, constant, gamma, "
                "max_under_slo, poisson, ramp, replay, stages, sweep"),
    ),
    wrong(
        "load-as-text",
        workload("load: concurrency"),
        Problem("workload.load", "takes keys with values", "text",
                "write {kind: concurrency, value: 64}"),
    ),
    wrong(
        "constant-without-a-rate",
        load("kind: constant"),
        Problem("workload.load.rate", MISSING, None, _RATE),
    ),
    wrong(
        "rate-of-nothing",
        load("kind: constant, rate: 0"),
        Problem("workload.load.rate", "must be at least 0.0001", "0"),
    ),
    wrong(
        "gamma-without-a-cv",
        load("kind: gamma, rate: 4"),
        Problem("workload.load.cv", MISSING, None,
                "write how much the gaps vary, relative to their mean, as `cv: 2`"),
    ),
    wrong(
        "gamma-below-zero",
        load("kind: gamma, rate: 4, cv: -1"),
        Problem("workload.load.cv", "must be at least 0.001", "-1"),
    ),
    wrong(
        "endless-rate",
        load("kind: poisson, rate: .inf"),
        Problem("workload.load.rate", "takes a finite number", "inf"),
    ),
    wrong(
        "half-a-request-in-flight",
        load("kind: concurrency, value: 2.5"),
        Problem("workload.load.value", "takes a whole number", "2.5"),
    ),
    wrong(
        "fewer-requests-than-streams",
        load("kind: concurrency, value: 512, requests: 20"),
        Problem("workload.load", "`requests` (20) are fewer than the 512 that are to be in flight "
                "at once", "{'kind': 'concurrency', 'value': 512, 'requests': 20}", _MORE_REQUESTS),
    ),
    wrong(
        "fewer-requests-than-a-ramp-reaches",
        load("kind: ramp, of: concurrency, from: 64, to: 8, over: 1m, requests: 63"),
        Problem("workload.load", "`requests` (63) are fewer than the 64 that are to be in flight "
                "at once", "{'kind': 'ramp', 'of': 'concurrency', 'from': 64, 'to': 8, 'over': "
                "'1m', 'requests': 63}", _MORE_REQUESTS),
    ),
    wrong(
        "fewer-requests-than-streams-of-a-stage",
        load("kind: stages, requests: 9, stages: [{kind: poisson, rate: 99}, "
             "{kind: concurrency, value: 10}]"),
        Problem("workload.load", "`requests` (9) are fewer than the 10 that are to be in flight "
                "at once", "{'kind': 'stages', 'requests': 9, 'stages': [{'kind': 'poisson', "
                "'rate': 99}, {'kind': 'concurrency', 'value': 10}]}", _MORE_REQUESTS),
    ),
    wrong(
        "ramp-of-nothing",
        load("kind: ramp, from: 1, to: 8, over: 60s"),
        Problem("workload.load.of", MISSING, None, "write `of: concurrency` or `of: rate`"),
    ),
    wrong(
        "ramp-of-something-else",
        load("kind: ramp, of: tokens, from: 1, to: 8, over: 60s"),
        Problem("workload.load.of", "unknown kind of ramp", "'tokens'",
                "known here: concurrency, rate"),
    ),
    wrong(
        "ramp-without-ends",
        load("kind: ramp, of: rate"),
        Problem("workload.load.from", MISSING, None, "write what it starts from, as `from: 1`"),
        Problem("workload.load.to", MISSING, None, "write what it ends at, as `to: 64`"),
        Problem("workload.load.over", MISSING, None, "write how long it takes, as `over: 60s`"),
    ),
    wrong(
        "ramp-misspelt",
        load("kind: ramp, of: rate, start: 1, to: 8, over: 60s"),
        Problem("workload.load.from", MISSING, None, "write what it starts from, as `from: 1`"),
        Problem("workload.load.start", "unknown key 'start'", None,
                "known here: duration, engine, error_rate, from, interval_width, kind, of, "
                "output_tokens, over, processes, requests, to"),
    ),
    wrong(
        "ramp-of-parts-of-requests",
        load("kind: ramp, of: concurrency, from: 0.5, to: 8, over: 60s"),
        Problem("workload.load", "requests in flight are whole numbers from 1",
                "{'kind': 'ramp', 'of': 'concurrency', 'from': 0.5, 'to': 8, 'over': '60s'}",
                "write such numbers as `from` and `to`, or `of: rate`"),
    ),
    wrong(
        "ramp-that-takes-no-time",
        load("kind: ramp, of: rate, from: 0, to: 8, over: 0"),
        Problem("workload.load.over", "a duration must be above zero and finite", "0"),
    ),
    wrong(
        "ramp-to-nothing",
        load("kind: ramp, of: rate, from: 8, to: 0, over: 1m"),
        Problem("workload.load.to", "must be at least 0.0001", "0"),
    ),
    wrong(
        "replay-at-no-speed",
        load("kind: replay, speed: 0"),
        Problem("workload.load.speed", "must be at least 1e-06", "0"),
        Problem("workload.load.kind", NO_ARRIVALS, "'replay'", RECORDED),
    ),
    wrong(
        "stages-of-nothing",
        load("kind: stages, stages: []"),
        Problem("workload.load.stages", "must not be empty", "[]", "give at least one"),
    ),
    wrong(
        "stages-without-stages",
        load("kind: stages, requests: 10"),
        Problem("workload.load.stages", MISSING, None,
                "write a list of loads, as `stages: [{kind: concurrency, value: 8}]`"),
    ),
    wrong(
        "stages-as-one",
        load("kind: stages, stages: {kind: concurrency, value: 4}"),
        Problem("workload.load.stages", "takes a list", "{'kind': 'concurrency', 'value': 4}",
                "write [a, b]"),
    ),
    wrong(
        "stages-in-stages",
        load("kind: stages, stages: [{kind: concurrency, value: 4}, {kind: stages, stages: []}]"),
        Problem("workload.load.stages[1].kind", "unknown kind", "'stages'", _STAGE_KINDS),
    ),
    wrong(
        "sweep-as-a-stage",
        load("kind: stages, stages: [{kind: sweep}]"),
        Problem("workload.load.stages[0].kind", "unknown kind", "'sweep'", _STAGE_KINDS),
    ),
    wrong(
        "stages-with-faults",
        load(
            "kind: stages, stages: [{kind: poisson}, {value: 3}, 4, "
            "{kind: gamma, rate: 2, cv: 0}]",
        ),
        Problem("workload.load.stages[0].rate", MISSING, None, _RATE),
        Problem("workload.load.stages[1].kind", MISSING, None,
                "write {kind: concurrency, value: 64} or {kind: poisson, rate: 8}"),
        Problem("workload.load.stages[2]", "takes keys with values", "a number",
                "write {kind: concurrency, value: 64}"),
        Problem("workload.load.stages[3].cv", "must be at least 0.001", "0"),
    ),
    wrong(
        "processes-of-a-stage",
        load("kind: stages, stages: [{kind: poisson, rate: 2, processes: 2}]"),
        Problem("workload.load.stages[0].processes", "unknown key 'processes'", None,
                "known here: duration, error_rate, interval_width, kind, output_tokens, rate, "
                "requests"),
    ),
    wrong(
        "sweep-at-one-point",
        load("kind: sweep, points: 1, max_concurrency: 0"),
        Problem("workload.load.points", "must be at least 2", "1"),
        Problem("workload.load.max_concurrency", "must be at least 1", "0"),
    ),
    wrong(
        "search-without-limits",
        load("kind: max_under_slo"),
        Problem("workload.load.kind",
                "looks for where the limits of `slo` hold, and there are none", "'max_under_slo'",
                "add them, as `slo: {ttft_ms: {p99: 500}, tpot_ms: {p99: 40}}`"),
    ),
    wrong(
        "search-from-above",
        load("kind: max_under_slo, start_rate: 9, max_rate: 4", "slo: {ttft_ms: {p99: 500}}"),
        Problem("workload.load", "`start_rate` lies above `max_rate`",
                "{'kind': 'max_under_slo', 'start_rate': 9, 'max_rate': 4}",
                "lower the one or raise the other"),
    ),
    wrong(
        "search-too-coarse",
        load("kind: max_under_slo, resolution: 1.5", "slo: {ttft_ms: {p99: 500}}"),
        Problem("workload.load.resolution", "must be at most 1", "1.5"),
    ),
    wrong(
        "stop-rules",
        load(
            "kind: poisson, rate: 4, requests: 0, duration: soon, output_tokens: 1.5, "
            "error_rate: 2, interval_width: 0",
        ),
        Problem("workload.load.requests", "must be at least 1", "0"),
        Problem("workload.load.duration", "is no duration", "'soon'",
                "write seconds (90) or 45s, 30m, 6h, 2d"),
        Problem("workload.load.output_tokens", "takes a whole number", "1.5"),
        Problem("workload.load.error_rate", "must be at most 1", "2"),
        Problem("workload.load.interval_width", "must be above 0", "0"),
    ),
    wrong(
        "misspelt-stop-rule",
        load("kind: poisson, rate: 4, request: 100"),
        Problem("workload.load.request", "unknown key 'request'", None,
                "did you mean 'requests'? known here: duration, engine, error_rate, "
                "interval_width, kind, output_tokens, processes, rate, requests"),
    ),
    wrong(
        "rates-that-no-schedule-holds",
        load("kind: stages, stages: [{kind: poisson, rate: 1.0e-300}, "
             "{kind: gamma, rate: 1.0e+300, cv: 1.0e-300}, "
             "{kind: ramp, of: rate, from: 1.0e+300, to: 1.0e-300, over: 3s}]"),
        Problem("workload.load.stages[0].rate", "must be at least 0.0001", "1e-300"),
        Problem("workload.load.stages[1].rate", "must be at most 1e+09", "1e+300"),
        Problem("workload.load.stages[1].cv", "must be at least 0.001", "1e-300"),
        Problem("workload.load.stages[2].from", "must be at most 1e+09", "1e+300"),
        Problem("workload.load.stages[2].to", "must be at least 0.0001", "1e-300"),
    ),
    wrong(
        "processes",
        load("kind: poisson, rate: 4, processes: many"),
        Problem("workload.load.processes", _PROCESSES, "'many'", "write auto"),
    ),
    wrong(
        "no-processes",
        load("kind: poisson, rate: 4, processes: 0"),
        Problem("workload.load.processes", _PROCESSES, "0", "write auto"),
    ),
    wrong(
        "half-a-process",
        load("kind: poisson, rate: 4, processes: true"),
        Problem("workload.load.processes", _PROCESSES, "True", "write auto"),
    ),
    wrong(
        "unknown-generator",
        load("kind: poisson, rate: 4, engine: vllm_bench"),
        Problem("workload.load.engine", "unknown load generator", "'vllm_bench'",
                "did you mean 'vllm-bench'? known here: aiperf, guidellm, own, vllm-bench"),
    ),
    wrong(
        "equals-what-a-sweep-has-not",
        vllm("args: {max-num-seqs: {equals: requests}}")
        + "workload: {load: {kind: sweep}}\n",
        Problem("engines.vllm.args.max-num-seqs", "the load sweep has no requests of its own",
                "{'equals': 'requests'}", "write the number itself"),
    ),
]  # fmt: skip
