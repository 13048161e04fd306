"""What `LoadWorkers` and its processes say to each other, and how it goes through their sockets.

A message is its length in eight bytes and its pickle: both ends are the same code, and nobody else
holds a socket.

    parent                                      process
    Setup                                →
    Prepare, Sessions…, Command.OPEN     →      opens connections
                                         ←      Ready
    Start                                →      sends
                                         ←      Reported…, Ended
    Command.STOP, CANCEL, GIVE_UP        →      at any time
                                         ←      Unable, for want of something; Broken, for a bug
    (closes)                             →      ends
"""

from __future__ import annotations

import asyncio
import pickle
from enum import Enum
from typing import NamedTuple

from runtimes.failure import Failure
from runtimes.load.address import ServerAddress
from runtimes.load.health import ProcessHealth
from runtimes.load.job import LoadJob
from runtimes.load.sender import Report
from runtimes.load.shares import PlannedSession

_LENGTH_BYTES = 8


class Setup(NamedTuple):
    """The servers, which are the same for all stages; `first` as `BalancedClient` takes it."""

    servers: tuple[ServerAddress, ...]
    api_key: str | None
    first: int = 0


class Prepare(NamedTuple):
    """A stage to come, of which a process sends its share; `run` numbers the stages."""

    run: int
    job: LoadJob
    worker: int
    workers: int


class Sessions(NamedTuple):
    """Some of the sessions of the share."""

    sessions: list[PlannedSession]


class Start(NamedTuple):
    """Begin at this instant of the clock that all processes of a machine share."""

    start_ns: int


class Command(Enum):
    """What needs no words: all sessions are there, so open connections; `Sender`'s `stop` and
    `cancel`; `LoadClient`'s `give_up`.
    """

    OPEN = "open"
    STOP = "stop"
    CANCEL = "cancel"
    GIVE_UP = "give up"


class Ready(NamedTuple):
    """Bodies are made and connections open."""

    run: int


class Reported(NamedTuple):
    """What happened since the last report."""

    run: int
    report: Report


class Ended(NamedTuple):
    """Every request has ended and was reported."""

    run: int
    health: ProcessHealth


class Unable(NamedTuple):
    """The process cannot send its share, and why."""

    failure: Failure


class Broken(NamedTuple):
    """A bug: the traceback, secrets masked."""

    words: str


def packed(message: object) -> bytes:
    """The bytes of a message."""
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return len(data).to_bytes(_LENGTH_BYTES, "big") + data


async def received(reader: asyncio.StreamReader) -> object:
    """The next message.

    Raises:
        EOFError: the other end is gone.
    """
    try:
        length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
        return pickle.loads(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        raise EOFError("the other end is gone") from None
