"""OpenAI completions and chats: reading a request, writing chunks, answers and errors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

TEXT = " the"
"""What every simulated token reads."""
DONE = b"data: [DONE]\n\n"
_CHARACTERS_PER_TOKEN = 4
_DEFAULT_MAX_TOKENS = 16


class RequestError(Exception):
    """A request that is answered with an error.

    Attributes:
        status: HTTP status.
        kind: vLLM's name for the class of error.
    """

    def __init__(self, status: int, kind: str, message: str) -> None:
        self.status = status
        self.kind = kind
        super().__init__(message)

    def body(self) -> bytes:
        return error_body(self.status, self.kind, str(self))


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """What the simulation needs of a request.

    Attributes:
        prompt: token ids, or one word per simulated token of a text prompt or a chat.
        include_usage: a last chunk with empty choices carries the usage.
        chat: True for a request to the chat route.
    """

    prompt: Sequence[int | str]
    max_tokens: int
    stream: bool
    include_usage: bool
    chat: bool = False


def read_request(
    body: bytes, *, served_name: str, max_model_len: int, chat: bool = False
) -> CompletionRequest:
    """Parse and check a request body, of a chat where `chat`.

    Raises:
        RequestError: with vLLM's status: 404 for another model, 400 for everything else.
    """
    try:
        fields = json.loads(body)
    except ValueError:
        raise _bad("the body is not JSON") from None
    if not isinstance(fields, dict):
        raise _bad("the body is not a JSON object")
    if fields.get("model") not in (None, served_name):
        raise RequestError(404, "NotFoundError", f"The model `{fields['model']}` does not exist.")
    prompt = _rendered(fields.get("messages")) if chat else _prompt(fields.get("prompt"))
    max_tokens = fields.get("max_tokens")
    if max_tokens is None and chat:
        max_tokens = fields.get("max_completion_tokens")
    if max_tokens is None:
        max_tokens = _DEFAULT_MAX_TOKENS
    if not isinstance(max_tokens, int) or isinstance(max_tokens, bool) or max_tokens < 1:
        raise _bad(f"max_tokens must be at least 1, got {max_tokens!r}.")
    min_tokens = fields.get("min_tokens") or 0
    if not isinstance(min_tokens, int) or not 0 <= min_tokens <= max_tokens:
        raise _bad(f"min_tokens must be in [0, max_tokens={max_tokens}], got {min_tokens!r}.")
    if len(prompt) + max_tokens > max_model_len:
        raise _bad(
            f"This model's maximum context length is {max_model_len} tokens. However, you "
            f"requested {max_tokens} output tokens and your prompt contains {len(prompt)} tokens."
        )
    options = fields.get("stream_options") or {}
    return CompletionRequest(
        prompt=prompt,
        max_tokens=max_tokens,
        stream=fields.get("stream") is True,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        chat=chat,
    )


class Writer:
    """Bodies of one completion's answer. A token's chunk is built once and sent many times.

    Args:
        chat: True for the shapes of the chat route.
        tells_cached: whether `usage` says how much of the prompt was cached.

    Attributes:
        opening: what a stream begins with before any token: of a chat, who speaks.
    """

    def __init__(
        self, *, number: int, model: str, created: int, chat: bool, tells_cached: bool
    ) -> None:
        self._chat = chat
        self._tells_cached = tells_cached
        self.request_id = f"{'chatcmpl' if chat else 'cmpl'}-{number:08x}"
        self._head = {"id": self.request_id, "created": created, "model": model}
        self.opening = b""
        if chat:
            self.opening = self._chunk([_delta({"role": "assistant", "content": ""}, None)])
        self.token_chunk = self._chunk([self._choice(None)])
        self.last_token_chunk = self._chunk([self._choice("length")])

    def usage_chunk(self, request: CompletionRequest, cached_tokens: int) -> bytes:
        """The chunk after the last token, with no choices."""
        return self._chunk([], self._usage(request, cached_tokens))

    def answer(self, request: CompletionRequest, cached_tokens: int) -> bytes:
        """The body of an answer that was not streamed."""
        text = TEXT * request.max_tokens
        said: dict[str, object] = {"message": {"role": "assistant", "content": text}}
        choice = {"index": 0, **(said if self._chat else {"text": text})}
        choice |= {"logprobs": None, "finish_reason": "length", "stop_reason": None}
        fields = {
            **self._head,
            "object": "chat.completion" if self._chat else "text_completion",
            "choices": [choice],
            "usage": self._usage(request, cached_tokens),
        }
        return json.dumps(fields).encode()

    def _usage(self, request: CompletionRequest, cached_tokens: int) -> dict[str, object]:
        prompt_tokens, output_tokens = len(request.prompt), request.max_tokens
        return {
            "prompt_tokens": prompt_tokens,
            "total_tokens": prompt_tokens + output_tokens,
            "completion_tokens": output_tokens,
            "prompt_tokens_details": (
                {"cached_tokens": cached_tokens} if self._tells_cached else None
            ),
        }

    def _choice(self, finish_reason: str | None) -> dict[str, object]:
        if self._chat:
            return _delta({"content": TEXT}, finish_reason)
        return _choice(TEXT, finish_reason)

    def _chunk(self, choices: list[dict[str, object]], usage: object = None) -> bytes:
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        fields = {**self._head, "object": kind, "choices": choices}
        if usage is not None:
            fields["usage"] = usage
        return b"data: " + json.dumps(fields).encode() + b"\n\n"


def error_body(status: int, kind: str, message: str) -> bytes:
    """An error in the shape of vLLM's API."""
    fields = {"message": message, "type": kind, "param": None, "code": status}
    return json.dumps({"error": fields}).encode()


def _prompt(prompt: object) -> Sequence[int | str]:
    if isinstance(prompt, str) and prompt:
        return _words(prompt)
    if isinstance(prompt, list) and prompt and all(type(token) is int for token in prompt):
        return prompt
    raise _bad("prompt must be a text or a list of token ids, and not empty.")


def _words(text: str) -> list[int | str]:
    step = _CHARACTERS_PER_TOKEN
    return [text[at : at + step] for at in range(0, len(text), step)]


def _rendered(messages: object) -> Sequence[int | str]:
    """A chat as a template makes one prompt of it: each message after a token of who speaks."""
    if not isinstance(messages, list) or not messages:
        raise _bad("messages must be a list of messages, and not empty.")
    words: list[int | str] = []
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        if not isinstance(content, str):
            raise _bad("a message must have a role and a text as its content.")
        words += [f"<{message.get('role')}>", *_words(content)]
    return [*words, "<assistant>"]


def _delta(delta: dict[str, object], finish_reason: str | None) -> dict[str, object]:
    choice: dict[str, object] = {"index": 0, "delta": delta, "logprobs": None}
    end = {} if finish_reason is None else {"stop_reason": None}
    return {**choice, "finish_reason": finish_reason, **end}


def _choice(text: str, finish_reason: str | None) -> dict[str, object]:
    return {
        "index": 0,
        "text": text,
        "logprobs": None,
        "finish_reason": finish_reason,
        "stop_reason": None,
    }


def _bad(message: str) -> RequestError:
    return RequestError(400, "BadRequestError", message)
