"""Random prompts of given lengths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from runtimes.json_types import Json
from runtimes.workloads.alphabet import Alphabet, Spelling, alphabet_for
from runtimes.workloads.base import WORKLOADS, Prompt, Workload, WorkloadContext
from runtimes.workloads.lengths import Lengths
from runtimes.workloads.segments import Maker, roots
from runtimes.workloads.settings import COMMON, Settings


@WORKLOADS.register("synthetic")
@dataclass(frozen=True, slots=True)
class SyntheticWorkload(Workload):
    """Token ids drawn evenly, all prompts of an engine's life distinct by construction.

    How, is told in `runtimes.workloads.segments`. A prompt drawn too short to differ is made as
    long as it needs, within the longest length.
    """

    input_tokens: Lengths
    output_tokens: Lengths
    alphabet: Alphabet
    seed: int
    name: ClassVar[str] = "synthetic"
    defaults: ClassVar[Mapping[str, Json]] = {
        "input_tokens": 512,
        "output_tokens": 128,
        **COMMON,
    }

    @classmethod
    def from_settings(
        cls, settings: Mapping[str, Json], context: WorkloadContext
    ) -> SyntheticWorkload:
        """Read `input_tokens` and `output_tokens`, each a number or a distribution."""
        given = Settings(cls, settings)
        return cls(
            Lengths.parse("input_tokens", given["input_tokens"]),
            Lengths.parse("output_tokens", given["output_tokens"]),
            alphabet_for(context, skip_special_ids=given.flag("skip_special_ids")),
            context.seed,
        )

    @property
    def max_context(self) -> int:
        return self.input_tokens.longest + self.output_tokens.longest

    def prompts(self, stage: str, count: int) -> list[Prompt]:
        """As the contract says.

        Raises:
            ValueError: prompts as short as `input_tokens` allows cannot all differ.
        """
        maker = Maker(self.alphabet, self.seed, stage)
        input_random, output_random = maker.randoms(2)
        drawn = self.input_tokens.draw(input_random, count)
        outputs = self.output_tokens.draw(output_random, count).tolist()
        segments = maker.fitted(roots(drawn))
        longest = self.input_tokens.longest
        needed = int(segments.lengths.max(initial=0))
        if needed > longest:
            raise ValueError(
                f"input_tokens: {count} prompts of stage {stage!r} with at most {longest} tokens "
                f"from {self.alphabet.size} usable ids cannot all differ; allow {needed} tokens"
            )
        spelling = Spelling(self.alphabet)
        made = maker.numbers(segments)
        return [
            Prompt(ids, output, messages=messages)
            for (ids, messages), output in zip(map(spelling.content, made), outputs, strict=True)
        ]
