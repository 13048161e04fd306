"""What the workloads that read files of requests have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from runtimes.json_types import Json
from runtimes.workloads.alphabet import Alphabet
from runtimes.workloads.base import Prompt, Workload
from runtimes.workloads.segments import Maker
from runtimes.workloads.settings import Settings
from runtimes.workloads.trace_files import Row


class Recording(ABC):
    """Requests of a file, as a frozen value."""

    __slots__ = ()

    @abstractmethod
    def prompts(self, maker: Maker, count: int) -> list[Prompt]:
        """As `Workload.prompts`, of the maker's stage."""

    @property
    @abstractmethod
    def longest(self) -> int:
        """Tokens of the longest request, prompt and output together."""

    @property
    @abstractmethod
    def taken(self) -> int:
        """Requests of the file that are sent, or drawn from."""

    @property
    @abstractmethod
    def left_out(self) -> int:
        """Requests of the file that were passed over: without tokens, or longer than wanted."""

    @property
    def size(self) -> int | None:
        """As `Workload.size`."""
        return None

    @property
    def content_free(self) -> bool:
        """As `Workload.content_free`."""
        return True


@dataclass(frozen=True, slots=True)
class RecordedWorkload(Workload):
    """Requests of `recording`, with tokens from `alphabet`."""

    recording: Recording
    alphabet: Alphabet
    seed: int

    @property
    def max_context(self) -> int:
        return self.recording.longest

    @property
    def size(self) -> int | None:
        return self.recording.size

    @property
    def content_free(self) -> bool:
        return self.recording.content_free

    @property
    def selection(self) -> str:
        taken, left_out = self.recording.taken, self.recording.left_out
        if not left_out:
            return ""
        return (
            f"took {taken:,} requests of the file and left {left_out:,} out, which have no tokens "
            "on one side or are too long"
        )

    def prompts(self, stage: str, count: int) -> list[Prompt]:
        return self.recording.prompts(Maker(self.alphabet, self.seed, stage), count)


BOUNDS: Mapping[str, Json] = {
    "limit": None,
    "max_input_tokens": None,
    "max_output_tokens": None,
    "too_long": "drop",
}
"""Settings that `Bounds` are read from."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Which requests of a file are taken.

    Attributes:
        limit: how many at most, those passed over not counted; None for all.
        max_input_tokens, max_output_tokens: of one request; None for any.
        clip: what is longer is cut down instead of passed over.
    """

    limit: int | None
    max_input_tokens: int | None
    max_output_tokens: int | None
    clip: bool

    @classmethod
    def read(cls, given: Settings) -> Bounds:
        """From the settings in `BOUNDS`."""
        return cls(
            given.optional_count("limit"),
            given.optional_count("max_input_tokens"),
            given.optional_count("max_output_tokens"),
            given.choice("too_long", ("drop", "clip")) == "clip",
        )

    def fit(self, input_tokens: int, output_tokens: int) -> tuple[int, int] | None:
        """The lengths to take; None where the request is passed over."""
        input_kept = min(input_tokens, self.max_input_tokens or input_tokens)
        output_kept = min(output_tokens, self.max_output_tokens or output_tokens)
        whole = (input_kept, output_kept) == (input_tokens, output_tokens)
        taken = input_kept and output_kept and (whole or self.clip)
        return (input_kept, output_kept) if taken else None

    def take(self, path: Path, rows: Iterable[Row], skipped: int) -> tuple[list[Row], int]:
        """The rows of `path` that are taken, as long as they are taken, and how many were not.

        Args:
            path: the file, for the message.
            rows: all of its rows.
            skipped: rows to skip at the beginning.

        Raises:
            ValueError: none is left.
        """
        taken: list[Row] = []
        left_out = 0
        for row in islice(rows, skipped, None):
            lengths = self.fit(row.input_tokens, row.output_tokens)
            if lengths is None:
                left_out += 1
                continue
            taken.append(row._replace(input_tokens=lengths[0], output_tokens=lengths[1]))
            if len(taken) == self.limit:
                break
        if not taken:
            raise nothing_left(path, skipped, left_out)
        return taken, left_out


def nothing_left(path: Path, skipped: int, left_out: int) -> ValueError:
    """Says that a file has no request that is wanted."""
    return ValueError(
        f"{path}: no request is left; {skipped} were skipped (`from`) and {left_out} passed over, "
        "being without tokens or too long (`max_input_tokens`, `max_output_tokens`)"
    )
