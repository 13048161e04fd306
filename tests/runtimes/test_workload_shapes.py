"""Shared prefixes, conversations and appends: what each is made of, and what is shared in it."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtimes.json_types import Json
from runtimes.workloads.base import WORKLOADS, Prompt, Workload, WorkloadContext

CONTEXT = WorkloadContext(32_000, 7)


def make(name: str, context: WorkloadContext = CONTEXT, **given: Json) -> Workload:
    return WORKLOADS.get(name).from_settings(given, context)


def sessions(prompts: list[Prompt]) -> list[list[Prompt]]:
    groups = itertools.groupby(prompts, key=lambda prompt: prompt.session)
    return [list(turns) for _, turns in groups]


def test_prefixes_are_as_many_and_as_frequent_as_asked_for() -> None:
    made = make("shared_prefix", prefixes=4, share=0.6, prefix_tokens=50, input_tokens=10)
    primers = [prompt.token_ids for prompt in made.primers("0")]
    assert [len(ids) for ids in primers] == [50] * 4
    prompts = made.prompts("0", 2000)
    used = Counter(prompt.token_ids[:50] for prompt in prompts if prompt.shared_tokens)
    assert set(used) == set(primers)
    assert sum(used.values()) / 2000 == pytest.approx(0.6, abs=0.04)
    assert min(used.values()) / max(used.values()) > 0.75
    lengths = {(len(prompt.token_ids), prompt.shared_tokens) for prompt in prompts}
    assert lengths == {(60, 50), (10, 0)}
    assert made.max_context == 60 + 128


def test_without_a_share_there_is_no_prefix() -> None:
    made = make("shared_prefix", share=0, input_tokens=10, output_tokens=2)
    assert not made.primers("0")
    assert {len(prompt.token_ids) for prompt in made.prompts("0", 20)} == {10}
    assert made.max_context == 12


@settings(max_examples=60, deadline=None)
@given(
    turns=st.tuples(st.integers(1, 6), st.integers(0, 5)),
    first=st.integers(1, 30),
    later=st.integers(1, 9),
    output=st.integers(1, 9),
    end=st.integers(0, 80),
    count=st.integers(1, 40),
    seed=st.integers(0, 2**40),
)
def test_a_turn_sends_all_that_was_said_before(
    turns: tuple[int, int], first: int, later: int, output: int, end: int, count: int, seed: int
) -> None:
    given: dict[str, Json] = {
        "turns": {"distribution": "uniform", "min": turns[0], "max": sum(turns)},
        "think_s": 1.5, "input_tokens": first, "next_input_tokens": later, "output_tokens": output,
    }  # fmt: skip
    least = max(first, 5) + output
    made = make("conversation", WorkloadContext(32_000, seed), **given, max_context=least + end)
    prompts = made.prompts("0", count)
    assert len(prompts) == count
    talks = sessions(prompts)
    assert [talk[0].session for talk in talks] == list(range(len(talks)))
    for talk in talks:
        assert len(talk) <= sum(turns)
        assert talk[0].shared_tokens == 0
        for before, after in itertools.pairwise(talk):
            said = len(before.token_ids)
            assert after.token_ids[:said] == before.token_ids
            assert len(after.token_ids) == said + before.output_tokens + later
            assert (after.shared_tokens, after.think_s) == (said, 1.5)
    longest = max(len(prompt.token_ids) + prompt.output_tokens for prompt in prompts)
    assert longest <= made.max_context <= least + end
    for talk in talks[:-1]:
        grown = len(talk[-1].token_ids) + output + later + output
        assert len(talk) >= turns[0] or grown > least + end


def test_conversations_of_one_turn_are_requests() -> None:
    made = make("conversation", turns=1, input_tokens=9, output_tokens=2)
    prompts = made.prompts("0", 30)
    assert [(p.session, p.turn, p.shared_tokens, p.think_s) for p in prompts] == [
        (session, 0, 0, 0.0) for session in range(30)
    ]
    assert made.max_context == 11


def test_turns_and_times_are_drawn() -> None:
    made = make(
        "conversation", think_s={"distribution": "lognormal", "mean": 4, "stddev": 3},
        turns={"distribution": "empirical", "values": [2, 5]},
        input_tokens=5, next_input_tokens=5, output_tokens=5,
    )  # fmt: skip
    talks = sessions(made.prompts("0", 4000))[:-1]
    assert {len(talk) for talk in talks} == {2, 5}
    pauses = [prompt.think_s for talk in talks for prompt in talk[1:]]
    assert sum(pauses) / len(pauses) == pytest.approx(4, rel=0.1)


def test_the_grid_is_walked_cell_by_cell() -> None:
    made = make(
        "append_prefill", context_length=[64, 0, 32], append_length=[8, 5], repeats=3,
        output_tokens=7,
    )  # fmt: skip
    prompts = made.prompts("0", 1000)
    cells = [(64, 8), (64, 5), (0, 8), (0, 5), (32, 8), (32, 5)]
    assert [(p.shared_tokens, len(p.token_ids) - p.shared_tokens) for p in prompts] == [
        cell for cell in cells for _ in range(3)
    ]
    assert made.size == len(prompts) == 18
    assert made.max_context == 64 + 8 + 7
    primers = [prompt.token_ids for prompt in made.primers("0")]
    assert [len(ids) for ids in primers] == [32, 64]
    by_length = {len(ids): ids for ids in primers}
    for prompt in prompts:
        if prompt.shared_tokens:
            context = by_length[prompt.shared_tokens]
            assert prompt.token_ids[: len(context)] == context


def test_the_cache_rate_decides_the_append() -> None:
    made = make("append_prefill", context_length=[900, 1800], cache_rate=[0.9, 0.5], repeats=1)
    found = [(p.shared_tokens, len(p.token_ids)) for p in made.prompts("0", 9)]
    assert found == [(900, 1000), (900, 1800), (1800, 2000), (1800, 3600)]


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("shared_prefix", {"share": 1.5}, "share: must be a share from 0 to 1, got 1.5"),
        ("shared_prefix", {"prefixes": 0}, "prefixes: must be a whole number of at least 1, got 0"),
        ("shared_prefix", {"prefix": 5}, "prefix: unknown setting; did you mean prefixes? known: "),
        ("conversation", {"turns": 0}, "turns: must be at least 1 turn, got 0"),
        ("conversation", {"think_s": -1}, "think_s: must be at least 0 seconds, got -1"),
        ("conversation", {"think_s": {"mean": 1}}, "think_s.stddev: must be a number of seconds"),
        ("conversation", {"max_context": 300}, "max_context: the first turn alone may take 384"),
        ("append_prefill", {"context_length": []}, "context_length: must have at least one number"),
        (
            "append_prefill",
            {"append_length": [5, 0]},
            "append_length[1]: must be a whole number of",
        ),
        ("append_prefill", {"append_length": [5, 5]}, "append_length: must be different numbers"),
        ("append_prefill", {"cache_rate": 1}, "cache_rate[0]: must be between 0 and 1, got 1"),
        ("append_prefill", {"cache_rate": 0.9999}, "cache_rate: leaves no token to append to a"),
        (
            "append_prefill",
            {"cache_rate": 0.5, "append_length": 6},
            "cache_rate: goes without append_length, which follows from it, got 0.5",
        ),
        (
            "append_prefill",
            {"cache_rate": 0.5, "context_length": 0},
            "context_length: must be at least 1 where cache_rate is given, got 0",
        ),
        ("synthetic", {"skip_special_ids": 1}, "skip_special_ids: must be true or false, got 1"),
    ],
)
def test_wrong_settings_are_refused_by_name(
    name: str, wrong: Mapping[str, Json], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        make(name, CONTEXT, **wrong)
