"""Bringing an idle engine's prefix cache into the state that a stage is declared to start from."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

from orchestrator.endpoint import QUICK_S, Endpoint
from orchestrator.engine_session import EngineSession
from orchestrator.messages import TrialOrder
from orchestrator.remedies import remedy_of
from runtimes.cache_state import CacheState
from runtimes.errors import EngineError
from runtimes.failure import Failure, FailureKind
from runtimes.load.arrivals import ConcurrencyLoad
from runtimes.load.generator import run_load
from runtimes.workloads.base import Prompt

_POLL_S = 0.1
RESET, SALT, WARM = "cold:reset", "cold:salt", "warm"
"""How the cache came into its state, as `StageRecord.cache` says it."""


async def emptied(session: EngineSession) -> bool:
    """Empty the prefix cache of every server; False where one has no way to, or will not.

    A server that still holds blocks of its last requests is asked again for some seconds.
    """
    deadline = time.monotonic() + QUICK_S
    for endpoint in session.endpoints:
        while (answer := await endpoint.reset_cache()) is not True:
            if answer is None or time.monotonic() > deadline:
                return False
            await asyncio.sleep(_POLL_S)
    return True


async def prepared(session: EngineSession, order: TrialOrder, primers: Sequence[Prompt]) -> str:
    """Bring the cache of every server into the state of `order`; how it came there.

    Prompts of one stage begin like none of another, so that a cache that could not be emptied is
    as good as empty.

    Raises:
        EngineError: a primer failed.
        LoadStopped: several did, or a server was silent.
    """
    done = await emptied(session)
    if order.cache is CacheState.COLD or not primers:
        return RESET if done else SALT
    async with session.watched():
        await asyncio.gather(*(_primed(session, primers, one) for one in session.endpoints))
    return WARM


async def _primed(session: EngineSession, primers: Sequence[Prompt], endpoint: Endpoint) -> None:
    """Send the primers to one server, each after the end of the one before."""
    # A server of several replicas spreads what is in flight at once over them.
    copies = session.report.prefix_cache.replicas
    prompts = [primer for primer in primers for _ in range(copies)]
    job = session.job(prompts, ConcurrencyLoad(copies, len(prompts)))
    result = await run_load(endpoint.client, job)
    failed = [record for record in result.records if record.error is not None]
    if failed:
        words = f"a prompt that warms the prefix cache failed: {failed[0].error}"
        failure = Failure(FailureKind.REQUESTS_FAILED, words, "read the engine's log for the cause")
        remedy = remedy_of(failure, attached=session.attached)
        raise EngineError(replace(failure, remedy=remedy, log_tail=session.log_tail()))
