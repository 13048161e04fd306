"""Recorded conversations as texts, in the format of ShareGPT, tokenised with the model's tokenizer.

A file is a JSON list, or one JSON value a line, of

    {"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}, …]}

Every conversation gets a few words of its own in front, a paragraph that no other prompt of an
engine's life begins with.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path

from runtimes.tokenizer import Tokenizer
from runtimes.workloads.alphabet import Alphabet, Spelling, needed_tokenizer, words_for
from runtimes.workloads.base import Prompt, WorkloadContext
from runtimes.workloads.files import named, pack, read_once, text_lines, unpack, wrong
from runtimes.workloads.recorded import Bounds, Recording, nothing_left
from runtimes.workloads.segments import Maker, roots

MOST_TEXTS = 10_000
"""Requests that are read without `limit`: texts are tokenised and travel to where the load runs."""

_USER = frozenset({"human", "user"})
_MODEL = frozenset({"gpt", "assistant", "chatgpt", "model", "bing", "bard"})
_BREAK = "\n\n"

Turns = list[tuple[str, str]]
"""What the user said and what the model answered, turn by turn."""
_Message = tuple[str, list[int]]
"""A text and its token ids."""


@dataclass(frozen=True, slots=True)
class Transcripts:
    """Conversations in the order of the file.

    Attributes:
        words: what the words in front are made of.
        tokens: ids of every message, the user's and the model's by turns, packed (`files.pack`).
        lengths: tokens of each message, packed.
        turns: turns of each conversation, packed.
        texts: the messages; empty where only their ids are sent.
        left_out, longest: as in `Recording`.
    """

    words: Alphabet
    tokens: bytes = field(repr=False)
    lengths: bytes = field(repr=False)
    turns: bytes = field(repr=False)
    texts: tuple[str, ...] = field(repr=False)
    left_out: int
    longest: int

    @classmethod
    def read(
        cls, path: Path, bounds: Bounds, context: WorkloadContext, *, skipped: int, whole: bool
    ) -> Transcripts:
        """From a file.

        Args:
            path: the file.
            bounds: which requests are taken; a conversation ends before one that is too long.
            context: has the model whose tokenizer is used.
            skipped: conversations to skip at the beginning.
            whole: all turns; only the first without.

        Raises:
            ValueError: the file is wrong, or there is no tokenizer.
        """
        if bounds.clip:
            raise ValueError("too_long: texts cannot be cut short, use drop; got 'clip'")
        words = words_for(context, "file")
        tokenizer = needed_tokenizer(context, "file")
        with named("file"):
            return read_once(_read, path, bounds, words, tokenizer, context.chat, skipped, whole)

    def spoken(self, maker: Maker, chosen: Sequence[int]) -> Iterator[list[Prompt]]:
        """The turns of the chosen conversations, each conversation with other words in front."""
        import numpy as np  # here, because workloads are also made where no prompt ever is

        tokens, lengths = unpack(self.tokens), unpack(self.lengths)
        ends = np.cumsum(lengths)
        turns = unpack(self.turns)
        firsts = 2 * (np.cumsum(turns) - turns)
        spelling = Spelling(self.words)
        fronts = maker.numbers(roots(np.full(len(chosen), self.words.room)))
        for session, (conversation, front) in enumerate(zip(chosen, fronts, strict=True)):
            ids, ((_, words),) = spelling.content(front)
            said, shared = list(ids), 0
            prompts: list[Prompt] = []
            first = int(firsts[conversation])
            for turn in range(int(turns[conversation])):
                user, reply = first + 2 * turn, first + 2 * turn + 1
                said += tokens[ends[user] - lengths[user] : ends[user]].tolist()
                prompts.append(
                    Prompt(
                        tuple(said),
                        int(lengths[reply]),
                        shared_tokens=shared,
                        messages=self._messages(words, first, user),
                        session=session,
                        turn=turn,
                    )
                )
                shared = len(said)
                said += tokens[ends[reply] - lengths[reply] : ends[reply]].tolist()
            yield prompts

    def _messages(self, words: str, first: int, last: int) -> tuple[tuple[str, str], ...]:
        texts = self.texts[first : last + 1]
        if not texts:
            return ()
        roles = ("user", "assistant")
        messages = [(roles[place % 2], text) for place, text in enumerate(texts)]
        return (("user", f"{words}{_BREAK}{texts[0]}"), *messages[1:])


def _read(
    path: Path,
    bounds: Bounds,
    words: Alphabet,
    tokenizer: Tokenizer,
    keep_texts: bool,
    skipped: int,
    whole: bool,
) -> Transcripts:
    most = bounds.limit or MOST_TEXTS
    messages: list[_Message] = []
    turns: list[int] = []
    longest = left_out = 0
    for said in islice(_conversations(path), skipped, None):
        wanted = said if whole else said[:1]
        taken = _fitting(wanted, bounds, words, tokenizer)[: 2 * most - len(messages)]
        if taken:
            messages += taken
            turns.append(len(taken) // 2)
            longest = max(longest, words.room + sum(len(ids) for _, ids in taken))
        if len(messages) == 2 * most:
            break
        left_out += max(1, len(wanted)) - len(taken) // 2
    if not messages:
        raise nothing_left(path, skipped, left_out)
    return Transcripts(
        words,
        pack(token for _, ids in messages for token in ids),
        pack(len(ids) for _, ids in messages),
        pack(turns),
        tuple(text for text, _ in messages) if keep_texts else (),
        left_out,
        longest,
    )


def _fitting(said: Turns, bounds: Bounds, words: Alphabet, tokenizer: Tokenizer) -> list[_Message]:
    """Messages of the turns before the first that is too long, or comes to no token."""
    messages: list[_Message] = []
    prompt = words.room
    for user, reply in said:
        asked = _encode(tokenizer, words, user, first=not messages)
        answer = tokenizer.encode(reply)
        prompt += len(asked)
        if bounds.fit(prompt, len(answer)) is None:
            break
        messages += [(user, asked), (reply, answer)]
        prompt += len(answer)
    return messages


def _encode(tokenizer: Tokenizer, words: Alphabet, text: str, *, first: bool) -> list[int]:
    """Ids of a user's message; of the first one as they follow the words in front of it."""
    if not first:
        return tokenizer.encode(text)
    return tokenizer.encode(f"{words.words[0]}{_BREAK}{text}")[1:]


def _conversations(path: Path) -> Iterator[Turns]:
    """The turns of each conversation, up to where user and model stop taking turns."""
    for where, entry in _entries(path):
        listed = entry.get("conversations") if isinstance(entry, dict) else None
        if not isinstance(listed, list):
            wrong(path, where, "has to be a mapping with a list of `conversations`", entry)
        said: list[tuple[str, str]] = []
        for message in listed:
            speaker = message.get("from") if isinstance(message, dict) else None
            text = message.get("value") if isinstance(message, dict) else None
            if not isinstance(speaker, str) or not isinstance(text, str):
                wrong(path, where, "messages have to be {from: …, value: …} with texts", message)
            said.append((speaker, text))
        yield _turns(said)


def _turns(said: Sequence[tuple[str, str]]) -> Turns:
    start = next((place for place, (who, _) in enumerate(said) if who in _USER), len(said))
    turns: Turns = []
    for (who, question), (other, answer) in zip(said[start::2], said[start + 1 :: 2], strict=False):
        if who not in _USER or other not in _MODEL or not question or not answer:
            break
        turns.append((question, answer))
    return turns


def _entries(path: Path) -> Iterator[tuple[str, object]]:
    """What the file lists, each with where it stands."""
    lines = text_lines(path)
    first = next((line for line in lines if line.strip()), "")
    if first.lstrip().startswith("["):
        try:
            listed = json.loads("".join((first, *lines)))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: is no JSON: {error}") from None
        yield from ((f"conversation {place}", entry) for place, entry in enumerate(listed, 1))
        return
    for number, line in enumerate((first, *lines), 1):
        if line.strip():
            try:
                yield f"line {number}", json.loads(line)
            except (ValueError, RecursionError) as error:
                wrong(path, number, f"is no JSON ({error})", line)


@dataclass(frozen=True, slots=True)
class _Texts(Recording):
    transcripts: Transcripts

    @property
    def longest(self) -> int:
        return self.transcripts.longest

    @property
    def taken(self) -> int:
        return int(unpack(self.transcripts.turns).sum())

    @property
    def left_out(self) -> int:
        return self.transcripts.left_out

    @property
    def content_free(self) -> bool:
        return False


class ReplayedTexts(_Texts):
    """All conversations in the order of the file, turn by turn."""

    __slots__ = ()

    def prompts(self, maker: Maker, count: int) -> list[Prompt]:
        conversations = range(min(count, len(unpack(self.transcripts.turns))))
        spoken = self.transcripts.spoken(maker, conversations)
        return list(islice(chain.from_iterable(spoken), count))

    @property
    def size(self) -> int:
        return self.taken


class SampledTexts(_Texts):
    """First turns of conversations, drawn with replacement."""

    __slots__ = ()

    def prompts(self, maker: Maker, count: int) -> list[Prompt]:
        turns = len(unpack(self.transcripts.turns))
        chosen = maker.randoms(1)[0].integers(0, turns, count).tolist()
        spoken = chain.from_iterable(self.transcripts.spoken(maker, chosen))
        return [replace(prompt, session=None) for prompt in spoken]
