"""`python -m runtimes.simulator`: start one simulated engine and serve until told to stop."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

import uvicorn

from runtimes.errors import UserError
from runtimes.hardware import Accelerator, find_accelerator
from runtimes.model import ModelFacts, find_model
from runtimes.simulator.arguments import OwnArguments, parse_engine, parse_own
from runtimes.simulator.faults import Fault, fault_from
from runtimes.simulator.memory import StartupError, out_of_memory_text
from runtimes.simulator.resolve import Resolved, config_error, resolve
from runtimes.simulator.server import Application

API_KEY_VARIABLE = "VLLM_API_KEY"
DEV_MODE_VARIABLE = "VLLM_SERVER_DEV_MODE"
_GRACE_S = 1
"""How long open streams may go on after SIGTERM."""

_logger = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """Exit status: 0 after SIGTERM, 1 when the engine would not start, 2 for wrong arguments."""
    signal.signal(signal.SIGTERM, _stop)
    logging.basicConfig(
        level=logging.INFO, format="%(levelname)s %(asctime)s [simulator] %(message)s"
    )
    own = parse_own(argv)
    try:
        fault = fault_from(os.environ)
        model, accelerator = _facts(own)
    except UserError as error:
        sys.stderr.write(f"runtimes.simulator: error: {error}\n")
        return 2
    engine = parse_engine(own.engine_argv, own.model)
    if engine.inert:
        _logger.info("arguments without effect on the simulation: %s", ", ".join(engine.inert))
    try:
        _fail_if_told(fault, model, accelerator)
        resolved = resolve(engine, model, accelerator)
    except StartupError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if engine.headless:
        _logger.info("this node answers nobody; node 0 does")
        while True:
            signal.pause()
    _serve(own, resolved, fault)
    return 0


def _facts(own: OwnArguments) -> tuple[ModelFacts, Accelerator]:
    model = find_model(own.model)
    if model is None:
        raise UserError(
            f"model {own.model!r} is not in the catalogue, so its size is unknown; "
            "give a folder that holds its config.json"
        )
    return model, find_accelerator(own.accelerator)


def _fail_if_told(fault: Fault, model: ModelFacts, accelerator: Accelerator) -> None:
    if fault is Fault.START:
        raise config_error(
            f"Total number of attention heads ({model.heads}) must be divisible by "
            "tensor parallel size (3)."
        )
    if fault is Fault.OOM:
        raise StartupError(out_of_memory_text(accelerator.memory_bytes))


def _serve(own: OwnArguments, resolved: Resolved, fault: Fault) -> None:
    application = Application(
        resolved,
        startup_s=own.startup_s,
        jitter=own.jitter,
        seed=own.seed,
        fault=fault,
        api_key=os.environ.get(API_KEY_VARIABLE),
        dev_mode=os.environ.get(DEV_MODE_VARIABLE, "0") not in ("", "0"),
    )
    config = uvicorn.Config(
        application,
        lifespan="on",
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
    with socket.create_server((own.host, own.port)) as listener:
        uvicorn.Server(config).run(sockets=[listener])


def _stop(signum: int, frame: FrameType | None) -> NoReturn:
    """Before and after uvicorn's own handler, SIGTERM is an orderly end."""
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
