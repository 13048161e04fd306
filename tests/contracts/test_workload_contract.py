"""What every registered workload promises; a new one is tried as soon as its file exists."""

from __future__ import annotations

import hashlib
import itertools
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from runtimes.json_types import Json
from runtimes.tokenizer import find_tokenizer
from runtimes.workloads.base import WORKLOADS, Prompt, Workload, WorkloadContext
from tests.runtimes.workload_files import (
    TALKS,
    azure_file,
    burstgpt_file,
    length_file,
    mooncake_file,
    text_file,
    tiny_model,
)

VOCAB = 2048
SEED = 11
STAGES = ("warmup-0", "0", "1", "warmup-1")

Settings = Mapping[str, Json]

_SIZES = [(5 + 7 * number % 90, 1 + number % 9) for number in range(300)]
_MOONCAKE = [
    (40 * number, 16 * len(blocks) - short, 3, blocks)
    for number, (blocks, short) in enumerate(
        [([0, 1, 2], 0), ([0, 1, 3], 5), ([0, 1, 2, 4], 15), ([0, 1, 3], 5), ([0], 0), ([0], 0)]
        + [([0, 1, 2, 5 + number // 2], number % 4) for number in range(250)]
    )
]


def _file(path: Path, **others: Json) -> Settings:
    return {"file": str(path), **others}


CASES: Mapping[str, Callable[[Path], Settings]] = {
    "append_prefill": lambda _: {
        "context_length": [0, 16, 40], "append_length": [3, 20], "output_tokens": 4, "repeats": 50,
    },
    "append_prefill by rate": lambda _: {
        "context_length": [16, 40], "cache_rate": [0.5, 0.8], "output_tokens": 4, "repeats": 60,
    },
    "conversation": lambda _: {
        "turns": {"distribution": "uniform", "min": 1, "max": 5},
        "think_s": {"mean": 2, "stddev": 1},
        "input_tokens": {"mean": 20, "stddev": 8}, "next_input_tokens": 6, "output_tokens": 5,
    },
    "conversation with an end": lambda _: {
        "turns": 9, "input_tokens": 20, "next_input_tokens": 6, "output_tokens": 5,
        "max_context": 60,
    },
    "shared_prefix": lambda _: {
        "prefixes": 3, "share": 0.7, "prefix_tokens": {"mean": 30, "stddev": 9},
        "input_tokens": {"mean": 4, "stddev": 3}, "output_tokens": 4,
    },
    "sharegpt lengths": lambda folder: _file(length_file(folder, [(0, 5), (1, 1), *_SIZES])),
    "sharegpt texts": lambda folder: _file(text_file(folder, TALKS)),
    "synthetic": lambda _: {"input_tokens": {"mean": 48, "stddev": 16}, "output_tokens": 8},
    "synthetic ordinary": lambda _: {
        "input_tokens": {"distribution": "lognormal", "mean": 40, "stddev": 60},
        "output_tokens": 8, "skip_special_ids": True,
    },
    "trace azure": lambda folder: _file(
        azure_file(
            folder,
            [(f"2023-11-16 1{n // 60}:{n % 60:02}:00.5", *size) for n, size in enumerate(_SIZES)],
        )
    ),
    "trace burstgpt": lambda folder: _file(
        burstgpt_file(folder, [(n / 4, *size) for n, size in enumerate(_SIZES)])
    ),
    "trace mooncake": lambda folder: _file(mooncake_file(folder, _MOONCAKE), block_tokens=16),
    "trace texts": lambda folder: _file(text_file(folder, TALKS)),
}  # fmt: skip
"""Settings of small requests; a name begins with the workload's. A workload without a case is tried
with `OTHERS`."""

OTHERS: Settings = {"input_tokens": 32, "output_tokens": 8}

NAMES = [
    case
    for workload in WORKLOADS.names()
    for case in [name for name in CASES if name.split()[0] == workload] or [workload]
]

_DIGESTS = """
import pickle, sys, hashlib
for name, workload in pickle.load(sys.stdin.buffer).items():
    print(name, hashlib.sha256(repr(workload.prompts("0", 20)).encode()).hexdigest(), sep=":")
"""


@dataclass(frozen=True)
class Bench:
    """Makes workloads on files and a model of its own."""

    folder: Path

    def settings(self, case: str) -> Settings:
        return CASES[case](self.folder) if case in CASES else OTHERS

    def make(self, case: str, *, seed: int = SEED, chat: bool = False) -> Workload:
        context = WorkloadContext(VOCAB, seed, str(self.folder / "model"), None, chat)
        return WORKLOADS.get(case.split()[0]).from_settings(self.settings(case), context)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("workloads")
    tiny_model(folder / "model")
    return Bench(folder)


@pytest.fixture(scope="module")
def digests(bench: Bench) -> Mapping[str, str]:
    """Of the prompts of every case, made by a process that unpacks the workloads."""
    other = subprocess.run(
        [sys.executable, "-c", _DIGESTS],
        input=pickle.dumps({case: bench.make(case) for case in NAMES}),
        env={"PYTHONHASHSEED": "12345", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        check=True,
    )
    lines = other.stdout.decode().splitlines()
    return dict(line.split(":") for line in lines)


def expected(workload: Workload, count: int) -> int:
    return count if workload.size is None else min(count, workload.size)


def common(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    """Leading tokens that both have."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(left), len(right)))


@pytest.mark.parametrize("case", NAMES)
class TestWorkload:
    """The contract of `runtimes.workloads.base.Workload`."""

    def test_carries_its_registered_name(self, bench: Bench, case: str) -> None:
        assert bench.make(case).name == case.split()[0]

    def test_says_which_settings_it_takes(self, bench: Bench, case: str) -> None:
        workload = WORKLOADS.get(case.split()[0])
        known = {*workload.defaults, *workload.required}
        assert set(bench.settings(case)) <= known
        assert not set(workload.defaults) & set(workload.required)
        nulls = {**dict.fromkeys(workload.defaults), **bench.settings(case)}
        context = WorkloadContext(VOCAB, SEED, str(bench.folder / "model"))
        assert workload.from_settings(nulls, context) == bench.make(case)

    def test_gives_as_many_prompts_as_asked_for(self, bench: Bench, case: str) -> None:
        workload = bench.make(case)
        for count in (0, 1, 25):
            prompts = workload.prompts("0", count)
            assert len(prompts) == expected(workload, count)
            assert all(type(prompt) is Prompt for prompt in prompts)

    def test_calls_leave_no_trace(self, bench: Bench, case: str) -> None:
        used = bench.make(case)
        first = used.prompts("0", 20)
        used.prompts("1", 7)
        used.primers("0")
        assert used.prompts("0", 20) == first == bench.make(case).prompts("0", 20)

    def test_more_prompts_begin_with_the_same(self, bench: Bench, case: str) -> None:
        assert bench.make(case).prompts("0", 30)[:12] == bench.make(case).prompts("0", 12)

    def test_seeds_give_other_prompts(self, bench: Bench, case: str) -> None:
        assert bench.make(case).prompts("0", 9) != bench.make(case, seed=12).prompts("0", 9)

    def test_no_prompt_of_an_engines_life_comes_twice(self, bench: Bench, case: str) -> None:
        for chat in (False, True):
            workload = bench.make(case, chat=chat)
            prompts = [
                prompt
                for stage in STAGES
                for prompt in [*workload.primers(stage), *workload.prompts(stage, 200)]
            ]
            assert len({prompt.token_ids for prompt in prompts}) == len(prompts)

    def test_stages_have_nothing_in_common(self, bench: Bench, case: str) -> None:
        workload = bench.make(case)
        heads = [
            {ids[:8] for ids in (p.token_ids for p in workload.prompts(stage, 200)) if len(ids) > 7}
            for stage in STAGES
        ]
        assert all(heads)
        assert len(set.union(*heads)) == sum(map(len, heads))

    def test_ids_and_lengths_are_within_bounds(self, bench: Bench, case: str) -> None:
        workload = bench.make(case)
        longest = 0
        for prompt in [*workload.primers("0"), *workload.prompts("0", 200)]:
            assert all(type(token) is int and 0 <= token < VOCAB for token in prompt.token_ids)
            assert prompt.token_ids
            assert prompt.output_tokens >= 1
            longest = max(longest, len(prompt.token_ids) + prompt.output_tokens)
        assert longest <= workload.max_context

    def test_shared_tokens_are_shared(self, bench: Bench, case: str) -> None:
        for chat in (False, True):
            workload = bench.make(case, chat=chat)
            before = [prompt.token_ids for prompt in workload.primers("0")]
            for prompt in workload.prompts("0", 120):
                shared = max((common(prompt.token_ids, ids) for ids in before), default=0)
                assert prompt.shared_tokens <= shared
                # A token or two more are chance; a block of a cache more would be a hit.
                assert shared < prompt.shared_tokens + 8
                before.append(prompt.token_ids)

    def test_sessions_stand_together_in_the_order_of_their_turns(
        self, bench: Bench, case: str
    ) -> None:
        prompts = bench.make(case).prompts("0", 60)
        groups = itertools.groupby(prompts, key=lambda prompt: prompt.session)
        sessions = [(session, list(turns)) for session, turns in groups]
        named = [session for session, _ in sessions if session is not None]
        assert len(named) == len(set(named))
        for session, turns in sessions:
            if session is not None:
                assert [prompt.turn for prompt in turns] == list(range(len(turns)))
                assert turns[0].think_s == 0
        assert all(prompt.turn == 0 for prompt in prompts if prompt.session is None)

    def test_arrivals_ascend_from_zero(self, bench: Bench, case: str) -> None:
        times = [prompt.at_s for prompt in bench.make(case).prompts("0", 60)]
        known = [at_s for at_s in times if at_s is not None]
        assert len(known) in (0, len(times))
        assert known == sorted(known)
        assert not known or known[0] == 0

    def test_chats_come_back_from_the_tokenizer_as_they_were_meant(
        self, bench: Bench, case: str
    ) -> None:
        tokenizer = find_tokenizer(str(bench.folder / "model"))
        assert tokenizer is not None
        assert not any(prompt.messages for prompt in bench.make(case).prompts("0", 5))
        workload = bench.make(case, chat=True)
        for prompt in [*workload.primers("0"), *workload.prompts("0", 40)]:
            roles = [role for role, _ in prompt.messages]
            assert roles == [("user", "assistant")[place % 2] for place in range(len(roles))]
            assert roles[-1] == "user"
            texts = [text for _, text in prompt.messages]
            assert all(text == text.strip() for text in texts)
            encoded = [tokenizer.encode(text) for text in texts]
            assert tuple(itertools.chain.from_iterable(encoded)) == prompt.token_ids

    def test_is_a_value(self, bench: Bench, case: str) -> None:
        workload = bench.make(case)
        assert pickle.loads(pickle.dumps(workload)) == workload == bench.make(case)
        assert hash(workload) == hash(bench.make(case))

    def test_another_process_makes_the_same_prompts(
        self, bench: Bench, digests: Mapping[str, str], case: str
    ) -> None:
        prompts = bench.make(case).prompts("0", 20)
        assert digests[case] == hashlib.sha256(repr(prompts).encode()).hexdigest()

    def test_wrong_settings_are_refused_by_name(self, bench: Bench, case: str) -> None:
        settings = {**bench.settings(case), "no_such_setting": 1}
        with pytest.raises(ValueError, match=r"^no_such_setting: "):
            WORKLOADS.get(case.split()[0]).from_settings(settings, WorkloadContext(VOCAB, SEED))


def test_every_case_is_of_a_workload() -> None:
    assert {name.split()[0] for name in CASES} <= set(WORKLOADS.names())
