"""A workload says what the requests are; the load says when they are sent."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from runtimes.json_types import Json
from runtimes.registry import Registry


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request's content.

    Prompts of one session stand next to each other, in the order of their turns; one without a
    session is a session of its own. A load schedules sessions: each of its later turns is sent
    `think_s` after the turn before has ended.

    Attributes:
        token_ids: the prompt, as token ids; of a chat those of the contents, without what the
            template adds.
        output_tokens: tokens to ask for; generation is forced to this length.
        shared_tokens: leading tokens that an earlier prompt of the stage, or one that primed it,
            has as well, so that a prefix cache is meant to hold them.
        messages: the same prompt as a chat, (role, content) each; what is sent where the
            requests are chats. Empty where the workload has none.
        session, turn: conversation it belongs to, and its turn in it from 0.
        think_s: seconds between the end of the turn before and its sending.
        at_s: when a trace has it arrive, seconds after the trace's first request.
    """

    token_ids: tuple[int, ...]
    output_tokens: int
    shared_tokens: int = 0
    messages: tuple[tuple[str, str], ...] = ()
    session: int | None = None
    turn: int = 0
    think_s: float = 0.0
    at_s: float | None = None


@dataclass(frozen=True, slots=True)
class WorkloadContext:
    """What a workload is built for.

    Attributes:
        vocab: size of the model's vocabulary; token ids stay below it.
        seed: seed of the experiment.
        model: Hub id or folder that has the model's tokenizer. Empty when there is none.
        revision: revision of a Hub id.
        chat: True when the requests are chats, so that prompts need `messages`.
    """

    vocab: int
    seed: int
    model: str = ""
    revision: str | None = None
    chat: bool = False


class Workload(ABC):
    """Prompts as a function of (seed, stage, index), and of nothing else.

    Implementations are frozen dataclasses; they are pickled to where the load runs. Files that a
    workload reads are read once, when it is built.

    Class attributes:
        name: as users write it.
        defaults: every setting it takes that may be left out, with its default. Written out, they
            mean the same; a setting that excludes another has None.
        required: the settings that may not.
    """

    name: ClassVar[str]
    defaults: ClassVar[Mapping[str, Json]] = {}
    required: ClassVar[tuple[str, ...]] = ()

    @classmethod
    @abstractmethod
    def from_settings(cls, settings: Mapping[str, Json], context: WorkloadContext) -> Workload:
        """Build from the `workload` section of an experiment.

        Args:
            settings: the section's keys that are the workload's own, as users wrote them.
            context: what it is built for.

        Raises:
            ValueError: a setting is unknown, missing or wrong; the message starts with the
                setting's name (`input_tokens.mean: must be at least 1 token, got 0`).
        """

    @abstractmethod
    def prompts(self, stage: str, count: int) -> list[Prompt]:
        """The first `count` prompts of `stage` ("warmup-0", "0", …), fewer where it has no more.

        Equal arguments give equal prompts on every machine. No two prompts of one engine's life
        are equal, so that no prefix cache helps where the workload does not mean it to.
        """

    @property
    @abstractmethod
    def max_context(self) -> int:
        """Tokens of the longest request, prompt and output together."""

    def primers(self, stage: str) -> list[Prompt]:
        """Prompts to send, one after the other, so that `stage` starts from a warm cache."""
        return []

    @property
    def content_free(self) -> bool:
        """True when the tokens mean nothing.

        What depends on content, as the acceptance of speculation or the balance of experts, is
        then not what users will see.
        """
        return True

    @property
    def selection(self) -> str:
        """What of a recording is not sent, in words; empty where nothing is left out."""
        return ""

    @property
    def size(self) -> int | None:
        """Requests of one stage at most, for a workload of finite length; None for no end."""
        return None


WORKLOADS: Registry[type[Workload]] = Registry(
    "workload", package="runtimes.workloads", group="servetune.workloads"
)
