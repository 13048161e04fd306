"""One stage of load, as it is handed to what sends it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from runtimes.json_types import Json
from runtimes.load.arrivals import Load
from runtimes.slo import Slo
from runtimes.workloads.base import Prompt


class Api(Enum):
    """Which of a server's routes requests go to; the value is what users write."""

    COMPLETIONS = "completions"
    CHAT = "chat"

    @property
    def path(self) -> str:
        return "/v1/chat/completions" if self is Api.CHAT else "/v1/completions"


@dataclass(frozen=True, slots=True)
class LoadJob:
    """Everything that decides what is sent, and when.

    Attributes:
        prompts: at least one; those beyond `load.requests` are not sent.
        model: name under which the server serves the model.
        request_fields: fields added to every request, sampling parameters for example.
        dropped_fields: fields that no request has, for a server that refuses them.
        seed: of the arrival times.
        slo: what makes a stage hopeless, for `StopRules.hopeless`.
        request_timeout_s: a request that takes longer fails with `timeout`.
        stall_timeout_s: silence of all requests in flight that counts as a hung server.
        stagger_s: time over which a closed loop starts its sessions, so that they do not march in
            step; a mean service time is a good one.
        keep_text: requests, from the first on, whose generated text is kept in their records.
    """

    prompts: Sequence[Prompt] = field(repr=False)
    load: Load
    model: str
    request_fields: Mapping[str, Json]
    seed: int
    request_timeout_s: float
    stall_timeout_s: float
    api: Api = Api.COMPLETIONS
    slo: Slo = field(default_factory=Slo)
    stagger_s: float = 0.0
    keep_text: int = 0
    dropped_fields: frozenset[str] = frozenset()
