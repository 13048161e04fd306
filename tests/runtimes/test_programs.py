"""Programs of several stages, on a made-up engine."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.load.arrivals import ConcurrencyLoad, ConstantLoad, Load, PoissonLoad, StopRules
from runtimes.load.program import LoadProgram, StageOutcome
from runtimes.load.programs import MaxUnderSloProgram, StagesProgram, SweepProgram
from runtimes.measurement import Measurement
from runtimes.slo import Slo
from tests.runtimes.made_up import TTFT_SLO, Engine, measurement, play

STOP = StopRules(duration_s=60.0)


def saturating(most: float, *, good_below: float = 1e9) -> Engine:
    """An engine that takes a second for a request and `most` requests a second.

    Requests are good while it gets fewer than `good_below` a second.
    """

    def measured(load: Load) -> Measurement:
        asked = load.value if isinstance(load, PoissonLoad) else float("inf")
        in_flight = load.value if isinstance(load, ConcurrencyLoad) else asked
        throughput = min(asked, in_flight, most)
        return measurement(
            throughput=throughput,
            goodput=throughput if throughput < good_below else 0.5 * throughput,
            e2e_ms=1e3 * max(1.0, in_flight / most),
            requests=load.requests,
        )

    return measured


def test_stages_are_run_in_order_and_the_last_decides() -> None:
    loads = (ConcurrencyLoad(2, 10), ConstantLoad(3.0, 50), PoissonLoad(4.0, 20))
    program = StagesProgram(loads)
    done = play(program, saturating(10.0))
    assert [outcome.load for outcome in done] == list(loads)
    assert program.deciding(done) == 2
    assert program.deciding(done[:2]) == 1
    assert (program.kind, program.requests, program.warm_up) == ("stages", 50, loads[0])
    with pytest.raises(ValueError, match=r"^stages: "):
        StagesProgram(())


def test_a_sweep_goes_from_one_stream_over_even_rates_to_saturation() -> None:
    program = SweepProgram(5, 1000, Slo(), STOP)
    loads = [outcome.load for outcome in play(program, saturating(41.0))]
    assert loads == [
        ConcurrencyLoad(1, 20, STOP),
        ConcurrencyLoad(250, 1000, STOP),
        *(PoissonLoad(rate, 1000, STOP) for rate in (11.0, 21.0, 31.0)),
    ]
    assert (program.kind, program.requests) == ("sweep", 1000)


def test_a_longer_sweep_looks_for_saturation_in_half_its_points() -> None:
    program = SweepProgram(10, 5000, Slo(), STOP)
    values = [outcome.load.value for outcome in play(program, saturating(1000.0))]
    assert values[:5] == [1, 5, 23, 108, 512]
    # 108 streams show that 23 had saturated it, which leaves six rates between 1 and 22 a second.
    values = [outcome.load.value for outcome in play(program, saturating(22.0))]
    assert values == [1, 5, 23, 108, 4, 7, 10, 13, 16, 19]


@given(
    points=st.integers(2, 40),
    requests=st.integers(8, 5000),
    most=st.floats(1.2, 1e4),
    streams=st.integers(2, 512),
)
def test_a_sweep_has_as_many_stages_as_points(
    points: int, requests: int, most: float, streams: int
) -> None:
    done = play(SweepProgram(points, requests, Slo(), STOP, streams), saturating(most))
    assert len(done) == points
    loads = [outcome.load.value for outcome in done if isinstance(outcome.load, ConcurrencyLoad)]
    assert loads == sorted(set(loads))
    rates = [outcome.load.value for outcome in done if isinstance(outcome.load, PoissonLoad)]
    assert rates == sorted(set(rates))
    assert all(1 < rate < most for rate in rates)


def test_a_sweep_holds_no_more_streams_than_it_may() -> None:
    done = play(SweepProgram(3, 1000, Slo(), STOP, max_concurrency=8), saturating(100.0))
    assert [outcome.load.value for outcome in done] == [1, 8, 4.5]
    few = play(SweepProgram(3, 20, Slo(), STOP), saturating(100.0))
    assert [outcome.load.value for outcome in few] == [1, 5, 3.0]


def test_a_sweep_of_an_engine_that_one_stream_saturates_has_no_rates() -> None:
    done = play(SweepProgram(6, 100, Slo(), STOP), saturating(1.0))
    assert [outcome.load.value for outcome in done] == [1, 5]


def test_without_an_slo_the_lightest_load_that_saturates_decides() -> None:
    program = SweepProgram(10, 5000, Slo(), STOP)
    done = play(program, saturating(23.0))
    assert done[program.deciding(done)].load == ConcurrencyLoad(23, 230, STOP)


def test_with_an_slo_the_highest_goodput_decides() -> None:
    program = SweepProgram(5, 1000, TTFT_SLO, STOP)
    done = play(program, saturating(41.0, good_below=30.0))
    assert done[program.deciding(done)].load == PoissonLoad(21.0, 1000, STOP)


def test_a_stage_that_only_one_request_finished_decides_nothing_over_others() -> None:
    program = SweepProgram(2, 10, TTFT_SLO, STOP)
    nothing = measurement(throughput=1e-9, goodput=0.0)
    assert program.deciding([StageOutcome(ConcurrencyLoad(1, 10), nothing)]) == 0


@pytest.mark.parametrize(
    "program",
    [
        StagesProgram((ConcurrencyLoad(2, 10),)),
        SweepProgram(5, 100, TTFT_SLO, STOP),
        MaxUnderSloProgram(TTFT_SLO, 100, STOP),
    ],
    ids=lambda program: program.kind,
)
def test_programs_are_plain_values(program: LoadProgram) -> None:
    copy = pickle.loads(pickle.dumps(program))
    assert copy == program
    assert hash(copy) == hash(program)
    assert program.warm_up.requests <= program.requests


@pytest.mark.parametrize(
    ("points", "requests", "most", "words"),
    [(1, 5, 5, "points"), (2, 0, 5, "requests"), (2, 5, 0, "max_concurrency")],
)
def test_wrong_sweeps_are_refused(points: int, requests: int, most: int, words: str) -> None:
    with pytest.raises(ValueError, match=rf"^{words}: must be at least"):
        SweepProgram(points, requests, Slo(), STOP, most)
