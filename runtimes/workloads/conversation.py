"""Conversations of several turns, each of which sends everything that was said before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from runtimes.json_types import Json
from runtimes.workloads.alphabet import Alphabet, Spelling, alphabet_for
from runtimes.workloads.base import WORKLOADS, Prompt, Workload, WorkloadContext
from runtimes.workloads.lengths import TURNS, Lengths, Seconds
from runtimes.workloads.segments import ROOT, Maker, Segments, roots
from runtimes.workloads.settings import COMMON, Settings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@WORKLOADS.register("conversation")
@dataclass(frozen=True, slots=True)
class ConversationWorkload(Workload):
    """The prompt of a turn is the one before, a reply, and new tokens of the user's.

    Replies are stand-ins of the length that was asked for, made ahead instead of taken from the
    model: the requests of a seed are the same whatever the model says. A cache is meant to hold
    the prompt of the turn before, and not the reply to it.

    Attributes:
        longest: tokens of prompt and output after which a conversation ends; None for no limit.
    """

    turns: Lengths
    think_s: Seconds
    input_tokens: Lengths
    next_input_tokens: Lengths
    output_tokens: Lengths
    longest: int | None
    alphabet: Alphabet
    seed: int
    name: ClassVar[str] = "conversation"
    defaults: ClassVar[Mapping[str, Json]] = {
        "turns": 4,
        "think_s": 0.0,
        "input_tokens": 256,
        "next_input_tokens": 64,
        "output_tokens": 128,
        "max_context": None,
        **COMMON,
    }

    @classmethod
    def from_settings(
        cls, settings: Mapping[str, Json], context: WorkloadContext
    ) -> ConversationWorkload:
        """Read how many turns, how long between them, and the lengths of what is said."""
        given = Settings(cls, settings)
        first = Lengths.parse("input_tokens", given["input_tokens"])
        output = Lengths.parse("output_tokens", given["output_tokens"])
        alphabet = alphabet_for(context, skip_special_ids=given.flag("skip_special_ids"))
        longest = given.optional_count("max_context")
        least = max(first.longest, alphabet.room) + output.longest
        if longest is not None and longest < least:
            raise ValueError(
                f"max_context: the first turn alone may take {least} tokens, got {longest}"
            )
        return cls(
            Lengths.parse("turns", given["turns"], TURNS),
            Seconds.parse("think_s", given["think_s"]),
            first,
            Lengths.parse("next_input_tokens", given["next_input_tokens"]),
            output,
            longest,
            alphabet,
            context.seed,
        )

    @property
    def max_context(self) -> int:
        output = self.output_tokens.longest
        first = max(self.input_tokens.longest, self.alphabet.room)
        grown = (self.turns.longest - 1) * (output + self.next_input_tokens.longest)
        whole = first + grown + output
        return whole if self.longest is None else min(whole, self.longest)

    def prompts(self, stage: str, count: int) -> list[Prompt]:
        """As the contract says; the last conversation may lack its last turns."""
        import numpy as np  # here, because workloads are also made where no prompt ever is

        maker = Maker(self.alphabet, self.seed, stage)
        turns = self._turns(maker, count)
        spelling = Spelling(self.alphabet)
        prompts: list[Prompt] = []
        for made, first, last in zip(self._made(maker, turns), *turns.spans(), strict=True):
            parts = turns.parts[2 * first : 2 * last]
            ends = np.cumsum(parts).tolist()
            for turn, row in enumerate(range(first, last)):
                end = ends[2 * turn]
                ids, messages = spelling.content(made[:end], ends[: 2 * turn])
                prompts.append(
                    Prompt(
                        ids,
                        int(turns.parts[2 * row + 1]),
                        shared_tokens=ends[2 * turn - 2] if turn else 0,
                        messages=messages,
                        session=int(turns.sessions[row]),
                        turn=turn,
                        think_s=float(turns.think_s[row]) if turn else 0.0,
                    )
                )
        return prompts

    def _turns(self, maker: Maker, count: int) -> _Turns:
        """The first `count` turns of the stage's conversations."""
        import numpy as np

        turns_random, first_random, next_random, output_random, think_random = maker.randoms(5)
        per_session = self.turns.draw(turns_random, count)
        sessions = np.repeat(np.arange(count), per_session)
        firsts = np.cumsum(per_session) - per_session
        total = len(sessions)
        users = self.next_input_tokens.draw(next_random, total)
        users[firsts] = maker.fitted(roots(self.input_tokens.draw(first_random, count))).lengths
        outputs = self.output_tokens.draw(output_random, total)
        think_s = self.think_s.draw(think_random, total)
        if self.longest is not None:
            said = np.cumsum(users + outputs)
            before = said[firsts] - users[firsts] - outputs[firsts]
            too_long = np.cumsum(said - before[sessions] > self.longest)
            kept = too_long == (too_long[firsts])[sessions]
            sessions, users, outputs, think_s = (
                array[kept] for array in (sessions, users, outputs, think_s)
            )
        parts = np.stack((users[:count], outputs[:count]), axis=1).reshape(-1)
        return _Turns(sessions[:count], parts, think_s[:count])

    def _made(self, maker: Maker, turns: _Turns) -> Iterator[npt.NDArray[np.int64]]:
        """The prompt of the last turn of each conversation, which holds those before."""
        import numpy as np

        starts, ends = (np.array(span, dtype=np.int64) for span in turns.spans())
        counts = 2 * (ends - starts)
        places = np.arange(len(turns.parts)) - np.repeat(2 * starts, counts)
        sessions = np.repeat(turns.sessions, 2)
        ids = (1 + sessions * 2 * self.turns.longest + places).astype(np.uint64)
        is_first = places == 0
        segments = Segments(
            ids,
            np.where(is_first, np.uint64(ROOT), ids - np.uint64(1)),
            np.where(is_first, sessions, 0).astype(np.uint64),
            turns.parts,
        )
        return maker.numbers(segments, counts)


class _Turns(NamedTuple):
    """Turns, conversation by conversation; parallel arrays.

    Attributes:
        sessions: which conversation each belongs to, ascending from 0.
        parts: what is said, twice as many: the tokens of the user, then those of the reply.
        think_s: seconds before it, of no meaning for a first turn.
    """

    sessions: npt.NDArray[np.int64]
    parts: npt.NDArray[np.int64]
    think_s: npt.NDArray[np.float64]

    def spans(self) -> tuple[list[int], list[int]]:
        """The first turn of each conversation, and the one after its last."""
        import numpy as np

        starts = np.flatnonzero(np.diff(self.sessions, prepend=-1)).tolist()
        return starts, [*starts[1:], len(self.sessions)][: len(starts)]
