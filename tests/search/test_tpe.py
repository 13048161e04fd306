"""TPE: it learns, from values, limits and failures, and depends on nothing but what it was told."""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
from collections.abc import Callable
from statistics import mean

import pytest
from optuna.trial import TrialState

from runtimes.failure import Failure, FailureKind
from runtimes.json_types import Json
from search.admission import Admission
from search.goals import Goal
from search.samplers._optuna import INFEASIBLE_EXCESS, freeze
from search.samplers.base import Sampler, create_sampler
from search.space import Choice, Dimension, FloatRange, IntRange, SearchSpace
from search.trial import Cancelled, Completed, Failed, Infeasible, Outcome, Params, Pruned

Admit = Callable[..., Admission]
Judge = Callable[[Params], Outcome]

GOALS = (Goal("goodput", "maximize"),)
SPACE = SearchSpace(
    ("toy", "toy-other"),
    (
        Dimension("tp", Choice((1, 2, 4, 8))),
        Dimension("seqs", IntRange(1, 1024, log=True), engine="toy"),
        Dimension("share", FloatRange(0.1, 0.9), engine="toy"),
        Dimension("policy", Choice(("lpm", "fcfs", {"custom": [1]})), engine="toy"),
        Dimension("size", Choice((2048, 4096, 8192)), engine="toy-other"),
    ),
)


def number_of(value: Json) -> float:
    assert isinstance(value, int | float)
    return float(value)


def quality(params: Params) -> float:
    """Highest at toy, tp = 4, seqs = 200, share = 0.7, fcfs, where it is 4."""
    if params.engine != "toy":
        return 0.5 + number_of(params.values["size"]) / 8192
    tp = 1 - abs(math.log2(number_of(params.values["tp"])) - 2) / 2
    seqs = 1 - abs(math.log(number_of(params.values["seqs"]) / 200)) / 5
    share = 1 - abs(number_of(params.values["share"]) - 0.7)
    return tp + seqs + share + (params.values["policy"] == "fcfs")


def judged(params: Params) -> Outcome:
    return Completed({"goodput": quality(params)})


def study(
    sampler: Sampler, trials: int, judge: Judge = judged, in_flight: int = 4
) -> list[tuple[Params, Outcome]]:
    """Run `trials` trials, `in_flight` at once, the oldest ending first."""
    running: list[tuple[int, Params]] = []
    ended: list[tuple[Params, Outcome]] = []
    for number in range(trials):
        params = sampler.ask(number)
        assert params is not None
        running.append((number, params))
        if len(running) == in_flight:
            done, params = running.pop(0)
            ended.append((params, judge(params)))
            sampler.tell(done, *ended[-1])
    return ended


def sampler_of(
    name: str,
    space: SearchSpace,
    admission: Admission,
    *,
    seed: int = 7,
    goals: tuple[Goal, ...] = GOALS,
) -> Sampler:
    return create_sampler(name, space=space, admission=admission, goals=goals, seed=seed)


def test_it_comes_closer_to_the_optimum_than_random_search(admit: Admit) -> None:
    def best(name: str, seed: int) -> float:
        ended = study(sampler_of(name, SPACE, admit(SPACE), seed=seed), trials=40)
        return max(quality(params) for params, _ in ended)

    seeds = range(4)
    assert mean(best("tpe", seed) for seed in seeds) > 0.1 + mean(
        best("random", seed) for seed in seeds
    )


@pytest.mark.parametrize(
    "bad",
    [
        Infeasible("out of memory"),
        Completed({"goodput": 100.0}, {"ttft p99 ≤ 500 ms": 0.4}),
    ],
    ids=["infeasible", "breaks the SLO"],
)
def test_it_learns_to_keep_out_of_a_region(admit: Admit, bad: Outcome) -> None:
    space = SearchSpace(
        ("toy",), (Dimension("x", FloatRange(0.0, 1.0)), Dimension("y", FloatRange(0.0, 1.0)))
    )

    def judge(params: Params) -> Outcome:
        x, y = (number_of(params.values[name]) for name in ("x", "y"))
        return bad if x > 0.4 else Completed({"goodput": y}, {"ttft p99 ≤ 500 ms": -0.1})

    ended = study(sampler_of("tpe", space, admit(space)), trials=44, judge=judge)
    outcomes = [outcome is bad for _, outcome in ended]
    # A uniform draw lands there six times in ten.
    assert mean(outcomes[20:]) < 0.3
    assert mean(number_of(params.values["y"]) for params, _ in ended[20:]) > 0.6


def test_two_goals_are_weighed_together(admit: Admit) -> None:
    space = SearchSpace(
        ("toy",), (Dimension("x", FloatRange(0.0, 4.0)), Dimension("y", FloatRange(0.0, 1.0)))
    )
    goals = (Goal("speed", "maximize"), Goal("cost", "minimize"))

    def judge(params: Params) -> Outcome:
        x, y = (number_of(params.values[name]) for name in ("x", "y"))
        return Completed({"speed": x - 2 * y, "cost": x * x + 2 * y})

    ended = study(sampler_of("tpe", space, admit(space), goals=goals), trials=44, judge=judge)
    # Whatever x trades, y = 0 is best for both.
    assert mean(number_of(params.values["y"]) for params, _ in ended[20:]) < 0.4


def unbroken(admit: Admit, told: int, asked: int) -> tuple[Sampler, dict[int, Params]]:
    """A sampler with `asked` proposals, of which the first `told` have ended."""
    sampler = sampler_of("tpe", SPACE, admit(SPACE))
    proposed: dict[int, Params] = {}
    for number in range(asked):
        params = sampler.ask(number)
        assert params is not None
        proposed[number] = params
        if number < told:
            sampler.tell(number, params, judged(params))
    return sampler, proposed


def test_equal_results_give_equal_proposals(admit: Admit) -> None:
    (first, proposed), (second, again) = unbroken(admit, 15, 18), unbroken(admit, 15, 18)
    assert proposed == again
    assert first.ask(18) == second.ask(18)


def test_a_restored_sampler_goes_on_like_an_unbroken_one(admit: Admit) -> None:
    sampler, proposed = unbroken(admit, 15, 18)
    restored = sampler_of("tpe", SPACE, admit(SPACE))
    for number, params in reversed(proposed.items()):
        restored.restore(number, params, judged(params) if number < 15 else None)
    assert [restored.ask(18), restored.ask(19)] == [sampler.ask(18), sampler.ask(19)]


def test_another_result_gives_another_proposal(admit: Admit) -> None:
    one, proposed = unbroken(admit, 15, 16)
    other, _ = unbroken(admit, 15, 16)
    best = max(range(15), key=lambda number: quality(proposed[number]))
    other.tell(best, proposed[best], Infeasible("out of memory"))
    assert one.ask(16) != other.ask(16)


def test_the_baseline_is_no_point_of_the_space_and_does_no_harm(admit: Admit) -> None:
    sampler = sampler_of("tpe", SPACE, admit(SPACE))
    defaults = Params("toy", {"tp": 1})
    sampler.restore(0, defaults, None)
    sampler.tell(0, defaults, Completed({"goodput": 3.0}))
    plain = sampler_of("tpe", SPACE, admit(SPACE))
    assert sampler.ask(1) == plain.ask(1)


_FAILURE = Failure(FailureKind.CRASHED, "gone")


@pytest.mark.parametrize(
    ("outcome", "state", "values", "constraints"),
    [
        (None, TrialState.RUNNING, None, {}),
        (Completed({"goodput": 2.0}, {"x": -0.5}), TrialState.COMPLETE, [2.0], {"x": -0.5}),
        (Completed({"other": 2.0}), TrialState.FAIL, None, {}),
        (Completed({"goodput": math.nan}), TrialState.FAIL, None, {}),
        (Infeasible("oom"), TrialState.PRUNED, None, {"infeasible": INFEASIBLE_EXCESS}),
        (Pruned("slow"), TrialState.PRUNED, None, {}),
        (Failed(_FAILURE), TrialState.FAIL, None, {}),
        (Cancelled("ctrl-c"), TrialState.FAIL, None, {}),
    ],
)
def test_outcomes_are_told_as_values_never_as_scores(
    outcome: Outcome | None,
    state: TrialState,
    values: list[float] | None,
    constraints: dict[str, float],
) -> None:
    trial = freeze(SPACE, GOALS, Params("toy-other", {"tp": 8, "size": 4096}), outcome)
    assert (trial.state, trial.values, trial.constraints) == (state, values, constraints)
    assert trial.params == {"engine": "toy-other", "toy-other.tp": 3, "toy-other.size": 1}


_SCRIPT = """
from random import Random
from search.goals import Goal
from search.samplers._optuna import create_study, create_tpe_sampler, freeze, suggest_point
from search.samplers.random import uniform_point
from search.space import Choice, Dimension, FloatRange, SearchSpace
from search.trial import Completed
space = SearchSpace(("a", "b"), (Dimension("tp", Choice((1, 2, 4))),
    Dimension("x", FloatRange(0, 1), "a"), Dimension("y", FloatRange(0, 1), "b")))
goals, rng = (Goal("g", "maximize"),), Random(1)
points = [uniform_point(space, rng) for _ in range(20)]
trials = [freeze(space, goals, p, Completed({"g": float(i % 7)})) for i, p in enumerate(points)]
study = create_study(goals, trials)
study.sampler = create_tpe_sampler(5)
print([suggest_point(study.ask(), space).key for _ in range(4)])
"""


def test_proposals_do_not_depend_on_the_processs_hash_seed() -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-c", _SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert "tp" in outputs.pop()


def test_optuna_says_nothing_below_a_warning() -> None:
    assert logging.getLogger("optuna").getEffectiveLevel() == logging.WARNING
    assert logging.getLogger("optuna").handlers == []


def test_naming_the_samplers_imports_neither_optuna_nor_numpy() -> None:
    script = (
        "import sys, search\n"
        "from search.samplers.base import SAMPLERS\n"
        "from search.objectives.base import OBJECTIVES\n"
        "assert len(SAMPLERS.names()) > 3 and len(OBJECTIVES.names()) > 3\n"
        "print(sorted({'optuna', 'numpy'} & {*sys.modules}))"
    )
    ran = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert ran.stdout == "[]\n"
