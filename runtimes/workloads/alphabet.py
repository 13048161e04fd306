"""The token ids that made-up prompts consist of.

Without a tokenizer they are a range of the vocabulary that keeps clear of both its ends, where
special tokens are. With one they are every id that is not special. Chats are sent as text and
tokenised by the server, so theirs are *words*: ids whose token is a space and letters. Tokenizers
split text at spaces before anything else, so a text of words separated by spaces comes back as
exactly those ids, whatever was put behind or in front: its length is exact, and equal beginnings
stay equal.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from runtimes.errors import UserError
from runtimes.tokenizer import Tokenizer, find_tokenizer
from runtimes.workloads import distinct
from runtimes.workloads.base import WorkloadContext
from runtimes.workloads.files import pack, unpack

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MIN_SIZE = 6
"""Ids that prompts need to differ in; a vocabulary of `MIN_VOCAB` has as many."""
MIN_VOCAB = 8
MIN_WORDS = 100
_ROLES = ("user", "assistant")
_MOST_WORDS = 16_384
"""More add nothing but size: a workload travels with its alphabet."""

_WORD = re.compile(r"[▁Ġ]([A-Za-z]{2,})")
"""A token that begins with a space, as SentencePiece and byte-level tokenizers write it."""


@dataclass(frozen=True, slots=True)
class Alphabet:
    """Token ids numbered from 0; what a prompt is made of, before it has ids.

    Attributes:
        lowest, size: the first id and how many there are, where `ids` is empty.
        ids: the ids, packed (`files.pack`), where they are no range.
        firsts: ids that stand for the same words at the beginning of a message, where there is no
            space in front; empty where prompts are not texts.
        words: their texts without the space; empty where prompts are not texts.
    """

    lowest: int
    size: int
    ids: bytes = field(default=b"", repr=False)
    firsts: bytes = field(default=b"", repr=False)
    words: tuple[str, ...] = field(default=(), repr=False)

    @property
    def room(self) -> int:
        """Tokens in which any two prompts, or segments of them, can differ."""
        return distinct.width(self.size)


class Spelling:
    """Turns numbers of an alphabet into ids and text; made where prompts are."""

    def __init__(self, alphabet: Alphabet) -> None:
        import numpy as np  # here, because workloads are also made where no prompt ever is

        ids = unpack(alphabet.ids) if alphabet.ids else np.arange(alphabet.size) + alphabet.lowest
        # Prompts hold these objects, not copies: 8 bytes a token instead of 36.
        self._ids = ids.astype(object)
        self._firsts = unpack(alphabet.firsts).astype(object)
        self._words = np.array(alphabet.words, dtype=object)

    def content(
        self, numbers: npt.NDArray[np.int64], ends: Sequence[int] = ()
    ) -> tuple[tuple[int, ...], tuple[tuple[str, str], ...]]:
        """Ids of a prompt, and its messages where the alphabet has texts.

        Messages are the user's and the assistant's by turns; each but the last ends at one of
        `ends`.
        """
        ids = self._ids[numbers].tolist()
        if not len(self._words):
            return tuple(ids), ()
        starts = (0, *ends)
        for start in starts:
            ids[start] = self._firsts[numbers[start]]
        messages = tuple(
            (_ROLES[place % 2], " ".join(self._words[numbers[start:end]].tolist()))
            for place, (start, end) in enumerate(zip(starts, (*ends, len(numbers)), strict=True))
        )
        return tuple(ids), messages


def alphabet_for(context: WorkloadContext, *, skip_special_ids: bool) -> Alphabet:
    """The alphabet of prompts that are made up for `context`.

    Raises:
        ValueError: the vocabulary is too small, or a tokenizer is needed and not here; the message
            starts with the setting that needs it.
    """
    if context.vocab < MIN_VOCAB:
        raise ValueError(f"vocab: must be at least {MIN_VOCAB}, got {context.vocab}")
    if context.chat:
        return words_for(context, "api")
    if skip_special_ids:
        return _ordinary(needed_tokenizer(context, "skip_special_ids"), context.vocab)
    lowest = min(16, context.vocab // 8)
    return Alphabet(lowest, int(context.vocab * 0.95) - lowest)


def words_for(context: WorkloadContext, setting: str) -> Alphabet:
    """The words of the model's tokenizer, for what is sent, or meant, as text.

    Raises:
        ValueError: there is no tokenizer here, or it has too few words; the message starts with
            `setting`.
    """
    tokenizer = needed_tokenizer(context, setting)
    alphabet = _words(tokenizer, context.vocab)
    if alphabet.size < MIN_WORDS:
        raise ValueError(
            f"{setting}: chats and texts are made of words, and the tokenizer of the model has "
            f"too few that are one token each (at least {MIN_WORDS}); use a workload of token ids "
            f"with `api: completions`, got {alphabet.size} in {tokenizer.path}"
        )
    return alphabet


def needed_tokenizer(context: WorkloadContext, setting: str) -> Tokenizer:
    """The model's tokenizer.

    Raises:
        ValueError: it is not here or cannot be read; the message starts with `setting`.
    """
    try:
        tokenizer = find_tokenizer(context.model, context.revision) if context.model else None
    except UserError as error:
        raise ValueError(f"{setting}: needs the model's tokenizer: {error}") from None
    if tokenizer is None:
        revision = f" --revision {context.revision}" if context.revision else ""
        raise ValueError(
            f"{setting}: needs the model's tokenizer.json, which is not on this machine; name a "
            "folder that has it as `model.tokenizer` (servetune bench: --tokenizer), or, of a "
            f"Hub id, fetch it with `hf download {context.model or 'MODEL'} tokenizer.json "
            f"tokenizer_config.json{revision}`, got {context.model!r}"
        )
    return tokenizer


@lru_cache(maxsize=2)
def _ordinary(tokenizer: Tokenizer, vocab: int) -> Alphabet:
    ids = sorted(index for index in set(tokenizer.vocabulary.values()) if index < vocab)
    if len(ids) < MIN_SIZE:
        raise ValueError(
            f"skip_special_ids: {tokenizer.path} has too few ids that are not special "
            f"(at least {MIN_SIZE}), got {len(ids)}"
        )
    return Alphabet(0, len(ids), pack(ids))


@lru_cache(maxsize=2)
def _words(tokenizer: Tokenizer, vocab: int) -> Alphabet:
    """Words that come back as one token each, with and without a space in front."""
    ids: list[int] = []
    firsts: list[int] = []
    words: list[str] = []
    for token, index in sorted(tokenizer.vocabulary.items(), key=lambda item: item[1]):
        match = _WORD.fullmatch(token)
        if match is None or index >= vocab or len(ids) == _MOST_WORDS:
            continue
        word = match[1]
        encoded = tokenizer.encode(f"{word} {word}")
        if len(encoded) == 2 and encoded[1] == index and encoded[0] < vocab:
            ids.append(index)
            firsts.append(encoded[0])
            words.append(word)
    if ids and tokenizer.encode(" ".join(words)) != [firsts[0], *ids[1:]]:
        return Alphabet(0, 0)  # a tokenizer that looks beyond spaces: nothing is sure to come back
    return Alphabet(0, len(ids), pack(ids), pack(firsts), tuple(words))
