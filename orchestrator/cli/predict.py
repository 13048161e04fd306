"""predict: ask what a deployment would do, without touching a GPU.

Predicts time to first token, time per output token, throughput and memory from the model's shape,
the accelerator's figures and measured efficiencies. Options that take lists (8,16) are predicted
in every combination, the best per GPU first. Exits with 2 when none of them can be served.
"""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.arguments import add_json
from runtimes.errors import UserError
from runtimes.parallel import DEGREES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.what_if import WhatIf
    from orchestrator.what_if_split import Split
    from runtimes.hardware import Accelerator
    from runtimes.node_curves import NodeCurves

NOTHING_SERVES = 2
"""Exit code where nothing that was asked for can be served, as of a wrong question."""
_USUAL_CONCURRENCY = "64"
_PARTS = ("gemm", "kv_cache", "attention", "moe")
_PORT = 8600
_NO_ACCELERATOR = "--accelerator: name what it runs on, as H200 or H100,B200"
_WAYS = {"model": "MODEL", "batch": "--batch", "serve": "--serve"}
_OPTIONS_OF = {"--batch": {"out"}, "--serve": {"host", "port", "hardware", "models"}}
"""Options, besides --curves, of the ways to ask that take few."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", nargs="?", metavar="MODEL",
        help="a Hub id, a model folder, or a name from --models",
    )  # fmt: skip
    parser.add_argument(
        "--accelerator", metavar="NAME,…", help="what it runs on, as H200 or H100,B200"
    )
    parser.add_argument("--engine", metavar="NAME,…", help="engines to predict (default: vllm)")
    _add_layout(parser.add_argument_group("layout, each option one degree or several"))
    _add_pools(parser.add_argument_group("two pools in place of one layout: disaggregated serving"))
    _add_precision(parser.add_argument_group("precision and arguments"))
    _add_load(parser.add_argument_group("load"))
    facts = parser.add_argument_group("facts of your own")
    facts.add_argument("--hardware", type=Path, metavar="FILE", help="YAML: accelerators")
    facts.add_argument("--models", type=Path, metavar="FILE", help="YAML: models")
    facts.add_argument(
        "--curves", type=Path, action="append", default=[], metavar="FILE",
        help="what `servetune calibrate` measured on a node; may be given several times",
    )  # fmt: skip
    _add_other_ways(parser.add_argument_group("other ways to ask"))
    parser.add_argument("--limit", metavar="N", help="rows of the table (default: 20)")
    add_json(parser)


def _add_layout(group: argparse._ArgumentGroup) -> None:
    words = {
        "tp": "tensor parallel",
        "pp": "pipeline parallel",
        "dp": "data parallel: replicas",
        "ep": "expert parallel",
        "dcp": "decode context parallel",
        "pcp": "prefill context parallel",
        "cp": "context parallel",
        "attention_dp": "attention groups within tp",
        "moe_tp": "ranks that share each expert",
        "moe_ep": "ranks with different experts",
        "moe_dense_tp": "tensor parallel of dense MLPs",
        "moe_cluster": "groups of ranks with experts of their own",
    }
    for degree in DEGREES:
        group.add_argument(_option(degree), metavar="N,…", help=words[degree])


def _add_pools(group: argparse._ArgumentGroup) -> None:
    for pool, words in (("prefill", "compute prompts"), ("decode", "answer")):
        group.add_argument(
            f"--{pool}", action="append", default=[], metavar="NAME=VALUE,…",
            help=f"engines that {words}, as tp=4,replicas=2: degrees, replicas (default: 1) and "
            "accelerator (default: --accelerator); may be given several times",
        )  # fmt: skip


def _add_precision(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--quantization", metavar="PRESET,…",
        help="presets, as default,kv-cache-fp8 (default: as the checkpoint)",
    )  # fmt: skip
    for part in _PARTS:
        group.add_argument(_option(part), metavar="FORMAT", help="a format, as fp8, by itself")
    group.add_argument(
        "--arg", action="append", default=[], metavar="NAME=VALUE",
        help="argument of the engine, as max-num-seqs=512; may be given several times",
    )  # fmt: skip
    group.add_argument(
        "--acceptance", metavar="SHARE",
        help="share of drafted tokens that is accepted, where the engine speculates (default: 0.7)",
    )  # fmt: skip


def _add_load(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--input-tokens", metavar="N", help="of each prompt (default: 1024)")
    group.add_argument("--output-tokens", metavar="N", help="of each answer (default: 256)")
    group.add_argument(
        "--prefix-hit", metavar="SHARE",
        help="share of each prompt that the prefix cache holds (default: 0)",
    )  # fmt: skip
    how = group.add_mutually_exclusive_group()
    how.add_argument(
        "--concurrency", metavar="N,…",
        help=f"requests in flight, over all replicas (default: {_USUAL_CONCURRENCY})",
    )  # fmt: skip
    how.add_argument("--rate", metavar="R,…", help="requests that arrive per second, at random")
    how.add_argument(
        "--saturated", action="store_true", help="more requests than can run: offline throughput"
    )


def _add_other_ways(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--batch", type=Path, metavar="CSV", help="predict a row at a time")
    group.add_argument("--out", type=Path, metavar="CSV", help="where --batch writes")
    group.add_argument("--serve", action="store_true", help="answer over HTTP until interrupted")
    group.add_argument("--host", metavar="H", help="of --serve (default: 127.0.0.1)")
    group.add_argument("--port", metavar="P", help=f"of --serve, 0 for any (default: {_PORT})")


def execute(arguments: argparse.Namespace) -> int:
    from runtimes.node_curves import load_curves

    curves = [load_curves(path) for path in arguments.curves]
    _check_way(arguments)
    if arguments.serve:
        return _serve(arguments, curves)
    if arguments.batch is not None:
        from orchestrator.cli.predict_batch import run_batch

        return run_batch(arguments.batch, arguments.out, curves=curves)
    return _answer(_question(arguments), arguments, curves)


def _answer(asked: WhatIf, arguments: argparse.Namespace, curves: list[NodeCurves]) -> int:
    from orchestrator.cli.documents import print_json
    from orchestrator.cli.options import check_curves, whole_number
    from orchestrator.cli.predict_view import print_points
    from orchestrator.what_if import what_if
    from orchestrator.what_if_document import document

    limit = whole_number("--limit", arguments.limit or "20")
    places = [pool.accelerator for split in asked.splits for pool in split.pools.values()]
    check_curves(curves, places or asked.accelerators)
    points = what_if(asked, curves=curves)
    if arguments.json:
        print_json(document(asked, points))
    else:
        print_points(asked, points, limit=limit)
    return 0 if any(point.serves for point in points) else NOTHING_SERVES


def _check_way(arguments: argparse.Namespace) -> None:
    """Raises: UserError: two ways to ask, none, or an option that is empty or of another way."""
    given = {name for name, value in vars(arguments).items() if value not in (None, False, [])}
    for name in sorted(given):
        if getattr(arguments, name) == "":
            option = _WAYS["model"] if name == "model" else _option(name)
            raise UserError(f"{option}: is empty; give a value or leave it out")
    ways = [way for name, way in _WAYS.items() if name in given]
    if len(ways) != 1:
        got = " and ".join(ways) or "none"
        raise UserError(f"give one of {', '.join(_WAYS.values())} (got {got})")
    (way,) = ways
    others = _OPTIONS_OF.get(way, vars(arguments).keys() - {"out", "host", "port"})
    for name in sorted(given - {*_WAYS, "execute", "curves"}):
        if name not in others:
            raise UserError(f"{_option(name)} says nothing to {way}; leave it out")
    if arguments.batch is not None and arguments.out is None:
        raise UserError("--batch writes a file; name it with --out")


def _serve(arguments: argparse.Namespace, curves: list[NodeCurves]) -> int:
    from orchestrator.cli.options import port
    from orchestrator.user_facts import load_hardware_yaml, load_models_yaml
    from runtimes.errors import MissingToolError

    try:
        from orchestrator.web.serve import serve
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("orchestrator"):
            raise
        raise MissingToolError(
            f"--serve needs {error.name}, which is not installed; pip install 'servetune[web]'"
        ) from None
    hardware = load_hardware_yaml(arguments.hardware) if arguments.hardware else {}
    models = load_models_yaml(arguments.models) if arguments.models else {}
    host, chosen = arguments.host or "127.0.0.1", port("--port", arguments.port or str(_PORT))
    with suppress(KeyboardInterrupt):  # how its user ends it
        serve(host, chosen, hardware=hardware, models=models, curves=curves, started=_say_where)
    return 0


def _say_where(url: str) -> None:
    from orchestrator.cli.stderr import tell

    tell(f"listening on {url} (fields: {url}/openapi.json)")


def _question(arguments: argparse.Namespace) -> WhatIf:
    from orchestrator.cli import options
    from orchestrator.user_facts import (
        accelerator_called,
        load_hardware_yaml,
        load_models_yaml,
        model_called,
    )
    from orchestrator.what_if import WhatIf
    from search.perfmodel.configure import ACCEPTANCE

    hardware = load_hardware_yaml(arguments.hardware) if arguments.hardware else {}
    models = load_models_yaml(arguments.models) if arguments.models else {}
    names = options.names("--accelerator", arguments.accelerator) if arguments.accelerator else []
    accelerators = list(dict.fromkeys(accelerator_called(name, hardware) for name in names))
    splits = _splits(arguments, accelerators, hardware)
    if not accelerators and not splits:
        raise UserError(_NO_ACCELERATOR)
    acceptance = arguments.acceptance or str(ACCEPTANCE)
    return WhatIf(
        name=arguments.model,
        model=model_called(arguments.model, models),
        accelerators=accelerators,
        engines=options.names("--engine", arguments.engine or "vllm"),
        layouts=options.layouts({_option(name): getattr(arguments, name) for name in DEGREES}),
        precisions=options.precisions(
            arguments.quantization, {part: getattr(arguments, part) for part in _PARTS}
        ),
        splits=splits,
        args=options.engine_arguments(arguments.arg),
        loads=options.loads(arguments, _USUAL_CONCURRENCY),
        acceptance=options.share("--acceptance", acceptance),
    )


def _splits(
    arguments: argparse.Namespace,
    accelerators: Sequence[Accelerator],
    hardware: Mapping[str, Accelerator],
) -> list[Split]:
    """Every pair of a pool for prompts and one that answers; empty where neither is given.

    Raises:
        UserError: one is given without the other, or beside a layout, or what it runs on is open.
    """
    from orchestrator.cli import options
    from orchestrator.user_facts import accelerator_called
    from orchestrator.what_if_split import Split

    def called(name: str | None) -> Accelerator:
        if name is not None:
            return accelerator_called(name, hardware)
        if len(accelerators) != 1:
            raise UserError(
                "--prefill and --decode: give --accelerator one name, or each pool its own, as "
                "tp=4,accelerator=H200"
            )
        return accelerators[0]

    if not (arguments.prefill or arguments.decode):
        return []
    if not (arguments.prefill and arguments.decode):
        missing = "--decode" if arguments.prefill else "--prefill"
        raise UserError(f"{missing}: is missing; two pools take --prefill and --decode")
    given = [name for name in DEGREES if getattr(arguments, name) is not None]
    if given:
        option = _option(given[0])
        raise UserError(f"{option}: each pool has its own, as --prefill {given[0]}=4")
    return [
        Split(prefill=prefill, decode=decode)
        for prefill in [options.pool("--prefill", text, called) for text in arguments.prefill]
        for decode in [options.pool("--decode", text, called) for text in arguments.decode]
    ]


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
