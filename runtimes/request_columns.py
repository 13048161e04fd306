"""Records of many requests as columns, which statistics compute on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from runtimes.measurement import RequestRecord

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Truths: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class RequestColumns:
    """Requests in the order given; every column has one entry a request, but for `chunk_*`.

    Attributes:
        completed: whether the request has no error.
        prompt_tokens, output_tokens: 0 where `usage` does not say.
        prompt_counted, output_counted: whether it does.
        offsets: the chunks of request i are `offsets[i]` to `offsets[i + 1]`, exclusive.
        chunk_ns: arrival of every content chunk, request after request.
        chunk_tokens: tokens of each of those chunks, where the server says so in every chunk of
            the request; 1 elsewhere.
        chunk_share: each chunk's share of its request's output tokens, even where the server does
            not say how many each holds.
        first_content_ns, last_content_ns: of a request without content, its end.
    """

    completed: Truths
    scheduled_ns: Ints
    sent_ns: Ints
    end_ns: Ints
    prompt_tokens: Ints
    output_tokens: Ints
    prompt_counted: Truths
    output_counted: Truths
    offsets: Ints
    chunk_ns: Ints
    chunk_tokens: Ints
    chunk_share: Floats
    first_content_ns: Ints
    last_content_ns: Ints

    @classmethod
    def of(cls, records: Sequence[RequestRecord]) -> RequestColumns:
        chunk_ns, offsets = flattened([record.chunk_ns for record in records])
        chunks = np.diff(offsets)
        end_ns = _ints(record.end_ns for record in records)
        first_ns, last_ns = end_ns.copy(), end_ns.copy()
        first_ns[chunks > 0] = chunk_ns[offsets[:-1][chunks > 0]]
        last_ns[chunks > 0] = chunk_ns[offsets[1:][chunks > 0] - 1]
        chunk_tokens = _chunk_tokens(records, len(chunk_ns))
        return cls(
            completed=_truths(record.error is None for record in records),
            scheduled_ns=_ints(record.scheduled_ns for record in records),
            sent_ns=_ints(record.sent_ns for record in records),
            end_ns=end_ns,
            prompt_tokens=_ints(record.prompt_tokens or 0 for record in records),
            output_tokens=_ints(record.output_tokens or 0 for record in records),
            prompt_counted=_truths(record.prompt_tokens is not None for record in records),
            output_counted=_truths(record.output_tokens is not None for record in records),
            offsets=offsets,
            chunk_ns=chunk_ns,
            chunk_tokens=chunk_tokens,
            chunk_share=_shares(chunk_tokens, offsets),
            first_content_ns=first_ns,
            last_content_ns=last_ns,
        )

    @property
    def chunks(self) -> Ints:
        """Content chunks of each request."""
        return np.diff(self.offsets)

    @property
    def chunk_output(self) -> Floats:
        """Output tokens of each chunk, scaled to the total of `usage`."""
        return np.asarray(self.chunk_share * np.repeat(self.output_tokens, self.chunks))

    @property
    def several(self) -> Truths:
        """Whether more than one token was generated; where `usage` is missing, by the chunks."""
        tokens = np.where(self.output_counted, self.output_tokens, self.chunks)
        return np.asarray(tokens > 1)

    @property
    def streamed(self) -> Truths:
        """Whether content came at more than one instant. The time of a token is known only then."""
        return np.asarray(self.last_content_ns > self.first_content_ns)

    def gaps_ms(self, chosen: Truths) -> Floats:
        """Gaps between the content chunks of the `chosen` requests, request after request.

        Where chunks hold several tokens and the server says how many, the gap before a chunk of k
        tokens is k gaps of 1/k of its length, and a chunk without a token is passed over.
        """
        keep = self.chunk_tokens > 0
        if not chosen.all():
            keep &= np.repeat(chosen, self.chunks)
        arrivals_ns, tokens, offsets = self.chunk_ns, self.chunk_tokens, self.offsets
        if not keep.all():
            arrivals_ns, tokens = arrivals_ns[keep], tokens[keep]
            offsets = np.concatenate([[0], np.cumsum(keep)])[self.offsets]
        within = np.ones(max(len(arrivals_ns) - 1, 0), dtype=np.bool_)
        within[offsets[(offsets > 0) & (offsets < len(arrivals_ns))] - 1] = False
        gaps_ms: Floats = np.diff(arrivals_ns)[within] / 1e6
        if tokens.max(initial=1) == 1:
            return gaps_ms
        repeats = tokens[1:][within]
        return np.repeat(np.asarray(gaps_ms / repeats), repeats)

    def gap_counts(self) -> Ints:
        """How many gaps `gaps_ms` makes of each request: its tokens but those of the first chunk.

        0 for a request with fewer than two chunks that hold a token.
        """
        tokens = per_request(self.chunk_tokens, self.offsets).astype(np.int64)
        first = np.zeros(len(tokens), dtype=np.int64)
        holding = np.flatnonzero(self.chunk_tokens > 0)
        if len(holding):
            at = np.searchsorted(holding, self.offsets[:-1])
            chunk = holding[np.minimum(at, len(holding) - 1)]
            first = np.where(tokens > 0, self.chunk_tokens[chunk], 0)
        return np.asarray(tokens - first)


def flattened(sequences: Sequence[Sequence[int]]) -> tuple[Ints, Ints]:
    """All values after each other, and where each sequence begins, its end as a last entry."""
    offsets = np.zeros(len(sequences) + 1, dtype=np.int64)
    np.cumsum([len(sequence) for sequence in sequences], out=offsets[1:])
    values = np.empty(offsets[-1], dtype=np.int64)
    for sequence, (start, end) in zip(sequences, pairwise(offsets.tolist()), strict=True):
        values[start:end] = sequence
    return values, offsets


def per_request(values: Floats | Ints | Truths, offsets: Ints) -> Floats:
    """Sum of the values of each request, 0 for one that has none."""
    sums = np.zeros(len(offsets) - 1)
    some = np.diff(offsets) > 0
    if some.any():
        sums[some] = np.add.reduceat(values, offsets[:-1][some], dtype=np.float64)
    return sums


def _chunk_tokens(records: Sequence[RequestRecord], chunks: int) -> Ints:
    tokens = np.ones(chunks, dtype=np.int64)
    start = 0
    for record in records:
        end = start + len(record.chunk_ns)
        if record.chunk_tokens is not None and len(record.chunk_tokens) == end - start:
            tokens[start:end] = record.chunk_tokens
        start = end
    return tokens


def _shares(chunk_tokens: Ints, offsets: Ints) -> Floats:
    sums = np.maximum(per_request(chunk_tokens, offsets), 1.0)
    return np.asarray(chunk_tokens / np.repeat(sums, np.diff(offsets)))


def _ints(values: Iterable[int]) -> Ints:
    return np.fromiter(values, dtype=np.int64)


def _truths(values: Iterable[bool]) -> Truths:
    return np.fromiter(values, dtype=np.bool_)
