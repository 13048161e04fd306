"""What is predicted of the trials of a study, before and while it runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from orchestrator.node_curves import curves_of
from orchestrator.spec.names import CPU
from orchestrator.user_facts import hardware_of
from runtimes.plan import EngineConfig
from search.trial import Params
from search.warm_start import Rated, predicted_best, usual_count

if TYPE_CHECKING:
    from orchestrator.wiring import Study
    from runtimes.hardware import Accelerator
    from search.perfmodel.expected import Expected
    from search.perfmodel.study import Forecast, Forecaster

_S_PER_HOUR = 3600.0


@dataclass(slots=True)
class Predictions:
    """The performance model, asked about one study. Pure but for what it remembers.

    Nothing of the model is imported before something is asked.
    """

    study: Study
    _forecaster: Forecaster | None = field(default=None, init=False)

    def forecasts(self, points: Sequence[Params]) -> list[Forecast | str]:
        """One for each point; in words why there is none."""
        if not points:
            return []
        configs = [self.study.admission.config(params) for params in points]
        return self._model().forecasts(configs)

    def rated(self, points: Sequence[Params]) -> list[Rated]:
        """Those of which something is predicted, with the study's first goal."""
        return [
            Rated(params, self.study.admission.config(params), forecast, self.goal(forecast))
            for params, forecast in zip(points, self.forecasts(points), strict=True)
            if not isinstance(forecast, str)
        ]

    def goal(self, forecast: Forecast) -> float | None:
        """The study's first goal, in its own unit; None where the model does not tell it."""
        from search.perfmodel.goal import goal_value

        price = self.study.experiment.spec.cluster.gpu_price_per_hour
        return goal_value(self.study.goals[0].name, forecast, gpu_price_per_hour=price)

    def expected(self, params: Params) -> Expected | None:
        """What is kept beside a trial of `params`; None where nothing is predicted."""
        from search.perfmodel.expected import expected_of

        (forecast,) = self.forecasts([params])
        return None if isinstance(forecast, str) else expected_of(forecast.prediction)

    def communication_ratio(self, params: Params) -> float | None:
        """Share of a decode step that goes to communication between GPUs, 0 to 1.

        None where nothing is predicted.
        """
        (forecast,) = self.forecasts([params])
        if isinstance(forecast, str):
            return None
        step = forecast.prediction.decode
        share = step.communication_s / step.seconds if step.seconds > 0 else math.nan
        return share if math.isfinite(share) else None

    def shortage(self, config: EngineConfig) -> str | None:
        """Why `config` cannot hold its weights and the workload's longest request; None: it may."""
        if self.study.model is None or self.study.accelerator is None:
            return None
        return self._model().shortage(config, self.study.workload.max_context)

    def warm_start(self) -> list[Params]:
        """The points that a search begins with; none where that is switched off."""
        count = self.warm_start_count()
        if not count:
            return []
        study = self.study
        return predicted_best(
            study.space,
            study.admission,
            study.goals[0],
            rate=self.rated,
            seed=study.experiment.spec.search.seed,
            count=count,
        )

    def warm_start_count(self) -> int:
        """Trials that prediction leads, at most."""
        written = self.study.experiment.spec.search.warm_start
        if written == "off":
            return 0
        if written != "auto":
            return written
        trials = self.study.limits().trials
        return usual_count(self.study.space.size or 0 if trials is None else trials)

    def gpu_hours(self, points: Sequence[Params]) -> list[float | None]:
        """GPU-hours that a trial of each point is expected to hold; None where none is predicted.

        Start, warm-up and stages, times GPUs.
        """
        from search.perfmodel.expense import expected_seconds

        found = self.forecasts(points)
        known = [index for index, one in enumerate(found) if not isinstance(one, str)]
        admission = self.study.admission
        configs = [admission.config(points[index]) for index in known]
        seconds = expected_seconds(
            self._model(),
            [one for one in found if not isinstance(one, str)],
            self.study.program,
            options=[dict(config.options) for config in configs],
            warmup_requests=self.study.experiment.spec.workload.warmup_requests,
        )
        hours: list[float | None] = [None] * len(points)
        for index, lasts_s in zip(known, seconds, strict=True):
            hours[index] = admission.plan(points[index]).gpus * lasts_s / _S_PER_HOUR
        return hours

    def notes(self) -> Iterator[str]:
        """Files of curves that predictions of this study do not use."""
        from search.perfmodel.efficiency import curves_of as measured_on

        accelerator = self._accelerator()
        cluster = self.study.experiment.spec.cluster
        for path, curves in zip(cluster.curves, curves_of(self.study.experiment.spec), strict=True):
            if accelerator is not None and measured_on(accelerator, [curves]) is None:
                yield (
                    f"{path}: measured on {curves.accelerator}, so predictions of "
                    f"{accelerator.name} do not use it"
                )

    def _accelerator(self) -> Accelerator | None:
        """The study's, or the CPU that a file of hardware describes: no rule of an engine looks at
        that one, predictions do.
        """
        cluster = self.study.experiment.spec.cluster
        if self.study.accelerator is None and cluster.accelerator is not None:
            own = hardware_of(cluster.hardware)
            return next((own[name] for name in own if name.lower() == CPU), None)
        return self.study.accelerator

    def _model(self) -> Forecaster:
        if self._forecaster is None:
            from search.perfmodel.demand import Demand
            from search.perfmodel.predict import predict
            from search.perfmodel.study import Forecaster

            self._forecaster = Forecaster(
                model=self.study.model,
                accelerator=self._accelerator(),
                demand=Demand.of(self.study.workload),
                program=self.study.program,
                slo=self.study.slo,
                answer=partial(predict, curves=curves_of(self.study.experiment.spec)),
            )
        return self._forecaster
