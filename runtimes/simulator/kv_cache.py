"""The paged KV cache: who holds how many blocks, and which prompts' blocks can be used again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


def block_hashes(tokens: Sequence[int | str], block_size: int) -> tuple[int, ...]:
    """One hash per full block; a block's hash covers everything before it as well."""
    hashes: list[int] = []
    previous = 0
    for end in range(block_size, len(tokens) + 1, block_size):
        previous = hash((previous, tuple(tokens[end - block_size : end])))
        hashes.append(previous)
    return tuple(hashes)


@dataclass(slots=True)
class Holding:
    """Blocks one sequence holds: `shared` are in the prefix cache, `private` are not."""

    private: int = 0
    shared: list[int] = field(default_factory=list)

    @property
    def blocks(self) -> int:
        return self.private + len(self.shared)


class BlockPool:
    """A fixed number of blocks, reference-counted by content as in vLLM's `v1/core/block_pool.py`.

    Blocks of finished prompts stay findable until their room is needed, least recently used
    first; they count as free. Invariant: held blocks never exceed `total`.
    """

    def __init__(self, total: int, *, caching: bool) -> None:
        self.total = total
        self._caching = caching
        self._private = 0
        self._references: dict[int, int] = {}
        self._idle: dict[int, None] = {}

    @property
    def held(self) -> int:
        """Blocks that sequences hold."""
        return self._private + len(self._references)

    @property
    def free(self) -> int:
        """Blocks that can be taken, those kept only for reuse included."""
        return self.total - self.held

    def reuse(self, holding: Holding, hashes: Sequence[int]) -> int:
        """Give `holding` the longest cached run of leading `hashes`; return its length."""
        for position, block in enumerate(hashes):
            if block in self._references:
                self._references[block] += 1
            elif block in self._idle:
                del self._idle[block]
                self._references[block] = 1
            else:
                return position
            holding.shared.append(block)
        return len(hashes)

    def take(self, holding: Holding, blocks: int) -> bool:
        """Give `holding` that many new blocks; False, and nothing taken, when too few are free."""
        if blocks > self.free:
            return False
        self._private += blocks
        holding.private += blocks
        while self.held + len(self._idle) > self.total:
            del self._idle[next(iter(self._idle))]
        return True

    def publish(self, holding: Holding, hashes: Sequence[int]) -> None:
        """Make the computed prompt blocks `hashes` of `holding` findable by others."""
        if not self._caching:
            return
        for block in hashes[len(holding.shared) :]:
            if block in self._references or block in self._idle:
                continue  # another sequence computed the same block meanwhile; ours stays private
            self._references[block] = 1
            holding.shared.append(block)
            holding.private -= 1
            self._private -= 1

    def forget(self) -> bool:
        """Drop every block kept for reuse; False, and nothing dropped, while any is held."""
        if self.held:
            return False
        self._idle.clear()
        return True

    def release(self, holding: Holding) -> None:
        """Take everything back; the end of a prompt is forgotten before its beginning."""
        self._private -= holding.private
        for block in reversed(holding.shared):
            self._references[block] -= 1
            if not self._references[block]:
                del self._references[block]
                self._idle[block] = None
        holding.private = 0
        holding.shared.clear()
