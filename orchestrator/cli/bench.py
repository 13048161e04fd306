"""bench: run a load against a server that runs already.

Works with every OpenAI-compatible server. Starts and stops nothing, shows progress, and writes the
same record as a trial of a study.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.arguments import add_json, add_record

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.bench import Section
    from runtimes.json_types import Json

_CONCURRENCY = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--url", required=True, metavar="URL",
        help="where the server's routes are: http://HOST:PORT, or below a path",
    )  # fmt: skip
    parser.add_argument(
        "--model", required=True, metavar="NAME", help="the model, as GET /v1/models names it"
    )
    parser.add_argument(
        "--tokenizer", metavar="PATH",
        help="folder of the model's tokenizer, or Hub id, where the model's name is neither",
    )  # fmt: skip
    parser.add_argument("--gpus", type=int, default=1, metavar="N", help="GPUs behind it")
    parser.add_argument(
        "--api-key-env", metavar="NAME", help="environment variable that holds the key it asks for"
    )
    parser.add_argument(
        "--drop-fields", metavar="NAME,NAME", default="",
        help="fields that the server refuses, not to be sent: ignore_eos, min_tokens, top_k, …",
    )  # fmt: skip
    _add_workload(parser.add_argument_group("what is sent"))
    _add_load(parser.add_argument_group("when it is sent"))
    for metric, meaning in (("ttft", "time to first token"), ("tpot", "time per output token")):
        parser.add_argument(
            f"--{metric}-p99", type=float, metavar="MS", help=f"limit on p99 {meaning}, in ms"
        )
    parser.add_argument(
        "--timeout", metavar="S",
        help="give up on a request, a silence or a first answer after S seconds, or 90s, 5m "
        "(default: 10m, 1m, 30m)",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=int, metavar="N",
        help="of prompts and arrivals (default: another one each time, since a server may still "
        "have the prompts of the last bench in its cache)",
    )  # fmt: skip
    add_record(parser)
    add_json(parser)


def _add_workload(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--workload", type=Path, metavar="FILE",
        help="YAML: the section `workload` of an experiment, or an experiment that has one",
    )  # fmt: skip
    group.add_argument(
        "--input-tokens", type=int, metavar="N", help="of each prompt (default: 512)"
    )
    group.add_argument(
        "--output-tokens", type=int, metavar="N", help="of each answer (default: 128)"
    )
    group.add_argument(
        "--api", choices=("completions", "chat"), help="the route to use (default: completions)"
    )


def _add_load(group: argparse._ArgumentGroup) -> None:
    how = group.add_mutually_exclusive_group()
    how.add_argument(
        "--concurrency", type=int, metavar="N",
        help=f"hold N requests in flight (default: {_CONCURRENCY}, or all --requests)",
    )  # fmt: skip
    how.add_argument("--rate", type=float, metavar="R", help="send R requests a second")
    how.add_argument(
        "--load", type=Path, metavar="FILE",
        help="YAML: the section `workload.load` of an experiment, or an experiment that has one",
    )  # fmt: skip
    group.add_argument(
        "--arrivals", choices=("poisson", "constant"), help="of --rate (default: poisson)"
    )
    group.add_argument("--requests", type=int, metavar="N", help="stop after N requests")
    group.add_argument(
        "--duration", metavar="S",
        help="stop after S seconds, or 90s, 5m; with --requests, what comes first",
    )  # fmt: skip


def execute(arguments: argparse.Namespace) -> int:
    from orchestrator.attach import RunningServer, drawn_seed
    from orchestrator.bench import BenchRequest, bench_experiment
    from orchestrator.bench_document import bench_document
    from orchestrator.cli.bench_view import print_bench
    from orchestrator.cli.documents import print_json
    from orchestrator.cli.progress import exit_code, watched_study
    from orchestrator.cli.stderr import tell
    from orchestrator.study import run

    workload, load = _workload(arguments), _load(arguments)
    slo: dict[str, Json] = {
        f"{metric}_ms": {"p99": limit}
        for metric in ("ttft", "tpot")
        if (limit := getattr(arguments, f"{metric}_p99")) is not None
    }
    dropped = tuple(filter(None, map(str.strip, arguments.drop_fields.split(","))))
    server = RunningServer(arguments.url, arguments.gpus, arguments.api_key_env, dropped)
    seed = drawn_seed() if arguments.seed is None else arguments.seed
    timeout = _seconds(arguments.timeout)
    experiment = bench_experiment(
        BenchRequest(
            server, arguments.model, workload, load, slo, seed, timeout, arguments.tokenizer
        )
    )
    if arguments.seed is None:
        tell(f"seed     {seed}")
    result = watched_study(
        lambda observers: run(experiment, results=arguments.results, observers=observers)
    )
    if arguments.json:
        print_json({**bench_document(result.data), "record": str(result.folder)})
    else:
        print_bench(result.data, result.folder)
    return exit_code(result)


def _workload(arguments: argparse.Namespace) -> Section:
    """The section that the options come to.

    Raises:
        UserError: options contradict each other, or a file cannot be read.
    """
    from orchestrator.bench import Section, read_section
    from runtimes.errors import UserError

    options = {
        "input_tokens": "--input-tokens",
        "output_tokens": "--output-tokens",
        "api": "--api",
    }
    own = _given(arguments, options)
    if arguments.workload is None:
        return Section(own, options)
    lengths = sorted(own.keys() & {"input_tokens", "output_tokens"})
    if lengths:
        option = options[lengths[0]]
        raise UserError(f"{option} and --workload both say what is sent; give one of them")
    section = read_section(arguments.workload, "workload")
    values = {key: value for key, value in section.values.items() if key != "load"}
    return replace(section, values=values).overridden(own, {key: options[key] for key in own})


def _load(arguments: argparse.Namespace) -> Section:
    """As above, of the load. A file of a workload may have one as well."""
    from orchestrator.bench import Section, read_section
    from runtimes.errors import UserError

    options = {"requests": "--requests", "duration": "--duration"}
    end = _given(arguments, options)
    if "duration" in end:
        end["duration"] = _seconds(arguments.duration)
    if arguments.arrivals is not None and arguments.rate is None:
        raise UserError("--arrivals says how --rate arrives; give a rate")
    if arguments.rate is not None:
        values = {"kind": arguments.arrivals or "poisson", "rate": arguments.rate, **end}
        return Section(values, {"rate": "--rate", "kind": "--arrivals", **options})
    if arguments.concurrency is None:
        given = {key: options[key] for key in end}
        if arguments.load is not None:
            return read_section(arguments.load, "workload", "load").overridden(end, given)
        if arguments.workload is not None:
            section = read_section(arguments.workload, "workload").below("load")
            if section is not None:
                return section.overridden(end, given)
    value = arguments.concurrency
    if value is None:  # no more in flight than there are, where nobody said how many
        value = max(1, min(_CONCURRENCY, arguments.requests or _CONCURRENCY))
    values = {"kind": "concurrency", "value": value, **end}
    return Section(values, {"value": "--concurrency", **options})


def _given(arguments: argparse.Namespace, options: Iterable[str]) -> dict[str, Json]:
    """Those of the options that the user gave."""
    return {key: value for key in options if (value := getattr(arguments, key)) is not None}


def _seconds(words: str | None) -> Json:
    """A bare number as one; `90s` and what is wrong stay as they are."""
    return float(words) if words is not None and words.replace(".", "", 1).isdigit() else words
