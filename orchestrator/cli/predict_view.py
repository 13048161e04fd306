"""What a human sees of predictions: one in full, several as a table with the best first."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orchestrator.cli.console import Stdout
from orchestrator.what_if import Point, WhatIf
from orchestrator.what_if_document import figures_of, shares_of
from tracking.words import count, figure, parameter

if TYPE_CHECKING:
    from search.perfmodel.answer import Memory, PhaseCost, Prediction
    from search.perfmodel.disaggregated import DisaggregatedPrediction
    from search.perfmodel.question import Load

_GIB = float(1 << 30)
_OTHERS = 8
"""Rows of each list below the table; `--json` has them all."""
_WIDE = 100
"""Columns from which on a table says what decoding waits for."""
_LABELS = {
    "ttft_ms": ("time to first token", "ms"),
    "tpot_ms": ("time per output token", "ms"),
    "e2e_ms": ("whole request", "ms"),
    "output_throughput": ("output", "tokens/s"),
    "output_throughput_per_gpu": ("output per GPU", "tokens/s"),
}
_Column = tuple[str, Callable[[Point], str]]


def print_points(asked: WhatIf, points: Sequence[Point], *, limit: int) -> None:
    """Print `points`, best first, to stdout; of a table at most `limit` rows."""
    console = Stdout()
    for line in _head(asked, points):
        console.print(line)
    if len(points) == 1 and points[0].prediction is not None:
        _print_one(console, points[0], points[0].prediction)
    else:
        _print_table(console, points, limit)
        _print_others(console, points)
    _print_notes(console, asked, points)


def _head(asked: WhatIf, points: Sequence[Point]) -> Iterator[str]:
    """What is asked: the model, what all points share, the load."""
    model = asked.model
    size = f"{model.parameters / 1e9:.3g} B parameters"
    if model.is_moe:
        size += f", {model.active_parameters / 1e9:.3g} B active"
    yield f"[bold]{escape(asked.name)}[/] ({size})"
    shared = [_shared(name, read(points[0])) for name, read in _COLUMNS if not _vary(points, read)]
    if not _vary(points, _gpus):
        shared.append(count(points[0].gpus, "GPU"))
    if shared:
        yield escape(", ".join(shared))
    yield escape(", ".join(_load_words(points)))
    if asked.args:
        words = " ".join(f"{name}={parameter(value)}" for name, value in asked.args.items())
        yield escape(f"with {words}")


def _shared(name: str, value: str) -> str:
    """What stands above the table instead of in a column of it."""
    return value if name in ("engine", "accelerator", "layout") else f"{name} {value}"


def _load_words(points: Sequence[Point]) -> Iterator[str]:
    load = points[0].load
    yield f"{load.input_tokens:,.0f} tokens in, {load.output_tokens:,.0f} out"
    if load.prefix_hit:
        yield f"{load.prefix_hit:.0%} of each prompt cached"
    if load.saturated:
        yield "more requests than can run"
    elif not _vary(points, _sent):
        yield f"{_sent(points[0])} {_SENT[load.concurrency is None]}"


def _sent(point: Point) -> str:
    load = point.load
    value = load.request_rate if load.concurrency is None else load.concurrency
    return "" if value is None else f"{value:,g}"


_SENT = {False: "requests in flight", True: "requests arrive a second"}
_COLUMNS: tuple[_Column, ...] = (
    ("engine", lambda point: point.engine),
    ("accelerator", lambda point: point.accelerator),
    ("layout", lambda point: str(point.layout)),
    ("precision", lambda point: point.precision),
)


def _gpus(point: Point) -> str:
    return str(point.gpus)


def _vary(points: Sequence[Point], read: Callable[[Point], str]) -> bool:
    return len({read(point) for point in points}) > 1


# --- one point -------------------------------------------------------------------------------


def _print_one(console: Console, point: Point, found: Prediction) -> None:
    console.print()
    if not found.memory.fits:
        console.print(f"[red]Does not fit:[/] {escape(_shortage(point, found.memory))}.\n")
        console.print(_memory(found.memory))
        return
    if not found.stable:
        console.print(
            f"[red]Cannot keep up:[/] {figure(point.load.request_rate)} requests arrive a second "
            f"and {figure(found.request_throughput)} can be served.\n"
        )
    console.print(_figures(found, point.load))
    console.print()
    if point.pools is None:
        console.print(_memory(found.memory))
    else:
        _print_pools(console, point.pools)
    console.print()
    for name, cost in (("one prompt", found.prefill), ("one decode step", found.decode)):
        console.print(f"{name:<16}{_phase(cost)}")
    console.print(f"{'running':<16}{_running(found, point.load)}")


def _figures(found: Prediction, load: Load) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in ("", "predicted", "", "90 % interval"):
        table.add_column(header, justify="right" if header == "predicted" else "left")
    for name, value, low, high in figures_of(found, load):
        label, unit = _LABELS[name]
        bounds = "" if math.isinf(value) else f"{figure(low)} – {figure(high)}"
        table.add_row(label, _figure(value), unit, bounds)
    return table


def _print_pools(console: Console, pools: DisaggregatedPrediction) -> None:
    """What each pool sustains, which is the slower one, and the memory of both."""
    rates = {"prefill": pools.prefill_rate, "decode": pools.decode_rate}
    for name, rate in rates.items():
        slower = ", the slower pool" if pools.prefill_limits is (name == "prefill") else ""
        console.print(f"{name:<16}at most {figure(rate)} requests/s{slower}")
    console.print(
        f"{'KV cache':<16}{figure(pools.transfer_bytes / _GIB)} GiB a request and rank, "
        f"{figure(pools.transfer_ms)} ms on its way"
    )
    words = "engines for prompts per engine that decodes: as much from both"
    console.print(f"{'balance':<16}{figure(pools.balance)} {words}\n")
    console.print(_memory(pools.prefill.memory, "prefill: memory of a GPU"))
    console.print()
    console.print(_memory(pools.decode.memory, "decode: memory of a GPU"))


def _memory(memory: Memory, title: str = "memory of a GPU") -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in (title, "GiB", ""):
        table.add_column(header, justify="right" if header == "GiB" else "left")
    for name in ("weights", "activations", "collectives", "runtime"):
        table.add_row(name, _gib(getattr(memory, name)), "")
    budget = max(memory.kv_budget, 0.0)
    words = f"of {_gib(budget)} that the engine's rule leaves"
    table.add_row("KV cache", _gib(memory.kv_cache), words)
    table.add_row("capacity", _gib(memory.capacity), _largest(memory))
    return table


def _largest(memory: Memory) -> str:
    if not memory.fits or math.isinf(memory.max_sequences):
        return ""
    return f"{count(int(memory.max_sequences), 'whole request')} fit at once a replica"


def _phase(cost: PhaseCost) -> str:
    shares = [f"{name} {share:.0%}" for name, share in shares_of(cost).items() if share >= 0.005]
    return f"{figure(cost.seconds * 1e3)} ms: {', '.join(shares)}"


def _running(found: Prediction, load: Load) -> str:
    running = f"{found.running:,.0f}" if found.running >= 10 else figure(found.running)
    words = f"{running} requests at once a replica"
    if load.saturated or math.isinf(found.waiting_ms):
        return words
    return f"{words}; each waits {figure(found.waiting_ms)} ms before it is computed"


# --- several ---------------------------------------------------------------------------------


def _print_table(console: Console, points: Sequence[Point], limit: int) -> None:
    served = [point for point in points if point.serves]
    if not served:
        return
    names = [(name, read) for name, read in _COLUMNS if _vary(points, read)]
    if _vary(points, _sent):
        names.append(("sent" if points[0].load.concurrency is None else "in flight", _sent))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, read in names:
        table.add_column(name, justify="right" if read is _sent else "left", no_wrap=True)
    wide = console.width >= _WIDE
    for name in ("GPUs", "TTFT ms", "TPOT ms", "tokens/s", "per GPU", "±"):
        table.add_column(name, justify="right", no_wrap=True)
    if wide:
        table.add_column("decode waits for", no_wrap=True)
    for point in served[:limit]:
        found = point.prediction
        assert found is not None  # it serves
        bottleneck = (found.decode.bottleneck.value,) if wide else ()
        cells = (*map(escape, (read(point) for _, read in names)), *_cells(found), *bottleneck)
        table.add_row(*cells)
    console.print()
    console.print(table)
    if len(served) > limit:
        console.print(f"… and {len(served) - limit:,} more; --limit or --json shows them")


def _cells(found: Prediction) -> tuple[str, ...]:
    per_gpu = f"[bold]{figure(found.output_throughput_per_gpu)}[/]"
    return (
        str(found.gpus),
        _figure(found.ttft_ms),
        figure(found.tpot_ms),
        figure(found.output_throughput),
        per_gpu,
        f"{found.uncertainty:.0%}{'*' if found.extrapolates else ' '}",
    )


def _print_others(console: Console, points: Sequence[Point]) -> None:
    """What cannot be served: too large, with how much is lacking, and refused, with the reason."""
    memories = {
        tuple(read(point) for _, read in _COLUMNS): (point, point.prediction.memory)
        for point in points
        if point.prediction is not None and not point.serves
    }
    lacking = list(memories.values())  # the number of requests changes nothing about one
    if lacking:
        console.print(f"\n[red]Do not fit[/], {count(len(lacking), 'deployment')}:")
    for point, memory in lacking[:_OTHERS]:
        words = ", ".join(read(point) for _, read in _COLUMNS if _vary(points, read))
        prefix = f"{words}: " if words else ""
        console.print(f"  {escape(f'{prefix}{_shortage(point, memory)}')}")
    if len(lacking) > _OTHERS:
        console.print(f"  … and {len(lacking) - _OTHERS:,} more; --json has them all")
    refused = Counter(
        (point.engine, point.refusal.message) for point in points if point.refusal is not None
    )
    if refused and len(points) == 1:
        console.print(f"\n[red]Refused:[/] {escape(next(iter(refused))[1])}")
        return
    if refused:
        console.print(f"\n[red]Refused[/], {count(refused.total(), 'combination')}:")
    for (engine, message), number in refused.most_common(_OTHERS):
        prefix = "" if message.startswith(engine) else f"{engine}: "
        console.print(f"{number:>6,}  {escape(f'{prefix}{message}')}")
    if len(refused) > _OTHERS:
        console.print(f"  … and {len(refused) - _OTHERS:,} more reasons; --json has them all")


def _shortage(point: Point, memory: Memory) -> str:
    """What does not fit, and the argument that asks for less where it is the engine's limit."""
    from search.perfmodel.shortage import shortage_words

    load = point.load.input_tokens + point.load.output_tokens
    words = shortage_words(memory, point.engine, load)
    helps = memory.one_tokens > load and memory.one_kv > memory.short_by
    return f"{words}; --arg max-model-len=N asks for less" if helps else words


def _print_notes(console: Console, asked: WhatIf, points: Sequence[Point]) -> None:
    served = [point.prediction for point in points if point.prediction is not None]
    reasons = Counter(reason for found in served for reason in found.extrapolates)
    if reasons:
        console.print()
    single = len(points) == 1
    for reason, number in reasons.most_common(_OTHERS):
        among = "" if single else f" ({number:,} of {len(served):,})"
        star = "" if single else "* "
        console.print(f"[yellow]{star}extrapolates[/]  {escape(reason)}{among}")
    idle = dict.fromkeys(
        f"{point.engine}: {name}" if len({each.engine for each in points}) > 1 else name
        for point in points
        for name in point.without_effect
    )
    if idle:
        console.print(f"[yellow]no effect[/]  nothing here depends on {escape(', '.join(idle))}")
    if any(point.drafts for point in points):
        share = f"{asked.acceptance:.0%} of drafted tokens are accepted"
        console.print(f"[yellow]assumes[/]  {share}; --acceptance says otherwise")
    if any(not found.stable for found in served) and not single:
        console.print("∞ requests arrive faster than they can be served")


def _figure(value: float) -> str:
    return "[red]∞[/]" if math.isinf(value) else figure(value)


def _gib(size: float) -> str:
    return figure(size / _GIB)
