"""What a plot is: a title, the table that it draws, and a figure as plotly's JSON."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from runtimes.registry import Registry
from tracking.run_data import RunData

Cell: TypeAlias = str | int | float | bool | None
Figure: TypeAlias = Mapping[str, Any]
"""`data` and `layout` as plotly.js takes them; values are JSON."""


@dataclass(frozen=True, slots=True)
class Table:
    """The values of a plot, in the order in which a reader wants them.

    Attributes:
        columns: names with their units, as in the record (`ttft_p99_ms`).
        rows: as long as `columns` each; None where a value is not known.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Drawn:
    """A plot of one run.

    Attributes:
        caption: what it shows of this run and how to read it, a sentence or two.
        table: every value drawn.
        figure: the drawing, without the title, which the page around it has.
    """

    caption: str
    table: Table
    figure: Figure


class Plot(ABC):
    """One kind of plot. Stateless.

    Class attributes:
        name: the registered name; stem of its PNG and CSV.
        title: its heading.
        position: plots stand in the report in the order of this number.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    position: ClassVar[int]

    @abstractmethod
    def draw(self, data: RunData) -> Drawn | None:
        """The plot of `data`; None where the run holds nothing that it could show."""


PLOTS: Registry[type[Plot]] = Registry("plot", package="tracking.plots", group="servetune.plots")
"""Every plot by name."""


def draw_all(data: RunData) -> list[tuple[type[Plot], Drawn]]:
    """Every plot that `data` has something for, in the order of the report."""
    kinds = sorted((PLOTS.get(name) for name in PLOTS.names()), key=lambda kind: kind.position)
    drawn = ((kind, kind().draw(data)) for kind in kinds)
    return [(kind, result) for kind, result in drawn if result is not None]
