"""Ports kept for engines from the moment they are chosen until the engine can bind them."""

from __future__ import annotations

import errno
import socket
import threading
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
    """A port that nobody else gets: bound but not listening, until `release`.

    The socket is bound without SO_REUSEADDR. With it, Linux lets two sockets of which neither
    listens share a port, and two holders could get the same; without it, the port also has no
    connection in TIME_WAIT, so that an engine can bind it at once, whatever options it sets.
    A socket that never listened leaves nothing behind when it is closed.

    An engine binds seconds after `release`. For that time the port stays reserved among the
    holders of this process, until the context is left: leave it when the engine has ended.

    Args:
        rng: chooses the ports to try.
        host: address to bind, one of this machine.
        ports: ports to choose from.

    Raises:
        EngineError: no port was free (`PORT_IN_USE`, retryable), or `host` is not an address
            of this machine (`INVALID_CONFIG`).
    """

    def __init__(self, rng: Random, host: str = "127.0.0.1", *, ports: range = PORTS) -> None:
        self.host = host
        self._socket: socket.socket | None = None
        tries = rng.sample(ports, min(MAX_TRIES, len(ports)))
        for port in tries:
            self._socket = _hold(host, port)
            if self._socket is not None:
                self.port = port
                return
        raise EngineError(
            Failure(
                FailureKind.PORT_IN_USE,
                f"no free port on {host}: {len(tries)} of {ports.start}–{ports.stop - 1} tried",
                remedy="Stop what listens there (`ss -ltn` lists it) or run fewer trials at once.",
            )
        )

    def release(self) -> None:
        """Free the port for the engine; call it just before the spawn. May be repeated."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

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
            _reserved.discard(self.port)


def _hold(host: str, port: int) -> socket.socket | None:
    """A socket bound to `port`, reserved in this process; None when somebody has it."""
    with _reserved_lock:
        if port in _reserved:
            return None
        held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
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
        _reserved.add(port)
        return held
