"""From a checked experiment to the objects that run it: the only place that knows them all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from orchestrator.cluster.base import ClusterSettings
from orchestrator.messages import Timeouts, TrialOrder
from orchestrator.placement import Bundle, capacity_reason
from orchestrator.prediction import Predictions
from orchestrator.scheduler import Limits, Waiting
from orchestrator.spec.environments import environment_of
from orchestrator.spec.experiment import Experiment
from orchestrator.spec.load_stages import Supply
from orchestrator.spec.models import CPU, ClusterSpec, EngineSpec, SecretSpec
from orchestrator.spec.searched import (
    combinations,
    engine_dimensions,
    fixed_arguments,
    fixed_variables,
    only_combinations,
    shared_dimensions,
)
from orchestrator.spec.workloads import workload_context
from orchestrator.user_facts import accelerator_called, hardware_of
from runtimes.cache_state import CacheState
from runtimes.engines.base import ENGINES
from runtimes.errors import UserError
from runtimes.hardware import Accelerator, find_accelerator
from runtimes.json_types import Json
from runtimes.load.job import Api
from runtimes.load.program import LoadProgram
from runtimes.load.workers import processes_for
from runtimes.measurement import Measurement
from runtimes.model import ModelFacts, find_model
from runtimes.plan import Allocation, DeploymentPlan
from runtimes.presets import LAYOUT_PRESETS, PRECISION_PRESETS, layout_of, precision_of
from runtimes.secrets import is_secret_name
from runtimes.slo import Slo
from runtimes.tokenizer import named_template_sha256, template_sha256
from runtimes.workloads.base import Workload
from search.admission import Admission
from search.constraints import Constraint
from search.goals import Goal
from search.materialize import EngineTemplate
from search.objectives.base import OBJECTIVES
from search.samplers.base import Sampler, create_sampler
from search.space import SearchSpace
from search.trial import Params
from search.values import PointValues

_SENDERS = 8
"""Processes that send a load at most, unless the file says more: CPUs are the engine's first."""
_USUAL_SENDERS = 4
"""Of a load that is looked for: as much as the fastest node gives, some 240,000 tokens/s."""
_SAMPLED = 32
"""Requests whose mean output, of a session, and whose arrivals stand for the workload's."""
_NODE_GPUS = 8
"""GPUs of a node that presets are laid out for, where nothing says otherwise."""


@dataclass(slots=True)
class Study:
    """An experiment, wired. Pure but for `secrets`, which reads the environment.

    `bundles` is what the capacity rule looks at; None until a cluster has been seen, and then
    trials that no bundle can hold are excluded before launch. `model_template_sha256` is the hash
    of the model's own chat template; empty where it is unknown, or nothing is a chat.
    """

    experiment: Experiment
    model: ModelFacts | None
    accelerator: Accelerator | None
    space: SearchSpace
    templates: Mapping[str, EngineTemplate]
    goals: tuple[Goal, ...]
    slo: Slo
    workload: Workload
    program: LoadProgram
    cache: CacheState
    model_template_sha256: str = ""
    bundles: Iterable[Bundle] | None = None
    admission: Admission = field(init=False)
    predictions: Predictions = field(init=False)

    def __post_init__(self) -> None:
        self.predictions = Predictions(self)
        self.admission = Admission(
            self.space,
            self.templates,
            model=self.model,
            accelerator=self.accelerator,
            capacity=self._capacity,
            memory=self.predictions.shortage,
            node_gpus=self.experiment.spec.cluster.gpus_per_node,
        )

    def on(self, bundles: Sequence[Bundle]) -> Study:
        """The study on all of `bundles`: where the file names no accelerator, the one they have.

        That stays unknown where they differ, or where one has none that servetune knows.
        """
        names = {bundle.accelerator for bundle in bundles}
        if self.experiment.spec.cluster.accelerator is not None or len(names) != 1 or "" in names:
            return self
        return replace(self, accelerator=find_accelerator(names.pop()))

    @property
    def source(self) -> str:
        """What engines are told to load, which is also the model name in requests."""
        return self.experiment.spec.model.source

    def load_words(self) -> tuple[str, ...]:
        """What each trial sends, and how, for a reader."""
        section = self.experiment.spec.workload
        route, cache = Api(section.api).path, self.cache.value
        return (
            *section.load.lines(self.slo, Supply.of(self.workload)),
            f"{self.workload.name} requests to {route}, each stage from a {cache} prefix cache",
            *filter(None, [self.workload.selection]),
        )

    def sampler(self) -> Sampler:
        """A fresh sampler of the kind the experiment names, led by what is predicted."""
        search = self.experiment.spec.search
        sampler = create_sampler(
            search.sampler,
            space=self.space,
            admission=self.admission,
            goals=self.goals,
            seed=search.seed,
        )
        sampler.lead_with(self.predictions.warm_start)
        return sampler

    def limits(self) -> Limits:
        """The budget, in the scheduler's terms."""
        budget = self.experiment.spec.budget
        trials = budget.trials
        if trials is None and self.space.size is None:
            trials = _DEFAULT_TRIALS
        hours = budget.gpu_hours
        return Limits(
            trials=trials,
            gpu_seconds=None if hours is None else hours * 3600,
            wall_clock_s=budget.wall_clock,
        )

    def cluster_settings(self) -> ClusterSettings:
        cluster = self.experiment.spec.cluster
        return ClusterSettings(
            kind=cluster.kind,
            address=cluster.address,
            simulated_gpus=cluster.simulated_gpus,
            accelerator=cluster.accelerator or "",
            max_gpus=cluster.max_gpus,
            offline=self.experiment.spec.offline,
        )

    def secrets(self, engine: str) -> dict[str, str]:
        """Values of the secret variables of `engine`.

        Raises:
            UserError: a variable they come from is not set here.
        """
        values = {}
        for name, value in self.experiment.spec.engines[engine].env.items():
            if isinstance(value, SecretSpec):
                values[name] = _from_environment(name, value.from_env, engine)
            elif isinstance(value, str) and is_secret_name(name):
                values[name] = value
        return values

    def order(
        self, run: str, trial: Waiting, plan: DeploymentPlan, allocation: Allocation
    ) -> TrialOrder:
        """Everything a bundle needs to run an attempt of `trial`."""
        spec = self.experiment.spec
        timeouts = spec.timeouts
        load = spec.workload.load
        return TrialOrder(
            run=run,
            number=trial.number,
            attempt=trial.attempt,
            plan=plan,
            allocation=allocation,
            model=self.source,
            workload=self.workload,
            program=self.program,
            slo=self.slo,
            seed=spec.search.seed,
            warmup_requests=spec.workload.warmup_requests,
            api=Api(spec.workload.api),
            cache=self.cache,
            template_sha256=self._template_sha256(trial.params),
            load_processes=self.load_processes(),
            fit_processes=load.processes == "auto",
            cross_check="" if load.engine == "own" else load.engine,
            timeouts=Timeouts(
                start_s=timeouts.start,
                stall_s=timeouts.stall,
                request_s=timeouts.request,
                trial_s=timeouts.trial,
                stop_s=timeouts.stop,
                release_s=timeouts.release,
            ),
            sample_hz=spec.metrics.sample_hz,
            secrets=self.secrets(trial.params.engine),
        )

    def objectives(self, measurement: Measurement, gpus: int) -> dict[str, float]:
        """Value by objective name; one that could not be computed is absent."""
        price = self.experiment.spec.cluster.gpu_price_per_hour
        values = {
            goal.name: OBJECTIVES.get(goal.name).value(
                measurement, gpus=gpus, gpu_price_per_hour=price
            )
            for goal in self.goals
        }
        return {name: value for name, value in values.items() if value is not None}

    def load_processes(self) -> int:
        """Processes that send the load; without a number in the file, what its heaviest needs."""
        load = self.experiment.spec.workload.load
        if load.processes != "auto":
            return load.processes
        sample = self.workload.prompts("0", _SAMPLED)
        heaviest = load.heaviest(Supply.of(self.workload))
        needed = [processes_for(one, sample, most=_SENDERS) for one in heaviest]
        return max(needed, default=_USUAL_SENDERS)

    def _template_sha256(self, params: Params) -> str:
        """Hash of the template that chats of a trial are rendered with; empty where it is unknown,
        or nothing is a chat.
        """
        if Api(self.experiment.spec.workload.api) is not Api.CHAT:
            return ""
        named = named_template_sha256(self.admission.config(params).args)
        return self.model_template_sha256 if named is None else named

    def _capacity(self, plan: DeploymentPlan) -> str | None:
        if self.bundles is None:
            return None
        rooms = [bundle.room for bundle in self.bundles]
        return capacity_reason(plan.gpus, rooms, plan.environment.label)


_DEFAULT_TRIALS = 50


def wire(experiment: Experiment) -> Study:
    """Build everything `experiment` asks for; starts nothing."""
    spec = experiment.spec
    model = find_model(spec.model.source, spec.model.revision)
    accelerator = _accelerator(spec.cluster)
    workload = spec.workload.build(workload_context(spec, model))
    templates = {name: _template(experiment, name) for name in spec.engines}
    study = Study(
        experiment=experiment,
        model=model,
        accelerator=accelerator,
        space=_space(experiment, templates),
        templates=templates,
        goals=tuple(Goal(objective.name, objective.direction) for objective in spec.objectives),
        slo=spec.limits(),
        workload=workload,
        program=spec.workload.load.program(spec.limits(), Supply.of(workload)),
        cache=_cache_state(spec.workload.cache, workload),
        model_template_sha256=_model_template(experiment),
    )
    study.bundles = _declared_bundles(experiment)
    return study


def _model_template(experiment: Experiment) -> str:
    spec = experiment.spec
    if Api(spec.workload.api) is not Api.CHAT:
        return ""
    return template_sha256(*spec.model.tokenizer_source) or ""


def _declared_bundles(experiment: Experiment) -> list[Bundle] | None:
    """Bundles known from the file alone: simulated devices, or nothing before a cluster answers."""
    cluster = experiment.spec.cluster
    if cluster.simulated_gpus is None:
        return None
    count = min(cluster.simulated_gpus, cluster.max_gpus or cluster.simulated_gpus)
    return [Bundle("simulated", "", tuple(map(str, range(count))), visible=False)]


def _accelerator(cluster: ClusterSpec) -> Accelerator | None:
    name = cluster.accelerator
    if name is None or name == CPU:
        return None
    return accelerator_called(name, hardware_of(cluster.hardware))


def _space(experiment: Experiment, templates: Mapping[str, EngineTemplate]) -> SearchSpace:
    spec = experiment.spec
    dimensions = [*shared_dimensions(spec)]
    for engine in spec.engines:
        dimensions += engine_dimensions(spec, engine).dimensions
    return SearchSpace(
        tuple(spec.engines),
        tuple(dimensions),
        tuple(Constraint.parse(text) for text in spec.constraints),
        combinations=combinations(spec),
        product=not only_combinations(spec),
        known=PointValues(templates),
    )


def _template(experiment: Experiment, name: str) -> EngineTemplate:
    spec = experiment.spec
    engine = spec.engines[name]
    return EngineTemplate(
        engine=name,
        model=spec.model.source,
        revision=spec.model.revision,
        args=fixed_arguments(spec, name),
        env=_variables(experiment, name),
        secrets=tuple(sorted(_secret_names(engine))),
        environment=environment_of(engine.environment),
        options=_options(experiment, name, engine),
        dummy_weights=spec.weights == "dummy",
        layouts={
            preset: layout_of(preset, _imitated(name, engine), _node_gpus(experiment))
            for preset in LAYOUT_PRESETS
        },
        precisions={
            preset: precision_of(preset, _imitated(name, engine)) for preset in PRECISION_PRESETS
        },
    )


def _variables(experiment: Experiment, name: str) -> dict[str, str]:
    """Fixed variables; offline those of the engine as well, unless the user sets them."""
    spec = experiment.spec
    offline = ENGINES.get(name).offline_env if spec.offline else {}
    secrets = _secret_names(spec.engines[name])
    own = {variable: value for variable, value in offline.items() if variable not in secrets}
    return {**own, **fixed_variables(spec, name)}


def _node_gpus(experiment: Experiment) -> int:
    cluster = experiment.spec.cluster
    known = cluster.simulated_gpus or cluster.max_gpus or _NODE_GPUS
    return cluster.gpus_per_node or min(_NODE_GPUS, known)


def _imitated(name: str, engine: EngineSpec) -> str:
    """The engine whose presets those of `name` are."""
    return str({**ENGINES.get(name).options, **engine.options}.get("imitates", name))


def _secret_names(engine: EngineSpec) -> set[str]:
    return {
        name
        for name, value in engine.env.items()
        if isinstance(value, SecretSpec) or (isinstance(value, str) and is_secret_name(name))
    }


def _options(experiment: Experiment, name: str, engine: EngineSpec) -> dict[str, Json]:
    """The engine's options, its own defaults filled in; a simulation also learns the hardware."""
    defaults = dict(ENGINES.get(name).options)
    options: dict[str, Json] = {**defaults, **engine.options}
    if "imitates" in defaults:
        options["accelerator"] = experiment.spec.cluster.accelerator
        options["seed"] = experiment.spec.search.seed
    return options


def _cache_state(written: str, workload: Workload) -> CacheState:
    """What each stage starts from: primed, where there is something to prime it with."""
    if written != "auto":
        return CacheState(written)
    return CacheState.WARM if workload.primers("0") else CacheState.COLD


def _from_environment(name: str, variable: str, engine: str) -> str:
    value = os.environ.get(variable)
    if value is None:
        raise UserError(
            f"engines.{engine}.env.{name}: the environment variable {variable} is not set here; "
            f"export it where servetune runs"
        )
    return value
