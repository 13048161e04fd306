"""What to do about a load that failed, where the server's log is not ours to read."""

from __future__ import annotations

import re
from collections.abc import Sequence

from runtimes.engines.external import ExternalEngine
from runtimes.failure import Failure, FailureKind
from runtimes.load.job import Api

_LOG = "engine's log"
_WRONG_REQUEST = (400, 422)
_NO_SUCH_ROUTE = (404, 405)
_SHOWN = 8
"""Models that are named at most."""
_KNOWN = (
    (
        r"(?i)http 429\b",
        "send fewer requests at once, or fewer a second; or let the server queue more of them",
    ),
    (
        r"(?i)chat[ _]template",
        "send it prompts instead of chats: `workload.api: completions` (servetune bench: --api "
        "completions), or start it with a chat template",
    ),
    (
        r"wrong content type",
        "check the URL: what answers there streams no events, as a page or a proxy before the "
        "server does not",
    ),
)
"""What a server says when it refuses, and what to do about it."""


def remedy_of(failure: Failure, *, attached: bool) -> str:
    """The remedy of `failure`; where `attached`, one that sends nobody to a log of ours."""
    if not attached or _LOG not in failure.remedy:
        return failure.remedy
    if failure.kind is FailureKind.HUNG:
        return (
            "look whether the server still works; raise `timeouts.stall` (servetune bench: "
            "--timeout) if a prefill may take that long"
        )
    if "timeout" in failure.message:
        return (
            "send fewer requests at once, or raise `timeouts.request` (servetune bench: --timeout)"
        )
    return _known_remedy(failure.message) or (
        "read the log of the server; it is started elsewhere, and this record has none of it"
    )


def refusal_remedy(
    status: int, words: str, *, url: str, model: str, api: Api, listed: Sequence[str]
) -> str:
    """What to do about a server of somebody else's that refused a completion.

    Args:
        status: of its answer.
        words: the answer.
        url: of the server.
        model: name that was asked for.
        api: route that was asked.
        listed: the names that it lists its models under; none where it does not say.
    """
    refused = [name for name in ExternalEngine.droppable if re.search(rf"\b{name}\b", words)]
    if status in _WRONG_REQUEST and refused:
        return (
            "if it does not take these fields, send none of them: "
            f"`engines.external.drop_fields: [{', '.join(refused)}]` (servetune bench: "
            f"--drop-fields {','.join(refused)}); answers that are then shorter than asked for "
            "are flagged short_output"
        )
    name_it = f"name the model as {url}/v1/models lists it"
    if listed and model not in listed:
        more = ", …" if len(listed) > _SHOWN else ""
        return f"{name_it}: {', '.join(listed[:_SHOWN])}{more}"
    if status in _NO_SUCH_ROUTE:
        other = Api.COMPLETIONS if api is Api.CHAT else Api.CHAT
        return (
            f"{'' if listed else f'{name_it}, or '}use its other route, if it has no {api.path}: "
            f"`workload.api: {other.value}` (servetune bench: --api {other.value})"
        )
    return _known_remedy(f"HTTP {status}: {words}") or (
        "send it the same request by hand, and read the log of the server"
    )


def _known_remedy(words: str) -> str:
    return next((remedy for said, remedy in _KNOWN if re.search(said, words)), "")
