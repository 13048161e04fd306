"""What is sent for one request."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from runtimes.json_types import Json
from runtimes.load.arrivals import ConcurrencyLoad
from runtimes.load.body import request_body
from runtimes.load.job import Api, LoadJob
from runtimes.workloads.base import Prompt

PROMPT = Prompt((5, 6, 7), 32, messages=(("system", "be brief"), ("user", "Grüße")))


def job(api: Api, **fields: Json) -> LoadJob:
    return LoadJob(
        prompts=[PROMPT],
        load=ConcurrencyLoad(1, 1),
        model="m",
        request_fields={"temperature": 0.0, "ignore_eos": True, **fields},
        seed=0,
        request_timeout_s=1,
        stall_timeout_s=1,
        api=api,
    )


COMMON = {
    "model": "m",
    "max_tokens": 32,
    "min_tokens": 32,
    "stream": True,
    "stream_options": {"include_usage": True},
    "temperature": 0.0,
    "ignore_eos": True,
}


def test_a_completion_sends_token_ids() -> None:
    body = json.loads(request_body(PROMPT, job(Api.COMPLETIONS)))
    assert body == {**COMMON, "prompt": [5, 6, 7]}


def test_a_chat_sends_messages() -> None:
    body = json.loads(request_body(PROMPT, job(Api.CHAT)))
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "Grüße"}]
    assert body == {**COMMON, "messages": messages}


def test_request_fields_win() -> None:
    options: Json = {"include_usage": True, "continuous_usage_stats": True}
    body = json.loads(request_body(PROMPT, job(Api.CHAT, stream_options=options)))
    assert body["stream_options"] == options


def test_dropped_fields_are_not_sent_whoever_adds_them() -> None:
    dropped = frozenset({"ignore_eos", "min_tokens"})
    body = json.loads(request_body(PROMPT, replace(job(Api.CHAT), dropped_fields=dropped)))
    assert COMMON.keys() - body.keys() == dropped


@pytest.mark.parametrize("api", Api)
def test_equal_requests_are_equal_bytes(api: Api) -> None:
    assert request_body(PROMPT, job(api)) == request_body(PROMPT, job(api))


def test_a_chat_without_messages_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no messages.*api: completions"):
        request_body(Prompt((1,), 1), job(Api.CHAT))
