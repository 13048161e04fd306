"""Waiting until a deployment serves: every server healthy, and a completion back from each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from orchestrator.endpoint import Endpoint
from orchestrator.engine_session import EngineSession
from orchestrator.remedies import refusal_remedy
from orchestrator.start_steps import StartSteps
from runtimes.errors import EngineError
from runtimes.failure import Failure, FailureKind
from runtimes.load.http import HttpError, HttpResponse
from runtimes.progress import LogProgress, Progress

_POLL_S = 0.1
_READ_LOG_S = 0.5
_FIRST_COMPLETION = "waiting for the first completion"
_NO_HEALTH_ROUTE = (404, 405)
_REFUSED = (401, 403)


async def until_ready(session: EngineSession, steps: StartSteps) -> None:
    """Wait until all servers answer health and a completion came back from each.

    Health alone is no proof: an engine can answer it and fail on its first request.

    Raises:
        EngineError: a process ended, a server refused, or the deadline passed.
    """
    limit_s = session.order.timeouts.start_s
    starts = [_Start(session, endpoint) for endpoint in session.endpoints]
    following = asyncio.ensure_future(_follow(starts, steps))
    try:
        async with asyncio.timeout(limit_s):
            await _all_ready(session, starts)
    except TimeoutError:
        await _tell(starts, steps)
        raise EngineError(
            Failure(
                FailureKind.START_TIMEOUT,
                f"not ready within {limit_s:g} s; for the last {steps.step_s:.0f} s it was "
                f"{steps.words}",
                "ask the server for a completion by hand; raise `timeouts.start` (servetune bench: "
                "--timeout) if its first one may take that long"
                if session.attached
                else "look at the log for what it waits for, or raise `timeouts.start`",
                None,
                session.log_tail(),
            )
        ) from None
    finally:
        following.cancel()
        steps.close()
    await session.became_ready()


async def _all_ready(session: EngineSession, starts: Sequence[_Start]) -> None:
    died = asyncio.ensure_future(session.until_one_dies())
    pending = {asyncio.ensure_future(start.run()) for start in starts}
    tasks = {*pending, died}
    try:
        while pending:
            done, _ = await asyncio.wait({*pending, died}, return_when=asyncio.FIRST_COMPLETED)
            if died in done:
                raise EngineError(session.failure("start"))
            for task in done:
                task.result()
            pending -= done
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Start:
    """One server on its way to be ready."""

    def __init__(self, session: EngineSession, endpoint: Endpoint) -> None:
        self._session = session
        self._endpoint = endpoint
        running = endpoint.running
        self._log = LogProgress(running.log) if running is not None else None
        self.label = endpoint.label
        self.healthy = False
        self.ready = False

    async def run(self) -> None:
        """Return when the server has answered a completion.

        Raises:
            EngineError: it will not.
        """
        while not self.healthy:
            self.healthy = await self._answers()
            await asyncio.sleep(0 if self.healthy else _POLL_S)
        await self._first_completion()
        self.ready = True

    def progress(self) -> Progress:
        """How far it has come by its log."""
        return self._log.read() if self._log is not None else Progress()

    async def _answers(self) -> bool:
        try:
            answer = await self._endpoint.get("/health")
            if answer.status in _NO_HEALTH_ROUTE and self._session.attached:
                answer = await self._endpoint.get("/v1/models")
        except HttpError as error:
            if self._session.attached and error.reason != "timeout":
                raise EngineError(_unreachable(self._session, error.reason)) from None
            return False
        if answer.status in _REFUSED and self._session.attached:
            raise EngineError(_unauthorised(self._session, answer.status))
        if answer.status in _NO_HEALTH_ROUTE and self._session.attached:
            reason = f"HTTP {answer.status} for /health and /v1/models"
            raise EngineError(_unreachable(self._session, reason))
        return answer.status == 200

    async def _first_completion(self) -> None:
        session = self._session
        try:
            answer = await self._endpoint.complete(
                session.order.model,
                api=session.order.api,
                dropped_fields=session.order.plan.dropped_fields,
                timeout_s=session.order.timeouts.start_s,
            )
        except HttpError as error:
            await session.settle()
            if session.attached:
                raise EngineError(_unreachable(session, error.reason)) from None
            raise EngineError(session.failure("start")) from None
        if answer.status == 200:
            return
        await session.settle()
        if session.died:
            raise EngineError(session.failure("start"))
        if session.attached and answer.status in _REFUSED:
            raise EngineError(_unauthorised(session, answer.status))
        raise EngineError(await _refused(session, self._endpoint, answer))


async def _follow(starts: Sequence[_Start], steps: StartSteps) -> None:
    """Tell the step of the server that is furthest behind, until cancelled."""
    while True:
        await _tell(starts, steps)
        await asyncio.sleep(_READ_LOG_S)


async def _tell(starts: Sequence[_Start], steps: StartSteps) -> None:
    waiting = [start for start in starts if not start.ready]
    if not waiting:
        return
    # Off the loop: other trials of this bundle are being measured on it.
    read = await asyncio.to_thread(lambda: [start.progress() for start in waiting])
    last, progress = min(
        zip(waiting, read, strict=True), key=lambda pair: (pair[0].healthy, pair[1].step.order)
    )
    front = f"{last.label}: " if last.label else ""
    if last.healthy:
        steps.say(_FIRST_COMPLETION, front + _FIRST_COMPLETION)
    else:
        steps.say(progress.step.value, f"{front}{progress}")


async def _refused(session: EngineSession, endpoint: Endpoint, answer: HttpResponse) -> Failure:
    words = session.client.mask(answer.body.decode(errors="replace")).strip()
    whose = f"{endpoint.label}: " if endpoint.label else ""
    remedy = "send the same request by hand to the command shown, and read its log"
    if session.attached:
        remedy = refusal_remedy(
            answer.status,
            words,
            url=endpoint.address.url,
            model=session.order.model,
            api=session.order.api,
            listed=await endpoint.models(),
        )
    return Failure(
        FailureKind.REQUESTS_FAILED,
        f"{whose}the first completion was answered with HTTP {answer.status}: {words[:300]}",
        remedy,
        None,
        session.log_tail(),
    )


def _unreachable(session: EngineSession, reason: str) -> Failure:
    return Failure(
        FailureKind.REQUESTS_FAILED,
        f"no OpenAI-compatible server answers at {session.order.plan.attach}: {reason}",
        "check the URL, that the server runs, and that this node can reach it",
    )


def _unauthorised(session: EngineSession, status: int) -> Failure:
    variable = session.engine.api_key_env
    remedy = "give it a key that the server takes"
    if variable is not None:
        section = f"engines.{session.engine.name}.env.{variable}"
        remedy = (
            "name the variable that holds its key with --api-key-env, or in an experiment file "
            f"with `{section}: {{from_env: NAME}}`"
        )
    return Failure(
        FailureKind.REQUESTS_FAILED,
        f"{session.order.plan.attach} answered HTTP {status}: it wants an API key",
        remedy,
    )
