"""Stages of attempts on simulated engines: programs, warm-up, cache state, contamination."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from orchestrator.stage import _too_few_completed
from runtimes.cache_state import CacheState
from runtimes.client_limits import shortage_reason
from runtimes.failure import FailureKind
from runtimes.load.arrivals import ConcurrencyLoad, Load, PoissonLoad, StopRules
from runtimes.load.job import Api
from runtimes.load.program import LoadProgram, SingleStage, StageOutcome
from runtimes.load.result import LoadResult
from runtimes.measurement import RequestRecord
from runtimes.slo import Slo
from runtimes.statistics import summarise
from runtimes.validity import CACHE_CONTAMINATED
from runtimes.workloads.base import Prompt, WorkloadContext
from runtimes.workloads.synthetic import SyntheticWorkload
from tests.e2e.studies import FAULT
from tests.orchestrator.attempts import Attempt, attempted, order, several
from tests.orchestrator.cache_workloads import OnePrefix, Repeating, settings, with_workload
from tracking.records import StageRecord

DEV_MODE = {"VLLM_SERVER_DEV_MODE": "1"}
SOUND: dict[str, str] = {}
SHORT_OF_FILES = shortage_reason(errno.EMFILE) or ""


@pytest.fixture(autouse=True)
def _cache(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVETUNE_CACHE", f"{tmp_path}/cache")


@dataclass(frozen=True)
class UpAndDown(LoadProgram):
    """Three concurrencies, of which the second one decides."""

    kind: ClassVar[str] = "up_and_down"
    streams: tuple[int, ...] = (2, 4, 1)

    def next_stage(self, done: Sequence[StageOutcome]) -> Load | None:
        return ConcurrencyLoad(self.streams[len(done)], 8) if len(done) < 3 else None

    def deciding(self, done: Sequence[StageOutcome]) -> int:
        return 1

    @property
    def requests(self) -> int:
        return 8

    @property
    def warm_up(self) -> Load:
        return ConcurrencyLoad(2, 8)


def only(attempt: Attempt) -> StageRecord:
    assert attempt.measured.stage == 0
    (stage,) = attempt.stages
    return stage.record


class TestProgram:
    def test_runs_to_its_end_and_says_which_stage_decides(self) -> None:
        attempt = attempted(replace(order(), program=UpAndDown()))
        records = [stage.record for stage in attempt.stages]
        assert [(one.stage, one.load_value) for one in records] == [(0, 2), (1, 4), (2, 1)]
        assert attempt.measured.stage == 1
        assert attempt.measured.measurement == records[1].measurement
        for record in records:
            assert record.measurement.requests_completed == 8
            counted = record.counters_after["requests_finished_total"]
            assert counted - record.counters_before["requests_finished_total"] == 8

    def test_flags_of_a_stage_that_does_not_decide_are_its_own(self) -> None:
        plain = replace(order(), program=UpAndDown(), warmup_requests=0)
        attempt = attempted(with_workload(Repeating, plain))
        flags = [stage.record.measurement.flags for stage in attempt.stages]
        assert [CACHE_CONTAMINATED in found for found in flags] == [False, True, True]
        assert CACHE_CONTAMINATED in attempt.done.facts.flags

    def test_a_stage_that_fails_leaves_those_before(self) -> None:
        base = replace(order(), program=UpAndDown(), warmup_requests=0)
        attempt = attempted(several(base, {FAULT: "crash"}))
        assert attempt.failure.kind is FailureKind.CRASHED
        assert attempt.stages[0].record.measurement.requests_failed > 0

    def test_a_stage_in_which_nothing_completed_is_no_result(self) -> None:
        rare = SingleStage(PoissonLoad(0.001, 5, StopRules(duration_s=0.3)))
        attempt = attempted(replace(order(), program=rare))
        assert attempt.failure.kind is FailureKind.REQUESTS_FAILED
        assert "no request completed in the 0.3 s of the stage" in attempt.failure.message
        assert attempt.stages[0].record.measurement.requests_completed == 0

    def test_as_many_processes_send_as_there_are_cpus_for_them(self) -> None:
        for fits, most in ((True, len(os.sched_getaffinity(0))), (False, 3)):
            attempt = attempted(replace(order(), load_processes=3, fit_processes=fits))
            client = attempt.measured.measurement.client
            assert client is not None
            assert client.processes == min(3, most)


@pytest.mark.parametrize(
    ("errors", "kind"),
    [
        ([SHORT_OF_FILES] * 3, FailureKind.CLIENT_LIMITED),
        ([SHORT_OF_FILES] * 2 + ["http 503"], FailureKind.CLIENT_LIMITED),
        ([SHORT_OF_FILES, "http 503", "http 503"], FailureKind.REQUESTS_FAILED),
    ],
)
def test_who_failed_too_many_requests(errors: list[str], kind: FailureKind) -> None:
    load = ConcurrencyLoad(2, 12)
    good = RequestRecord(0, 0, 0, [1, 2], 3, 4, 2, 2)
    records = tuple(replace(good, error=error) for error in [*errors, *[None] * 9])
    result = LoadResult(records, 0, 3, 0.0)
    failure = _too_few_completed(summarise(result, Slo(), load), result, load)
    assert failure is not None
    assert failure.kind is kind
    assert ("engine's log" in failure.remedy) is (kind is FailureKind.REQUESTS_FAILED)


class TestWarmUp:
    def test_ends_when_the_engine_is_steady(self) -> None:
        record = only(attempted(replace(order(requests=32), warmup_requests=None)))
        assert record.warmup_requests is not None
        assert record.warmup_requests >= 8
        assert record.warmup_steady is not None

    def test_may_be_left_out(self) -> None:
        record = only(attempted(replace(order(), warmup_requests=0)))
        assert (record.warmup_requests, record.warmup_steady) == (0, None)


class TestCacheState:
    def test_without_a_way_to_empty_it_prompts_begin_anew(self) -> None:
        record = only(attempted(order()))
        assert record.cache == "cold:salt"
        assert (record.designed_hit_rate, record.observed_hit_rate) == (0.0, 0.0)

    def test_is_emptied_where_every_server_lets_us(self) -> None:
        assert only(attempted(several(order(), DEV_MODE, DEV_MODE))).cache == "cold:reset"
        assert only(attempted(several(order(), DEV_MODE, SOUND))).cache == "cold:salt"

    @pytest.mark.parametrize("servers", [1, 2])
    def test_warm_is_primed_on_every_server(self, servers: int) -> None:
        warm = replace(with_workload(OnePrefix, order()), cache=CacheState.WARM)
        record = only(attempted(several(warm, *[SOUND] * servers)))
        assert record.cache == "warm"
        assert record.designed_hit_rate == 0.75
        assert record.observed_hit_rate == 0.75
        assert CACHE_CONTAMINATED not in record.measurement.flags


class TestContamination:
    def test_prompts_that_were_sent_before_are_found_out(self) -> None:
        attempt = attempted(with_workload(Repeating, order(requests=12)))
        record = only(attempt)
        # Two of twelve were sent as the warm-up; the last of their eight blocks is computed anew.
        assert record.observed_hit_rate == pytest.approx(2 * 7 / (12 * 8))
        assert record.designed_hit_rate == 0.0
        assert CACHE_CONTAMINATED in attempt.done.facts.flags

    def test_an_emptied_cache_forgives_what_was_sent_before_the_stage(self) -> None:
        record = only(attempted(several(with_workload(Repeating, order()), DEV_MODE)))
        assert record.observed_hit_rate == 0.0
        assert CACHE_CONTAMINATED not in record.measurement.flags

    def test_a_prefix_that_was_not_primed_is_missed_by_the_first(self) -> None:
        cold = replace(with_workload(OnePrefix, order(requests=4)), warmup_requests=0)
        record = only(attempted(cold))
        # The first of four cannot find it; those beside it may come before it is there.
        assert record.designed_hit_rate == 0.75 * 3 / 4
        assert record.observed_hit_rate is not None
        assert record.observed_hit_rate <= record.designed_hit_rate
        assert CACHE_CONTAMINATED not in record.measurement.flags

    def test_an_engine_that_is_told_to_keep_nothing_may_miss_it(self) -> None:
        base = with_workload(OnePrefix, order())
        (process,) = base.plan.processes
        argv = (*process.argv, "--no-enable-prefix-caching")
        plan = replace(base.plan, processes=(replace(process, argv=argv),))
        record = only(attempted(replace(base, plan=plan)))
        assert record.observed_hit_rate is None
        assert CACHE_CONTAMINATED not in record.measurement.flags


def test_chats_are_measured_like_completions() -> None:
    base = order()
    context = WorkloadContext(vocab=1000, seed=1)
    made = Chatting.from_settings(settings(), context)
    attempt = attempted(replace(base, workload=made, api=Api.CHAT))
    measured = attempt.measured.measurement
    assert measured.requests_completed == 12
    assert measured.output_tokens == 12 * 4
    record = only(attempt)
    counted = record.counters_after["prompt_tokens_total"]
    assert counted - record.counters_before["prompt_tokens_total"] == measured.input_tokens


class Chatting(SyntheticWorkload):
    """Says its tokens in words."""

    def prompts(self, stage: str, count: int) -> list[Prompt]:
        return [
            replace(prompt, messages=(("user", " ".join(map(str, prompt.token_ids))),))
            for prompt in super().prompts(stage, count)
        ]


def test_one_stage_is_a_program_too() -> None:
    program = SingleStage(ConcurrencyLoad(3, 6))
    record = only(attempted(replace(order(), program=program)))
    assert (record.load, record.load_value) == ("concurrency", 3.0)
