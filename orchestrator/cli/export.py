"""export: write what deploys a trial, or hand the study to Optuna or MLflow.

A target of the first kind is one file, printed unless --out names where it goes. optuna writes
the study to a storage that `optuna.load_study` and optuna-dashboard read, mlflow to a tracking
server or folder; both may be written again and replace what they wrote before.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.arguments import add_run

if TYPE_CHECKING:
    from tracking.export._deployment import Deployment
    from tracking.export.base import Settings, Target
    from tracking.layout import RunLayout
    from tracking.run_data import RunData

_STUDIES = ("optuna", "mlflow")
_TARGETS = (
    *("command", "docker", "compose", "kubernetes", "kuberay", "ray-serve"),
    *("slurm", "llm-d", "dynamo"),
)
_OPTIONS = ("host", "port", "replicas", "namespace", "image")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument(
        "--to",
        required=True,
        metavar="TARGET",
        help=f"where it goes: {', '.join(_TARGETS)}; {' or '.join(_STUDIES)} for the whole study",
    )
    parser.add_argument(
        "--trial",
        metavar="best|lossless|N",
        help="the trial to deploy: the best, the best whose precision costs no accuracy, or by "
        "its number (default: best)",
    )
    parser.add_argument(
        "--out",
        metavar="FILE|DIR|URL",
        help="the file or folder to write (default: print); of optuna a storage (default: "
        "optuna.db), of mlflow a tracking URI or folder (default: $MLFLOW_TRACKING_URI, or mlruns)",
    )
    parser.add_argument("--name", metavar="NAME", help="what it is called (default: the run's)")
    parser.add_argument(
        "--host", metavar="ADDRESS", help="address to listen on or publish (default: 127.0.0.1)"
    )
    parser.add_argument("--port", type=_port, metavar="N", help="port (default: 8000)")
    parser.add_argument(
        "--replicas", type=_count, metavar="N", help="copies that share the load (default: 1)"
    )
    parser.add_argument("--namespace", metavar="NAME", help="Kubernetes namespace")
    parser.add_argument(
        "--image",
        metavar="IMAGE",
        help="container image (default: the one measured in, else the engine's official one)",
    )


def execute(arguments: argparse.Namespace) -> int:
    from orchestrator.load_run import load_run
    from tracking.layout import find_run

    layout = find_run(arguments.run or arguments.results, arguments.results)
    data = load_run(layout)
    if arguments.to in _STUDIES:
        return _export_study(arguments, data, layout)
    return _export_trial(arguments, data)


def _export_trial(arguments: argparse.Namespace, data: RunData) -> int:
    from orchestrator.cli.stdout import write
    from tracking.export._deployment import chosen_trial, deployment_of

    target = _target(arguments.to)
    settings = _settings(arguments, target, data)
    path = _place(arguments.out, target.filename)
    deployment = deployment_of(data, chosen_trial(data, arguments.trial or "best"))
    text = target.render(deployment, settings)
    _warn(deployment)
    if path is None:
        write(text)
        return 0
    _write_file(path, text, arguments.out)
    write(f"wrote {path}\nuse it by: {target.use.replace('{file}', str(path))}\n")
    return 0


def _target(name: str) -> Target:
    from runtimes.errors import UnknownNameError
    from runtimes.registry import unknown_name
    from tracking.export.base import TARGETS, create_target

    if name not in TARGETS:
        raise UnknownNameError(unknown_name("target", name, [*TARGETS, *_STUDIES]))
    return create_target(name)


def _settings(arguments: argparse.Namespace, target: Target, data: RunData) -> Settings:
    from runtimes.errors import UserError
    from tracking.export._checks import check_host, check_image
    from tracking.export._deployment import label
    from tracking.export.base import Settings

    given = {name: getattr(arguments, name) for name in _OPTIONS}
    chosen = {name: value for name, value in given.items() if value is not None}
    for name in chosen:
        if name not in target.options:
            heeded = ", ".join(f"--{option}" for option in sorted(target.options))
            raise UserError(f"--{name}: --to {target.name} has no use for it; it takes {heeded}")
    for name in ("name", "namespace"):
        value = getattr(arguments, name)
        if value is not None and label(value) != value:
            raise UserError(
                f"--{name} {value!r}: has to be lower-case letters, digits and dashes, begin with "
                f"a letter and have at most 50 characters, as {label(value)!r}"
            )
    if "host" in chosen:
        check_host(arguments.host)
    if "image" in chosen:
        check_image(arguments.image)
    return Settings(name=arguments.name or label(data.name), **chosen)


def _export_study(arguments: argparse.Namespace, data: RunData, layout: RunLayout) -> int:
    from orchestrator.cli.stdout import write
    from runtimes.errors import UserError

    for name in ("trial", *_OPTIONS):
        if getattr(arguments, name) is not None:
            raise UserError(f"--{name}: --to {arguments.to} takes the whole study")
    if not data.trials:
        raise UserError(f"{data.run}: no trial has ended yet, so there is nothing to export")
    if arguments.to == "optuna":
        from tracking.export.to_optuna import export_optuna

        done = export_optuna(data, arguments.out or "optuna.db", name=arguments.name)
    else:
        from tracking.export.to_mlflow import export_mlflow

        done = export_mlflow(data, layout, arguments.out, name=arguments.name)
    write(done + "\n")
    return 0


def _warn(deployment: Deployment) -> None:
    for warning in deployment.warnings:
        print(f"servetune: trial {deployment.trial}: {warning}", file=sys.stderr)


def _place(out: str | None, filename: str) -> Path | None:
    """The file that `out` means: a folder gets the target's usual name; None prints."""
    from runtimes.errors import UserError
    from tracking.export._checks import check_folder

    if out is None:
        return None
    path = Path(out)
    try:
        inside = path.is_dir() or out.endswith("/")
    except OSError as error:  # a name that is too long
        raise UserError(f"--out {out}: cannot be written: {error.strerror}") from None
    path = path / filename if inside else path
    check_folder(out, path.parent)
    return path


def _write_file(path: Path, text: str, out: str) -> None:
    """Complete or not at all; a script may be run."""
    from runtimes.errors import UserError
    from tracking.files import write_atomically

    try:
        write_atomically(path, text.encode())
        if text.startswith("#!") and path.is_file():
            path.chmod(path.stat().st_mode | 0o111)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written: {error.strerror}") from None


def _port(text: str) -> int:
    return _within(text, 1, 65535)


def _count(text: str) -> int:
    from tracking.export._checks import MAX_REPLICAS

    return _within(text, 1, MAX_REPLICAS)


def _within(text: str, low: int, high: int) -> int:
    if not text.isdecimal() or len(text) > 9 or not low <= int(text) <= high:
        raise argparse.ArgumentTypeError(f"has to be a number from {low} to {high:,}, got {text!r}")
    return int(text)
