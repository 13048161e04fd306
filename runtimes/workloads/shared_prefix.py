"""Prompts that begin with one of a few prefixes, as those of an application with instructions."""

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


@WORKLOADS.register("shared_prefix")
@dataclass(frozen=True, slots=True)
class SharedPrefixWorkload(Workload):
    """`share` of the prompts begin with one of `prefixes`, chosen evenly, and go on by themselves.

    A stage has prefixes of its own. `shared_tokens` counts on the primers, which are the prefixes.
    """

    prefixes: int
    share: float
    prefix_tokens: Lengths
    input_tokens: Lengths
    output_tokens: Lengths
    alphabet: Alphabet
    seed: int
    name: ClassVar[str] = "shared_prefix"
    defaults: ClassVar[Mapping[str, Json]] = {
        "prefixes": 8,
        "share": 1.0,
        "prefix_tokens": 1024,
        "input_tokens": 128,
        "output_tokens": 128,
        **COMMON,
    }

    @classmethod
    def from_settings(
        cls, settings: Mapping[str, Json], context: WorkloadContext
    ) -> SharedPrefixWorkload:
        """Read how many prefixes, how often, and the lengths of the parts."""
        given = Settings(cls, settings)
        return cls(
            given.count("prefixes"),
            given.share("share"),
            Lengths.parse("prefix_tokens", given["prefix_tokens"]),
            Lengths.parse("input_tokens", given["input_tokens"]),
            Lengths.parse("output_tokens", given["output_tokens"]),
            alphabet_for(context, skip_special_ids=given.flag("skip_special_ids")),
            context.seed,
        )

    @property
    def max_context(self) -> int:
        prefix = max(self.prefix_tokens.longest, self.alphabet.room) if self.share else 0
        own = max(self.input_tokens.longest, self.alphabet.room)
        return prefix + own + self.output_tokens.longest

    def prompts(self, stage: str, count: int) -> list[Prompt]:
        import numpy as np  # here, because workloads are also made where no prompt ever is

        maker = Maker(self.alphabet, self.seed, stage)
        _, share_random, choice_random, input_random, output_random = maker.randoms(5)
        has_prefix = share_random.random(count) < self.share
        prefixes = self._prefixes(maker)
        prefix = prefixes.at(choice_random.integers(0, self.prefixes, count))
        ids = np.arange(count, dtype=np.uint64) + np.uint64(self.prefixes + 1)
        own = Segments(
            ids,
            np.where(has_prefix, prefix.ids, np.uint64(ROOT)),
            ids - np.uint64(1),
            self.input_tokens.draw(input_random, count),
        )
        segments, counts = paths([(prefix, has_prefix), (own, np.ones(count, dtype=np.bool_))])
        made = maker.numbers(maker.fitted(segments), counts)
        shared = np.where(has_prefix, prefix.lengths, 0).tolist()
        outputs = self.output_tokens.draw(output_random, count).tolist()
        return [
            Prompt(ids, output, shared_tokens=common, messages=messages)
            for (ids, messages), output, common in zip(
                map(Spelling(self.alphabet).content, made), outputs, shared, strict=True
            )
        ]

    def primers(self, stage: str) -> list[Prompt]:
        if not self.share:
            return []
        maker = Maker(self.alphabet, self.seed, stage)
        made = map(Spelling(self.alphabet).content, maker.numbers(self._prefixes(maker)))
        return [Prompt(ids, 1, messages=messages) for ids, messages in made]

    def _prefixes(self, maker: Maker) -> Segments:
        lengths = self.prefix_tokens.draw(maker.randoms(1)[0], self.prefixes)
        return maker.fitted(roots(lengths))
