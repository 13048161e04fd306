"""toyserve itself: an OpenAI-style server of the standard library alone."""

from __future__ import annotations

import argparse
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Streams as many words as are asked for."""

    protocol_version = "HTTP/1.1"
    tokens = 0

    def do_GET(self) -> None:
        bodies = {
            "/health": "",
            "/version": '"1.0"',
            "/metrics": f"toy_running 0\ntoy_tokens_total {Handler.tokens}\n",
        }
        self._answer(200 if self.path in bodies else 404, bodies.get(self.path, "").encode())

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        wanted = asked["max_tokens"]
        usage = {"prompt_tokens": len(asked["prompt"]), "completion_tokens": wanted}
        Handler.tokens += wanted
        if not asked.get("stream"):
            body = {"choices": [{"text": "toy " * wanted}], "usage": usage}
            self._answer(200, json.dumps(body).encode())
            return
        events: list[dict[str, object]] = [{"choices": [{"text": "toy "}]}] * wanted
        lines = [f"data: {json.dumps(event)}\n\n" for event in events]
        lines.append(f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n")
        lines.append("data: [DONE]\n\n")
        self._answer(200, "".join(lines).encode(), "text/event-stream")

    def _answer(self, status: int, body: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet: the log is for failures."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--tp", type=int)
    parser.add_argument("--depth", type=int)
    options = parser.parse_args()
    ThreadingHTTPServer((options.host, options.port), Handler).serve_forever()
