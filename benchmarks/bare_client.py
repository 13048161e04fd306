"""The floor: uvloop reading the same responses without looking into them.

    python -m benchmarks.bare_client PORT REQUESTS STREAMS

What a client on this loop costs at least: one wake-up and one read for each chunk.
"""

from __future__ import annotations

import asyncio
import json
import sys
from functools import partial
from typing import cast

import uvloop

_BODY = b'{"model":"mock","prompt":[1,2,3,4],"max_tokens":128,"stream":true}'
_REQUEST = (
    b"POST /v1/completions HTTP/1.1\r\nhost: mock\r\ncontent-length: %d\r\n\r\n" % len(_BODY)
    + _BODY
)
_END = b"0\r\n\r\n"


class _Stream(asyncio.Protocol):
    """Sends requests one after the other while there are any."""

    def __init__(self, indices: list[int]) -> None:
        self._indices = indices
        self.ended = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._next()

    def data_received(self, data: bytes) -> None:
        if data.endswith(_END):
            self._next()

    def _next(self) -> None:
        assert self._transport is not None
        if self._indices:
            self._indices.pop()
            self._transport.write(_REQUEST)
        else:
            self._transport.close()
            self.ended.set_result(None)


def _same(protocol: _Stream) -> _Stream:
    return protocol


async def _main(port: int, requests: int, streams: int) -> None:
    loop = asyncio.get_running_loop()
    indices = list(range(requests))
    protocols = [_Stream(indices) for _ in range(streams)]
    for protocol in protocols:
        await loop.create_connection(partial(_same, protocol), "127.0.0.1", port)
    await asyncio.gather(*(protocol.ended for protocol in protocols))
    print(json.dumps({"requests": requests}))


if __name__ == "__main__":
    uvloop.run(_main(*map(int, sys.argv[1:4])))
