"""Ports kept for engines from the moment they are chosen until the engine can bind them."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Iterable, Sequence
from random import Random
from types import TracebackType
from typing import Self

from runtimes.errors import EngineError
from runtimes.failure import Failure, FailureKind

PORTS = range(20_000, 32_001)
"""Where engines listen: above the services, below Linux' own choice for outgoing connections."""
MAX_TRIES = 128
"""Ports tried before giving up."""

_reserved: set[int] = set()
_reserved_lock = threading.Lock()


class HeldPort:
    """A port that nobody else gets, with those an engine derives from it, until `release`.

    The sockets are bound but do not listen, and without SO_REUSEADDR. With it, Linux lets two
    sockets of which neither listens share a port, and two holders could get the same; without it,
    the port also has no connection in TIME_WAIT, so that an engine can bind it at once, whatever
    options it sets. A socket that never listened leaves nothing behind when it is closed.

    An engine binds seconds after `release`. For that time the ports stay reserved among the
    holders of this process, until the context is left: leave it when the engine has ended.

    Args:
        rng: chooses the ports to try.
        host: address to bind, one of this machine.
        ports: ports to choose from.
        offsets: what is added to the chosen port for each port of the group, 0 included.

    Raises:
        EngineError: no port was free (`PORT_IN_USE`, retryable), or `host` is not an address
            of this machine (`INVALID_CONFIG`).
    """

    def __init__(
        self,
        rng: Random,
        host: str = "127.0.0.1",
        *,
        ports: range = PORTS,
        offsets: Sequence[int] = (0,),
    ) -> None:
        self.host = host
        self._sockets: list[socket.socket] = []
        tries = rng.sample(ports, min(MAX_TRIES, len(ports)))
        for port in tries:
            group = [port + offset for offset in offsets]
            held = _hold_all(host, group)
            if held is not None:
                self.port = port
                self.group = tuple(group)
                self._sockets = held
                return
        derived = "" if len(offsets) == 1 else f", with {len(offsets) - 1} derived from each"
        raise EngineError(
            Failure(
                FailureKind.PORT_IN_USE,
                f"no free port on {host}: {len(tries)} of {ports.start}–{ports.stop - 1} "
                f"tried{derived}",
                remedy="Stop what listens there (`ss -ltn` lists it) or run fewer trials at once.",
            )
        )

    def release(self) -> None:
        """Free the ports for the engine; call it just before the spawn. May be repeated."""
        while self._sockets:
            self._sockets.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()
        with _reserved_lock:
            _reserved.difference_update(self.group)


def listened_on(ports: Iterable[int], host: str = "127.0.0.1") -> tuple[int, ...]:
    """Those of `ports` that a socket still listens on, ascending.

    Connections in TIME_WAIT, which every server leaves behind for a minute, do not count.
    """
    return tuple(sorted(port for port in ports if not _can_listen(host, port)))


def _can_listen(host: str, port: int) -> bool:
    with socket.socket(_family(host)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError as error:
            return error.errno != errno.EADDRINUSE
    return True


def _hold_all(host: str, ports: Sequence[int]) -> list[socket.socket] | None:
    """Sockets bound to all of `ports`, reserved in this process; None when one is not free."""
    with _reserved_lock:
        if not _reserved.isdisjoint(ports) or max(ports) > 65_535:
            return None
        held: list[socket.socket] = []
        for port in ports:
            bound = _bind(host, port)
            if bound is None:
                for other in held:
                    other.close()
                return None
            held.append(bound)
        _reserved.update(ports)
        return held


def _bind(host: str, port: int) -> socket.socket | None:
    """A socket bound to `port`; None when somebody has it."""
    held = socket.socket(_family(host))
    try:
        held.bind((host, port))
    except OSError as error:
        held.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            return None
        raise EngineError(
            Failure(
                FailureKind.INVALID_CONFIG,
                f"cannot bind a port on {host!r}: {error.strerror or error}",
                remedy="Name an address of this machine, as 127.0.0.1.",
            )
        ) from error
    return held


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
