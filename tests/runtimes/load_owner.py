"""Owns load workers that send to a port, for tests that kill it.

    python load_owner.py ROOT PORT PROCESSES

Prints the workers' process ids, then how many records a stage left and their errors, and waits.
Finds our packages through `sys.path` alone.
"""

from __future__ import annotations

import asyncio
import sys


async def main(port: int, processes: int) -> None:
    from runtimes.load.arrivals import ConcurrencyLoad
    from runtimes.load.workers import LoadWorkers, Server
    from tests.runtimes.load_servers import HOST
    from tests.runtimes.load_stages import job

    async with LoadWorkers([Server(HOST, port)], processes=processes) as workers:
        print(*workers.pids, flush=True)  # noqa: T201
        result = await workers.run(job(ConcurrencyLoad(4, 12)))
        print(len(result.records), {record.error for record in result.records}, flush=True)  # noqa: T201
        await asyncio.Event().wait()


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    asyncio.run(main(int(sys.argv[2]), int(sys.argv[3])))
