"""A calibration on the terminal: as it goes on, and what came of it."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orchestrator.cli.console import Stdout
from orchestrator.cli.stderr import tell
from orchestrator.logs import as_json
from orchestrator.node_curves import bus_bytes_per_s
from runtimes.calibration.run import Begun, Calibration, Device, Event, Failed, Figure

if TYPE_CHECKING:
    from rich.status import Status

    from runtimes.node_curves import Curve, NodeCurves

_GIB, _MIB = 1 << 30, 1 << 20


class Screen:
    """Progress on stderr: a line for each kernel, and on a terminal how far the current one is."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._stack = ExitStack()
        self._status: Status | None = None
        self._part = ""
        self._points = 0
        self._done = 0

    def __enter__(self) -> Screen:
        if self._console.is_terminal and not as_json():
            self._status = self._stack.enter_context(self._console.status("starting"))
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def say(self, words: str, markup: str | None = None) -> None:
        """`markup` is the same with colours, for a terminal."""
        if as_json():
            tell(words)
        else:
            self._console.print(escape(words) if markup is None else markup)

    def on_event(self, event: Event) -> None:
        if isinstance(event, Device):
            memory = f"{event.memory_bytes / _GIB:.0f} GiB"
            software = ", ".join(f"{name} {each}" for name, each in event.software.items())
            self.say(f"device   {event.name}, {memory}, {software}")
        elif isinstance(event, Begun):
            self.say(f"measure  {event.part}")
            self._part, self._points, self._done = event.part, event.points, 0
        elif isinstance(event, Figure):
            self._done += 1
        elif isinstance(event, Failed):
            words = f"{event.part}: {event.reason}"
            self.say(f"missing  {words}", f"[yellow]missing[/]  {escape(words)}")
        if self._status is not None:
            self._status.update(f"{escape(self._part)}  {self._done} of {self._points}")


def print_calibration(calibration: Calibration, path: Path, hardware: Path | None) -> None:
    """What was measured, and how to use it."""
    curves = calibration.curves
    console = Stdout()
    console.print(f"[bold]{escape(curves.accelerator)}[/]")
    console.print(_rates(curves))
    if curves.decode_attention_s or curves.all_reduce_s:
        console.print(_times(curves))
    console.print(f"wrote {escape(str(path))}", highlight=False)
    use = f"  cluster: {{curves: [{path}]}}, or servetune predict MODEL --curves {path}"
    if hardware is not None:
        console.print(f"wrote {escape(str(hardware))}")
        use += f" --hardware {hardware} --accelerator {curves.accelerator}"
    console.print(escape(use))


def _rates(curves: NodeCurves) -> Table:
    table = _table("", "highest", "by size")
    table.add_row("copy", f"{curves.copy_bytes_per_s / 1e9:.4g} GB/s", "read and written")
    rates = {f"gemm {name}": curve for name, curve in curves.gemm_flops.items()}
    if curves.prefill_attention_flops:
        rates["prefill attention"] = curves.prefill_attention_flops
    for name, curve in rates.items():
        highest = max(rate for _, rate in curve)
        points = "  ".join(f"{size:.0f}: {rate / 1e12:.3g}" for size, rate in curve)
        table.add_row(name, f"{highest / 1e12:.4g} TFLOP/s", f"tokens: {points}")
        read = curves.gemm_bytes_per_s.get(name.removeprefix("gemm "))
        if read is not None:
            table.add_row("", f"{read / 1e9:.4g} GB/s", "of weights, at 32 tokens and fewer")
    return table


def _times(curves: NodeCurves) -> Table:
    table = _table("", "highest", "microseconds by size")
    if curves.decode_attention_s:
        highest = max(size / took for size, took in curves.decode_attention_s)
        table.add_row("decode attention", _bandwidth(highest), _by_size(curves.decode_attention_s))
    for ranks, curve in curves.all_reduce_s.items():
        bus = _bandwidth(bus_bytes_per_s(curves, ranks))
        table.add_row(f"all-reduce of {ranks}", bus, _by_size(curve))
    return table


def _bandwidth(bytes_per_s: float) -> str:
    return f"{bytes_per_s / 1e9:.4g} GB/s"


def _by_size(curve: Curve) -> str:
    return "  ".join(f"{size / _MIB:.4g} MiB: {took * 1e6:.4g}" for size, took in curve)


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading)
    return table
