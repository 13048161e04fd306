"""What a study asks of the performance model, and what it makes of the answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from runtimes.hardware import find_accelerator
from runtimes.json_types import Json
from runtimes.load.arrivals import (
    ConcurrencyLoad,
    ConstantLoad,
    GammaLoad,
    Load,
    PoissonLoad,
    RampLoad,
    ReplayLoad,
    StopRules,
)
from runtimes.load.max_under_slo import MaxUnderSloProgram
from runtimes.load.program import LoadProgram, SingleStage
from runtimes.load.programs import StagesProgram
from runtimes.load.sweep import SweepProgram
from runtimes.model import find_model
from runtimes.parallel import ParallelLayout
from runtimes.plan import EngineConfig
from runtimes.slo import Slo, SloLimit
from runtimes.workloads.base import WORKLOADS, Workload, WorkloadContext
from search.perfmodel.answer import Prediction
from search.perfmodel.demand import Demand, Sought, deciding_load
from search.perfmodel.expense import expected_seconds
from search.perfmodel.goal import goal_value
from search.perfmodel.predict import predict
from search.perfmodel.question import Load as ModelLoad
from search.perfmodel.question import Question
from search.perfmodel.study import Forecast, Forecaster
from search.perfmodel.verdict import latency_ms, verdict_of

NAME = "meta-llama/Llama-3.1-8B"
MODEL = find_model(NAME)
H100 = find_accelerator("H100")
DEMAND = Demand(input_tokens=1024.0, output_tokens=256.0)
ONE = SingleStage(ConcurrencyLoad(16, 128))


def limits(**milliseconds: float) -> Slo:
    return Slo(tuple(SloLimit(f"{name}_ms", "p99", ms) for name, ms in milliseconds.items()))


def workload(kind: str, settings: Mapping[str, Json]) -> Workload:
    made = WORKLOADS.get(kind)
    context = WorkloadContext(vocab=32_000, seed=1)
    return made.from_settings({**made.defaults, **settings}, context)


def forecaster(
    program: LoadProgram = ONE, slo: Slo | None = None, demand: Demand = DEMAND
) -> Forecaster:
    return Forecaster(
        model=MODEL, accelerator=H100, demand=demand, program=program, slo=slo or Slo()
    )


def config(engine: str = "vllm", tp: int = 1, **args: Json) -> EngineConfig:
    given = {name.replace("_", "-"): value for name, value in args.items()}
    return EngineConfig(engine, NAME, layout=ParallelLayout(tp=tp), args=given)


def forecast(made: Forecaster, asked: EngineConfig) -> Forecast:
    (found,) = made.forecasts([asked])
    assert isinstance(found, Forecast), found
    return found


class TestDemand:
    def test_lengths_are_means_over_prompts(self) -> None:
        lengths: dict[str, Json] = {"input_tokens": 300, "output_tokens": 40}
        found = Demand.of(workload("synthetic", lengths))
        assert (found.input_tokens, found.output_tokens) == (300, 40)
        assert (found.prefix_hit, found.per_session) == (0, 1)

    def test_shared_prefixes_are_found_in_the_cache(self) -> None:
        settings: dict[str, Json] = {"prefix_tokens": 900, "input_tokens": 100, "share": 0.5}
        found = Demand.of(workload("shared_prefix", settings))
        whole = Demand.of(workload("shared_prefix", {**settings, "share": 1.0}))
        assert whole.prefix_hit == pytest.approx(0.9)
        assert 0.7 < found.prefix_hit < 0.9

    def test_a_conversation_has_several_requests_a_session(self) -> None:
        found = Demand.of(workload("conversation", {"turns": 4}))
        assert found.per_session == pytest.approx(4)
        assert found.prefix_hit > 0.4

    @pytest.mark.parametrize(
        ("stage", "field", "value"),
        [
            (ConcurrencyLoad(8, 100), "concurrency", 8),
            (ConstantLoad(2.0, 100), "request_rate", 6),
            (PoissonLoad(2.0, 100), "request_rate", 6),
            (GammaLoad(2.0, 2.0, 100), "request_rate", 6),
            (ReplayLoad(2.0, 100), "request_rate", 3),
            (RampLoad("concurrency", 1, 9, 10.0, 100), "concurrency", 5),
            (
                RampLoad("rate", 0, 2, 10.0, 100, StopRules(duration_s=20.0)),
                "request_rate",
                4.5,
            ),
        ],
    )
    def test_every_kind_of_stage_is_one_constant_load(
        self, stage: Load, field: str, value: float
    ) -> None:
        demand = replace(DEMAND, per_session=3.0, recorded_rate=0.5)
        load = demand.of_stage(stage)
        assert isinstance(load, ModelLoad)
        assert getattr(load, field) == pytest.approx(value)

    def test_the_stage_that_decides_is_the_one_that_is_predicted(self) -> None:
        light, heavy = PoissonLoad(1.0, 10), PoissonLoad(5.0, 10)
        last = deciding_load(StagesProgram((light, heavy)), DEMAND)
        assert last == DEMAND.at_rate(5.0)
        slo = limits(ttft=500)
        assert deciding_load(MaxUnderSloProgram(slo, 100, max_rate=3.0), DEMAND) == Sought(3.0)
        assert deciding_load(SweepProgram(8, 1000, slo), DEMAND) == Sought()
        assert deciding_load(SweepProgram(8, 1000), DEMAND) == DEMAND.load(concurrency=250.0)


class TestForecasts:
    def test_equal_deployments_are_asked_once(self) -> None:
        asked: list[int] = []

        def counted(questions: Sequence[Question]) -> list[Prediction]:
            asked.append(len(questions))
            return predict(questions)

        made = Forecaster(
            model=MODEL, accelerator=H100, demand=DEMAND, program=ONE, slo=Slo(), answer=counted
        )
        made.forecasts([config(), config(seed=1), config(tp=2)])
        made.forecasts([config(seed=2)])
        assert asked == [2]

    @pytest.mark.parametrize("engine", ["vllm", "sglang", "tensorrt_llm"])
    def test_more_ranks_are_faster_for_each_engine(self, engine: str) -> None:
        made = forecaster()
        one, four = (forecast(made, config(engine, tp=tp)).prediction for tp in (1, 4))
        assert four.tpot_ms < one.tpot_ms
        assert four.gpus == 4

    def test_a_simulation_is_predicted_as_what_it_imitates(self) -> None:
        made = Forecaster(
            model=MODEL, accelerator=None, demand=DEMAND, program=ONE, slo=Slo()
        )  # fmt: skip
        simulated = replace(config("simulated"), options={"imitates": "vllm"})
        found = forecast(made, simulated).prediction
        assert found.tpot_ms == forecast(forecaster(), config()).prediction.tpot_ms

    @pytest.mark.parametrize(
        ("engine", "words"),
        [("vllm", "cluster.accelerator"), ("external", "runs already")],
    )
    def test_what_is_not_known_is_a_reason(self, engine: str, words: str) -> None:
        made = Forecaster(
            model=MODEL, accelerator=None, demand=DEMAND, program=ONE, slo=Slo()
        )  # fmt: skip
        (found,) = made.forecasts([config(engine)])
        assert isinstance(found, str)
        assert words in found

    def test_an_unknown_model_is_a_reason(self) -> None:
        made = Forecaster(model=None, accelerator=H100, demand=DEMAND, program=ONE, slo=Slo())
        assert made.forecasts([config()]) == [f"the shape of {NAME} is not known"]

    def test_no_cache_no_hits(self) -> None:
        made = forecaster(demand=replace(DEMAND, prefix_hit=0.8))
        cached = forecast(made, config())
        without = forecast(made, config(enable_prefix_caching=False))
        assert cached.prediction.ttft_ms < without.prediction.ttft_ms


class TestLimits:
    def test_the_rate_that_is_found_holds_and_half_as_much_again_does_not(self) -> None:
        slo = limits(ttft=400, tpot=20)
        found = forecast(forecaster(MaxUnderSloProgram(slo, 100), slo), config())
        assert found.verdict.excess <= 0
        rate = found.load.request_rate
        assert rate is not None
        made = forecaster()
        more = DEMAND.load(request_rate=1.5 * rate)
        (beyond,) = made.predictions([found.configuration], [more])
        assert verdict_of(beyond, DEMAND.output_tokens, slo).excess > 0

    def test_a_looser_limit_allows_no_less(self) -> None:
        rates = []
        for ttft in (150, 300, 1000, 5000):
            slo = limits(ttft=ttft)
            found = forecast(forecaster(MaxUnderSloProgram(slo, 100), slo), config())
            rates.append(found.load.request_rate or 0.0)
        assert rates == sorted(rates)

    def test_the_highest_rate_of_the_file_bounds_it(self) -> None:
        slo = limits(ttft=5000)
        program = MaxUnderSloProgram(slo, 100, max_rate=0.5)
        found = forecast(forecaster(program, slo), config())
        assert found.load.request_rate == pytest.approx(0.5, rel=0.1)
        assert (found.load.request_rate or 0.0) <= 0.5

    def test_percentiles_add_a_tail_to_the_wait_alone(self) -> None:
        prediction = forecast(forecaster(), config()).prediction
        waits = replace(prediction, ttft_ms=300.0, waiting_ms=100.0, tpot_ms=10.0)
        assert latency_ms(waits, "ttft_ms", None, 101) == 300
        assert latency_ms(waits, "ttft_ms", 50.0, 101) == 300
        assert latency_ms(waits, "ttft_ms", 99.0, 101) == pytest.approx(200 + 100 * math.log(100))
        assert latency_ms(waits, "e2e_ms", None, 101) == pytest.approx(300 + 1000)
        assert latency_ms(waits, "itl_ms", 99.0, 101) == 10

    def test_standing_knows_what_the_interval_leaves_open(self) -> None:
        prediction = forecast(forecaster(), config()).prediction
        low, value = prediction.tpot_interval_ms.low, prediction.tpot_ms
        for limit, standing in ((value * 1.01, 0), ((low + value) / 2, 1), (low * 0.9, 2)):
            slo = Slo((SloLimit("tpot_ms", "mean", limit),))
            assert verdict_of(prediction, 256, slo).standing == standing

    def test_a_load_that_cannot_be_served_meets_nothing(self) -> None:
        made = forecaster(SingleStage(PoissonLoad(10_000.0, 100)), limits(ttft=1e6))
        found = forecast(made, config())
        assert not found.prediction.stable
        assert found.verdict.standing == 2


class TestGoals:
    def test_they_are_read_as_those_of_a_measurement(self) -> None:
        found = forecast(forecaster(), config(tp=2))
        prediction = found.prediction
        assert goal_value("output_throughput_per_gpu", found) == pytest.approx(
            prediction.output_throughput / 2
        )
        assert goal_value("ttft_mean_ms", found) == prediction.ttft_ms
        assert goal_value("goodput", found) == prediction.request_throughput
        assert goal_value("cost_per_million_tokens", found) is None
        price = goal_value("cost_per_million_tokens", found, gpu_price_per_hour=2.0)
        assert price == pytest.approx(2 * 2.0 / 3600 / prediction.total_throughput * 1e6)

    def test_what_the_model_does_not_tell_has_no_value(self) -> None:
        found = forecast(forecaster(slo=limits(ttft=0.1)), config())
        assert goal_value("goodput", found) is None
        assert goal_value("energy_per_token_j", found) is None


class TestShortage:
    LONGEST = 4096

    def big(self, accelerator: str = "L4") -> Forecaster:
        return Forecaster(
            model=MODEL, accelerator=find_accelerator(accelerator), demand=DEMAND,
            program=ONE, slo=Slo(),
        )  # fmt: skip

    def test_what_fits_is_not_refused(self) -> None:
        for tp in (1, 2, 4):
            assert forecaster().shortage(config(tp=tp), self.LONGEST) is None

    def test_one_request_that_cannot_fit_is_said_with_figures(self) -> None:
        words = self.big().shortage(config(), 131_072)
        assert words is not None
        assert "GiB" in words
        assert "131,072 tokens" in words
        assert "use more GPUs" in words

    @pytest.mark.parametrize(
        "args", [{"quantization": "fp8"}, {"cpu-offload-gb": 8}, {"kv-cache-dtype": "fp8"}]
    )
    def test_where_sizes_are_not_certain_nothing_is_said(self, args: dict[str, Json]) -> None:
        assert self.big().shortage(replace(config(), args=args), 131_072) is None

    def test_an_accelerator_that_nobody_named_refuses_nothing(self) -> None:
        made = Forecaster(model=MODEL, accelerator=None, demand=DEMAND, program=ONE, slo=Slo())
        simulated = replace(config("simulated"), options={"imitates": "vllm"})
        assert made.shortage(simulated, 10**9) is None


class TestExpense:
    def seconds(self, program: LoadProgram, slo: Slo | None = None, **option: Json) -> float:
        made = forecaster(program, slo)
        found = forecast(made, config())
        (lasts_s,) = expected_seconds(
            made, [found], program, options=[dict(option)], warmup_requests=None
        )
        return lasts_s

    def test_requests_over_the_rate_a_start_and_a_warm_up(self) -> None:
        short = self.seconds(SingleStage(ConcurrencyLoad(16, 100)), startup_s=0.0)
        long = self.seconds(SingleStage(ConcurrencyLoad(16, 1100)), startup_s=0.0)
        rate = forecast(forecaster(), config()).prediction.request_throughput
        assert long - short == pytest.approx(1000 / rate)

    def test_a_real_engine_takes_a_minute_and_its_weights(self) -> None:
        real = self.seconds(ONE)
        simulated = self.seconds(ONE, startup_s=0.0)
        assert 60 < real - simulated < 90

    def test_a_stage_of_some_time_takes_no_longer(self) -> None:
        stopped = ConcurrencyLoad(16, 10**6, StopRules(duration_s=30.0))
        assert 30 < self.seconds(SingleStage(stopped), startup_s=0.0) < 60

    def test_stages_add_up(self) -> None:
        one, other = PoissonLoad(1.0, 60), PoissonLoad(2.0, 60)
        both = self.seconds(StagesProgram((one, other)), startup_s=0.0)
        assert 90 < both < 130

    def test_searches_take_several_stages(self) -> None:
        slo = limits(ttft=500)
        assert self.seconds(MaxUnderSloProgram(slo, 1000), slo, startup_s=0.0) > 60
        assert self.seconds(SweepProgram(8, 1000), startup_s=0.0) > 60
