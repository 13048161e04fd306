"""The way into engine environments: from a description to one that is there on this node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from runtimes.environment.image import prepare_image
from runtimes.environment.launch import Launch, Prepared
from runtimes.environment.path import prepare_path
from runtimes.environment.venv import prepare_venv
from runtimes.plan import Environment

__all__ = ["Launch", "Prepared", "prepare"]


async def prepare(
    environment: Environment,
    *,
    cache: Path,
    log: Path,
    env: Mapping[str, str],
    on_progress: Callable[[str], None] | None = None,
) -> Prepared:
    """Make sure that `environment` is there on this node; what has to be built is built once.

    However many processes of a node ask at the same time, one builds and the others wait. May be
    cancelled at any time: what it started ends with it.

    Args:
        environment: what an engine's interpreter comes from.
        cache: folder of this node that outlives trials and runs; built environments stay in
            `cache/environments`.
        log: gets what pip and the container program say, appended; its folder is made.
        env: the variables those programs are run with, usually `os.environ` (`PIP_INDEX_URL`,
            `DOCKER_HOST`, proxies). What points a Python elsewhere is taken out.
        on_progress: called with what is being done, in words, as it changes.

    Raises:
        EngineError: it cannot be made here; of kind `ENVIRONMENT_FAILED`, with the log's tail.
    """
    report = on_progress or _ignore
    if environment.image is not None:
        return await prepare_image(environment, cache=cache, log=log, env=env, report=report)
    if environment.requirements:
        return await prepare_venv(environment, cache=cache, log=log, env=env, report=report)
    return prepare_path(environment)


def _ignore(_words: str) -> None:
    pass
