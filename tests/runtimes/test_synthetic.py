"""Synthetic prompts: lengths as asked, ids in range, all distinct by construction."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from runtimes.json_types import Json
from runtimes.workloads import distinct
from runtimes.workloads.base import WorkloadContext
from runtimes.workloads.synthetic import SyntheticWorkload

STAGE_NAMES = st.builds(
    lambda kind, number: f"{kind}{number}",
    st.sampled_from(["", "warmup-"]),
    st.integers(0, 10**8 - 1),
)


def workload(
    input_tokens: Json, output_tokens: Json = 4, *, vocab: int = 1000, seed: int = 7
) -> SyntheticWorkload:
    return SyntheticWorkload.from_settings(
        {"input_tokens": input_tokens, "output_tokens": output_tokens},
        WorkloadContext(vocab=vocab, seed=seed),
    )


@settings(max_examples=60)
@given(
    vocab=st.integers(8, 200_000),
    length=st.integers(1, 40),
    stages=st.lists(STAGE_NAMES, min_size=1, max_size=4, unique=True),
    count=st.integers(1, 60),
    seed=st.integers(0, 2**64),
)
def test_prompts_of_all_stages_differ_or_are_refused(
    vocab: int, length: int, stages: list[str], count: int, seed: int
) -> None:
    made = workload(length, vocab=vocab, seed=seed)
    try:
        prompts = [prompt for stage in stages for prompt in made.prompts(stage, count)]
    except ValueError as error:
        assert str(error).startswith("input_tokens: ")
        assume(False)
    assert {len(prompt.token_ids) for prompt in prompts} == {length}
    assert len({prompt.token_ids for prompt in prompts}) == len(prompts)


def test_prompts_too_short_to_differ_are_refused() -> None:
    """Two tokens of 6 ids spell 36 numbers; the ninth prompt of stage 0 is number 36."""
    made = workload(2, vocab=8)
    prompts = [prompt for stage in ("0", "warmup-0") for prompt in made.prompts(stage, 7)]
    assert len({prompt.token_ids for prompt in prompts}) == 14
    assert len(made.prompts("0", 8)) == 8
    with pytest.raises(ValueError, match=r"9 prompts of stage '0' .* allow 3 tokens"):
        made.prompts("0", 9)


def test_prompts_drawn_too_short_are_made_as_long_as_they_need() -> None:
    made = workload({"mean": 2, "stddev": 2, "min": 1, "max": 9}, vocab=100)
    prompts = made.prompts("0", 3000)
    assert len({prompt.token_ids for prompt in prompts}) == 3000
    assert len(prompts[0].token_ids) == 1
    assert min(len(prompt.token_ids) for prompt in prompts[2000:]) == 4


@given(
    stage=STAGE_NAMES, other=STAGE_NAMES, indices=st.lists(st.integers(0, 2**31 - 1), min_size=1)
)
def test_the_pairing_is_one_to_one(stage: str, other: str, indices: list[int]) -> None:
    numbers = distinct.pair(distinct.stage_number(stage), np.array(indices, dtype=np.uint64))
    for index, number in zip(indices, numbers.tolist(), strict=True):
        diagonal = index + distinct.stage_number(stage)
        assert number == diagonal * (diagonal + 1) // 2 + distinct.stage_number(stage)
        assert number < 1 << 63
    assert (distinct.stage_number(stage) == distinct.stage_number(other)) == (stage == other)


@given(
    numbers=st.lists(st.integers(0, 2**63 - 1), min_size=2, max_size=20, unique=True),
    base=st.integers(2, 200_000),
    key=st.integers(0, 2**64 - 1),
)
def test_a_spelling_can_be_read_back(numbers: list[int], base: int, key: int) -> None:
    array = np.array(numbers, dtype=np.uint64)
    rows = distinct.spell(array, base, np.full(len(array), key, dtype=np.uint64))
    assert len({tuple(row) for row in rows.tolist()}) == len(numbers)
    assert rows.min() >= 0
    assert rows.max() < base
    needed = distinct.digits_needed(array, base)
    for number, digits in zip(numbers, needed.tolist(), strict=True):
        assert digits <= distinct.width(base)
        assert number < base**digits
        assert digits == 1 or number >= base ** (digits - 1)


def test_other_stage_names_are_numbered_apart_from_the_exact_ones() -> None:
    names = ["probe", "00", "warmup", "warmup-", "warmup-01", "1000000000", "-1", ""]
    numbers = [distinct.stage_number(name) for name in names]
    assert len(set(numbers)) == len(names)
    assert all(number % 3 == 2 and number < 1 << 31 for number in numbers)
    assert [distinct.stage_number(name) for name in ("0", "warmup-0", "1")] == [0, 1, 3]


@pytest.mark.parametrize("vocab", [8, 64, 151_936])
def test_ids_keep_clear_of_both_ends_of_the_vocabulary_and_use_the_rest(vocab: int) -> None:
    ids = [i for prompt in workload(500, vocab=vocab).prompts("0", 40) for i in prompt.token_ids]
    lowest, highest = min(16, vocab // 8), int(vocab * 0.95)
    assert min(ids) >= lowest
    assert max(ids) < highest
    assert np.mean(ids) == pytest.approx((lowest + highest - 1) / 2, rel=0.05)


def test_lengths_follow_the_settings() -> None:
    made = workload({"mean": 200, "stddev": 30}, {"mean": 50, "stddev": 10, "min": 45, "max": 60})
    prompts = made.prompts("0", 4000)
    inputs = np.array([len(prompt.token_ids) for prompt in prompts])
    outputs = np.array([prompt.output_tokens for prompt in prompts])
    assert inputs.mean() == pytest.approx(200, abs=3 * 30 / 4000**0.5)
    assert inputs.std() == pytest.approx(30, rel=0.05)
    assert (outputs.min(), outputs.max()) == (45, 60)
    assert made.max_context == 320 + 60


def test_constant_lengths() -> None:
    prompts = workload(17, 5).prompts("0", 20)
    assert {(len(prompt.token_ids), prompt.output_tokens) for prompt in prompts} == {(17, 5)}
    assert workload(17, 5).max_context == 22


def test_seed_and_stage_change_everything() -> None:
    first = workload(40).prompts("0", 3)
    assert first != workload(40, seed=8).prompts("0", 3)
    assert first != workload(40).prompts("1", 3)
    assert workload(40).prompts("0", 2) == first[:2]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0, "input_tokens: must be at least 1 token, got 0"),
        (True, "input_tokens: must be a whole number of tokens or a mapping"),
        (1.5, "input_tokens: must be a whole number of tokens or a mapping"),
        ("many", "input_tokens: must be a whole number of tokens or a mapping"),
        ({"mean": 5, "stdev": 1}, "input_tokens.stdev: unknown; known: mean, stddev, min, max"),
        ({"mean": 5}, "input_tokens.stddev: must be a number of tokens, got None"),
        ({"mean": 0.5, "stddev": 1}, "input_tokens.mean: must be at least 1 token, got 0.5"),
        ({"mean": 5, "stddev": -1}, "input_tokens.stddev: must not be negative, got -1"),
        ({"mean": 5, "stddev": 1, "min": 0}, "input_tokens.min: must be a whole number"),
        ({"mean": 5, "stddev": 1, "max": 2.5}, "input_tokens.max: must be a whole number"),
        (
            {"mean": 5, "stddev": 1, "min": 9, "max": 8},
            "input_tokens.max: 8 is below the minimum of 9",
        ),
    ],
)
def test_wrong_lengths_are_refused_by_name(value: Json, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        workload(value)


def test_wrong_settings_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"^prompt_tokens: unknown setting"):
        SyntheticWorkload.from_settings({"prompt_tokens": 4}, WorkloadContext(1000, 7))
    with pytest.raises(ValueError, match=r"^vocab: must be at least 8, got 4$"):
        workload(4, vocab=4)
