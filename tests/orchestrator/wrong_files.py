"""Wrong experiment files and exactly what is said about each: YAML and keys."""

from __future__ import annotations

from dataclasses import dataclass

from runtimes.engines.base import ENGINES
from runtimes.errors import Problem

HEAD = "name: n\nmodel: meta-llama/Llama-3.1-8B\n"
BASE = f"{HEAD}engines: {{vllm: {{}}}}\n"


@dataclass(frozen=True, slots=True)
class Wrong:
    """A file and its problems, in the order they are reported."""

    id: str
    text: str
    problems: tuple[Problem, ...]


def wrong(id: str, text: str, *problems: Problem) -> Wrong:
    return Wrong(id, text, problems)


def vllm(section: str) -> str:
    """A file whose vllm engine is written `{section}`."""
    return f"{HEAD}engines:\n  vllm: {{{section}}}\n"


MISSING = "this key is required and missing"
EXPRESSION = (
    "write names, numbers, 'text', True and False, + - * / // % **, == != < <= > >=, "
    "`in (a, b)`, and, or, not, parentheses, min(), max(), abs()"
)
TOP_KEYS = (
    "budget, cluster, combinations, constraints, deployment, engines, metrics, model, name, "
    "objectives, offline, parallel, quantization, results, search, slo, timeouts, weights, "
    "workload"
)
_ENGINE_KEYS = (
    "args, entrypoint, env, environment, search; arguments of the engine go under `args` or "
    "`search`"
)

KEYS = [
    wrong(
        "misspelt-top-key",
        f"{BASE}worklod: {{kind: synthetic}}\n",
        Problem("worklod", "unknown key 'worklod'", None,
                f"did you mean 'workload'? known here: {TOP_KEYS}"),
    ),
    wrong(
        "misspelt-required-key",
        "nam: n\nmodel: m\nengines: {vllm: {}}\n",
        Problem("nam", "unknown key 'nam'", None, f"did you mean 'name'? known here: {TOP_KEYS}"),
    ),
    wrong(
        "misspelt-engine",
        f"{HEAD}engines: {{vlm: {{}}}}\n",
        Problem("engines.vlm", "unknown engine", "'vlm'",
                f"did you mean 'vllm'? known here: {', '.join(ENGINES.names())}"),
    ),
    wrong(
        "misspelt-key-of-an-engine",
        vllm("serch: {max-num-seqs: [1, 2]}"),
        Problem("engines.vllm.serch", "unknown key 'serch'", None,
                f"did you mean 'search'? known here: {_ENGINE_KEYS}"),
    ),
    wrong(
        "argument-outside-args",
        vllm("max-num-seqs: 8"),
        Problem("engines.vllm.max-num-seqs", "unknown key 'max-num-seqs'", None,
                f"known here: {_ENGINE_KEYS}"),
    ),
    wrong(
        "missing-model",
        "name: n\nengines: {vllm: {}}\n",
        Problem("model", MISSING, None,
                "write `model: ORGANISATION/MODEL` or `model: {path: FOLDER}`"),
    ),
    wrong(
        "nothing-at-all",
        "{}\n",
        Problem("name", MISSING, None, "write `name: my-study`; runs are named after it"),
        Problem("model", MISSING, None,
                "write `model: ORGANISATION/MODEL` or `model: {path: FOLDER}`"),
        Problem("engines", MISSING, None, "write `engines: {vllm: {}}`"),
    ),
    wrong(
        "id-and-path",
        "name: n\nmodel: {id: a, path: b}\nengines: {vllm: {}}\n",
        Problem("model", "names both of `id` and `path`", "{'id': 'a', 'path': 'b'}",
                "name the model by `id` (of the Hub) or by `path` (a folder), one of the two"),
    ),
    wrong(
        "key-of-another-load",
        f"{BASE}workload: {{load: {{kind: poisson, value: 3}}}}\n",
        Problem("workload.load.rate", MISSING, None, "write requests per second, as `rate: 8`"),
        Problem("workload.load.value", "unknown key 'value'", None,
                "known here: duration, engine, error_rate, interval_width, kind, output_tokens, "
                "processes, rate, requests"),
    ),
    wrong(
        "load-without-a-kind",
        f"{BASE}workload: {{load: {{value: 3}}}}\n",
        Problem("workload.load.kind", MISSING, None,
                "write {kind: concurrency, value: 64} or {kind: poisson, rate: 8}"),
    ),
    wrong(
        "number-as-a-key",
        f"{BASE}3: 4\n",
        Problem("3", "a key has to be text", "3", "put it in quotes"),
    ),
]  # fmt: skip

_HINT = "look at this line and the one before: indentation, quotes, brackets, colons"
_QUOTES = "text that starts with one of * & ! % @ ` has to stand in quotes"

YAML = [
    wrong(
        "repeated-keys",
        f"{HEAD}engines:\n  vllm:\n    args: {{a: 1}}\n    args: {{a: 2}}\nname: other\n",
        Problem("line 7, column 1", "the key 'name' stands here and in line 1", None,
                "keep one of them"),
        Problem("line 6, column 5", "the key 'args' stands here and in line 5", None,
                "keep one of them"),
    ),
    wrong(
        "open-bracket",
        "name: n\nmodel: {id: m\nengines: {vllm: {}}\n",
        Problem("line 3, column 8", "is no YAML: expected ',' or '}', but got ':'", None, _HINT),
    ),
    wrong(
        "tab",
        "name: n\nmodel:\n\tid: m\n",
        Problem("line 3, column 1",
                "is no YAML: found character '\\t' that cannot start any token", None,
                "indent with spaces"),
    ),
    wrong("alias", "name: *planted-secret\n",
          Problem("line 1, column 7", "is no plain YAML value", None, _QUOTES)),
    wrong("tag", "name: !!python/object:os.system x\n",
          Problem("line 1, column 7", "is no plain YAML value", None, _QUOTES)),
    wrong("at-sign", "name: @home\n",
          Problem("line 1, column 7",
                  "is no YAML: found character '@' that cannot start any token", None, _QUOTES)),
    wrong("control-character", "name: a\x00b\n",
          Problem("", "is no YAML: unacceptable character #x0000: special characters are not "
                  "allowed", None, "look for characters that do not show")),
    wrong("endless", "name: &a [*a]\n",
          Problem("line 1, column 7", "contains itself", None, "remove the alias")),
    wrong("empty", "",
          Problem("", "is no mapping of keys", "nothing", "start with `name: my-study`")),
    wrong("list", "- HF_TOKEN=planted-secret\n",
          Problem("", "is no mapping of keys", "a list", "start with `name: my-study`")),
]  # fmt: skip
