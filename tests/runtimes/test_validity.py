"""Hit rates as designed and as observed, and what depends on content."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.cache_state import PrefixCache
from runtimes.measurement import RequestRecord
from runtimes.validity import (
    acceptance_length,
    designed_hit_rate,
    highest_hit_rate,
    is_contaminated,
    observed_hit_rate,
    repetition_score,
    speculated,
)


def record(
    *,
    sent: int | None = 100,
    content: int | None = None,
    shared: int = 0,
    prompt: int | None = 100,
    cached: int | None = None,
    error: str | None = None,
) -> RequestRecord:
    return RequestRecord(
        0, 0, 0, (), 1, prompt, 4, 4,
        error=error, cached_tokens=cached, sent_tokens=sent,
        content_tokens=content, shared_tokens=shared,
    )  # fmt: skip


class TestDesigned:
    def test_is_in_whole_blocks(self) -> None:
        records = [record(shared=40), record(sent=300, shared=100)]
        assert designed_hit_rate(records) == 140 / 400
        assert designed_hit_rate(records, 16) == (32 + 96) / 400
        assert designed_hit_rate(records, 128) == 0.0

    def test_leaves_the_last_token_to_compute(self) -> None:
        assert designed_hit_rate([record(sent=64, shared=64)], 16) == 48 / 64
        assert designed_hit_rate([record(sent=1, shared=1)]) == 0.0

    def test_is_unknown_for_text_and_for_nothing(self) -> None:
        assert designed_hit_rate([record(), record(sent=None)]) is None
        assert designed_hit_rate([]) is None


class TestHighest:
    def test_is_the_template_and_what_is_shared(self) -> None:
        records = [record(sent=None, content=90), record(sent=None, content=80, shared=40)]
        assert highest_hit_rate(records) == (10 + 20 + 40) / 200

    def test_leaves_out_what_failed_and_ends_at_the_prompt(self) -> None:
        failed = record(sent=None, prompt=None, error="timeout")
        whole = record(sent=None, content=60, shared=80)
        assert highest_hit_rate([failed, whole]) == 1.0
        # A server whose tokenizer needs fewer tokens for the contents.
        assert highest_hit_rate([record(sent=None, content=120)]) == 0.0

    def test_is_unknown_without_a_count(self) -> None:
        assert highest_hit_rate([record(sent=None)]) is None
        assert highest_hit_rate([record(sent=None, content=9, prompt=None)]) is None
        assert highest_hit_rate([]) is None


class TestObserved:
    def test_is_of_the_stage_alone(self) -> None:
        before = {"prefix_cache_queries_total": 1000.0, "prefix_cache_hits_total": 900.0}
        after = {"prefix_cache_queries_total": 1400.0, "prefix_cache_hits_total": 1000.0}
        assert observed_hit_rate(before, after, []) == 0.25

    def test_counts_no_hits_where_their_counter_has_not_begun(self) -> None:
        assert observed_hit_rate({}, {"prefix_cache_queries_total": 400.0}, []) == 0.0

    def test_falls_back_on_usage(self) -> None:
        unmoved = {"prefix_cache_queries_total": 7.0}
        records = [record(cached=50), record(cached=0), record(prompt=None, error="timeout")]
        assert observed_hit_rate(unmoved, unmoved, records) == 0.25

    def test_takes_a_count_that_usage_leaves_out_for_none(self) -> None:
        assert observed_hit_rate({}, {}, [record(cached=50), record()]) == 0.25

    def test_is_unknown_where_nobody_says(self) -> None:
        assert observed_hit_rate({}, {}, [record(), record()]) is None
        assert observed_hit_rate({}, {}, []) is None


@pytest.mark.parametrize(
    ("designed", "observed", "keeps", "contaminated"),
    [
        (0.0, 0.009, True, False),
        (0.0, 0.02, True, True),
        (0.5, 0.4, True, True),
        (0.5, 0.4, False, False),
        (0.5, 0.52, False, True),
        (0.5, 0.505, False, False),
        (None, 0.4, True, False),
        (0.5, None, True, False),
    ],
)
def test_a_point_of_difference_contaminates(
    designed: float | None, observed: float | None, keeps: bool, contaminated: bool
) -> None:
    assert is_contaminated(designed, observed, keeps=keeps) is contaminated


def test_a_cache_keeps_what_it_has_room_for() -> None:
    assert PrefixCache().keeps(1 << 40)
    assert PrefixCache(enabled=True, capacity_tokens=1000).keeps(1000)
    assert not PrefixCache(enabled=True, capacity_tokens=1000).keeps(1001)
    assert not PrefixCache(enabled=False).keeps(1)
    assert not PrefixCache(enabled=True, replicas=2).keeps(1)


def test_acceptance_is_per_draft() -> None:
    before = {"spec_decode_drafts_total": 10.0, "spec_decode_accepted_tokens_total": 5.0}
    after = {"spec_decode_drafts_total": 30.0, "spec_decode_accepted_tokens_total": 35.0}
    assert acceptance_length(before, after) == 2.5
    assert speculated(before, after)
    assert acceptance_length(after, after) is None
    assert not speculated(after, after)
    assert acceptance_length({}, {"spec_decode_drafts_total": 3.0}) is None
    assert speculated({}, {"spec_decode_draft_tokens_total": 3.0})
    assert not speculated({}, {})


class TestRepetition:
    def test_of_a_loop_is_near_one(self) -> None:
        assert repetition_score(["a b " * 50]) == pytest.approx(1 - 2 / 97)

    def test_is_the_mean_of_the_texts_that_are_long_enough(self) -> None:
        assert repetition_score(["a b c d e", "x x x x x", "short text", ""]) == 0.25
        assert repetition_score(["a b c", ""]) is None

    @given(st.lists(st.text(alphabet="ab ", max_size=80), max_size=6))
    def test_lies_between_zero_and_one(self, texts: list[str]) -> None:
        score = repetition_score(texts)
        assert score is None or 0 <= score < 1
