"""What another load generator is asked to do, and how its program is told."""

from __future__ import annotations

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import ClassVar

from runtimes.load.address import ServerAddress
from runtimes.load.arrivals import ConcurrencyLoad, ConstantLoad, GammaLoad, PoissonLoad
from runtimes.load.job import Api, LoadJob
from runtimes.measurement import PERCENTILES, Measurement, percentile_name
from runtimes.peers.fields import Fields, WrongFieldError
from runtimes.peers.result import read_results
from runtimes.registry import Registry

_LATENCIES = ("ttft", "tpot", "itl", "e2e")
_STATISTICS = ("mean", *map(percentile_name, PERCENTILES))
_TOTALS = (
    *("requests_completed", "requests_failed", "input_tokens", "output_tokens", "duration_s"),
    *("request_throughput", "input_throughput", "output_throughput", "total_throughput"),
)


@dataclass(frozen=True, slots=True)
class PeerTask:
    """A load in the terms that all load generators have.

    Prompts are the tool's own random ones of the mean lengths: none of them takes token ids.

    Attributes:
        concurrency: requests in flight of a closed loop; None for an open one.
        rate: requests per second of an open loop. `cv`: of the gaps between them.
        folder: where its result goes.
    """

    url: str
    model: str
    api: Api
    requests: int
    input_tokens: int
    output_tokens: int
    seed: int
    folder: Path
    concurrency: int | None = None
    rate: float | None = None
    cv: float = 1.0

    @classmethod
    def of(cls, job: LoadJob, address: ServerAddress, folder: Path) -> PeerTask | None:
        """The task of `job`; None where its load is of a kind that no other tool has."""
        load = job.load
        concurrency, rate, cv = None, None, 1.0
        if isinstance(load, ConcurrencyLoad):
            concurrency = load.value
        elif isinstance(load, PoissonLoad):
            rate = load.rate
        elif isinstance(load, ConstantLoad):
            rate, cv = load.rate, 0.0
        elif isinstance(load, GammaLoad):
            rate, cv = load.rate, load.cv
        else:
            return None
        prompts = job.prompts[: load.requests]
        return cls(
            url=address.url,
            model=job.model,
            api=job.api,
            requests=len(prompts),
            input_tokens=max(1, round(fmean(len(prompt.token_ids) for prompt in prompts))),
            output_tokens=round(fmean(prompt.output_tokens for prompt in prompts)),
            seed=job.seed,
            folder=folder,
            concurrency=concurrency,
            rate=rate,
            cv=cv,
        )


class Peer(ABC):
    """A load generator that is installed as a program.

    Attributes:
        name: as users write it.
        program: its command.
        api_key_env: variable that it takes an API key from; empty where it takes none so.
    """

    name: ClassVar[str]
    program: ClassVar[str]
    api_key_env: ClassVar[str]

    def command(self, programs: Path | None) -> list[str] | None:
        """How it is called, without arguments; None where it is not installed.

        Args:
            programs: folder that is looked in before PATH.
        """
        found = None if programs is None else shutil.which(self.program, path=str(programs))
        found = found or shutil.which(self.program)
        return None if found is None else [found]

    @abstractmethod
    def arguments(self, task: PeerTask) -> list[str] | None:
        """What follows `command`; None where it cannot do the task. Pure."""

    @abstractmethod
    def figures(self, folder: Path) -> Mapping[str, float]:
        """What it measured, by our names; a figure that it defines otherwise is absent.

        Raises:
            UserError: it left no result that can be read.
        """


PEERS: Registry[type[Peer]] = Registry(
    "load generator", package="runtimes.peers.commands", group="servetune.load_generators"
)
"""Every other load generator by name."""


def figures_of(measured: Measurement) -> dict[str, float]:
    """Its figures by name: `ttft_p99_ms`, `output_throughput`; what is not known is absent."""
    totals = {name: getattr(measured, name) for name in _TOTALS}
    found = {name: float(value) for name, value in totals.items() if value is not None}
    for latency in _LATENCIES:
        values = getattr(measured, f"{latency}_ms")
        for statistic in _STATISTICS if values is not None else ():
            value = getattr(values, statistic)
            if value is not None:
                found[f"{latency}_{statistic}_ms"] = value
    return found


def figures_in(path: Path) -> dict[str, float]:
    """The figures of the only result in a file of a known format.

    Raises:
        UserError: there is none.
    """
    (result,) = read_results(path)[:1]
    return figures_of(result.measurement)


def document_in(path: Path) -> Fields:
    """A JSON object.

    Raises:
        WrongFieldError: it cannot be read, or is none.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WrongFieldError(f"{path.name}: cannot be read: {error}") from None
    if not isinstance(document, dict):
        raise WrongFieldError(f"{path.name}: holds no JSON object")
    return Fields(document)
