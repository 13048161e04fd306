"""A server of the performance model's API alone."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping, Sequence

import uvicorn

from orchestrator.web.app import create_app
from runtimes.errors import UserError
from runtimes.hardware import Accelerator
from runtimes.model import ModelFacts
from runtimes.node_curves import NodeCurves

_KEEP_ALIVE_S = 75
"""An idle connection is held longer than clients hold it (httpx: 5 s, which is also uvicorn's own
default), so that none is closed while the next request is on its way.
"""


def serve(
    host: str,
    port: int,
    *,
    hardware: Mapping[str, Accelerator] | None = None,
    models: Mapping[str, ModelFacts] | None = None,
    curves: Sequence[NodeCurves] = (),
    started: Callable[[str], None] = lambda url: None,
) -> None:
    """Answer until the process is told to end (SIGINT, SIGTERM).

    Args:
        host: address to listen on; nothing asks for a password.
        port: 0 for any that is free.
        hardware: the server's own accelerators by name, found before the built-in ones.
        models: the server's own models by name, found before the built-in ones.
        curves: nodes' own measurements.
        started: told the URL once the port is held.

    Raises:
        UserError: the address cannot be listened on.
    """
    app = create_app(hardware=hardware, models=models, curves=curves)
    config = uvicorn.Config(
        app, log_config=None, log_level=logging.WARNING, access_log=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
    )  # fmt: skip
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"cannot listen on {host} port {port}: {error}; name another with --host and --port"
        ) from None
    with listener:
        shown = f"[{host}]" if ":" in host else host
        started(f"http://{shown}:{listener.getsockname()[1]}")
        uvicorn.Server(config).run(sockets=[listener])
