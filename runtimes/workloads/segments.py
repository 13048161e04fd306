"""Prompts put together from segments, so that those that begin alike do so by design.

The segments of a stage are a tree: a prompt is a path from a root, and two prompts have in common
exactly the segments before their paths part. The first tokens of a segment spell its rank among
its siblings (`runtimes.workloads.distinct`); those of a root spell the stage as well, so that no
two stages have anything in common. The tokens after them are a hash of (seed, stage, segment,
place): a segment has the same tokens wherever it stands, and a shorter one is the beginning of a
longer one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from runtimes.workloads import distinct
from runtimes.workloads.alphabet import Alphabet

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

ROOT = 0
"""The parent of a segment that has none."""

_CHUNK_TOKENS = 1 << 20
"""Tokens made at a time: numpy's own work outweighs the calls, and nothing outgrows the caches."""


class Segments(NamedTuple):
    """Segments in the order in which prompts have them; parallel arrays.

    Attributes:
        ids: which segment of the stage's tree, from 1 on.
        parents: the segment before it, or `ROOT`.
        ranks: its number among those with the same parent, below `distinct.MAX_INDEX`.
        lengths: tokens of it that the prompt has, at least 1.
    """

    ids: npt.NDArray[np.uint64]
    parents: npt.NDArray[np.uint64]
    ranks: npt.NDArray[np.uint64]
    lengths: npt.NDArray[np.int64]

    def at(self, which: npt.NDArray[np.int64] | npt.NDArray[np.bool_] | slice) -> Segments:
        """Those that an index of numpy picks."""
        return Segments(
            self.ids[which], self.parents[which], self.ranks[which], self.lengths[which]
        )


def roots(lengths: npt.NDArray[np.int64]) -> Segments:
    """Segments that have nothing in common, one after the other."""
    import numpy as np  # here, because workloads are also made where no prompt ever is

    ranks = np.arange(len(lengths), dtype=np.uint64)
    return Segments(ranks + np.uint64(1), np.full_like(ranks, ROOT), ranks, lengths)


def paths(
    steps: Sequence[tuple[Segments, npt.NDArray[np.bool_]]],
) -> tuple[Segments, npt.NDArray[np.int64]]:
    """Prompts of at most one segment from each step.

    Args:
        steps: for each prompt the segment of that step, and whether it has one.

    Returns:
        The segments in the order in which prompts have them, and how many each prompt has.
    """
    import numpy as np

    has = np.stack([there for _, there in steps], axis=1)
    columns = zip(*(segments for segments, _ in steps), strict=True)
    woven = Segments(*(np.stack(column, axis=1).reshape(-1) for column in columns))
    return woven.at(has.reshape(-1)), has.sum(axis=1)


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes the tokens of one stage's segments.

    Attributes:
        alphabet: what prompts are made of.
        seed: of the experiment.
        stage: name of the stage.
    """

    alphabet: Alphabet
    seed: int
    stage: str

    def randoms(self, count: int) -> list[np.random.Generator]:
        """Independent generators for what a stage draws: lengths, times."""
        import numpy as np

        tag = int.from_bytes(hashlib.sha256(self.stage.encode()).digest()[:16], "big")
        streams = np.random.SeedSequence([self.seed, tag]).spawn(count)
        return [np.random.default_rng(stream) for stream in streams]

    def fitted(self, segments: Segments) -> Segments:
        """The same with no segment too short to differ from its siblings.

        One token is enough for some hundred roots, two for the first hundred thousand, at a usual
        vocabulary; for other segments one is, up to as many siblings as there are ids.
        """
        import numpy as np

        needed = distinct.digits_needed(self._numbers(segments), self.alphabet.size)
        return segments._replace(lengths=np.maximum(segments.lengths, needed))

    def numbers(
        self, segments: Segments, counts: npt.NDArray[np.int64] | None = None
    ) -> Iterator[npt.NDArray[np.int64]]:
        """The tokens of each prompt, as numbers of the alphabet.

        Args:
            segments: of all prompts, one after the other, fitted.
            counts: how many segments each prompt has; one each without.
        """
        import numpy as np

        lasts = np.arange(len(segments.ids)) + 1 if counts is None else np.cumsum(counts)
        tokens = np.concatenate([[0], np.cumsum(segments.lengths)])[lasts]
        begin = 0
        while begin < len(lasts):
            first = int(lasts[begin - 1]) if begin else 0
            done = int(tokens[begin - 1]) if begin else 0
            end = max(begin + 1, int(np.searchsorted(tokens, done + _CHUNK_TOKENS, side="right")))
            part = segments.at(slice(first, int(lasts[end - 1])))
            yield from np.split(self._made(part), tokens[begin : end - 1] - done)
            begin = end

    def _made(self, segments: Segments) -> npt.NDArray[np.int64]:
        """The tokens of all segments, one after the other."""
        import numpy as np

        size, lengths = self.alphabet.size, segments.lengths
        ends = np.cumsum(lengths)
        starts = ends - lengths
        places = np.arange(int(ends[-1]), dtype=np.uint64) - np.repeat(
            starts.astype(np.uint64), lengths
        )
        streams = np.repeat(self._keys("tokens", segments.ids), lengths)
        state = distinct.mix(streams + places * np.uint64(_STEP))
        tokens = ((state >> np.uint64(32)) * np.uint64(size) >> np.uint64(32)).astype(np.int64)
        keys = np.where(
            segments.parents == ROOT,
            np.uint64(_key(str(self.seed))),
            self._keys("heads", segments.parents),
        )
        spelled = distinct.spell(self._numbers(segments), size, keys)
        for place in range(spelled.shape[1]):
            has = lengths > place
            tokens[starts[has] + place] = spelled[has, place]
        return tokens

    def _numbers(self, segments: Segments) -> npt.NDArray[np.uint64]:
        """What the head of each segment spells."""
        import numpy as np

        if len(segments.ranks) and int(segments.ranks.max()) >= distinct.MAX_INDEX:
            raise ValueError(f"count: must be below {distinct.MAX_INDEX}")
        paired = distinct.pair(distinct.stage_number(self.stage), segments.ranks)
        return np.where(segments.parents == ROOT, paired, segments.ranks)

    def _keys(self, purpose: str, ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        import numpy as np

        key = np.uint64(_key(f"{self.seed} {self.stage!r} {purpose}"))
        return distinct.mix(key + ids * np.uint64(_STEP))


_STEP = 0x9E3779B97F4A7C15
"""The increment of SplitMix64: odd, so that no two places of a stream fall together."""


def _key(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
