"""A local HTTP server that answers as the Hub's API does for a handful of repositories."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

MAIN = "a" * 40
BRANCH = "b" * 40
TOKEN = "hf_good"


@dataclass(slots=True)
class Hub:
    """What is on it, and who asked for what.

    Attributes:
        open: repositories open to all. `gated`: readable with `TOKEN`; described to all.
        revisions: branch → commit, the same for every repository.
        requests: method and path of each request, the newest last.
        failure: HTTP status of every answer; 0 for right answers.
    """

    url: str
    open: set[str] = field(default_factory=lambda: {"org/open", "solo"})
    gated: set[str] = field(default_factory=lambda: {"org/gated"})
    private: set[str] = field(default_factory=lambda: {"org/private"})
    without_config: set[str] = field(default_factory=set)
    revisions: dict[str, str] = field(default_factory=lambda: {"main": MAIN, "v2": BRANCH})
    requests: list[str] = field(default_factory=list)
    failure: int = 0

    def commit(self, revision: str) -> str | None:
        """The commit of a branch, or of itself."""
        return revision if revision in self.revisions.values() else self.revisions.get(revision)


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub on a free port of loopback, stopped on leaving."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    hub = Hub(f"http://127.0.0.1:{server.server_address[1]}")
    server.hub = hub  # type: ignore[attr-defined]  # the handler's only way to it
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output clean."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        path = self.path.partition("?")[0]
        hub.requests.append(f"{self.command} {path}")
        if hub.failure:
            self._send(hub.failure, {"error": "no"})
        elif path.startswith("/api/models/"):
            self._describe(hub, path.removeprefix("/api/models/"))
        else:
            self._file(hub, path.removeprefix("/"))

    def _describe(self, hub: Hub, rest: str) -> None:
        name, _, revision = rest.partition("/revision/")
        signed = self.headers.get("Authorization")
        if signed not in (None, f"Bearer {TOKEN}"):
            message = "Invalid credentials in Authorization header"
            self._send(401, {"error": message}, {"X-Error-Message": message})
            return
        known = hub.open | hub.gated | (hub.private if signed else set())
        if name not in known:
            # As the Hub does: it does not tell a missing repository from one that is private.
            status = 404 if signed else 401
            self._send(status, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            return
        commit = hub.commit(unquote(revision) or "main")
        if commit is None:
            self._send(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
            return
        gated = "manual" if name in hub.gated else False
        self._send(
            200, {"id": name, "modelId": name, "sha": commit, "gated": gated, "siblings": []}
        )

    def _file(self, hub: Hub, rest: str) -> None:
        name = rest.partition("/resolve/")[0]
        if name in hub.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._send(401, {"error": "restricted"}, {"X-Error-Code": "GatedRepo"})
        elif name in hub.without_config:
            self._send(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
        else:
            headers = {"X-Repo-Commit": MAIN, "ETag": '"abc"', "X-Linked-Size": "2"}
            self._send(200, {}, headers)

    def _send(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
