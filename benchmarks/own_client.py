"""servetune's own load client, as a trial runs it: one worker process beside its parent.

    python -m benchmarks.own_client PORT REQUESTS (--streams N | --rate R)

Prints what it measured as one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import asdict

from runtimes.load.arrivals import ConcurrencyLoad, ConstantLoad, Load
from runtimes.load.job import LoadJob
from runtimes.load.workers import LoadWorkers, Server
from runtimes.slo import Slo
from runtimes.statistics import summarise
from runtimes.workloads.base import Prompt

TOKENS = 128


async def _main(port: int, requests: int, load: Load) -> None:
    job = LoadJob(
        prompts=[Prompt((100 + index, 1, 2, 3), TOKENS) for index in range(requests)],
        load=load,
        model="mock",
        request_fields={"temperature": 0.0},
        seed=7,
        request_timeout_s=600,
        stall_timeout_s=60,
    )
    async with LoadWorkers([Server("127.0.0.1", port)], processes=1) as workers:
        result = await workers.run(job)
    measured = summarise(result, Slo(), load)
    health = measured.client
    assert health is not None
    every = [record for record in result.records if record.error is None]
    gaps = sum(record.chunk_ns[-1] - record.chunk_ns[0] for record in every)
    print(
        json.dumps(
            {
                "requests": measured.requests_completed,
                # Of every request, since the server's own log knows of no window.
                "ttft_mean_ms": sum(record.ttft_ms or 0.0 for record in every) / len(every),
                "itl_mean_ms": gaps / sum(len(record.chunk_ns) - 1 for record in every) / 1e6,
                "client_limited": measured.client_limits,
                "health": asdict(health),
            }
        )
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("requests", type=int)
    parser.add_argument("--streams", type=int)
    parser.add_argument("--rate", type=float)
    given = parser.parse_args()
    asked: Load = (
        ConcurrencyLoad(given.streams, given.requests)
        if given.streams
        else ConstantLoad(given.rate, given.requests)
    )
    asyncio.run(_main(given.port, given.requests, asked))
