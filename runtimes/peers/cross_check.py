"""The same load once more, sent by another load generator."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runtimes.errors import UserError
from runtimes.load.address import ServerAddress
from runtimes.load.job import LoadJob
from runtimes.peers.command import PEERS, Peer, PeerTask
from runtimes.supervisor import EngineProcess, engine_environment

_GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class CrossCheck:
    """What another load generator found.

    Attributes:
        figures: by our names; empty where it did not run.
        note: why not, or what to know of them.
    """

    figures: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


async def cross_check(
    name: str,
    job: LoadJob,
    address: ServerAddress,
    *,
    programs: Path | None,
    api_key: str | None,
    limit_s: float,
) -> CrossCheck:
    """Let the tool `name` send the load of `job`; a tool that fails is a note, not an error.

    Its prompts are random ones of its own, of the job's mean lengths. All of its processes have
    ended when this returns or is cancelled.

    Args:
        name: of a peer (`PEERS`).
        job: what our own client has sent.
        address: the server.
        programs: folder to look for its program in before PATH: that of the engine's environment.
        api_key: what the server asks for; handed on through the environment alone.
        limit_s: how long it may take, its start included.
    """
    peer = PEERS.get(name)()
    found = peer.command(programs)
    if found is None:
        return CrossCheck(note=f"{name}: not installed ({peer.program} is not on PATH)")
    if api_key is not None and not peer.api_key_env:
        return CrossCheck(note=f"{name}: not run, since it takes no API key but as an argument")
    with tempfile.TemporaryDirectory(prefix="servetune-peer-", ignore_cleanup_errors=True) as name_:
        folder = Path(name_)
        task = PeerTask.of(job, address, folder)
        arguments = None if task is None else peer.arguments(task)
        if task is None or arguments is None:
            return CrossCheck(note=f"{name}: has no load of kind {job.load.kind}")
        secrets = {} if api_key is None else {peer.api_key_env: api_key}
        failed = await _run([*found, *arguments], secrets, folder, limit_s)
        if failed:
            return CrossCheck(note=f"{name}: {failed}")
        return await asyncio.to_thread(_read, peer, task)


def _read(peer: Peer, task: PeerTask) -> CrossCheck:
    try:
        figures = peer.figures(task.folder)
    except UserError as error:
        return CrossCheck(note=f"{peer.name}: {str(error).replace(f'{task.folder}/', '')}")
    lengths = f"{task.input_tokens} input and {task.output_tokens} output tokens"
    return CrossCheck(figures, f"{peer.name}: random prompts of its own, {lengths} each")


async def _run(argv: list[str], secrets: Mapping[str, str], folder: Path, limit_s: float) -> str:
    """Why it failed, in words; empty where it did not."""
    # It sends load and has no business with the devices of the engine.
    env = engine_environment(os.environ, extra={}, secrets=secrets, visible_devices=())
    async with EngineProcess.running(
        argv, env=env, log_path=folder / "log", cwd=folder, grace_s=_GRACE_S
    ) as process:
        try:
            code = await asyncio.wait_for(process.wait(), limit_s)
        except TimeoutError:
            return f"ended after {limit_s:.0f} s without a result"
        if code == 0:
            return ""
        said = [line.strip() for line in process.log_tail().splitlines() if line.strip()]
        return f"failed with exit code {code}: {said[-1][-200:] if said else 'it said nothing'}"
