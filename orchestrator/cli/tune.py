"""tune: tune a model without an experiment file.

Finds an engine and the free GPUs of this machine, measures the engine's defaults first, and
writes the experiment file it used, to be edited and run again. With --server-url it measures a
server that runs already, and leaves it running.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from orchestrator.cli.arguments import add_json, add_results, add_server, server_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a Hub id or a model folder")
    for metric, meaning in (("ttft", "time to first token"), ("tpot", "time per output token")):
        parser.add_argument(
            f"--{metric}-p99", type=float, metavar="MS", help=f"limit on p99 {meaning}, in ms"
        )
    for option, default, meaning in (
        ("--input-tokens", 1024, "tokens of each prompt"),
        ("--output-tokens", 256, "tokens of each answer"),
        ("--concurrency", 32, "requests in flight at a time"),
        ("--trials", 20, "trials in all, the engine's defaults included"),
    ):
        words = f"{meaning} (default: {default})"
        parser.add_argument(option, type=int, default=default, metavar="N", help=words)
    parser.add_argument(
        "--seed", type=int, metavar="N",
        help="seed of prompts and of the search (default: 0; of --server-url another one each "
        "time, since a server may still have earlier prompts in its cache)",
    )  # fmt: skip
    parser.add_argument(
        "--requests",
        type=int,
        metavar="N",
        help="requests per trial (default: 8 per request in flight)",
    )
    parser.add_argument("--python", metavar="PATH", help="interpreter the engine is installed for")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--simulate", metavar="ACCELERATOR:N", help="no engine, no GPU: a simulated node, as H200:8"
    )
    where.add_argument(
        "--cpu-slots", type=int, metavar="N", help="an engine's CPU build, N trials at a time"
    )
    add_server(parser, where)
    parser.add_argument(
        "--write", type=Path, metavar="X.yaml",
        help="where to write the experiment file (default: in the run folder only)",
    )  # fmt: skip
    parser.add_argument(
        "--dry-run", action="store_true", help="print the experiment file, start nothing"
    )
    add_results(parser)
    add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    from orchestrator.attach import drawn_seed
    from orchestrator.cli.documents import print_json
    from orchestrator.cli.progress import shown_study
    from orchestrator.cli.stderr import tell
    from orchestrator.cli.stdout import write
    from orchestrator.quick import Request, experiment_for
    from orchestrator.spec.experiment import dump_yaml
    from orchestrator.study import run
    from runtimes.errors import UserError

    server, seed = server_of(arguments), arguments.seed
    if seed is None:
        seed = drawn_seed() if server is not None else 0
    experiment = experiment_for(
        Request(
            model=arguments.model,
            ttft_p99_ms=arguments.ttft_p99,
            tpot_p99_ms=arguments.tpot_p99,
            input_tokens=arguments.input_tokens,
            output_tokens=arguments.output_tokens,
            concurrency=arguments.concurrency,
            requests=arguments.requests,
            trials=arguments.trials,
            seed=seed,
            python=arguments.python,
            simulate=arguments.simulate,
            cpu_slots=arguments.cpu_slots,
            server=server,
            results=arguments.results,
        )
    )
    if server is not None and arguments.seed is None:
        tell(f"seed     {seed}")
    text = dump_yaml(experiment.resolved())
    if arguments.write is not None:
        try:
            arguments.write.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(f"--write {arguments.write}: {error.strerror}") from None
        tell(f"wrote {arguments.write}")
    if arguments.dry_run:
        if arguments.json:
            print_json(experiment.resolved())
        elif arguments.write is None:
            write(text)
        return 0
    return shown_study(
        lambda observers: run(experiment, observers=observers),
        as_json=arguments.json,
    )
