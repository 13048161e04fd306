"""Servers of the OpenAI API that take less than inference engines do, or take it elsewhere."""

from __future__ import annotations

import asyncio
import json
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from orchestrator.messages import TrialOrder
from runtimes.engines.base import create_engine
from runtimes.engines.external import ExternalEngine
from runtimes.json_types import Json
from runtimes.load.job import Api
from runtimes.plan import EngineConfig
from runtimes.workloads.base import WorkloadContext
from runtimes.workloads.synthetic import SyntheticWorkload
from tests.orchestrator.attempts import Attempt, order
from tests.orchestrator.commands import servetune
from tests.runtimes.load_servers import (
    DONE_EVENT,
    HOST,
    Request,
    event,
    response,
    serving,
    stream,
    token_event,
)
from tests.runtimes.workload_files import burstgpt_file, tiny_model

OPENAI = frozenset(
    {"model", "prompt", "messages", "max_tokens", "stream", "stream_options", "temperature"}
    | {"top_p"}
)
EXTRA = sorted(set(ExternalEngine.droppable) - OPENAI)


@dataclass
class Gateway:
    """Answers as a hosted service does.

    Attributes:
        path: what its routes begin with.
        apis: the routes that it has.
        fields: of a request, that it takes; None for any.
        models: those that it lists; None for no such route.
        ends_after: tokens after which its model has said everything.
    """

    path: str = ""
    apis: frozenset[Api] = frozenset(Api)
    fields: frozenset[str] | None = None
    models: tuple[str, ...] | None = ("served",)
    ends_after: int = 1000
    served: list[Request] = field(default_factory=list)

    async def __call__(self, request: Request, writer: asyncio.StreamWriter) -> None:
        api = next((one for one in self.apis if request.path == self.path + one.path), None)
        if request.path == f"{self.path}/v1/models" and self.models is not None:
            listed: list[Json] = [{"id": name} for name in self.models]
            writer.write(response(json.dumps({"data": listed}).encode()))
        elif api is None:
            writer.write(response(b'{"detail":"Not Found"}', status=404))
        else:
            await self._complete(api, request, writer)
        await writer.drain()

    async def _complete(self, api: Api, request: Request, writer: asyncio.StreamWriter) -> None:
        body = request.json()
        unknown = sorted(body.keys() - self.fields) if self.fields is not None else []
        if unknown:
            words = f"Unrecognized request arguments supplied: {', '.join(unknown)}"
            writer.write(response(json.dumps({"error": words}).encode(), status=400))
        elif not body.get("stream"):
            writer.write(response(b'{"choices":[]}'))
        else:
            self.served.append(request)
            asked = body["max_tokens"]
            assert isinstance(asked, int)
            tokens = min(asked, self.ends_after)
            usage: Json = {"prompt_tokens": 20, "completion_tokens": tokens}
            events = [_token(api)] * tokens
            await stream(writer, [*events, event({"choices": [], "usage": usage}), DONE_EVENT])


def _token(api: Api) -> bytes:
    if api is Api.COMPLETIONS:
        return token_event()
    return event({"choices": [{"index": 0, "delta": {"content": " a"}}]})


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("gateways") / "model")


def attempt_at(gateway: Gateway, base: TrialOrder, **options: Json) -> Attempt:
    """An attempt of `base` at `gateway`, run to its end."""

    async def run() -> Attempt:
        async with serving(gateway) as server:
            url = f"http://{HOST}:{server.port}{gateway.path}"
            config = EngineConfig("external", "served", options={"url": url, **options})
            plan = create_engine("external").plan(config)
            attempt = Attempt(replace(base, plan=plan, model="served"))
            await attempt.run()
        return attempt

    return asyncio.run(run())


def chats(base: TrialOrder, tokenizer: Path) -> TrialOrder:
    context = WorkloadContext(vocab=2048, seed=1, model=str(tokenizer), chat=True)
    settings: dict[str, Json] = {"input_tokens": 16, "output_tokens": 8}
    workload = SyntheticWorkload.from_settings(settings, context)
    return replace(base, workload=workload, api=Api.CHAT)


@pytest.mark.parametrize("path", ["", "/openai", "/teams/a-b/llm"])
def test_one_that_has_chats_alone_below_a_path(path: str, tokenizer: Path) -> None:
    gateway = Gateway(path=path, apis=frozenset({Api.CHAT}))
    attempt = attempt_at(gateway, chats(order(), tokenizer))
    assert attempt.measured.measurement.requests_completed == 12
    assert {request.path for request in gateway.served} == {f"{path}/v1/chat/completions"}
    assert "short_output" not in attempt.measured.measurement.flags


def test_the_other_route_is_named_where_the_model_is_not_the_reason() -> None:
    failure = attempt_at(Gateway(apis=frozenset({Api.CHAT})), order()).failure
    assert "HTTP 404" in failure.message
    assert failure.remedy == (
        "use its other route, if it has no /v1/completions: `workload.api: chat` "
        "(servetune bench: --api chat)"
    )


def test_either_may_be_the_reason_where_no_model_is_listed() -> None:
    failure = attempt_at(Gateway(apis=frozenset({Api.CHAT}), models=()), order()).failure
    assert "/v1/models lists it, or use its other route" in failure.remedy
    assert "workload.api: chat" in failure.remedy


def test_its_own_names_are_told() -> None:
    gateway = Gateway(apis=frozenset(), models=("small", "large"))
    failure = attempt_at(gateway, order()).failure
    assert failure.remedy.endswith("/v1/models lists it: small, large")


def test_fields_that_it_refuses_are_named_and_may_be_dropped() -> None:
    strict = Gateway(fields=OPENAI)
    failure = attempt_at(strict, order()).failure
    assert "HTTP 400" in failure.message
    for name in EXTRA:
        assert name in failure.remedy
    assert "engines.external.drop_fields" in failure.remedy
    assert "--drop-fields" in failure.remedy
    assert "/v1/models" not in failure.remedy

    attempt = attempt_at(strict, order(), drop_fields=[*EXTRA])
    assert attempt.measured.measurement.requests_completed == 12
    assert "short_output" not in attempt.measured.measurement.flags
    for request in strict.served:
        assert request.json().keys() <= OPENAI
        assert request.json()["temperature"] == 0.0


def test_answers_that_end_early_for_want_of_them_are_flagged() -> None:
    strict = Gateway(fields=OPENAI, ends_after=4)
    attempt = attempt_at(strict, order(), drop_fields=[*EXTRA])
    assert "short_output" in attempt.measured.measurement.flags


def test_a_bench_takes_all_of_it_at_once(tokenizer: Path, tmp_path: Path) -> None:
    """A strict service of chats below a path, which names its model as it likes."""
    gateway = Gateway(path="/openai", apis=frozenset({Api.CHAT}), fields=OPENAI)
    trace = burstgpt_file(tmp_path, [(at, 16, at % 5) for at in range(10)])
    (tmp_path / "trace.yaml").write_text(f"{{kind: trace, file: {trace}}}")
    options = [
        *("--model", "served", "--tokenizer", str(tokenizer), "--api", "chat"),
        *("--drop-fields", ",".join(EXTRA), "--workload", "trace.yaml"),
        *("--concurrency", "2", "--requests", "8", "--json"),
    ]

    async def run() -> subprocess.CompletedProcess[str]:
        async with serving(gateway) as server:
            url = f"http://{HOST}:{server.port}/openai/v1"
            return await asyncio.to_thread(servetune, "bench", "--url", url, *options, cwd=tmp_path)

    done = asyncio.run(run())
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["requests"] == {"completed": 8, "failed": 0}
    assert "workload took 8 requests of the file and left 2 out" in done.stderr
    assert {request.path for request in gateway.served} == {"/openai/v1/chat/completions"}


def test_another_refusal_leads_to_the_server() -> None:
    failure = attempt_at(Gateway(fields=frozenset()), order()).failure
    assert "drop_fields" in failure.remedy
    failure = attempt_at(Gateway(fields=OPENAI - {"prompt"}), order(), drop_fields=[*EXTRA]).failure
    assert failure.remedy == "send it the same request by hand, and read the log of the server"
