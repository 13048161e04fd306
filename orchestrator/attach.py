"""Experiments on a server that runs already, instead of on engines that are started."""

from __future__ import annotations

import random
from dataclasses import dataclass

from orchestrator.spec.experiment import Experiment
from runtimes.engines.external import ExternalEngine
from runtimes.json_types import Json

_KEPT = (
    "name", "model", "workload", "slo", "objectives", "metrics", "timeouts", "results",
)  # fmt: skip
"""Sections of an experiment that say what to measure, and not of what."""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server to measure.

    Attributes:
        url: where its routes are.
        gpus: GPUs behind it.
        api_key_env: variable of this environment that holds the key it asks for.
        drop_fields: fields of requests that it refuses; see `ExternalEngine`.
    """

    url: str
    gpus: int = 1
    api_key_env: str | None = None
    drop_fields: tuple[str, ...] = ()


def drawn_seed() -> int:
    """A seed for a server that lives on: the prompts of an earlier run are in its prefix cache."""
    return random.Random().randrange(1 << 31)


def attached(experiment: Experiment, server: RunningServer) -> Experiment:
    """`experiment`'s workload, limits and objectives on `server` instead of its engines.

    Raises:
        SpecError: the server's address is none.
    """
    data = experiment.resolved()
    kept = {key: data[key] for key in _KEPT if key in data}
    spec = experiment.spec
    sections = attached_sections(server, seed=spec.search.seed)
    cluster = sections["cluster"]
    if isinstance(cluster, dict) and spec.cluster.gpu_price_per_hour is not None:
        cluster["gpu_price_per_hour"] = spec.cluster.gpu_price_per_hour
    return Experiment.from_dict({**kept, **sections}, source=experiment.source)


def attached_sections(server: RunningServer, *, seed: int) -> dict[str, Json]:
    """The sections of an experiment that say what is measured, for `server`.

    One trial, on devices that are only counted: this machine's own stay free.
    """
    # A wrong number is a problem of `cluster.simulated_gpus`, and not once more of the engine.
    engine: dict[str, Json] = {"url": server.url, "gpus": max(1, server.gpus)}
    if server.api_key_env is not None:
        engine["env"] = {str(ExternalEngine.api_key_env): {"from_env": server.api_key_env}}
    if server.drop_fields:
        engine["drop_fields"] = list(server.drop_fields)
    return {
        "engines": {ExternalEngine.name: engine},
        "search": {"sampler": "grid", "seed": seed, "baseline": False},
        "budget": {"trials": 1},
        "cluster": {"kind": "in_process", "simulated_gpus": server.gpus},
    }
