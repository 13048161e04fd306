"""init: write a commented experiment file to start from.

For each engine it lists what is worth searching and why, for the model layouts that fit the
node. `servetune plan` accepts the file as it is. Without --gpus and --accelerator they are those
of this machine, where it has any.
"""

from __future__ import annotations

import argparse
from pathlib import Path

_USUAL_NODE = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engine", required=True, metavar="NAME[,NAME]", help="engines to compare, as vllm,sglang"
    )
    parser.add_argument("--model", required=True, help="a Hub id or a model folder")
    parser.add_argument(
        "--gpus", type=int, metavar="N", help="GPUs of one node (default: this machine's, else 8)"
    )
    parser.add_argument(
        "--accelerator", metavar="NAME", help="what the nodes have, as H200 (default: as here)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE",
        help="where to write; `-` prints it (default: NAME-OF-THE-MODEL.yaml here)",
    )  # fmt: skip


def execute(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.stderr import tell
    from orchestrator.cli.stdout import write
    from orchestrator.starter import StarterRequest, default_path, starter_file
    from runtimes.errors import UserError

    gpus, accelerator = arguments.gpus, arguments.accelerator
    if gpus is None or accelerator is None:
        found_gpus, found = _here()
        accelerator = accelerator or found
        gpus = gpus if gpus is not None else found_gpus or _USUAL_NODE
    named = [name.strip() for name in arguments.engine.split(",")]
    engines = dict.fromkeys(name for name in named if name)
    request = StarterRequest(tuple(engines), arguments.model, gpus, accelerator)
    out: Path = arguments.out or Path(default_path(arguments.model))
    if str(out) == "-":
        write(starter_file(request, path="FILE"))
        return 0
    text = starter_file(request, path=str(out))
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UserError(f"{out}: is there already; name another file with --out") from None
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror}") from None
    tell(f"wrote {out}; next: servetune plan {out}")
    return 0


def _here() -> tuple[int, str | None]:
    """GPUs of this machine and their name; none where there are none to be had."""
    from orchestrator.detection import accelerator_of, find_free_gpus
    from runtimes.errors import MissingToolError

    try:
        gpus = find_free_gpus()
    except MissingToolError:
        return 0, None
    known = accelerator_of(gpus[0])
    return len(gpus), known.name if known else None
