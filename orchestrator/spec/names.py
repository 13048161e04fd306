"""Names in the experiment file that a registry, or another package, has to know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeAlias

from pydantic import AfterValidator

from orchestrator.spec.refusal import NOT_YET, RefusedValueError, suggestion
from runtimes.engines.base import ENGINES
from runtimes.errors import UnknownNameError
from runtimes.hardware import ACCELERATORS, find_accelerator
from runtimes.slo import LATENCY_METRICS, STATISTIC
from runtimes.workloads.base import WORKLOADS
from search.constraints import Constraint
from search.objectives.base import OBJECTIVES
from search.samplers.base import SAMPLERS

CPU = "cpu"
"""Stands as accelerator where engines run on the processor; no memory rule applies then."""

_LATER_SAMPLERS = ("quasi-random", "gp", "nsga2")


def _known(kind: str, name: str, known: Sequence[str], later: Sequence[str] = ()) -> str:
    if name in known:
        return name
    if name in later:
        raise RefusedValueError(NOT_YET, f"use one of: {', '.join(known)}")
    raise RefusedValueError(f"unknown {kind}", suggestion(name, known))


def _engine(name: str) -> str:
    return _known("engine", name, ENGINES.names())


def _workload(name: str) -> str:
    return _known("workload", name, WORKLOADS.names())


def _objective(name: str) -> str:
    return _known("objective", name, OBJECTIVES.names())


def _sampler(name: str) -> str:
    return _known("sampler", name, SAMPLERS.names(), _LATER_SAMPLERS)


def accelerator_name(name: str, own: Sequence[str] = ()) -> str:
    """`name` as it is spelled where it is defined: in a file of the user's, which defines `own`,
    or in servetune.

    Raises:
        RefusedValueError: it is defined nowhere.
    """
    for known in (*own, CPU):
        if name.lower() == known.lower():
            return known
    try:
        return find_accelerator(name).name
    except UnknownNameError:
        return _known("accelerator", name, [*own, *ACCELERATORS, CPU])


def _latency(name: str) -> str:
    return _known("latency", name, LATENCY_METRICS)


def _statistic(name: str) -> str:
    if not STATISTIC.match(name):
        raise RefusedValueError("is no statistic", "write mean, p50, p99, p99.9")
    return name


def _constraint(text: str) -> str:
    Constraint.parse(text)
    return text


EngineName: TypeAlias = Annotated[str, AfterValidator(_engine)]
WorkloadName: TypeAlias = Annotated[str, AfterValidator(_workload)]
ObjectiveName: TypeAlias = Annotated[str, AfterValidator(_objective)]
SamplerName: TypeAlias = Annotated[str, AfterValidator(_sampler)]
LatencyName: TypeAlias = Annotated[str, AfterValidator(_latency)]
StatisticName: TypeAlias = Annotated[str, AfterValidator(_statistic)]
ConstraintText: TypeAlias = Annotated[str, AfterValidator(_constraint)]
