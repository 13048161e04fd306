"""OpenAI completions: reading a request, writing chunks, answers and errors."""

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
        prompt: token ids, or one word per simulated token of a text prompt.
        include_usage: a last chunk with empty choices carries the usage.
    """

    prompt: Sequence[int | str]
    max_tokens: int
    stream: bool
    include_usage: bool


def read_request(body: bytes, *, served_name: str, max_model_len: int) -> CompletionRequest:
    """Parse and check a request body.

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
    prompt = _prompt(fields.get("prompt"))
    max_tokens = fields.get("max_tokens")
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
    )


class Writer:
    """Bodies of one completion's answer. A token's chunk is built once and sent many times."""

    def __init__(self, *, request_id: str, model: str, created: int) -> None:
        self._head = {
            "id": request_id,
            "object": "text_completion",
            "created": created,
            "model": model,
        }
        self.token_chunk = self._chunk([_choice(TEXT, None)])
        self.last_token_chunk = self._chunk([_choice(TEXT, "length")])

    def usage_chunk(self, prompt_tokens: int, output_tokens: int) -> bytes:
        """The chunk after the last token, with no choices."""
        return self._chunk([], _usage(prompt_tokens, output_tokens))

    def answer(self, prompt_tokens: int, output_tokens: int) -> bytes:
        """The body of an answer that was not streamed."""
        choices = [_choice(TEXT * output_tokens, "length")]
        usage = _usage(prompt_tokens, output_tokens)
        return json.dumps({**self._head, "choices": choices, "usage": usage}).encode()

    def _chunk(self, choices: list[dict[str, object]], usage: object = None) -> bytes:
        fields = {**self._head, "choices": choices}
        if usage is not None:
            fields["usage"] = usage
        return b"data: " + json.dumps(fields).encode() + b"\n\n"


def error_body(status: int, kind: str, message: str) -> bytes:
    """An error in the shape of vLLM's API."""
    fields = {"message": message, "type": kind, "param": None, "code": status}
    return json.dumps({"error": fields}).encode()


def _prompt(prompt: object) -> Sequence[int | str]:
    if isinstance(prompt, str) and prompt:
        step = _CHARACTERS_PER_TOKEN
        return [prompt[at : at + step] for at in range(0, len(prompt), step)]
    if isinstance(prompt, list) and prompt and all(type(token) is int for token in prompt):
        return prompt
    raise _bad("prompt must be a text or a list of token ids, and not empty.")


def _choice(text: str, finish_reason: str | None) -> dict[str, object]:
    return {
        "index": 0,
        "text": text,
        "logprobs": None,
        "finish_reason": finish_reason,
        "stop_reason": None,
    }


def _usage(prompt_tokens: int, output_tokens: int) -> dict[str, object]:
    return {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + output_tokens,
        "completion_tokens": output_tokens,
        "prompt_tokens_details": None,
    }


def _bad(message: str) -> RequestError:
    return RequestError(400, "BadRequestError", message)
