"""A load client as it is usually written: aiohttp, one shared session, a line at a time.

    python -m benchmarks.aiohttp_client PORT REQUESTS STREAMS

Prints the means of TTFT and of the gaps between chunks as JSON.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time

import aiohttp

TOKENS = 128


async def _request(
    session: aiohttp.ClientSession, url: str, index: int, ttfts: list[float], gaps: list[float]
) -> None:
    body = {
        "model": "mock",
        "prompt": [100 + index, 1, 2, 3],
        "max_tokens": TOKENS,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    began = last = time.perf_counter()
    first = True
    async with session.post(url, json=body) as response:
        response.raise_for_status()
        async for line in response.content:
            data = line.strip().removeprefix(b"data: ")
            if not data or data == b"[DONE]":
                continue
            if json.loads(data)["choices"]:
                now = time.perf_counter()
                if first:
                    ttfts.append(now - began)
                    first = False
                else:
                    gaps.append(now - last)
                last = now


async def _main(port: int, requests: int, streams: int) -> None:
    url = f"http://127.0.0.1:{port}/v1/completions"
    ttfts: list[float] = []
    gaps: list[float] = []
    indices = iter(range(requests))

    async def stream(session: aiohttp.ClientSession) -> None:
        for index in indices:
            await _request(session, url, index, ttfts, gaps)

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        await asyncio.gather(*(stream(session) for _ in range(streams)))
    print(
        json.dumps(
            {
                "requests": len(ttfts),
                "ttft_mean_ms": statistics.fmean(ttfts) * 1e3,
                "itl_mean_ms": statistics.fmean(gaps) * 1e3,
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(_main(*map(int, sys.argv[1:4])))
