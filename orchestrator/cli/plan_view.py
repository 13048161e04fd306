"""What a human sees of a plan: counts, reasons, layouts by engine, trials, their commands."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orchestrator.cli import words
from orchestrator.cli.console import Stdout
from orchestrator.mapping import Mapped, MappedRow
from orchestrator.planning import Plan, PlannedTrial
from runtimes.plan import PLACEHOLDERS, pasted
from search.expansion import Excluded
from search.perfmodel.expected import FIGURES
from tracking.report_predictions import estimate_words
from tracking.words import count, figure, objective_words

_TRIALS = 20
_REASONS = 12
_LAYOUTS = 12
_NOTES = 8
_LED = 12
"""Rows shown at most; `--json` has them all."""


_ALWAYS_SHOWN = ("output_throughput", "ttft_mean_ms", "tpot_mean_ms")
"""Objectives that stand among the figures of every combination."""


def print_plan(made: Plan) -> None:
    """Print `made` to stdout, in bounded length."""
    console = Stdout()
    for line in (*_counts(made), *_reasons(made), "", *_order(made), *_load(made)):
        console.print(line)
    rows = list(_rows(made))
    if not rows:
        return
    _print_layouts(console, made.mapped)
    console.print()
    console.print(_table(made, rows))
    for line in _predictions(made):
        console.print(line)
    if left := _left_out(made, rows):
        console.print(f"… and {left:,} more; `--json --limit {left + len(rows)}` lists them")
    _print_commands(console, rows)
    _print_notes(console, made)


def _counts(made: Plan) -> Iterator[str]:
    name = f"[bold]{escape(made.name)}[/]"
    if made.valid is None:
        size = "no end of combinations" if made.size is None else f"{made.size:,} combinations"
        yield f"{name}: {size}, too many to be checked one by one"
        return
    yield f"{name}: {count(made.size or 0, 'combination')}"
    yield f"{made.valid:>8,}  valid"
    yield f"{made.duplicates:>8,}  duplicates of the command of an earlier one"
    yield f"{sum(made.excluded.values()):>8,}  excluded"


def _reasons(made: Plan) -> Iterator[str]:
    if made.drawn:
        yield f"None was found to launch. Of {count(made.drawn, 'combination')} drawn at random:"
    ordered = sorted(made.rules, key=lambda rule: (-rule.count, rule.engine, rule.rule))
    for rule in ordered[:_REASONS]:
        engine = "" if rule.message.startswith(rule.engine) else f"{rule.engine}: "
        yield f"{rule.count:>18,}  {escape(f'{engine}{rule.message}')}{_named(rule)}"
    if len(ordered) > _REASONS:
        yield f"{'…':>18}  and {count(len(ordered) - _REASONS, 'more reason')}; --json has them all"


def _named(rule: Excluded) -> str:
    """The rule's own name, where its message does not say it."""
    return f" [dim]({escape(rule.rule)})[/]" if rule.rule.isidentifier() else ""


def _order(made: Plan) -> Iterator[str]:
    if made.baselines:
        engines = ", ".join(trial.params.engine for trial in made.baselines)
        yield f"First the baseline: the defaults of {escape(engines)}."
    else:
        yield "No baseline runs first."
    if made.nothing_to_run:
        yield "[red]No combination is valid[/]: loosen what excludes them."
        return
    if made.valid is None:
        choice = "proposes; these come first as long as it knows no result"
    else:
        choice = "takes them in this order" if made.sampler == "grid" else "chooses among these"
    total = "all of them" if made.budget is None else f"{count(made.budget, 'trial')} in all"
    yield f"Then sampler {made.sampler} {choice}; the budget allows {total}."
    if led := _led(made):
        yield f"It begins with the predicted best: {led}."


def _led(made: Plan) -> str:
    """The combinations with which the search begins, in order, numbered as they are listed."""
    others = [trial for trial in made.trials if not trial.baseline]
    led = [(trial.warm_start, number) for number, trial in enumerate(others, start=1)]
    numbers = [str(number) for place, number in sorted((a or 0, b) for a, b in led) if place]
    more = f" and {len(numbers) - _LED} more" if len(numbers) > _LED else ""
    return ", ".join(numbers[:_LED]) + more


def _load(made: Plan) -> Iterator[str]:
    """What each trial sends: the first line behind a title, the others below it."""
    title = "Load: "
    for index, line in enumerate(made.load):
        yield escape(f"{'' if index else title:{len(title)}}{line}")


def _rows(made: Plan) -> Iterator[tuple[str, PlannedTrial]]:
    """Marked trials: baselines, then combinations (counted from 1) or proposals."""
    for trial in made.baselines:
        yield "baseline", trial
    others = [trial for trial in made.trials if not trial.baseline]
    for index, trial in enumerate(others[: _TRIALS - len(made.baselines)], start=1):
        yield str(index), trial


def _left_out(made: Plan, rows: Sequence[tuple[str, PlannedTrial]]) -> int:
    proposed = sum(not trial.baseline for trial in made.trials)
    total = proposed if made.valid is None else made.valid
    return total - sum(not trial.baseline for _, trial in rows)


def _table(made: Plan, rows: Sequence[tuple[str, PlannedTrial]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("engine", no_wrap=True)
    table.add_column("GPUs", justify="right", no_wrap=True)
    predicted = any(trial.expected is not None for _, trial in rows)
    goal = "" if made.goal in _ALWAYS_SHOWN else objective_words(made.goal)
    for heading in ("TTFT ms", "TPOT ms", "tokens/s", goal, "GPU-hours") if predicted else ():
        if heading:
            table.add_column(heading, justify="right")
    table.add_column("parameters")
    for mark, trial in rows:
        values = escape(words.parameters(trial.params.values))
        cells = _predicted(trial, goal=bool(goal)) if predicted else ()
        table.add_row(mark, trial.params.engine, str(trial.plan.gpus), *cells, values)
    return table


def _predicted(trial: PlannedTrial, *, goal: bool) -> Iterator[str]:
    """The figures of `_table`: a dash where nothing is predicted, ∞ for what has no end."""
    expected = trial.expected
    for name in FIGURES:
        if expected is None:
            yield "-"
            continue
        estimate = expected.figures()[name]
        yield "[red]∞[/]" if math.isinf(estimate.value) else estimate_words(estimate)
    if goal:
        yield "-" if trial.goal is None else figure(trial.goal)
    yield "-" if trial.gpu_hours is None else f"{trial.gpu_hours:.2g}"


def _predictions(made: Plan) -> Iterator[str]:
    """What ∞ stands for, what all trials are expected to take, why nothing is predicted of some."""
    listed = (trial.expected for trial in (*made.baselines, *made.trials))
    if any(expected is not None and not expected.stable for expected in listed):
        yield "∞ requests arrive faster than they can be served"
    if made.gpu_hours is not None:
        yield f"Expected in all: {made.gpu_hours:.2g} GPU-hours. Latencies are means."
    for reason, trials in made.unpredicted.items():
        yield f"Not predicted: {escape(reason)} ({count(trials, 'trial')})."


def _print_layouts(console: Console, mapped: Sequence[MappedRow]) -> None:
    """What each engine makes of each layout and precision, engines side by side."""
    table = Table(box=None, pad_edge=False)
    table.add_column("layout and precision")
    for engine in mapped[0].engines:
        table.add_column(engine, overflow="fold")
    for row in mapped[:_LAYOUTS]:
        table.add_row(escape(row.words), *map(_cell, row.engines.values()))
    console.print("\nWhat each layout and precision is to each engine, arguments and GPUs:")
    console.print(table)
    if len(mapped) > _LAYOUTS:
        console.print(f"… and {len(mapped) - _LAYOUTS:,} more; --json has them all")


def _cell(mapped: Mapped) -> str:
    if mapped.refused:
        return f"[red]no:[/] {escape(mapped.refused)}"
    lines = [shlex.join(option) for option in mapped.arguments]
    lines += [f"{name}: {line}" for name, added in mapped.files.items() for line in added]
    takes = count(mapped.gpus, "GPU")
    if mapped.servers > 1:
        takes += f" in {count(mapped.servers, 'server')}"
    if mapped.nodes > 1:
        takes += f" over {mapped.nodes} nodes"
    return escape("\n".join([*lines, f"({takes})"]))


def _print_notes(console: Console, made: Plan) -> None:
    """What engines say of their mapping, and what may cost accuracy."""
    planned = [*made.baselines, *(trial for trial in made.trials if not trial.baseline)]
    notes = Counter(note for trial in planned for note in trial.plan.notes)
    notes.update(f"may cost accuracy: {words}" for trial in planned for words in trial.plan.lossy)
    over_nodes = sum(any(process.node for process in trial.plan.processes) for trial in planned)
    if over_nodes:
        notes["this version plans servers over several nodes and launches none of them"] = (
            over_nodes
        )
    if notes or made.notes:
        console.print()
    for note in made.notes:
        console.print(f"[yellow]note[/]  {escape(note)}")
    listed = len(planned)
    every = made.valid is not None and listed == made.valid + len(made.baselines)
    among = "" if every else f" of the {listed:,} listed"
    for note, trials in notes.most_common(_NOTES):
        console.print(f"[yellow]note[/]  {escape(note)} ({count(trials, 'trial')}{among})")
    if len(notes) > _NOTES:
        console.print(f"… and {count(len(notes) - _NOTES, 'more note')}; --json has them all")


def _print_commands(console: Console, rows: Sequence[tuple[str, PlannedTrial]]) -> None:
    simulated = any(trial.plan.simulated for _, trial in rows)
    console.print("\nCommands; servetune fills in {host} and {port}.")
    if simulated:
        console.print(
            "[yellow]Simulated trials[/] start a simulator that stands in for the command shown; "
            "--json has its own command too."
        )
    for mark, trial in rows:
        console.print(f"[dim]{mark:>8}[/]  {escape(_command(trial))}")
        for process in trial.plan.processes:
            if process.node:
                command = _spelled(process.argv)
                console.print(f"[dim]{f'node {process.node}':>8}[/]  {escape(command)}")


def _command(trial: PlannedTrial) -> str:
    """The command in one line, its variables first, placeholders as they are."""
    plan = trial.plan
    # What an engine reads from a file stands in the command that users paste, and only there.
    written = any(process.files for process in plan.processes)
    argv = plan.deploy if plan.simulated or written else plan.argv
    if plan.attach:
        return f"(none: {plan.attach} is measured as it runs)"
    variables = [f"{name}={shlex.quote(value)}" for name, value in plan.env.items()]
    return " ".join([*variables, _spelled(argv)])


def _spelled(argv: Sequence[str]) -> str:
    """The command as a shell takes it, placeholders as they are."""
    return " ".join(part if part in PLACEHOLDERS else shlex.quote(part) for part in pasted(argv))
