"""Recorded and made-up responses of servers, each cut at every byte: always the same record."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from runtimes.load.job import Api
from tests.runtimes.stream_reading import Reading, check, read

CORPUS = Path(__file__).parents[1] / "golden" / "streams"


@dataclass(frozen=True, slots=True)
class Stream:
    """One response of the corpus, and what it shall be recorded as."""

    name: str
    api: Api
    response: bytes
    expected: dict[str, object]


def streams() -> list[Stream]:
    return [
        Stream(
            f"{path.stem}: {case['name']}",
            Api(case["api"]),
            case["response"].encode("latin-1"),
            case["expected"],
        )
        for path in sorted(CORPUS.glob("*.jsonl"))
        for case in map(json.loads, path.read_text(encoding="ascii").splitlines())
    ]


STREAMS = streams()


def test_the_corpus_holds_what_is_claimed_of_it() -> None:
    assert len({stream.name for stream in STREAMS}) == len(STREAMS) >= 50
    families = {stream.name.partition(":")[0] for stream in STREAMS}
    assert families == {"vllm", "sglang", "tensorrt_llm", "openai", "wrong"}
    for family in families - {"wrong"}:
        apis = {stream.api for stream in STREAMS if stream.name.startswith(family)}
        assert apis == set(Api)


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
def test_every_cut_gives_the_record(stream: Stream) -> None:
    async def body() -> None:
        data = stream.response
        assert check(data, range(len(data)), stream.api).outcome == stream.expected
        # How many chunks the first so many bytes hold; an exchange that ended reads no further.
        bytewise = read([data[at : at + 1] for at in range(len(data))], stream.api).chunks_after
        for at in range(1, len(data)):
            reading = read([data[:at], data[at:]], stream.api)
            assert reading.outcome == stream.expected, at
            assert reading.chunks_after[0] == bytewise[min(at, len(bytewise)) - 1], at

    asyncio.run(body())


def test_a_chunk_has_the_time_of_the_read_that_completed_it() -> None:
    stream = next(stream for stream in STREAMS if stream.name == "vllm: chat")
    ends = [at for at in range(len(stream.response)) if stream.response.startswith(b"\n\n", at - 2)]

    async def body() -> Reading:
        edges = [0, *ends, len(stream.response)]
        return read([stream.response[start:end] for start, end in pairwise(edges)], stream.api)

    reading = asyncio.run(body())
    # One read each: the head, the role, five tokens, the usage, [DONE], the last chunk.
    assert reading.chunks_after[:7] == (0, 1, 2, 3, 4, 5, 5)
    times_ns = list(reading.record.chunk_ns)
    assert times_ns == sorted(set(times_ns))
    first_ns = reading.record.first_byte_ns
    assert first_ns is not None
    assert first_ns < times_ns[0]
    assert reading.record.sent_tokens == 3
    assert (reading.record.shared_tokens, reading.record.session, reading.record.turn) == (2, 4, 1)
