"""Prompts of a trace that names the blocks they consist of, so that equal beginnings are equal.

A block has a name that stands for it and for all before it (`hash_ids`): requests whose lists
begin alike had prompts that began alike. Blocks become segments of a tree. The last block of a
prompt may be cut short. A prompt that the trace has again, whole, ends in other tokens, since no
prompt of an engine's life may be equal to another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runtimes.workloads import distinct
from runtimes.workloads.files import pack, unpack
from runtimes.workloads.segments import ROOT, Segments
from runtimes.workloads.trace_files import Row

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class BlockTree:
    """The blocks of all requests; packed arrays (`files.pack`).

    Attributes:
        block_tokens: tokens of a whole block.
        nodes: segment of each block of each request, request by request.
        ranks: of each segment among those with the same parent.
        counts: blocks of each request.
        shared: leading tokens of each request that an earlier one has as well.
        repeats: how often the same prompt came before, each time with other last tokens.
        stretch: tokens that a short last block may gain, so that it differs from its siblings.
    """

    block_tokens: int
    nodes: bytes = field(repr=False)
    ranks: bytes = field(repr=False)
    counts: bytes = field(repr=False)
    shared: bytes = field(repr=False)
    repeats: bytes = field(repr=False)
    stretch: int

    @classmethod
    def of(cls, rows: Sequence[Row], block_tokens: int, size: int) -> BlockTree:
        """From rows with blocks, for prompts made of `size` different tokens."""
        planter = _Planter(block_tokens, size)
        for row in rows:
            planter.add(row.blocks, row.input_tokens)
        return cls(
            block_tokens,
            pack(planter.nodes),
            pack(planter.ranks),
            pack(len(row.blocks) for row in rows),
            pack(planter.shared),
            pack(planter.repeats),
            planter.stretch,
        )

    def segments(self, inputs: npt.NDArray[np.int64]) -> tuple[Segments, npt.NDArray[np.int64]]:
        """Segments of the first requests, whose prompts have so many tokens, and counts of them."""
        import numpy as np  # here, because workloads are also made where no prompt ever is

        counts = unpack(self.counts)[: len(inputs)]
        ends = np.cumsum(counts)
        nodes = unpack(self.nodes)[: int(ends[-1]) if len(ends) else 0].astype(np.uint64)
        parents = np.roll(nodes, 1)
        parents[ends - counts] = ROOT
        lengths = np.full(len(nodes), self.block_tokens)
        lengths[ends - 1] = inputs - (counts - 1) * self.block_tokens
        ranks = unpack(self.ranks)[nodes.astype(np.int64) - 1].astype(np.uint64)
        return Segments(nodes, parents, ranks, lengths), counts


class _Planter:
    """Grows the tree, request by request."""

    def __init__(self, block_tokens: int, size: int) -> None:
        self._block_tokens = block_tokens
        self._size = size
        self._short = 2 * distinct.width(size)
        self._children: dict[tuple[int, int], int] = {}
        self._births: dict[int, int] = {}
        self._computed: list[int] = [0]
        self._seen: dict[tuple[int, int], int] = {}
        self.nodes: list[int] = []
        self.ranks: list[int] = []
        self.shared: list[int] = []
        self.repeats: list[int] = []

    def add(self, blocks: Sequence[int], input_tokens: int) -> None:
        """Add a prompt of those blocks, the last of which may be cut short."""
        path = [ROOT]
        for block in blocks[:-1]:
            path.append(self._child(path[-1], block))
        last_tokens = input_tokens - (len(blocks) - 1) * self._block_tokens
        last, repeat = self._last(path[-1], blocks[-1], last_tokens)
        # The tokens of the last block that are those of its segment: a repeat ends in others.
        own = last_tokens - (changed_tokens(repeat, self._size) if repeat else 0)
        path.append(last)
        lengths = [*([self._block_tokens] * (len(blocks) - 1)), own]
        self.shared.append(self._common(path[1:], lengths))
        self.repeats.append(repeat)
        self.nodes += path[1:]
        for node, length in zip(path[1:], lengths, strict=True):
            self._computed[node] = max(self._computed[node], length)

    @property
    def stretch(self) -> int:
        most = max((births for parent, births in self._births.items() if parent != ROOT), default=0)
        return distinct.width(self._size) if most > self._size else 0

    def _last(self, parent: int, block: int, tokens: int) -> tuple[int, int]:
        """Segment of a last block, and how often a prompt ended there before."""
        node = self._child(parent, block)
        repeat = self._seen.get((node, tokens), 0)
        self._seen[node, tokens] = repeat + 1
        if repeat and tokens < self._short:
            # No room for other last tokens beside those that tell the block from its siblings.
            return self._born(parent), 0
        return node, repeat

    def _common(self, path: Sequence[int], lengths: Sequence[int]) -> int:
        """Leading tokens of a path that an earlier one has as well."""
        common = 0
        for node, length in zip(path, lengths, strict=True):
            common += min(self._computed[node], length)
            if self._computed[node] < length:
                break
        return common

    def _child(self, parent: int, block: int) -> int:
        node = self._children.get((parent, block))
        if node is None:
            node = self._children[parent, block] = self._born(parent)
        return node

    def _born(self, parent: int) -> int:
        rank = self._births.get(parent, 0)
        self._births[parent] = rank + 1
        self.ranks.append(rank)
        self._computed.append(0)
        return len(self.ranks)


def changed_tokens(repeat: int, size: int) -> int:
    """Last tokens in which the `repeat`-th repeat of a prompt differs from all the others."""
    digits = 1
    while repeat >= size**digits:
        digits += 1
    return digits


def change(numbers: npt.NDArray[np.int64], repeat: int, size: int) -> None:
    """Change the last tokens of a prompt: by the digits of `repeat`, which no other repeat has."""
    for place in range(changed_tokens(repeat, size)):
        numbers[-1 - place] = (numbers[-1 - place] + repeat // size**place) % size
