"""Predicts the trials of one study: its configurations under its load."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from runtimes.engines.base import ENGINES
from runtimes.errors import UserError
from runtimes.hardware import Accelerator, find_accelerator
from runtimes.load.program import LoadProgram
from runtimes.model import ModelFacts
from runtimes.plan import EngineConfig
from runtimes.slo import Slo
from search.perfmodel.answer import Prediction
from search.perfmodel.configure import configuration_of
from search.perfmodel.demand import Demand, Sought, deciding_load
from search.perfmodel.predict import predict
from search.perfmodel.question import Configuration, Load, Question
from search.perfmodel.shortage import shortage_of
from search.perfmodel.verdict import Verdict, verdict_of

_HALVINGS = 7
"""Bisections, in logarithms, of the rate at which an SLO holds: 10 doublings to within 6 %."""
_DOUBLINGS = 10
"""The lowest rate that is tried lies so many below what saturates a deployment."""
_GIB = 1 << 30

Answer: TypeAlias = Callable[[Sequence[Question]], list[Prediction]]


@dataclass(frozen=True, slots=True)
class Forecast:
    """What one configuration is predicted to show under the load that decides.

    Attributes:
        load: that load, with the rate that was found where one is looked for.
        verdict: against the limits of the study.
    """

    configuration: Configuration
    load: Load
    prediction: Prediction
    verdict: Verdict


class Forecaster:
    """Predicts configurations of one study, each once.

    Args:
        model, accelerator: facts; None when unknown, and then nothing is predicted. A simulation
            that is told no accelerator has its own.
        demand: what is sent.
        program: how.
        slo: the limits.
        answer: what answers questions.
    """

    def __init__(
        self,
        *,
        model: ModelFacts | None,
        accelerator: Accelerator | None,
        demand: Demand,
        program: LoadProgram,
        slo: Slo,
        answer: Answer = predict,
    ) -> None:
        self._model = model
        self._accelerator = accelerator
        self.demand = demand
        self._slo = slo
        self._answer = answer
        self._load = deciding_load(program, demand)
        self._known: dict[Configuration, Forecast | str] = {}

    def configuration(self, config: EngineConfig) -> Configuration | str:
        """What `config` is to the model; in words why it is nothing."""
        if ENGINES.get(config.engine).attaches:
            return "a server that runs already is not predicted"
        if self._model is None:
            return f"the shape of {config.model} is not known"
        accelerator = self._accelerator
        if accelerator is None and "imitates" in config.options:
            accelerator = _pretended(config)
        if accelerator is None:
            return "cluster.accelerator does not say what it runs on"
        try:
            return configuration_of(config, self._model, accelerator)
        except UserError as error:
            return str(error)

    def forecasts(self, configs: Sequence[EngineConfig]) -> list[Forecast | str]:
        """One for each of `configs`; in words why there is none."""
        asked = [self.configuration(config) for config in configs]
        new = [
            one
            for one in dict.fromkeys(asked)
            if isinstance(one, Configuration) and one not in self._known
        ]
        self._known.update(zip(new, self._forecast(new), strict=True))
        return [one if isinstance(one, str) else self._known[one] for one in asked]

    def shortage(self, config: EngineConfig, longest: int) -> str | None:
        """Why `config` has no room for its weights and one request of `longest` tokens.

        None where it has or may have, and where the accelerator is not one that was named.
        """
        if self._accelerator is None:
            return None
        configuration = self.configuration(config)
        if isinstance(configuration, str):
            return None
        return shortage_of(config, configuration, longest)

    def predictions(
        self, configurations: Sequence[Configuration], loads: Sequence[Load]
    ) -> list[Prediction]:
        """Of each configuration under the load at its place."""
        questions = [
            Question(configuration, _cached_load(configuration, load))
            for configuration, load in zip(configurations, loads, strict=True)
        ]
        return self._answer(questions) if questions else []

    def _forecast(self, configurations: list[Configuration]) -> list[Forecast | str]:
        if isinstance(self._load, str):
            return [self._load] * len(configurations)
        if isinstance(self._load, Sought):
            loads = self._highest(configurations, self._load)
        else:
            loads = [self._load] * len(configurations)
        made = self.predictions(configurations, loads)
        return [
            self._judged(configuration, load, prediction)
            for configuration, load, prediction in zip(configurations, loads, made, strict=True)
        ]

    def _judged(
        self, configuration: Configuration, load: Load, prediction: Prediction
    ) -> Forecast | str:
        if not prediction.memory.fits:
            short = prediction.memory.short_by / _GIB
            return f"predicted not to fit: {short:.1f} GiB per GPU are missing"
        verdict = verdict_of(prediction, load.output_tokens, self._slo)
        return Forecast(configuration, load, prediction, verdict)

    def _highest(self, configurations: list[Configuration], sought: Sought) -> list[Load]:
        """For each configuration the highest rate at which the limits are predicted to hold.

        By bisection below the rate that saturates it; where they hold at none, the lowest tried.
        """
        saturated = self.predictions(
            configurations, [self.demand.load(saturated=True)] * len(configurations)
        )
        most = [one.request_throughput for one in saturated]
        if sought.most is not None:
            most = [min(rate, sought.most) for rate in most]
        high = [math.log(rate) if rate > 0 else 0.0 for rate in most]
        low = [rate - _DOUBLINGS * math.log(2) for rate in high]
        for _ in range(_HALVINGS):
            middle = [(a + b) / 2 for a, b in zip(low, high, strict=True)]
            loads = [self.demand.load(request_rate=math.exp(rate)) for rate in middle]
            made = self.predictions(configurations, loads)
            for index, prediction in enumerate(made):
                holds = verdict_of(prediction, self.demand.output_tokens, self._slo).excess <= 0
                (low if holds else high)[index] = middle[index]
        return [self.demand.load(request_rate=math.exp(rate)) for rate in low]


def _cached_load(configuration: Configuration, load: Load) -> Load:
    """`load` as `configuration` meets it: without a prefix cache nothing is found in one."""
    if configuration.limits.prefix_caching or not load.prefix_hit:
        return load
    return replace(load, prefix_hit=0.0)


def _pretended(config: EngineConfig) -> Accelerator | None:
    from runtimes.engines.simulated import DEFAULT_ACCELERATOR

    name = str(config.options.get("accelerator") or DEFAULT_ACCELERATOR)
    return None if name == "cpu" else find_accelerator(name)
