"""Random prompts of given lengths."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from runtimes.json_types import Json
from runtimes.workloads import distinct
from runtimes.workloads.base import WORKLOADS, Prompt, Workload, WorkloadContext
from runtimes.workloads.lengths import Lengths

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MIN_VOCAB = 8


@WORKLOADS.register("synthetic")
@dataclass(frozen=True, slots=True)
class SyntheticWorkload(Workload):
    """Token ids drawn evenly, all prompts of an engine's life distinct by construction.

    How, is told in `runtimes.workloads.distinct`. A prompt drawn too short to spell its number
    is made as long as it needs, within the longest length; one token is enough for some hundred
    prompts, two for the first hundred thousand, at a usual vocabulary.

    Ids at the ends of the vocabulary, where special tokens are, are not used.
    """

    input_tokens: Lengths
    output_tokens: Lengths
    vocab: int
    seed: int
    name: ClassVar[str] = "synthetic"
    defaults: ClassVar[Mapping[str, Json]] = {"input_tokens": 512, "output_tokens": 128}

    @classmethod
    def from_settings(
        cls, settings: Mapping[str, Json], context: WorkloadContext
    ) -> SyntheticWorkload:
        """Read `input_tokens` and `output_tokens`, each a number or mean and stddev."""
        vocab = context.vocab
        if vocab < MIN_VOCAB:
            raise ValueError(f"vocab: must be at least {MIN_VOCAB}, got {vocab}")
        known = ("input_tokens", "output_tokens")
        for setting in settings:
            if setting not in known:
                raise ValueError(f"{setting}: unknown setting; known: {', '.join(known)}")
        lengths = []
        for setting in known:
            value = settings.get(setting, cls.defaults[setting])
            lengths.append(Lengths.parse(setting, value))
        return cls(lengths[0], lengths[1], vocab, context.seed)

    @property
    def max_context(self) -> int:
        return self.input_tokens.longest + self.output_tokens.longest

    def prompts(self, stage: str, count: int) -> list[Prompt]:
        """As the contract says.

        Raises:
            ValueError: prompts as short as `input_tokens` allows cannot all differ.
        """
        import numpy as np  # here, because workloads are also made where no prompt ever is

        tag = int.from_bytes(hashlib.sha256(stage.encode()).digest()[:16], "big")
        streams = np.random.SeedSequence([self.seed, tag]).spawn(3)
        input_random, output_random, token_random = map(np.random.default_rng, streams)
        codes = self._codes(stage, count)
        lengths = self._input_lengths(input_random, stage, codes)
        outputs = self.output_tokens.draw(output_random, count).tolist()
        lowest, base = self._ids
        tokens = token_random.integers(0, base, int(lengths.sum()), dtype=np.int64)
        ends = np.cumsum(lengths)
        starts = ends - lengths
        spelled = distinct.spell(codes, base, self._key)
        for position in range(spelled.shape[1]):
            has = lengths > position
            tokens[starts[has] + position] = spelled[has, position]
        ids = (tokens + lowest).tolist()
        return [
            Prompt(tuple(ids[start:end]), output)
            for start, end, output in zip(starts.tolist(), ends.tolist(), outputs, strict=True)
        ]

    @property
    def _ids(self) -> tuple[int, int]:
        """Lowest usable id, and how many there are from it on."""
        lowest = min(16, self.vocab // 8)
        return lowest, int(self.vocab * 0.95) - lowest

    @property
    def _key(self) -> int:
        return int.from_bytes(hashlib.sha256(f"{self.seed}".encode()).digest()[:8], "big")

    def _codes(self, stage: str, count: int) -> npt.NDArray[np.uint64]:
        """The number that each prompt of the stage spells."""
        import numpy as np

        if count >= distinct.MAX_INDEX:
            raise ValueError(f"count: must be below {distinct.MAX_INDEX}, got {count}")
        indices = np.arange(count, dtype=np.uint64)
        return distinct.pair(distinct.stage_number(stage), indices)

    def _input_lengths(
        self, random: np.random.Generator, stage: str, codes: npt.NDArray[np.uint64]
    ) -> npt.NDArray[np.int64]:
        """Drawn lengths, raised where a prompt would be too short to spell its number."""
        import numpy as np

        base = self._ids[1]
        needed = distinct.digits_needed(codes, base)
        longest = self.input_tokens.longest
        if len(needed) and int(needed.max()) > longest:
            raise ValueError(
                f"input_tokens: {len(needed)} prompts of stage {stage!r} with at most {longest} "
                f"tokens from {base} usable ids cannot all differ; allow {int(needed.max())} tokens"
            )
        return np.maximum(self.input_tokens.draw(random, len(codes)), needed)
