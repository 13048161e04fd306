"""One server of a deployment, seen over HTTP: health, completions, metrics, its own words."""

from __future__ import annotations

import json
from collections.abc import Container
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.engine_log import read_ends
from runtimes.engines.base import Engine, EngineReport
from runtimes.json_types import Json
from runtimes.load.address import ServerAddress
from runtimes.load.http import HttpClient, HttpError, HttpResponse
from runtimes.load.job import Api
from runtimes.supervisor import EngineProcess
from runtimes.telemetry.canonical import CounterTrack

QUICK_S = 5.0
"""Deadline of a request that asks an idle engine something trivial."""


@dataclass(frozen=True, slots=True)
class RunningProcess:
    """One process of the deployment, as it runs.

    Attributes:
        label: `server 1`; empty when it is the only one.
        log: what it writes.
    """

    label: str
    process: EngineProcess
    log: Path


class Endpoint:
    """The questions one asks a server.

    Args:
        address: where it listens.
        api_key: sent as a bearer token.
        running: its process; None when it is somebody else's.
    """

    def __init__(
        self,
        engine: Engine,
        address: ServerAddress,
        *,
        api_key: str | None = None,
        running: RunningProcess | None = None,
    ) -> None:
        self._engine = engine
        self.running = running
        self.address = address
        self.api_key = api_key
        tls = address.tls_context()
        # Questions apart from the load, so that a scrape takes no connection away from it.
        self.client, self._questions = (
            HttpClient(address.host, address.port, api_key=api_key, base_path=address.path, tls=tls)
            for _ in range(2)
        )
        self._counters = CounterTrack()
        self._counted: dict[str, tuple[str, float]] = {}
        self.has_metrics = True
        self._is_text = False

    @property
    def label(self) -> str:
        """`server 1`; empty for the only one."""
        return self.running.label if self.running is not None else ""

    async def get(self, path: str) -> HttpResponse:
        """The answer to a trivial question.

        Raises:
            HttpError: there was none.
        """
        return await self._questions.get(path, timeout_s=QUICK_S)

    async def complete(
        self, model: str, *, api: Api, dropped_fields: Container[str], timeout_s: float
    ) -> HttpResponse:
        """The answer to a completion of one token, whatever its status.

        Args:
            model: name under which the server serves it.
            api: the route to ask; requests of a load are sent to the same.
            dropped_fields: as in `LoadJob`.
            timeout_s: how long it may take.

        Raises:
            HttpError: there was none.
        """
        fields: dict[str, Json] = {"model": model}
        if api is Api.CHAT:
            fields["messages"] = [{"role": "user", "content": "1 2 3"}]
        else:
            fields["prompt"] = [1, 2, 3]
        pinned = {**self._engine.request_fields, "max_tokens": 1, "min_tokens": 1}
        fields |= {name: value for name, value in pinned.items() if name not in dropped_fields}
        return await self.client.post(api.path, json.dumps(fields).encode(), timeout_s=timeout_s)

    async def models(self) -> tuple[str, ...]:
        """Names of the models that the server lists; none where it lists nothing readable."""
        try:
            answer = await self.get("/v1/models")
            listed = json.loads(answer.body)["data"]
            return tuple(str(model["id"]) for model in listed)
        except (HttpError, ValueError, LookupError, TypeError):
            return ()

    @property
    def metrics_url(self) -> str | None:
        """Where Prometheus can read its metrics; None unless they were seen to be in its format.

        TensorRT-LLM 1.2 answers with JSON of what happened since it was asked before: a second
        reader would take the readings away from us.
        """
        return self.address.url + self._engine.metrics_path if self._is_text else None

    async def scrape(self) -> dict[str, tuple[str, float]]:
        """Canonical metric → (engine's name, value), now; counters continued over restarts, and
        kept where the server does not repeat them.

        Empty when the server does not answer or has no metrics.
        """
        try:
            answer = await self.get(self._engine.metrics_path)
        except HttpError:
            return {}
        self.has_metrics = answer.status not in (404, 405)
        if answer.status != 200:
            return {}
        self._is_text = _is_prometheus_text(answer.body)
        said = self._engine.read_metrics(answer.body.decode(errors="replace"))
        # TensorRT-LLM says nothing while it is idle; what it counted before still holds.
        found = {**self._counted, **said}
        self._counted = {name: one for name, one in found.items() if name.endswith("_total")}
        return self._counters.continued(found)

    async def reset_cache(self) -> bool | None:
        """Ask for an empty prefix cache: whether it is, or None where no such question is taken."""
        path = self._engine.cache_reset_path
        if path is None:
            return None
        try:
            answer = await self._questions.post(path, b"", timeout_s=QUICK_S)
        except HttpError:
            return None
        if answer.status == 400:  # SGLang, while it still works on something
            return False
        if answer.status != 200:
            return None
        return b'"success":false' not in answer.body.replace(b" ", b"")

    async def report(self) -> EngineReport:
        """What the server says of itself; nothing where it does not say."""
        texts = []
        for path in (self._engine.metrics_path, self._engine.version_path):
            try:
                answer = await self.get(path)
            except HttpError:
                answer = HttpResponse(0, b"")
            texts.append(answer.body.decode(errors="replace") if answer.status == 200 else "")
        self._is_text = _is_prometheus_text(texts[0].encode())
        log = read_ends(self.running.log) if self.running is not None else ""
        return self._engine.describe(log=log, metrics_text=texts[0], version_json=texts[1])

    async def close(self) -> None:
        """Close every connection."""
        await self.client.close()
        await self._questions.close()


def _is_prometheus_text(body: bytes) -> bool:
    return body.startswith(b"# ") or b"\n# TYPE " in body


def merged_report(reports: list[EngineReport]) -> EngineReport:
    """What all servers say: the first one's words, and under `servetune.servers_differ` the
    settings in which another one resolved to something else.
    """
    first, *others = reports
    names = dict.fromkeys(name for report in reports for name in report.config)
    differing = {
        name: [report.config.get(name, "") for report in reports]
        for name in names
        if any(report.config.get(name) != first.config.get(name) for report in others)
    }
    config = dict(first.config)
    if differing:
        config["servetune.servers_differ"] = json.dumps(differing)
    return replace(first, config=config)
