"""What Prometheus can scrape of a running study: the driver, its engines, the cluster itself."""

from __future__ import annotations

import json
import platform
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.live_status import write_aside
from orchestrator.messages import Phase
from orchestrator.observer import Observer, Status
from orchestrator.scheduler import Waiting
from runtimes.json_types import Json
from runtimes.plan import Allocation
from tracking.records import TrialRecord

DRIVER_JOB, ENGINE_JOB, RAY_JOB = "servetune", "servetune-engine", "ray"
_WRITE_EVERY_S = 1.0
_ASK_CLUSTER_EVERY_S = 10.0


@dataclass(slots=True)
class _Attempt:
    engine: str
    node: str
    groups: tuple[Json, ...] = ()


class ServiceDiscovery(Observer):
    """Keeps the list of targets, for HTTP (`text`) and in a file; both in Prometheus' format.

    It names no more than what runs. An engine that listens on the loopback of another node is left
    out: nobody here can scrape it. The file is replaced when something changed, at most once a
    second, and holds no target once the study is over.

    Args:
        path: the file.
        run, study: labels of every target of the study.
        cluster_targets: `host:port` of the cluster's own metrics; asked every ten seconds.
        node: name of this node, as allocations have it.
    """

    def __init__(
        self,
        path: Path,
        *,
        run: str,
        study: str,
        cluster_targets: Callable[[], Sequence[str]] = tuple,
        node: str | None = None,
    ) -> None:
        self._path = path
        self._labels: dict[str, Json] = {"run": run, "study": study}
        self._cluster_targets = cluster_targets
        self._node = platform.node() if node is None else node
        self._driver: tuple[Json, ...] = ()
        self._cluster: tuple[str, ...] = ()
        self._attempts: dict[int, _Attempt] = {}
        self._text = self._written = "[]"
        self._written_s = self._asked_s = float("-inf")

    def text(self) -> str:
        """The targets as JSON; may be asked from any thread."""
        return self._text

    def driver_at(self, metrics_url: str) -> None:
        """The driver serves its metrics there."""
        self._driver = (_group(_for_others(metrics_url), {"job": DRIVER_JOB, **self._labels}),)
        self._changed()

    def launched(self, trial: Waiting, allocation: Allocation) -> None:
        self._attempts[trial.number] = _Attempt(trial.params.engine, allocation.node)

    def serving(self, number: int, attempt: int, metrics_urls: tuple[str, ...]) -> None:
        known = self._attempts.get(number)
        if known is None:
            return
        labels: dict[str, Json] = {
            "job": ENGINE_JOB,
            "engine": known.engine,
            "trial": str(number),
            **self._labels,
        }
        here = known.node == self._node
        known.groups = tuple(
            _group(url, labels) for url in metrics_urls if here or not _is_loopback(url)
        )
        self._changed()

    def phase(self, number: int, attempt: int, phase: Phase, previous_s: float) -> None:
        if phase is Phase.STOPPING and number in self._attempts:
            self._attempts[number].groups = ()
            self._changed()

    def finished(self, record: TrialRecord, retry: bool) -> None:
        if self._attempts.pop(record.number, None) is not None:
            self._changed()

    def status(self, status: Status) -> None:
        now_s = time.monotonic()
        if now_s - self._asked_s >= _ASK_CLUSTER_EVERY_S:
            self._asked_s = now_s
            self._cluster = tuple(self._cluster_targets())
            self._changed()
        if now_s - self._written_s >= _WRITE_EVERY_S and self._text != self._written:
            self._written_s, self._written = now_s, self._text
            write_aside(self._path, self._text)

    def close(self) -> None:
        """Say that there is nothing left to scrape."""
        self._text = "[]"
        write_aside(self._path, self._text)

    def _changed(self) -> None:
        groups = [*self._driver]
        for number in sorted(self._attempts):
            groups += self._attempts[number].groups
        if self._cluster:
            labels: Json = {"job": RAY_JOB, **self._labels}
            groups.append({"targets": list(self._cluster), "labels": labels})
        self._text = json.dumps(groups, indent=1)


def _group(url: str, labels: dict[str, Json]) -> Json:
    """The target group of one URL; what is not Prometheus' default goes into its own labels."""
    parts = urlsplit(url)
    own: dict[str, Json] = {}
    if parts.scheme != "http":
        own["__scheme__"] = parts.scheme
    if parts.path != "/metrics":
        own["__metrics_path__"] = parts.path
    return {"targets": [parts.netloc], "labels": {**labels, **own}}


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _for_others(url: str) -> str:
    """`url` with this machine's name where it says every address of it."""
    parts = urlsplit(url)
    try:
        everywhere = ip_address(parts.hostname or "").is_unspecified
    except ValueError:
        everywhere = False
    return f"http://{socket.getfqdn()}:{parts.port}{parts.path}" if everywhere else url
