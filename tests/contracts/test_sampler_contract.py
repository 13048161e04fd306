"""What every sampler keeps; a new file in search/samplers is tried from the start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import pytest

from runtimes.engines.base import Engine, EngineReport, Refusal
from runtimes.failure import Failure, FailureKind
from runtimes.hardware import Accelerator
from runtimes.json_types import Json
from runtimes.model import ModelFacts
from runtimes.parallel import ParallelLayout
from runtimes.plan import DeploymentPlan, EngineConfig, ProcessPlan
from search.admission import Admission
from search.constraints import Condition, Constraint
from search.expansion import expand
from search.goals import Goal
from search.materialize import EngineTemplate
from search.samplers.base import SAMPLERS, Sampler, create_sampler
from search.space import Choice, Dimension, FloatRange, IntRange, SearchSpace
from search.trial import Cancelled, Completed, Failed, Infeasible, Outcome, Params, Pruned
from search.values import PointValues


class PlainEngine(Engine):
    """A command that spells its arguments, leaving out nulls."""

    name = "plain"
    metrics: ClassVar[Mapping[str, str]] = {}
    request_fields: ClassVar[Mapping[str, Json]] = {}

    def gpus(self, layout: ParallelLayout) -> int:
        return layout.tp * layout.pp * layout.dp

    def plan(self, config: EngineConfig) -> DeploymentPlan:
        args = [f"{name}={value}" for name, value in sorted(config.args.items()) if value]
        argv = ("plain", config.model, str(config.layout), *args)
        process = ProcessPlan(argv, config.env, self.gpus(config.layout))
        return DeploymentPlan(self.name, (process,), argv)

    def refuse(
        self, config: EngineConfig, model: ModelFacts | None, accelerator: Accelerator | None
    ) -> Refusal | None:
        refused = config.layout.pp == 2 and config.layout.tp == 1
        return Refusal("stages", "no pp=2 with tp=1") if refused else None

    def describe(self, *, log: str, metrics_text: str, version_json: str) -> EngineReport:
        return EngineReport()


FINITE = SearchSpace(
    ("one", "two"),
    (
        Dimension("tp", Choice((1, 2, 4))),
        Dimension("pp", Choice((1, 2))),
        Dimension("seqs", IntRange(2, 10, step=4), engine="one"),
        Dimension("policy", Choice(("a", None, {"b": [1]}, "a")), engine="two"),
    ),
    (Constraint.parse("tp * pp <= 4"), Constraint.parse("seqs != 6 or tp > 1")),
)
ENDLESS = SearchSpace(
    FINITE.engines,
    (*FINITE.dimensions, Dimension("share", FloatRange(0.5, 0.9), engine="one")),
    (*FINITE.constraints, Constraint.parse("share > 0.6")),
)
LARGE = SearchSpace(
    FINITE.engines,
    (*FINITE.dimensions, Dimension("batch", IntRange(1, 5000, log=True))),
    FINITE.constraints,
)
LAYOUTS: dict[str, dict[str, ParallelLayout | str]] = {
    "one": {"wide": ParallelLayout(tp=4), "narrow": ParallelLayout(pp=2, tp=2)},
    "two": {"wide": "has no such thing", "narrow": ParallelLayout(dp=2)},
}
TEMPLATES = {
    name: EngineTemplate("plain", f"acme/{name}", layouts=layouts)
    for name, layouts in LAYOUTS.items()
}
CONDITIONAL = SearchSpace(
    FINITE.engines,
    (
        Dimension("parallel.preset", Choice(("wide", "narrow", None))),
        Dimension("tp", Choice((1, 2, 4)), replaced_by="parallel.preset"),
        Dimension("backend", Choice(("x", "y")), when=Condition.parse("tp > 1")),
        Dimension("seqs", IntRange(2, 10, step=4), "one", Condition.parse("backend == 'y'")),
        Dimension("policy", Choice(("a", "b")), engine="two"),
    ),
    (Constraint.parse("engine == 'one' or gpus < 4"),),
    combinations=(
        Params("two", {"tp": 2, "policy": "c", "seqs": 77}),
        Params("one", {"tp": 8}),
        Params("one", {"parallel.preset": None, "tp": 1}),
        Params("one", {"tp": 1}),
    ),
    known=PointValues(TEMPLATES, lambda name: PlainEngine()),
)
"""Of its combinations the second has no room, the third is a point of the product, and the last
is the configuration of the third."""
ENDLESS_CONDITIONAL = replace(
    CONDITIONAL,
    dimensions=(
        *CONDITIONAL.dimensions,
        Dimension("share", FloatRange(0.5, 0.9), when=Condition.parse("gpus == 4")),
    ),
)
SPACES = {
    "finite": FINITE,
    "large": LARGE,
    "endless": ENDLESS,
    "conditional": CONDITIONAL,
    "endless-conditional": ENDLESS_CONDITIONAL,
}
GOALS = (Goal("goodput", "maximize"), Goal("ttft_p99_ms", "minimize"))


def admission_of(space: SearchSpace) -> Admission:
    return Admission(
        space,
        TEMPLATES,
        model=None,
        accelerator=None,
        capacity=lambda plan: None if plan.gpus <= 4 else f"needs {plan.gpus} GPUs, there are 4",
        engine_of=lambda name: PlainEngine(),
    )


def outcome_of(number: int) -> Outcome:
    """Every kind of outcome in turn."""
    completed = Completed({"goodput": number * 7 % 5, "ttft_p99_ms": 100.0 + number})
    late = Completed({"goodput": 9.0, "ttft_p99_ms": 900.0}, {"ttft p99 ≤ 500 ms": 0.8})
    crash = Failed(Failure(FailureKind.CRASHED, "gone"))
    others = (late, Infeasible("out of memory"), Pruned("slow"), crash, Cancelled("ctrl-c"))
    return completed if number % 2 else others[number // 2 % len(others)]


def supports(name: str, space: SearchSpace) -> bool:
    return name != "grid" or space.size is not None


def build(name: str, space: SearchSpace, seed: int = 3) -> Sampler:
    return create_sampler(name, space=space, admission=admission_of(space), goals=GOALS, seed=seed)


def run(sampler: Sampler, trials: range, in_flight: int = 3) -> dict[int, Params]:
    """Ask for `trials`; each is told when `in_flight` younger ones run, the last ones never."""
    proposed: dict[int, Params] = {}
    for number in trials:
        params = sampler.ask(number)
        if params is None:
            break
        proposed[number] = params
        done = number - in_flight
        if done in proposed:
            sampler.tell(done, proposed[done], outcome_of(done))
    return proposed


CASES = [
    pytest.param(name, space, id=f"{name}-{label}")
    for name in SAMPLERS
    for label, space in SPACES.items()
    if supports(name, space)
]


@pytest.mark.parametrize(("name", "space"), CASES)
class TestSamplerContract:
    def test_proposals_are_whole_admissible_points(self, name: str, space: SearchSpace) -> None:
        admission = admission_of(space)
        proposed = run(build(name, space), range(20))
        assert len(proposed) >= 15
        for params in proposed.values():
            assert space.holds(params)
            assert admission.check(params) is None

    def test_no_configuration_is_proposed_twice(self, name: str, space: SearchSpace) -> None:
        admission = admission_of(space)
        proposed = run(build(name, space), range(20))
        ids = [admission.config_id(params) for params in proposed.values()]
        assert len(set(ids)) == len(ids)

    def test_what_was_chosen_elsewhere_is_not_proposed(self, name: str, space: SearchSpace) -> None:
        admission = admission_of(space)
        first = build(name, space).ask(0)
        assert first is not None
        warned = build(name, space)
        warned.mark_seen(admission.config_id(first))
        other = warned.ask(0)
        assert other is not None
        assert admission.config_id(other) != admission.config_id(first)

    def test_equal_seeds_and_results_give_equal_proposals(
        self, name: str, space: SearchSpace
    ) -> None:
        assert run(build(name, space), range(16)) == run(build(name, space), range(16))

    def test_a_restored_sampler_goes_on_like_an_unbroken_one(
        self, name: str, space: SearchSpace
    ) -> None:
        sampler = build(name, space)
        proposed = run(sampler, range(14), in_flight=3)
        restored = build(name, space)
        for number, params in proposed.items():
            restored.restore(number, params, outcome_of(number) if number + 3 < 14 else None)
        assert run(restored, range(14, 17)) == run(sampler, range(14, 17))

    def test_many_may_be_in_flight_before_the_first_result(
        self, name: str, space: SearchSpace
    ) -> None:
        sampler = build(name, space)
        proposed = [sampler.ask(number) for number in range(12)]
        assert None not in proposed


@pytest.mark.parametrize("name", SAMPLERS.names())
@pytest.mark.parametrize("space", [FINITE, CONDITIONAL], ids=["finite", "conditional"])
class TestExhaustion:
    def test_a_finite_space_is_proposed_whole_and_no_more(
        self, name: str, space: SearchSpace
    ) -> None:
        admission = admission_of(space)
        sampler = build(name, space)
        proposed = run(sampler, range(100))
        expected = expand(space, admission)
        assert expected.duplicates > 0
        assert {admission.config_id(params) for params in proposed.values()} == {
            admission.config_id(params) for params in expected.points
        }
        assert len(proposed) == expected.valid
        assert sampler.ask(100) is None

    def test_a_space_without_an_admissible_point_has_no_proposal(
        self, name: str, space: SearchSpace
    ) -> None:
        none = replace(space, constraints=(Constraint.parse("tp > 8 and pp > 0"),))
        assert build(name, none).ask(0) is None


@pytest.mark.parametrize("name", SAMPLERS.names())
class TestCombinations:
    def test_they_come_first_in_order_and_each_configuration_once(self, name: str) -> None:
        proposed = run(build(name, CONDITIONAL), range(8))
        first, _, third, _ = CONDITIONAL.combinations
        assert [proposed[0], proposed[1]] == [first, third]
        assert all(params not in CONDITIONAL.combinations for params in list(proposed.values())[2:])

    def test_alone_they_are_all_there_is(self, name: str) -> None:
        sampler = build(name, replace(CONDITIONAL, product=False))
        proposed = [sampler.ask(number) for number in range(4)]
        first, _, third, _ = CONDITIONAL.combinations
        assert proposed == [first, third, None, None]

    def test_an_unbroken_sampler_and_a_restored_one_do_not_propose_one_again(
        self, name: str
    ) -> None:
        restored = build(name, CONDITIONAL)
        restored.restore(0, CONDITIONAL.combinations[0], outcome_of(0))
        assert restored.ask(1) == CONDITIONAL.combinations[2]
