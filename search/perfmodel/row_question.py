"""A row of a table of measurements as a question, and what every kind of row says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from runtimes.hardware import Accelerator
from runtimes.model import ModelFacts
from runtimes.serving_limits import ServingLimits
from search.perfmodel.configure import ACCEPTANCE
from search.perfmodel.question import Configuration, Load, Question, Speculation
from search.perfmodel.row_formats import RowFormats
from search.perfmodel.row_layouts import (
    RowDegrees,
    UnreadableLayoutError,
    number,
    spread_of_degrees,
)
from search.perfmodel.row_settings import default_limits

_DRAFTS = 3
"""Tokens drafted per step where a row says no more than `mtp`: those of InferenceX's scripts."""
_DRAFTING_RUNS = (
    ("tensorrt_llm", "1.2.0rc6.post3", "measured 2026-02"),
    ("tensorrt_llm", "1.1.0rc2.post2", "measured 2026-01"),
)
"""Engine, version and date of InferenceX runs that draft tokens although the table leaves it out:
the same deployments stand in it once more, of other dates, at up to twice the time per token."""


class RowKind(Enum):
    """How a row's requests came; decides what its figures mean."""

    CLOSED_LOOP = "closed loop"
    OFFLINE = "offline"
    OPEN_LOOP = "open loop"
    STATIC_BATCH = "static batch"
    PREFILL = "prefill only"
    DISAGGREGATED = "disaggregated"
    UNDER_LIMITS = "rate under limits on latency"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowQuestion:
    """A row, as the model can be asked.

    Attributes:
        question: the deployment and its load.
        kind: how the requests came.
        extrapolates: what about the row itself no measurement stands behind, in words.
        prefill: where prompts are computed when that is elsewhere; `question` then is of the
            deployment that decodes.
        tpot_limit_ms: of `UNDER_LIMITS`: the time per output token that had to be kept.
    """

    question: Question
    kind: RowKind
    extrapolates: tuple[str, ...] = ()
    prefill: Configuration | None = None
    tpot_limit_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Unpredictable:
    """Why there is no answer to a row."""

    reason: str


class NoAnswerError(Exception):
    """A row that cannot be asked; the message is the reason."""


@dataclass(frozen=True, slots=True)
class CommonRow:
    """What every kind of row says.

    Attributes:
        row: its columns.
        caveats: what no measurement stands behind.
    """

    row: Mapping[str, str]
    engine: str
    formats: RowFormats
    accelerator: Accelerator
    caveats: tuple[str, ...]

    @property
    def model(self) -> ModelFacts:
        return self.formats.model

    @property
    def from_sweep(self) -> bool:
        """True for rows that come from InferenceX."""
        return self.row["source"].startswith("inferencemax") or "InferenceX" in self.row["note"]

    @property
    def drafts(self) -> bool:
        """True where the run drafted tokens with the model's own layers for it."""
        note = self.row["note"]
        if "spec_decoding=mtp" in note:
            return True
        return (
            self.from_sweep
            and self.model.mtp_layers > 0
            and any(
                self.engine == engine and self.row["engine_version"] == version and date in note
                for engine, version, date in _DRAFTING_RUNS
            )
        )

    def length(self, column: str) -> int:
        """Tokens of a column.

        Raises:
            NoAnswerError: it states none.
        """
        value = number(self.row, column)
        if value is None:
            raise NoAnswerError(f"the row states no {column}")
        return value

    def concurrency(self) -> int:
        """Requests at once.

        Raises:
            NoAnswerError: there is no such number.
        """
        try:
            value = number(self.row, "concurrency_or_max")
        except UnreadableLayoutError:
            value = None
        if value is None:
            shown = self.row["concurrency_or_max"]
            raise NoAnswerError(f"concurrency {shown!r} is no number of requests")
        return value

    def defaults(self) -> ServingLimits:
        """Limits of the engine where it is told nothing."""
        return default_limits(self.engine, self.model, self.accelerator)

    def configuration(self, degrees: RowDegrees, limits: ServingLimits) -> Configuration:
        """The deployment.

        Raises:
            UnreadableLayoutError: the model cannot be cut like this.
        """
        return Configuration(
            model=self.model,
            accelerator=self.accelerator,
            engine=self.engine,
            spread=spread_of_degrees(self.engine, degrees, self.model),
            quantization=self.formats.quantization,
            limits=limits,
            speculation=Speculation(draft_tokens=_DRAFTS, acceptance=ACCEPTANCE)
            if self.drafts
            else None,
        )

    def question(self, configuration: Configuration, load: Load, kind: RowKind) -> RowQuestion:
        """The row's question, with what about it is not measured."""
        caveats, longest = self.caveats, load.input_tokens + load.output_tokens
        if 0 < self.model.max_context < longest:
            caveats = (
                *caveats,
                f"requests of {longest:,.0f} tokens are longer than the "
                f"{self.model.max_context:,} that {self.model.name} was made for",
            )
        if configuration.speculation is not None:
            caveats = (*caveats, f"{ACCEPTANCE:.0%} of drafted tokens are taken as accepted")
        return RowQuestion(question=Question(configuration, load), kind=kind, extrapolates=caveats)
