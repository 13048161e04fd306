"""One streamed response of `/v1/completions` or `/v1/chat/completions`, read into a record."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping

import orjson

from runtimes.load.chat import chat_text, completion_text
from runtimes.load.job import Api
from runtimes.load.shares import PlannedRequest
from runtimes.load.sse import DONE, SseParser
from runtimes.measurement import RequestRecord

MAX_DETAIL_CHARACTERS = 200
MAX_TEXT_CHARACTERS = 1 << 16
"""So much of a text that is kept."""
MAX_CHUNKS = 1 << 20
"""Content chunks of one response; no model writes as many tokens."""
_ASKED_TIMES, _ASKED_MORE = 2, 64
"""A stream may have so many times the tokens asked for, or so many more, whichever is more."""
MAX_TOKENS = (1 << 31) - 1
"""A larger count in `usage` is none."""
_MAX_ERROR_BODY_BYTES = 1 << 16
_MAX_ERROR_DEPTH = 4
_CUT_SHORT = frozenset({"abort", "cancelled", "content_filter", "error", "timeout"})
"""Values of `finish_reason` that end an answer before the model does. vLLM and SGLang say `abort`
where a request was dropped; OpenAI's own set has `content_filter`."""

_TEXT_OF: Mapping[Api, Callable[[Mapping[str, object]], str | None]] = {
    Api.COMPLETIONS: completion_text,
    Api.CHAT: chat_text,
}


class CompletionStream:
    """Receives one response; whatever is wrong with it becomes `error`.

    What a content chunk is, `runtimes/load/chat.py` says of one choice; the first choice of an
    event counts. Where usage decides more, it does:

    - Tokens are as the last `usage` says; a count that is no integer from 0 to `MAX_TOKENS` is
      not said.
    - Where every content chunk has a `usage`, a chunk's tokens are what its `completion_tokens`
      has grown since the chunk before, and one without text that brings none is no content. Only
      a running count is believed: one that comes to the total, and in most of the chunks grows.
    - Chunks without text are content, since a token may decode to nothing, unless there are more
      chunks than tokens. Then a closing one (with `finish_reason`) has none if that explains it;
      otherwise those before the first text have none, with which some servers keep a connection
      alive.

    Args:
        api: route that was asked.
        asked_tokens: what `max_tokens` asked for. A stream that goes on far beyond it has an
            error; None for no such limit.
        keep_text: whether the record shall have the text, its first `MAX_TEXT_CHARACTERS`.

    Attributes:
        chunk_ns: arrival of each content chunk.
        last_byte_ns: arrival of the latest bytes of any kind; 0 before the first.
        error: first thing found wrong; None so far.
    """

    __slots__ = (
        "_asked",
        "_body",
        "_cached_tokens",
        "_chunk_tokens",
        "_closed_empty",
        "_counted_tokens",
        "_done_ns",
        "_first_byte_ns",
        "_leading_empty",
        "_most",
        "_output_tokens",
        "_parser",
        "_prompt_tokens",
        "_sent_ns",
        "_status",
        "_text",
        "_text_of",
        "_text_room",
        "chunk_ns",
        "error",
        "last_byte_ns",
    )

    def __init__(
        self,
        api: Api = Api.COMPLETIONS,
        *,
        asked_tokens: int | None = None,
        keep_text: bool = False,
    ) -> None:
        self.chunk_ns = array("q")
        self.error: str | None = None
        self.last_byte_ns = 0
        self._text_of = _TEXT_OF[api]
        self._asked = asked_tokens
        self._most = MAX_CHUNKS if asked_tokens is None else _most_tokens(asked_tokens)
        self._text: list[str] = []
        self._text_room = MAX_TEXT_CHARACTERS if keep_text else 0
        self._parser = SseParser()
        self._body = bytearray()
        self._status = 0
        self._sent_ns: int | None = None
        self._first_byte_ns: int | None = None
        self._done_ns: int | None = None
        self._prompt_tokens: int | None = None
        self._output_tokens: int | None = None
        self._cached_tokens: int | None = None
        self._chunk_tokens: array[int] | None = array("q")
        self._counted_tokens = 0
        self._closed_empty = False
        self._leading_empty = 0

    def on_sent(self, at_ns: int) -> None:
        """Note when the request was out."""
        self._sent_ns = at_ns

    def on_first_byte(self, at_ns: int) -> None:
        """Note when the response began."""
        self._first_byte_ns = self.last_byte_ns = at_ns

    def on_head(self, status: int, content_type: str, at_ns: int) -> None:
        """Accept an event stream with status 200 only."""
        self.last_byte_ns = at_ns
        self._status = status
        if status != 200:
            self.error = f"http {status}"
        elif content_type != "text/event-stream":
            self.error = f"wrong content type {content_type!r}"[:MAX_DETAIL_CHARACTERS]

    def on_body(self, data: bytes, at_ns: int) -> bool:
        """Read the events of an accepted stream, or the explanation of an error status.

        False, which closes the connection, after the first error, and for what comes after the
        `[DONE]` event.
        """
        self.last_byte_ns = at_ns
        if self.error is not None:
            self._body += data[: _MAX_ERROR_BODY_BYTES - len(self._body)]
            return self._status != 200 and len(self._body) < _MAX_ERROR_BODY_BYTES
        if self._done_ns is not None:
            return False
        for event in self._parser.feed(data):
            if event == DONE:
                self._done_ns = at_ns
                return True
            self._read_event(event, at_ns)
            if self.error is not None:
                return False
        self.error = self._parser.error
        return self.error is None

    def record(
        self,
        *,
        request: PlannedRequest,
        scheduled_ns: int,
        failure: str | None,
        ended_ns: int,
    ) -> RequestRecord:
        """The request as seen; called once, when the exchange has ended.

        The stream ends with the `[DONE]` event; what the connection does afterwards is not the
        request's fault. A request that was never sent is given its end as time of sending.

        Args:
            request: what was sent.
            scheduled_ns: when the load meant it to be sent.
            failure: how the exchange failed; None when its response was complete.
            ended_ns: when the exchange ended.
        """
        self._drop_chunks_without_tokens()
        if self._done_ns is not None:
            ended_ns = self._done_ns
            error = self.error or self._implausible(ended_ns)
        else:
            error = self._explained() or failure or "cut stream"
        return RequestRecord(
            index=request.index,
            scheduled_ns=scheduled_ns,
            sent_ns=ended_ns if self._sent_ns is None else self._sent_ns,
            chunk_ns=self.chunk_ns,
            end_ns=ended_ns,
            prompt_tokens=self._prompt_tokens,
            output_tokens=self._output_tokens,
            requested_output_tokens=request.requested_output_tokens,
            error=error,
            first_byte_ns=self._first_byte_ns,
            chunk_tokens=self._chunk_tokens if self._counts_run() else None,
            cached_tokens=self._cached_tokens,
            sent_tokens=request.sent_tokens,
            content_tokens=request.content_tokens,
            shared_tokens=request.shared_tokens,
            session=request.session,
            turn=request.turn,
            text="".join(self._text),
        )

    def _read_event(self, data: bytes, at_ns: int) -> None:
        try:
            event = orjson.loads(data)
        except orjson.JSONDecodeError:
            self.error = "malformed event"
            return
        if not isinstance(event, dict):
            self.error = "malformed event"
            return
        if event.get("error"):
            self.error = f"engine error: {_message(data)}"
            return
        choices = event.get("choices")
        if not isinstance(choices, list):
            self.error = "malformed event"
            return
        usage = event.get("usage")
        tokens = self._read_usage(usage) if isinstance(usage, dict) else None
        if choices:
            choice = choices[0]
            if isinstance(choice, dict):
                self._read_choice(choice, tokens, at_ns)
            else:
                self.error = "malformed event"

    def _read_usage(self, usage: Mapping[str, object]) -> int | None:
        """Take the counts of `usage`; returns the output tokens so far."""
        details = usage.get("prompt_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, dict) else None
        self._prompt_tokens = _count(usage.get("prompt_tokens"))
        self._output_tokens = _count(usage.get("completion_tokens"))
        self._cached_tokens = _count(cached)
        if self._asked is not None and self._output_tokens is not None:
            self._check_length(self._output_tokens, "tokens")
        return self._output_tokens

    def _read_choice(self, choice: Mapping[str, object], tokens: int | None, at_ns: int) -> None:
        """Count `choice` if it is content; `tokens` is what its event's usage counts so far."""
        text = self._text_of(choice)
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason in _CUT_SHORT:
            self.error = f"ended early: {reason}"
            return
        if text is None:
            return
        if self._chunk_tokens is not None:
            grown = -1 if tokens is None else tokens - self._counted_tokens
            if grown == 0 and not text:
                return
            if grown < 0:
                self._chunk_tokens = None
            else:
                self._chunk_tokens.append(grown)
                self._counted_tokens += grown
        if not text and self._leading_empty == len(self.chunk_ns):
            self._leading_empty += 1
        self.chunk_ns.append(at_ns)
        self._closed_empty = not text and bool(reason)
        if self._text_room > 0:
            self._text.append(text[: self._text_room])
            self._text_room -= len(text)
        self._check_length(len(self.chunk_ns), "content chunks")

    def _check_length(self, count: int, unit: str) -> None:
        if count <= self._most:
            return
        if self._asked is None:
            self.error = f"more than {self._most} {unit}"
        else:
            self.error = f"more than asked for: {count} {unit}, {self._asked} tokens were"

    def _drop_chunks_without_tokens(self) -> None:
        """Take back chunks without text that usage leaves no token for."""
        if self._output_tokens is None:
            return
        excess = len(self.chunk_ns) - self._output_tokens
        if excess > 0 and not (excess == 1 and self._closed_empty):
            dropped = min(excess, self._leading_empty)
            excess -= dropped
            self._drop(slice(0, dropped))
        if excess > 0 and self._closed_empty and self.chunk_ns:
            self._drop(slice(len(self.chunk_ns) - 1, None))

    def _drop(self, chunks: slice) -> None:
        del self.chunk_ns[chunks]
        if self._chunk_tokens is not None:
            del self._chunk_tokens[chunks]

    def _counts_run(self) -> bool:
        """Whether the counts of the chunks are those of tokens so far."""
        tokens = self._chunk_tokens
        if tokens is None or not tokens:
            return False
        return sum(tokens) == self._output_tokens and 2 * tokens.count(0) <= len(tokens)

    def _implausible(self, done_ns: int) -> str | None:
        """What is wrong with a stream that came to its end at `done_ns`."""
        if not self.chunk_ns:
            return "no content"
        if self._sent_ns is None or done_ns < self._sent_ns:
            return "answered before the request was sent"
        return None

    def _explained(self) -> str | None:
        """The error, with what the body of an error status says."""
        if self.error is None or self._status == 200 or not self._body:
            return self.error
        return f"{self.error}: {_message(self._body)}"


def _most_tokens(asked: int) -> int:
    return min(MAX_CHUNKS, max(_ASKED_TIMES * asked, asked + _ASKED_MORE))


def _message(data: bytes | bytearray) -> str:
    """The words in an error's JSON, whichever of the usual shapes it has, else all of it.

    They end up on terminals, so that what does not print is replaced.
    """
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
    words = " ".join(words.split())[:MAX_DETAIL_CHARACTERS]
    return "".join(char if char.isprintable() else "?" for char in words)


def _count(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TOKENS:
        return value
    return None
