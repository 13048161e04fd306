"""What the record of a stage says besides its figures."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from orchestrator.stage_record import StageRun
from orchestrator.warmup import Warmed
from runtimes.cache_state import PrefixCache
from runtimes.load.arrivals import ConcurrencyLoad
from runtimes.load.result import LoadResult
from runtimes.measurement import RequestRecord
from runtimes.validity import CACHE_CONTAMINATED, CONTENT_SENSITIVE
from runtimes.workloads.synthetic import SyntheticWorkload
from tests.orchestrator.attempts import order
from tests.orchestrator.cache_workloads import with_workload
from tracking.records import DISQUALIFYING

SECOND = 10**9
LOAD = ConcurrencyLoad(1, 4)
DRAFTED = {"spec_decode_drafts_total": 40.0, "spec_decode_accepted_tokens_total": 60.0}
REUSED = {"prefix_cache_queries_total": 400.0, "prefix_cache_hits_total": 100.0}


def requests() -> LoadResult:
    """Four requests, one after the other, half of whose prompts is meant to be cached."""
    records = [
        RequestRecord(
            index=index,
            scheduled_ns=index * SECOND,
            sent_ns=index * SECOND,
            chunk_ns=[index * SECOND + gap * SECOND // 10 for gap in range(1, 9)],
            end_ns=(index + 1) * SECOND,
            prompt_tokens=100,
            output_tokens=8,
            requested_output_tokens=8,
            sent_tokens=100,
            shared_tokens=50,
            text=" the" * 8,
        )
        for index in range(4)
    ]
    return LoadResult(tuple(records), 0, 4 * SECOND, 0.0)


def run(**fields: object) -> StageRun:
    made = StageRun(order(), 0, LOAD, requests(), warmed=Warmed(8, True), cache="warm")
    return replace(made, **fields)  # type: ignore[arg-type]  # test data


def test_a_drafter_on_tokens_that_mean_nothing_makes_the_stage_doubtful_not_unfit() -> None:
    record = run(after=DRAFTED).done().record
    assert CONTENT_SENSITIVE in record.measurement.flags
    assert CONTENT_SENSITIVE not in DISQUALIFYING
    assert record.acceptance_length == 2.5
    assert record.repetition_score == 0.8


def test_a_stage_that_began_on_a_busy_engine_is_not_compared() -> None:
    assert "not_idle" in run(idle=False).done().record.measurement.flags
    assert "not_idle" not in run().done().record.measurement.flags
    assert "not_idle" in DISQUALIFYING


def test_on_real_texts_it_is_what_users_will_see() -> None:
    class Texts(SyntheticWorkload):
        content_free: ClassVar[bool] = False

    record = run(order=with_workload(Texts, order()), after=DRAFTED).done().record
    assert CONTENT_SENSITIVE not in record.measurement.flags
    assert record.acceptance_length == 2.5


def test_a_hit_rate_that_was_not_reached_depends_on_what_the_cache_can_keep() -> None:
    record = run(after=REUSED).done().record
    assert (record.designed_hit_rate, record.observed_hit_rate) == (0.5, 0.25)
    assert CACHE_CONTAMINATED in record.measurement.flags
    assert CACHE_CONTAMINATED in DISQUALIFYING
    for cache in (
        PrefixCache(capacity_tokens=400),
        PrefixCache(replicas=2),
        PrefixCache(enabled=False),
    ):
        flags = run(after=REUSED, prefix_cache=cache).done().record.measurement.flags
        assert CACHE_CONTAMINATED not in flags
    preempted = run(after={**REUSED, "preemptions_total": 1.0})
    assert CACHE_CONTAMINATED not in preempted.done().record.measurement.flags


def test_of_a_chat_more_than_the_template_and_what_is_shared_is_contaminated() -> None:
    def flags(content_tokens: int, hits: float) -> tuple[str, ...]:
        chats = [
            replace(one, sent_tokens=None, content_tokens=content_tokens, shared_tokens=0)
            for one in requests().records
        ]
        after = {"prefix_cache_queries_total": 400.0, "prefix_cache_hits_total": hits}
        result = replace(requests(), records=tuple(chats))
        return run(result=result, after=after).done().record.measurement.flags

    # 20 of the 100 tokens of each prompt are the template's.
    assert CACHE_CONTAMINATED not in flags(80, 0.0)
    assert CACHE_CONTAMINATED not in flags(80, 80.0)
    assert CACHE_CONTAMINATED in flags(80, 90.0)
    assert CACHE_CONTAMINATED in flags(80, 360.0)


def test_energy_warm_up_and_cache_are_in_it() -> None:
    record = run(energy_j=123.0).done().record
    assert record.measurement.energy_j == 123.0
    assert (record.cache, record.warmup_requests, record.warmup_steady) == ("warm", 8, True)
    assert len(set(record.measurement.flags)) == len(record.measurement.flags)
