"""Appends to contexts that a prefix cache holds: a grid of context and append lengths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from runtimes.json_types import Json
from runtimes.workloads.alphabet import Alphabet, Spelling, alphabet_for
from runtimes.workloads.base import WORKLOADS, Prompt, Workload, WorkloadContext
from runtimes.workloads.lengths import Lengths
from runtimes.workloads.segments import ROOT, Maker, Segments, paths, roots
from runtimes.workloads.settings import COMMON, Settings

_APPEND_LENGTHS = (64, 256, 1024)
"""Where neither `append_length` nor `cache_rate` is given. Not among the defaults, which are
written out beside what users give: the two exclude each other."""


@WORKLOADS.register("append_prefill")
@dataclass(frozen=True, slots=True)
class AppendPrefillWorkload(Workload):
    """Cells of the grid in order, each `repeats` times: context by context, append by append.

    A request is a context of `context_length` tokens, which the primers have had computed, and an
    append of `append_length` tokens that nothing has: its cache rate is L / (L + m). Requests with
    contexts of one length have the same context. A context of 0 tokens is the same without cache.

    Attributes:
        cells: (context length, append length) of each.
    """

    cells: tuple[tuple[int, int], ...]
    repeats: int
    output_tokens: Lengths
    alphabet: Alphabet
    seed: int
    name: ClassVar[str] = "append_prefill"
    defaults: ClassVar[Mapping[str, Json]] = {
        "context_length": [1024, 4096],
        "append_length": None,
        "cache_rate": None,
        "output_tokens": 32,
        "repeats": 8,
        **COMMON,
    }

    @classmethod
    def from_settings(
        cls, settings: Mapping[str, Json], context: WorkloadContext
    ) -> AppendPrefillWorkload:
        """Read the grid: context lengths, and either append lengths or cache rates."""
        given = Settings(cls, settings)
        contexts = given.counts("context_length", least=0)
        if given["cache_rate"] is None:
            appends: tuple[int, ...] = _APPEND_LENGTHS
            if given["append_length"] is not None:
                appends = given.counts("append_length")
            cells = [(length, append) for length in contexts for append in appends]
        elif given["append_length"] is None:
            cells = _by_rate(contexts, given.shares("cache_rate"))
        else:
            raise ValueError(
                "cache_rate: goes without append_length, which follows from it, "
                f"got {given['cache_rate']!r}"
            )
        return cls(
            tuple(cells),
            given.count("repeats"),
            Lengths.parse("output_tokens", given["output_tokens"]),
            alphabet_for(context, skip_special_ids=given.flag("skip_special_ids")),
            context.seed,
        )

    @property
    def max_context(self) -> int:
        room = self.alphabet.room
        longest = max(max(length, room) + max(append, room) for length, append in self.cells)
        return longest + self.output_tokens.longest

    @property
    def size(self) -> int:
        return len(self.cells) * self.repeats

    def prompts(self, stage: str, count: int) -> list[Prompt]:
        import numpy as np  # here, because workloads are also made where no prompt ever is

        count = min(count, self.size)
        maker = Maker(self.alphabet, self.seed, stage)
        lengths, appends = np.array(self.cells)[np.arange(count) // self.repeats].T
        has_context = lengths > 0
        contexts = self._contexts(maker)
        context = contexts.at(np.searchsorted(self._context_lengths, lengths))
        ranks = np.arange(count, dtype=np.uint64) + np.uint64(len(contexts.ids))
        parents = np.where(has_context, context.ids, np.uint64(ROOT))
        append = Segments(ranks + np.uint64(1), parents, ranks, appends)
        segments, counts = paths([(context, has_context), (append, np.ones(count, dtype=np.bool_))])
        made = maker.numbers(maker.fitted(segments), counts)
        shared = np.where(has_context, context.lengths, 0).tolist()
        outputs = self.output_tokens.draw(maker.randoms(1)[0], count).tolist()
        return [
            Prompt(ids, output, shared_tokens=common, messages=messages)
            for (ids, messages), output, common in zip(
                map(Spelling(self.alphabet).content, made), outputs, shared, strict=True
            )
        ]

    def primers(self, stage: str) -> list[Prompt]:
        maker = Maker(self.alphabet, self.seed, stage)
        contexts = self._contexts(maker)
        if 0 in self._context_lengths:
            contexts = contexts.at(slice(1, None))
        made = map(Spelling(self.alphabet).content, maker.numbers(contexts))
        return [Prompt(ids, 1, messages=messages) for ids, messages in made]

    @property
    def _context_lengths(self) -> list[int]:
        """Ascending, one of 0 included."""
        return sorted({length for length, _ in self.cells})

    def _contexts(self, maker: Maker) -> Segments:
        """One for each length; that of 0 tokens only holds its place."""
        import numpy as np

        return maker.fitted(roots(np.array(self._context_lengths)))


def _by_rate(contexts: tuple[int, ...], rates: tuple[float, ...]) -> list[tuple[int, int]]:
    """Cells with the append that gives each context each cache rate, r = L / (L + m)."""
    if 0 in contexts:
        raise ValueError("context_length: must be at least 1 where cache_rate is given, got 0")
    cells = [(length, round(length * (1 - rate) / rate)) for length in contexts for rate in rates]
    for length, append in cells:
        if append < 1:
            raise ValueError(
                f"cache_rate: leaves no token to append to a context of {length} tokens; name a "
                f"lower rate or a longer context, got {list(rates)}"
            )
    return cells
