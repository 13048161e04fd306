"""Requests of the API as they come in: small, JSON, and refused in one shape."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from orchestrator.web.errors import RefusedRequestError, refusal, shown, validation_problems
from runtimes.errors import Problem

MAX_BODY_BYTES = 1 << 20
BODY_DEADLINE_S = 30.0
"""A body that has not arrived by then is not waited for."""
_CLOSE = {"Connection": "close"}
_JSON = "application/json"
_HALF = re.compile("[\ud800-\udfff]")


class PredictionRoute(APIRoute):
    """Answers every refusal in the shape of `errors.ErrorBody`, wherever the route is mounted."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's own handler, given only bodies that can be parsed."""
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                if self.body_field is not None:
                    request = await _ParsedRequest.read(request)
                return await handler(request)
            except RequestValidationError as error:
                problems = validation_problems(error.errors(), self._root())
                return refusal(RefusedRequestError(*problems))
            except RefusedRequestError as error:
                return refusal(error)

        return answer

    def _root(self) -> type[BaseModel]:
        """The model of the body, or of the query."""
        field = self.body_field or self.dependant.query_params[0]
        root = field.field_info.annotation
        assert isinstance(root, type)
        return root


class _ParsedRequest(Request):
    """A request whose body was read and parsed before FastAPI asks for it."""

    content: bytes
    parsed: Any = None

    @classmethod
    async def read(cls, request: Request) -> _ParsedRequest:
        """`request` with its body.

        Raises:
            RefusedRequestError: the body does not arrive (408), is too long (413), is not
                said to be JSON (415), cannot be parsed as JSON (400), or has keys that cannot be
                meant (422).
        """
        read = cls(request.scope, request.receive)
        read.content = await _bounded(request)
        if read.content:
            _check_content_type(request)
            read.parsed = _parse(read.content)
        return read

    async def body(self) -> bytes:
        return self.content

    async def json(self) -> Any:
        return self.parsed


async def _bounded(request: Request) -> bytes:
    """The body; one that is said to be too long is refused before it arrives."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced[:20]) > MAX_BODY_BYTES:
        raise _too_long()
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_DEADLINE_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise _too_long()
    except ClientDisconnect:
        rule, remedy = "the connection ended before the body did", "send the whole body"
        raise RefusedRequestError(Problem("", rule, None, remedy), status=400) from None
    except TimeoutError:
        rule = f"the body did not arrive within {BODY_DEADLINE_S:g} s"
        problem = Problem("", rule, None, "send as many bytes as Content-Length says")
        raise RefusedRequestError(problem, status=408, headers=_CLOSE) from None
    return bytes(body)


def _too_long() -> RefusedRequestError:
    rule, remedy = "the body is too long", f"send at most {MAX_BODY_BYTES:,} bytes"
    return RefusedRequestError(Problem("", rule, None, remedy), status=413, headers=_CLOSE)


def _check_content_type(request: Request) -> None:
    given = request.headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() != _JSON:
        rule = "takes JSON by its content type"
        remedy = f"send the header `Content-Type: {_JSON}`"
        raise RefusedRequestError(Problem("", rule, shown(given), remedy), status=415)


def _parse(content: bytes) -> Any:
    try:
        return json.loads(
            content.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_object
        )
    except (ValueError, RecursionError) as error:
        rule = f"the body is no JSON: {str(error).partition(';')[0]}"
        problem = Problem("", rule, None, "send one JSON object in UTF-8")
        raise RefusedRequestError(problem, status=400) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raises: RefusedRequestError: a key stands twice, or no text can hold it."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            problem = Problem("", "a key stands twice in one object", shown(key), "send it once")
            raise RefusedRequestError(problem)
        if _HALF.search(key):
            rule = "a key holds half of a character, as \\ud83d without what belongs to it"
            raise RefusedRequestError(Problem("", rule, shown(key), "send the whole character"))
        found[key] = value
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")
