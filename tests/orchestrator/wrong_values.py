"""Wrong values in experiment files, and exactly what is said about each."""

from __future__ import annotations

from runtimes.errors import Problem
from runtimes.hardware import ACCELERATORS
from search.objectives.base import OBJECTIVES
from tests.orchestrator.wrong_files import BASE, EXPRESSION, vllm, wrong

_FORMS = (
    "write [a, b, …], {int: [low, high], log, step}, {float: [low, high], log, step}, "
    "{choice: […]} or {equals: concurrency}, the last four also with `when`"
)

VALUES = [
    wrong(
        "a-model-that-is-no-id",
        "name: n\nmodel: a b/c\nengines: {vllm: null}\n",
        Problem("model", "is neither a folder here nor a Hub id", "'a b/c'",
                "write owner/name, or {path: FOLDER} for a model folder of the nodes"),
    ),
    wrong(
        "unknown-objective",
        f"{BASE}objectives: [{{maximize: goodputt}}]\n",
        Problem("objectives[0].maximize", "unknown objective", "'goodputt'",
                f"did you mean 'goodput'? known here: {', '.join(OBJECTIVES.names())}"),
    ),
    wrong(
        "objective-without-a-direction",
        f"{BASE}objectives: [goodput, {{maximize: goodput, minimize: goodput}}]\n",
        Problem("objectives[0]", "names no direction", "'goodput'",
                "write {maximize: goodput} or {minimize: goodput}"),
        Problem("objectives[1]", "names no direction, or two",
                "{'maximize': 'goodput', 'minimize': 'goodput'}",
                "write {maximize: NAME} or {minimize: NAME}, one of the two"),
    ),
    wrong(
        "constraint-that-cannot-be-read",
        f"{BASE}constraints: [tp * 2 <=]\n",
        Problem("constraints[0]",
                f"`tp * 2 <=` cannot be read at column 1: invalid syntax; {EXPRESSION}",
                "'tp * 2 <='"),
    ),
    wrong(
        "constraint-that-calls",
        f"{BASE}constraints: [open('x') == 1]\n",
        Problem("constraints[0]",
                f"`open('x')` at column 1 of `open('x') == 1` is not allowed; {EXPRESSION}",
                "\"open('x') == 1\""),
    ),
    wrong(
        "wrong-types",
        f"{BASE}budget: {{trials: many, gpu_hours: -1, wall_clock: soon}}\n"
        "search: {seed: true}\n",
        Problem("search.seed", "takes a whole number", "True"),
        Problem("budget.trials", "takes a whole number", "'many'"),
        Problem("budget.gpu_hours", "must be above 0", "-1"),
        Problem("budget.wall_clock", "is no duration", "'soon'",
                "write seconds (90) or 45s, 30m, 6h, 2d"),
    ),
    wrong(
        "endless-numbers",
        f"{BASE}slo: {{ttft_ms: {{p99: .inf}}}}\nbudget: {{gpu_hours: .nan}}\n",
        Problem("slo.ttft_ms.p99", "takes a finite number", "inf"),
        Problem("budget.gpu_hours", "takes a finite number", "nan"),
    ),
    wrong(
        "sections-and-lists",
        f"{BASE}slo: {{tpot_ms: 40}}\nconstraints: tp <= 8\nbudget: 5\n",
        Problem("constraints", "takes a list", "'tp <= 8'", "write [a, b]"),
        Problem("slo.tpot_ms", "takes keys with values", "a number", "write {p99: LIMIT_MS}"),
        Problem("budget", "takes keys with values", "a number", "write `key: value` below it"),
    ),
    wrong(
        "unknown-latency-and-statistic",
        f"{BASE}slo: {{ttft: {{p99: 500}}, tpot_ms: {{median: 3}}}}\n",
        Problem("slo.ttft", "unknown latency", "'ttft'",
                "did you mean 'ttft_ms'? known here: e2e_ms, itl_ms, tpot_ms, ttft_ms"),
        Problem("slo.tpot_ms.median", "is no statistic", "'median'",
                "write mean, p50, p99, p99.9"),
    ),
    wrong(
        "names",
        f"{BASE.replace('name: n', 'name: a/b')}cluster: {{kind: slurm, accelerator: H900}}\n"
        "search: {sampler: tpee}\n",
        Problem("name", "is no name for a run", "'a/b'",
                "use letters, digits, '.', '_', '-', at most 63, a letter or digit first"),
        Problem("search.sampler", "unknown sampler", "'tpee'",
                "did you mean 'tpe'? known here: auto, grid, random, tpe"),
        Problem("cluster.kind", "unknown kind", "'slurm'", "known here: in_process, local, ray"),
        Problem("cluster.accelerator", "unknown accelerator", "'H900'",
                f"did you mean 'H800'? known here: {', '.join(sorted([*ACCELERATORS, 'cpu']))}"),
    ),
    wrong(
        "degrees",
        f"{BASE}parallel: {{tp: 0, pp: [1, 1], dp: []}}\n",
        Problem("parallel.tp", "degrees are whole numbers from 1", "0", "write 2 or [1, 2, 4]"),
        Problem("parallel.pp", "names no degree, or one twice", "[1, 1]", "write 2 or [1, 2, 4]"),
        Problem("parallel.dp", "names no degree, or one twice", "[]", "write 2 or [1, 2, 4]"),
    ),
    wrong(
        "unset-environment-variable",
        "name: n\nmodel: {path: $ST_NOT_SET/x}\nengines: {vllm: {}}\nresults: '${ST_NEITHER}'\n",
        Problem("model.path", "the environment variable ST_NOT_SET is not set", "'$ST_NOT_SET/x'",
                "export it first, or write the path"),
        Problem("results", "the environment variable ST_NEITHER is not set", "'${ST_NEITHER}'",
                "export it first, or write the path"),
    ),
]  # fmt: skip

SEARCHED = [
    wrong(
        "empty-choice",
        vllm("search: {max-num-seqs: []}"),
        Problem("engines.vllm.search.max-num-seqs", "an empty list leaves nothing to try", "[]",
                "give at least one value"),
    ),
    wrong(
        "bad-ranges",
        vllm("search: {a: {int: [10, 2]}, b: {int: [1]}, c: {int: [1, 2.5]}, "
             "d: {float: [0, .inf]}}"),
        Problem("engines.vllm.search.a", "low must be below high", "{'int': [10, 2]}",
                "write {int: [low, high]}"),
        Problem("engines.vllm.search.b", "`int` takes two numbers", "{'int': [1]}",
                "write {int: [low, high]}"),
        Problem("engines.vllm.search.c", "an int range takes whole numbers", "{'int': [1, 2.5]}",
                "or write `float`"),
        Problem("engines.vllm.search.d", "`float` takes two numbers", "{'float': [0, inf]}",
                "write {float: [low, high]}"),
    ),
    wrong(
        "bad-forms",
        vllm("search: {a: {flot: [1, 2]}, b: {int: [1, 2], lg: true}, c: {choice: 3}, d: [1, 1], "
             "e: [2020-01-01]}"),
        Problem("engines.vllm.search.a", "is no searched value", "{'flot': [1, 2]}", _FORMS),
        Problem("engines.vllm.search.b", "'lg' does not belong here",
                "{'int': [1, 2], 'lg': True}", _FORMS),
        Problem("engines.vllm.search.c", "`choice` takes a list", "{'choice': 3}",
                "write {choice: [a, b]}"),
        Problem("engines.vllm.search.d", "a value stands twice in the list", "[1, 1]",
                "write each value once"),
        Problem("engines.vllm.search.e", "holds what is no JSON value",
                "[datetime.date(2020, 1, 1)]",
                "put dates in quotes; numbers must be finite, keys must be text"),
    ),
    wrong(
        "bad-steps",
        vllm("search: {a: {float: [0, 1], log: true}, b: {int: [1, 8], log: true, step: 2}, "
             "c: {int: [1, 8], step: 0}, d: {int: [1, 8], log: 2}}"),
        Problem("engines.vllm.search.a", "a log range must start above zero",
                "{'float': [0, 1], 'log': True}"),
        Problem("engines.vllm.search.b", "a log range takes no step",
                "{'int': [1, 8], 'log': True, 'step': 2}", "remove `log` or `step`"),
        Problem("engines.vllm.search.c", "`step` takes a number above zero",
                "{'int': [1, 8], 'step': 0}"),
        Problem("engines.vllm.search.d", "`log` takes true or false",
                "{'int': [1, 8], 'log': 2}"),
    ),
]  # fmt: skip

_AT = "engines.vllm.environment"
ENVIRONMENTS = [
    wrong(
        "environment-of-nothing",
        vllm("environment: {}"),
        Problem(_AT, "does not say where the engine is", "{}",
                "write {python: PATH}, {requirements: [vllm==0.33.0]}, {image: NAME} or "
                "{label: NAME}"),
    ),
    wrong(
        "environment-as-text",
        vllm("environment: /opt/vllm/bin/python"),
        Problem(_AT, "takes keys with values", "text", "write `key: value` below it"),
    ),
    wrong(
        "environment-of-two-kinds",
        vllm("environment: {image: 'vllm/vllm-openai:v0.33.0', python: /opt/bin/python}"),
        Problem(_AT, "names both an `image` and `python`",
                "{'image': 'vllm/vllm-openai:v0.33.0', 'python': '/opt/bin/python'}",
                "keep one of the two"),
    ),
    wrong(
        "environment-key-without-its-owner",
        vllm("environment: {label: big, overrides: [torch==2.9.0]}"),
        Problem(_AT, "`overrides` belongs to `requirements`",
                "{'label': 'big', 'overrides': ['torch==2.9.0']}",
                "add `requirements`, or remove `overrides`"),
    ),
    wrong(
        "container-without-an-image",
        vllm("environment: {python: /opt/bin/python, container: podman}"),
        Problem(_AT, "`container` belongs to `image`",
                "{'python': '/opt/bin/python', 'container': 'podman'}",
                "add `image`, or remove `container`"),
    ),
    wrong(
        "requirements",
        vllm("environment: {requirements: [], overrides: [' '], wheels: dist, version: 0.33}"),
        Problem(f"{_AT}.requirements", "must not be empty", "[]", "give at least one"),
        Problem(f"{_AT}.overrides[0]", "is no requirement", "' '",
                "write one line that pip takes: vllm==0.33.0"),
        Problem(f"{_AT}.wheels", "takes a list", "'dist'", "write [a, b]"),
        Problem(f"{_AT}.version", "takes text", "0.33", "put it in quotes"),
    ),
    wrong(
        "requirement-with-a-token",
        vllm("environment: {requirements: ['--index-url=https://me:planted@host/simple']}"),
        Problem(f"{_AT}.requirements[0]",
                "holds credentials, which would be recorded with the experiment",
                "'--index-url=https://***@host/simple'",
                "write ${NAME} in their place; pip fills it in from the environment"),
    ),
    wrong(
        "requirements-that-lead-elsewhere",
        vllm("environment: {requirements: ['-r /srv/engine.txt', './vllm', vllm]}"),
        *(
            Problem(f"{_AT}.requirements[{index}]",
                    "leads to files whose content an environment cannot be told apart by", written,
                    "write the requirements themselves; folders of wheels stand under `wheels`")
            for index, written in enumerate(("'-r /srv/engine.txt'", "'./vllm'"))
        ),
    ),
    wrong(
        "two-versions",
        vllm("environment: {requirements: [vllm==0.32.0], version: 0.33.0}"),
        Problem(f"{_AT}.version", "the requirements pin 0.32.0", "'0.33.0'",
                "write 0.32.0, or remove it: a pinned version is known"),
    ),
    wrong(
        "image-and-label",
        vllm("environment: {image: '--privileged', container: dokcer, label: 'a b'}"),
        Problem(f"{_AT}.image", "is no name of an image", "'--privileged'",
                "write REPOSITORY:TAG"),
        Problem(f"{_AT}.container", "unknown container", "'dokcer'",
                "did you mean 'docker'? known here: docker, podman"),
        Problem(f"{_AT}.label", "is no label of a node", "'a b'",
                "use letters, digits, '.', '_', '-', at most 63"),
    ),
    wrong(
        "misspelt-environment-key",
        vllm("environment: {requirement: [vllm]}"),
        Problem(f"{_AT}.requirement", "unknown key 'requirement'", None,
                "did you mean 'requirements'? known here: container, image, label, overrides, "
                "python, requirements, version, wheels"),
    ),
]  # fmt: skip
