"""Files that hold what nothing can take: numbers, texts and addresses, and too much of them."""

from __future__ import annotations

from runtimes.errors import Problem
from tests.orchestrator.wrong_files import BASE, HEAD, vllm, wrong

_LONG = "9" * 301
_MANY_DIGITS = "9" * 5000
_DATE = "looks like a date or a number and is none, or one of thousands of digits"
_TEXT = "put text in quotes"
_WHOLE = "is a whole number of more than 300 digits"
_SMALLER = "write a smaller one"
_ZERO = "holds the character of number 0, which no command and no variable can hold"
_FINITE = "write one, or text in quotes"
_SHARE = "engines.vllm.search.gpu-memory-utilization"
_STEPS = "has more steps than floats can tell apart"
_REVISION = "is no name of a branch, a tag or a commit"
_REVISION_REMEDY = "write one, as main or refs/pr/3"
_LOCAL = "write http://127.0.0.1:8000"


def _aliases_of_aliases() -> str:
    """A text of a few lines that stands for ten million values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 7):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]")
    return "\n".join(lines)


ALL = [
    wrong("thousands-of-digits", f"{BASE}parallel: {{tp: {_MANY_DIGITS}}}\n",
          Problem("line 4, column 16", _DATE, None, _TEXT)),
    wrong("no-such-day", f"{BASE}results: 2026-13-99\n",
          Problem("line 4, column 10", _DATE, None, _TEXT)),
    wrong(
        "whole-numbers-of-hundreds-of-digits",
        vllm(f"args: {{max-num-seqs: {_LONG}}}, search: {{block-size: {{int: [1, {_LONG}]}}}}")
        + f"parallel: {{tp: [1, {_LONG}]}}\nsearch: {{seed: {_LONG}}}\n",
        Problem("engines.vllm.args.max-num-seqs", _WHOLE, None, _SMALLER),
        Problem("engines.vllm.search.block-size.int[1]", _WHOLE, None, _SMALLER),
        Problem("parallel.tp[1]", _WHOLE, None, _SMALLER),
        Problem("search.seed", _WHOLE, None, _SMALLER),
    ),
    wrong(
        "character-zero",
        vllm('args: {chat-template: "a\\0"}, env: {A: ["b", "c\\0"]}'),
        Problem("engines.vllm.args.chat-template", _ZERO, None, "remove it"),
        Problem("engines.vllm.env.A[1]", _ZERO, None, "remove it"),
    ),
    wrong(
        "half-a-character",
        vllm('args: {chat-template: "\\ud83d"}'),
        Problem("engines.vllm.args.chat-template",
                "holds half of a character, as \\ud83d without what belongs to it", None,
                "write the character itself"),
    ),
    wrong(
        "arguments-that-are-not-finite",
        vllm("args: {kv-offloading-size: .nan, speculative-config: {a: [.inf]}}"),
        Problem("engines.vllm.args.kv-offloading-size", "is no finite number", "nan", _FINITE),
        Problem("engines.vllm.args.speculative-config.a[0]", "is no finite number", "inf",
                _FINITE),
    ),
    wrong(
        "aliases-of-aliases",
        f"{_aliases_of_aliases()}\n{BASE}",
        Problem("", "holds more than 1,000,000 values, those of aliases included", None,
                "write ranges in place of lists, and fewer aliases"),
    ),
    wrong(
        "steps-without-number",
        vllm("search: {gpu-memory-utilization: {float: [0, 1], step: 1.0e-300}}"),
        Problem(_SHARE, _STEPS, "{'float': [0, 1], 'step': 1e-300}",
                "write a larger `step`, or none"),
    ),
    wrong(
        "wider-than-a-float",
        vllm("search: {gpu-memory-utilization: {float: [-1.0e+308, 1.0e+308]}}"),
        Problem(_SHARE, "spans more than a float can hold", "{'float': [-1e+308, 1e+308]}",
                "bring low and high together"),
    ),
    *(
        wrong(
            f"revision-{revision}",
            f"name: n\nmodel: {{id: a/b, revision: '{revision}'}}\nengines: {{vllm: {{}}}}\n",
            Problem("model.revision", _REVISION, repr(revision), _REVISION_REMEDY),
        )
        for revision in ("--help", "a b", "../x", "a:b", "/main", "main/")
    ),
    wrong(
        "seed-that-the-record-cannot-hold",
        vllm("search: {max-num-seqs: [8, 16]}") + f"search: {{seed: {10**18 + 1}}}\n",
        Problem("search.seed", "must be at most 1e+18", str(10**18 + 1)),
    ),
    wrong(
        "server-on-port-0",
        "name: n\nmodel: a/b\nengines: {external: {url: 'http://gpu-3:0'}}\n",
        Problem("engines.external",
                f"option url: 'http://gpu-3:0': nothing listens on port 0; {_LOCAL}"),
    ),
    wrong(
        "broken-json-text",
        vllm("args: {compilation-config: '{bad'}"),
        Problem("engines.vllm.args.compilation-config",
                'takes a mapping, a list or JSON text, got "{bad"'),
    ),
    wrong(
        "simulation-out-of-range",
        f"{HEAD}engines: {{simulated: {{startup_s: -1}}}}\ncluster: {{accelerator: H100}}\n",
        Problem("engines.simulated",
                "option startup_s lies between 0 and 86,400, got -1"),
    ),
]  # fmt: skip
