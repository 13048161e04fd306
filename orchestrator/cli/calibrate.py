"""calibrate: measure what this node's kernels reach, with the torch of an engine's environment.

GEMM, attention, copies and all-reduce, in a few minutes, on free GPUs or else on the CPU. The
file it writes goes under `cluster.curves` of an experiment or to `servetune predict --curves`,
and replaces the built-in figures of its accelerator.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.arguments import add_json

if TYPE_CHECKING:
    from runtimes.calibration.run import Calibration, Event
    from runtimes.hardware import Accelerator

_MOST_RANKS = 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--environment", required=True, metavar="PYTHON",
        help="an engine's interpreter, its virtual environment's folder, or X.yaml:ENGINE",
    )  # fmt: skip
    parser.add_argument(
        "--accelerator", metavar="NAME",
        help="what to call what is measured (default: as the driver calls it, or cpu)",
    )  # fmt: skip
    parser.add_argument(
        "--ranks", metavar="N,…",
        help="groups to measure all-reduce in (default: 2, 4, … up to the free GPUs; 2 on a CPU)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, metavar="FILE",
        help="where to write (default: curves-ACCELERATOR-….json here)",
    )  # fmt: skip
    parser.add_argument(
        "--hardware-yaml", type=Path, metavar="FILE",
        help="also write the accelerator down, for `servetune predict --hardware`",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="fewer sizes")
    add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    import asyncio
    import os
    from dataclasses import replace

    from orchestrator.calibration import environment_called, free_devices
    from orchestrator.cli.calibrate_view import Screen, print_calibration
    from orchestrator.cli.options import whole_numbers
    from orchestrator.node_curves import check_writable, write_curves, write_hardware
    from runtimes.calibration.run import calibrate

    ranks = arguments.ranks and whole_numbers("--ranks", arguments.ranks, most=_MOST_RANKS)
    for path in filter(None, (arguments.out, arguments.hardware_yaml)):
        check_writable(path)
    environment = environment_called(arguments.environment)
    target = _Target(arguments)
    with Screen() as screen:

        def on_event(event: Event) -> None:
            target.check(event)
            screen.on_event(event)

        calibration = asyncio.run(
            calibrate(
                environment,
                env=os.environ,
                visible_devices=free_devices(),
                ranks=ranks,
                quick=arguments.quick,
                on_event=on_event,
                on_progress=screen.say,
            )
        )
    curves = replace(calibration.curves, accelerator=target.accelerator)
    calibration = replace(calibration, curves=curves)
    write_curves(target.path, curves)
    if arguments.hardware_yaml is not None:
        write_hardware(arguments.hardware_yaml, calibration, target.known)
    if arguments.json:
        _print_document(calibration, target)
    else:
        print_calibration(calibration, target.path, arguments.hardware_yaml)
    return 0


class _Target:
    """What is written, and where; known once the device is, before anything is measured."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self.accelerator = ""
        self.known: Accelerator | None = None
        self.path = Path()

    def check(self, event: Event) -> None:
        """Raises: UserError: a file there would be lost."""
        from orchestrator.calibration import known_accelerator
        from orchestrator.node_curves import check_replaceable, check_writable, default_path
        from runtimes.calibration.run import Device
        from runtimes.errors import UserError

        if not isinstance(event, Device):
            return
        named = self._arguments.accelerator
        self.known = known_accelerator(event, named)
        self.accelerator = self.known.name if self.known else named or event.accelerator
        self.path = self._arguments.out or default_path(self.accelerator, event)
        check_writable(self.path)
        check_replaceable(self.path, self.accelerator)
        hardware = self._arguments.hardware_yaml
        if hardware is not None and hardware.exists():
            raise UserError(f"{hardware}: is there already; name another file")


def _print_document(calibration: Calibration, target: _Target) -> None:
    import json

    from orchestrator.cli.documents import print_json
    from orchestrator.node_curves import hardware_entry
    from runtimes.node_curves import dump_curves

    print_json(
        {
            "out": str(target.path),
            "accelerator": target.accelerator,
            "hardware": hardware_entry(calibration, target.known),
            "curves": json.loads(dump_curves(calibration.curves)),
        }
    )
