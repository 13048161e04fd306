"""One streamed `/v1/completions` response, read into a request record."""

from __future__ import annotations

import orjson

from runtimes.load.sse import DONE, SseError, SseParser
from runtimes.measurement import RequestRecord

MAX_DETAIL_CHARACTERS = 200
_MAX_ERROR_BODY_BYTES = 1 << 16
_MAX_ERROR_DEPTH = 4


class CompletionStream:
    """Receives one response; whatever is wrong with it becomes `error`.

    An event whose `choices` is not empty is a content chunk, also when its text is: engines send
    one event per step that made tokens, and a token may decode to no text, or to none yet (half
    a UTF-8 sequence). The `usage` event has no choices and is not counted. Tokens are as the last
    `usage` says.

    Attributes:
        chunk_ns: arrival of each content chunk.
        last_byte_ns: arrival of the latest bytes of any kind; 0 before the first.
        error: first thing found wrong; None so far.
    """

    __slots__ = (
        "_body",
        "_done_ns",
        "_output_tokens",
        "_parser",
        "_prompt_tokens",
        "_sent_ns",
        "_status",
        "chunk_ns",
        "error",
        "last_byte_ns",
    )

    def __init__(self) -> None:
        self.chunk_ns: list[int] = []
        self.error: str | None = None
        self.last_byte_ns = 0
        self._parser = SseParser()
        self._body = b""
        self._status = 0
        self._sent_ns: int | None = None
        self._done_ns: int | None = None
        self._prompt_tokens: int | None = None
        self._output_tokens: int | None = None

    def on_sent(self, at_ns: int) -> None:
        """Note when the request was out."""
        self._sent_ns = at_ns

    def on_head(self, status: int, content_type: str, at_ns: int) -> None:
        """Accept an event stream with status 200 only."""
        self.last_byte_ns = at_ns
        self._status = status
        if status != 200:
            self.error = f"http {status}"
        elif content_type != "text/event-stream":
            self.error = f"wrong content type {content_type[:MAX_DETAIL_CHARACTERS]!r}"

    def on_body(self, data: bytes, at_ns: int) -> bool:
        """Read the events of an accepted stream, or the explanation of an error status."""
        self.last_byte_ns = at_ns
        if self.error is not None:
            self._body += data
            return self._status != 200 and len(self._body) <= _MAX_ERROR_BODY_BYTES
        try:
            events = self._parser.feed(data)
        except SseError as error:
            self.error = str(error)
            return False
        for event in events:
            if event == DONE:
                self._done_ns = self._done_ns or at_ns
            elif self._done_ns is None:
                self._read_event(event, at_ns)
        return self.error is None

    def record(
        self,
        *,
        index: int,
        scheduled_ns: int,
        requested_output_tokens: int,
        failure: str | None,
        ended_ns: int,
    ) -> RequestRecord:
        """The request as seen.

        The stream ends with the `[DONE]` event; what the connection does afterwards is not the
        request's fault. A request that was never sent is given its end as time of sending.

        Args:
            index: position in the schedule.
            scheduled_ns: when the load meant it to be sent.
            requested_output_tokens: what `max_tokens` asked for.
            failure: how the exchange failed; None when its response was complete.
            ended_ns: when the exchange ended.
        """
        if self._done_ns is not None:
            ended_ns = self._done_ns
            error = self.error or (None if self.chunk_ns else "no content")
        else:
            error = self._explained() or failure or "cut stream"
        return RequestRecord(
            index=index,
            scheduled_ns=scheduled_ns,
            sent_ns=ended_ns if self._sent_ns is None else self._sent_ns,
            chunk_ns=tuple(self.chunk_ns),
            end_ns=ended_ns,
            prompt_tokens=self._prompt_tokens,
            output_tokens=self._output_tokens,
            requested_output_tokens=requested_output_tokens,
            error=error,
        )

    def _read_event(self, data: bytes, at_ns: int) -> None:
        try:
            event = orjson.loads(data)
        except orjson.JSONDecodeError:
            self.error = self.error or "malformed event"
            return
        if not isinstance(event, dict):
            self.error = self.error or "malformed event"
            return
        if event.get("error"):
            self.error = self.error or f"engine error: {_message(data)}"
            return
        choices = event.get("choices")
        if not isinstance(choices, list):
            self.error = self.error or "malformed event"
            return
        if choices:
            self.chunk_ns.append(at_ns)
        usage = event.get("usage")
        if isinstance(usage, dict):
            self._prompt_tokens = _count(usage.get("prompt_tokens"))
            self._output_tokens = _count(usage.get("completion_tokens"))

    def _explained(self) -> str | None:
        """The error, with what the body of an error status says."""
        if self.error is None or self._status == 200 or not self._body:
            return self.error
        return f"{self.error}: {_message(self._body)}"


def _message(data: bytes) -> str:
    """The words in an error's JSON, whichever of the usual shapes it has, else all of it."""
    words = data.decode("utf-8", "replace")
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        found = None
    for _ in range(_MAX_ERROR_DEPTH):
        if isinstance(found, dict):
            found = found.get("error") or found.get("message") or found.get("detail")
    if isinstance(found, str):
        words = found
    return " ".join(words.split())[:MAX_DETAIL_CHARACTERS]


def _count(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    return None
