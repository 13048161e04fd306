"""An owner of an engine in a container, as a script, so that a test can kill it.

    container_owner.py LOG PROGRAM ID_FILE ARGV...

Runs the client ARGV with its own environment and prints the process ids of guard, inner guard and
client once they are known. SIGTERM makes it leave the block in good order.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from runtimes.supervisor import ContainerRef, EngineProcess


async def main(log: str, program: str, id_file: str, *argv: str) -> int:
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    container = ContainerRef(program, Path(id_file))
    async with EngineProcess.running(
        argv, env=os.environ, log_path=Path(log), cwd=Path("/"), grace_s=1.0, container=container
    ) as process:
        sys.stdout.write(" ".join(map(str, process.pids)) + "\n")
        sys.stdout.flush()
        ended = asyncio.ensure_future(process.wait())
        waits = asyncio.ensure_future(told.wait())
        await asyncio.wait({ended, waits}, return_when=asyncio.FIRST_COMPLETED)
        waits.cancel()
    return await ended


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])) % 256)
