"""The simulator's chat route, what it says of cached tokens, and how its cache is emptied."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from runtimes.engines.sglang import SglangEngine
from runtimes.engines.vllm import VllmEngine
from runtimes.json_types import Json
from tests.runtimes.test_simulator_process import MODEL, Server, simulator

CHAT = "/v1/chat/completions"
MESSAGES: Json = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "why?"}]
PROMPT_TOKENS = 6  # three of who speaks, three words
STREAMED: Mapping[str, Json] = {"stream": True, "stream_options": {"include_usage": True}}


def post(server: Server, path: str, **fields: Json) -> tuple[int, bytes]:
    return server.ask("POST", path, json.dumps({"model": MODEL, "max_tokens": 4, **fields}))


def events(body: bytes) -> list[dict[str, Any]]:
    *chunks, done, end = body.decode().split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    return [json.loads(chunk.removeprefix("data: ")) for chunk in chunks]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    environment = pytest.MonkeyPatch()
    environment.setenv("VLLM_SERVER_DEV_MODE", "1")
    folder = tmp_path_factory.mktemp("chat")
    with simulator(folder, "--enable-prompt-tokens-details") as started:
        yield started
    environment.undo()


def test_a_chat_streams_who_speaks_then_a_delta_a_token(server: Server) -> None:
    status, body = post(server, CHAT, messages=MESSAGES, **STREAMED)
    assert status == 200
    opening, *deltas, usage = events(body)
    assert {event["object"] for event in (opening, *deltas, usage)} == {"chat.completion.chunk"}
    assert str(opening["id"]).startswith("chatcmpl-")
    (choice,) = opening["choices"]
    assert choice["delta"] == {"role": "assistant", "content": ""}
    assert [delta["choices"][0]["delta"] for delta in deltas] == [{"content": " the"}] * 4
    reasons = [delta["choices"][0]["finish_reason"] for delta in deltas]
    assert reasons == [None, None, None, "length"]
    assert usage["choices"] == []
    counts = usage["usage"]
    assert (counts["prompt_tokens"], counts["completion_tokens"]) == (PROMPT_TOKENS, 4)


def test_a_chat_answers_at_once_where_it_is_not_streamed(server: Server) -> None:
    status, body = post(server, CHAT, messages=MESSAGES, max_tokens=None, max_completion_tokens=3)
    answer = json.loads(body)
    assert status == 200
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": " the" * 3}
    assert answer["usage"]["total_tokens"] == PROMPT_TOKENS + 3


@pytest.mark.parametrize("messages", [None, [], "hello", [{"role": "user"}], ["hello"]])
def test_what_is_no_chat_is_refused(server: Server, messages: Json) -> None:
    status, body = post(server, CHAT, messages=messages)
    assert status == 400
    assert "message" in json.loads(body)["error"]["message"]


def cached(server: Server, prompt: list[int]) -> int:
    status, body = server.post(prompt=prompt)
    assert status == 200
    tokens: int = json.loads(body)["usage"]["prompt_tokens_details"]["cached_tokens"]
    return tokens


def test_usage_says_what_was_cached_until_the_cache_is_emptied(server: Server) -> None:
    prompt = list(range(40))
    assert [cached(server, prompt) for _ in range(2)] == [0, 32]
    assert server.ask("POST", "/reset_prefix_cache", "") == (200, b'{"success": true}')
    assert cached(server, prompt) == 0


def test_pinned_sampling_is_accepted(server: Server) -> None:
    for engine in (VllmEngine(), SglangEngine()):
        status, _ = server.post(**engine.request_fields, min_tokens=4)
        assert status == 200


def test_neither_is_told_nor_taken_without_being_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VLLM_SERVER_DEV_MODE", raising=False)
    with simulator(tmp_path) as plain:
        assert plain.ask("POST", "/reset_prefix_cache", "")[0] == 404
        usage = json.loads(plain.post()[1])["usage"]
    assert usage["prompt_tokens_details"] is None
