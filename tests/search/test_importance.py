"""Which parameters matter: planted effects are found, chance is called chance."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import pytest

from runtimes.json_types import Json
from search.analysis.importance import MIN_TRIALS, Importances, importances


def ranked(count: int, seed: int, *, effect: float = 4.0) -> list[Mapping[str, Json]]:
    """Trials, best first, of which `tp` near 4 is better; `seqs` is only vLLM's; the rest is noise.

    With an effect of 0 nothing matters.
    """
    draw = Random(seed)
    found: list[tuple[float, dict[str, Json]]] = []
    for _ in range(count):
        engine, tp = draw.choice(("vllm", "sglang")), draw.choice((1, 2, 4, 8))
        values: dict[str, Json] = {
            "engine": engine,
            "tp": tp,
            "policy": draw.choice(("lpm", "fcfs")),
            "fixed": 1,
        }
        if engine == "vllm":
            values["seqs"] = draw.choice((64, 128, 256))
        found.append((effect * abs(tp - 4) + draw.gauss(0, 1), values))
    return [values for _, values in sorted(found, key=lambda item: item[0])]


def found_in(trials: list[Mapping[str, Json]]) -> Importances:
    found = importances(trials)
    assert found is not None
    return found


def test_the_planted_parameter_comes_first_and_is_above_chance() -> None:
    found = found_in(ranked(80, 1))
    assert found.parameters[0].name == "tp"
    assert found.parameters[0].shown
    assert found.parameters[0].share > 0.7


def test_shares_add_up_and_name_what_they_rest_on() -> None:
    found = found_in(ranked(80, 2))
    assert sum(one.share for one in found.parameters) == pytest.approx(1.0)
    assert (found.trials, found.best) == (80, 8)
    assert {one.name for one in found.parameters} == {"engine", "tp", "policy", "seqs"}


def test_noise_is_rarely_above_chance() -> None:
    above = [
        one.shown for seed in range(20) for one in found_in(ranked(40, seed, effect=0)).parameters
    ]
    assert sum(above) / len(above) < 0.15


def test_the_engine_is_a_parameter_like_the_others() -> None:
    trials = sorted(ranked(60, 3, effect=0), key=lambda one: one["engine"] != "sglang")
    assert found_in(trials).parameters[0].name == "engine"


def test_a_parameter_of_one_engine_only_can_matter() -> None:
    def place(one: Mapping[str, Json]) -> tuple[bool, bool]:
        return (one.get("seqs") != 256, "seqs" not in one)

    found = found_in(sorted(ranked(120, 4, effect=0), key=place))
    assert found.parameters[0].name in ("seqs", "engine")
    assert next(one for one in found.parameters if one.name == "seqs").shown


def test_only_the_order_counts_and_the_answer_repeats() -> None:
    trials = ranked(30, 5)
    assert importances(trials) == importances([dict(one) for one in trials])


@pytest.mark.parametrize(
    "trials",
    [[], ranked(MIN_TRIALS - 1, 6), [{"engine": "vllm", "tp": 1}] * 30],
    ids=["none", "few", "nothing-varies"],
)
def test_nothing_is_said_without_a_basis(trials: list[Mapping[str, Json]]) -> None:
    assert importances(trials) is None


def test_values_of_any_json_kind_are_taken() -> None:
    values: tuple[Json, ...] = (None, True, 1, 1.5, "a", [1, 2], {"b": 1})
    trials: list[Mapping[str, Json]] = [{"mixed": values[n % 7]} for n in range(28)]
    found = found_in(sorted(trials, key=lambda one: one["mixed"] != "a"))
    assert [one.name for one in found.parameters] == ["mixed"]
