"""Traces and length files: every format, what is taken of it, what is wrong with it."""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtimes.json_types import Json
from runtimes.workloads.base import WORKLOADS, Prompt, WorkloadContext
from runtimes.workloads.sharegpt import SharegptWorkload
from runtimes.workloads.trace import TraceWorkload
from runtimes.workloads.trace_blocks import change, changed_tokens
from tests.runtimes.workload_files import (
    TALKS,
    azure_file,
    burstgpt_file,
    length_file,
    mooncake_file,
    text_file,
    tiny_model,
)

CONTEXT = WorkloadContext(32_000, 7)


def trace(path: Path, context: WorkloadContext = CONTEXT, **others: Json) -> TraceWorkload:
    return TraceWorkload.from_settings({"file": str(path), **others}, context)


def sharegpt(path: Path, context: WorkloadContext = CONTEXT, **others: Json) -> SharegptWorkload:
    return SharegptWorkload.from_settings({"file": str(path), **others}, context)


def sizes(prompts: list[Prompt]) -> list[tuple[int, int]]:
    return [(len(prompt.token_ids), prompt.output_tokens) for prompt in prompts]


def test_azure(tmp_path: Path) -> None:
    rows = [
        ("2023-11-16 23:59:59.9799600", 30, 4),
        ("2023-11-17 00:00:01.0799601", 20, 5),
        ("2023-11-17 01:00:01.5+01:00", 9, 6),
        ("2023-11-17 00:00:02", 8, 0),
    ]
    made = trace(azure_file(tmp_path, rows))
    prompts = made.prompts("0", 10)
    assert sizes(prompts) == [(30, 4), (20, 5), (9, 6)]
    assert [prompt.at_s for prompt in prompts] == pytest.approx([0, 1.1000001, 1.52004], abs=1e-9)
    assert (made.size, made.recording.left_out, made.max_context) == (3, 1, 34)


def test_burstgpt_in_the_order_of_arrival(tmp_path: Path) -> None:
    made = trace(burstgpt_file(tmp_path, [(7.5, 10, 1), (5, 20, 2), (7.5, 30, 3), (9, 40, 0)]))
    prompts = made.prompts("0", 10)
    assert sizes(prompts) == [(20, 2), (10, 1), (30, 3)]
    assert [prompt.at_s for prompt in prompts] == [0, 2.5, 2.5]
    assert made.recording.left_out == 1


def test_mooncake_blocks_are_shared_prefixes(tmp_path: Path) -> None:
    rows = [
        (0, 30, 5, [0, 1, 2]),
        (40, 30, 6, [0, 1, 3]),
        (50, 36, 7, [0, 1, 2, 4]),
        (50, 10, 8, [0]),
        (90, 30, 9, [5, 1, 2]),
    ]
    prompts = trace(mooncake_file(tmp_path, rows), block_tokens=10).prompts("0", 10)
    assert sizes(prompts) == [(30, 5), (30, 6), (36, 7), (10, 8), (30, 9)]
    assert [prompt.shared_tokens for prompt in prompts] == [0, 20, 30, 10, 0]
    assert [prompt.at_s for prompt in prompts] == [0, 0.04, 0.05, 0.05, 0.09]
    first = prompts[0].token_ids
    assert prompts[1].token_ids[:20] == first[:20]
    assert prompts[1].token_ids[20] != first[20]
    assert prompts[2].token_ids[:30] == first
    assert prompts[4].token_ids[0] != first[0]


def test_a_prompt_that_comes_again_ends_otherwise(tmp_path: Path) -> None:
    rows = [(at, 45, 5, [0, 1, 2]) for at in range(6)] + [(9, 21, 5, [0, 7])] * 3
    prompts = trace(mooncake_file(tmp_path, rows), block_tokens=20).prompts("0", 20)
    assert len({prompt.token_ids for prompt in prompts}) == 9
    # The last block has 5 tokens, too few for an end of their own beside what tells blocks apart.
    assert [prompt.shared_tokens for prompt in prompts] == [0, *[40] * 5, 20, 20, 20]
    again = trace(mooncake_file(tmp_path, [(0, 40, 5, [0, 1])] * 4), block_tokens=20)
    prompts = again.prompts("0", 4)
    assert len({prompt.token_ids for prompt in prompts}) == 4
    assert len({prompt.token_ids[:39] for prompt in prompts}) == 1
    assert [prompt.shared_tokens for prompt in prompts] == [0, 39, 39, 39]


@settings(max_examples=60, deadline=None)
@given(
    chains=st.lists(
        st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=4), st.integers(1, 30)),
        min_size=1,
        max_size=25,
    ),
    vocab=st.sampled_from([8, 20, 32_000]),
)
def test_shared_tokens_are_exactly_those_that_an_earlier_prompt_has(
    chains: list[tuple[list[int], int]], vocab: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = [
        (at, 30 * (len(blocks) - 1) + last, 1, blocks) for at, (blocks, last) in enumerate(chains)
    ]
    path = mooncake_file(tmp_path_factory.mktemp("chains"), rows)
    prompts = trace(path, WorkloadContext(vocab, 3), block_tokens=30).prompts("0", 25)
    assert len({prompt.token_ids for prompt in prompts}) == len(rows)
    for place, (prompt, row) in enumerate(zip(prompts, rows, strict=True)):
        assert row[1] <= len(prompt.token_ids) <= row[1] + 30
        best = max((_common(prompt, other) for other in prompts[:place]), default=0)
        # With a usual vocabulary, tokens that agree by chance are rare enough never to be seen.
        assert prompt.shared_tokens == best if vocab == 32_000 else prompt.shared_tokens <= best


def _common(left: Prompt, right: Prompt) -> int:
    pairs = zip(left.token_ids, right.token_ids, strict=False)
    return next(
        (place for place, (a, b) in enumerate(pairs) if a != b),
        min(len(left.token_ids), len(right.token_ids)),
    )


@given(repeats=st.lists(st.integers(0, 500), min_size=2, max_size=2, unique=True))
def test_repeats_differ_in_their_last_tokens(repeats: list[int]) -> None:
    import numpy as np

    ends = []
    for repeat in repeats:
        numbers = np.full(12, 5)
        change(numbers, repeat, 6)
        assert numbers[: 12 - changed_tokens(repeat, 6)].tolist() == [5] * (
            12 - changed_tokens(repeat, 6)
        )
        ends.append(numbers.tolist())
    assert ends[0] != ends[1]


@pytest.mark.parametrize(
    ("others", "expected", "left_out"),
    [
        ({}, [10, 20, 30, 40], 0),
        ({"from": 1}, [20, 30, 40], 0),
        ({"limit": 2}, [10, 20], 0),
        ({"from": 1, "limit": 2}, [20, 30], 0),
        ({"max_input_tokens": 25}, [10, 20], 2),
        ({"max_output_tokens": 2, "from": 1}, [20], 2),
        ({"max_input_tokens": 25, "too_long": "clip"}, [10, 20, 25, 25], 0),
        ({"max_input_tokens": 25, "limit": 1}, [10], 0),
    ],
)
def test_what_is_taken(
    tmp_path: Path, others: dict[str, Json], expected: list[int], left_out: int
) -> None:
    rows = [(float(at), 10 * at, at) for at in range(1, 5)]
    made = trace(burstgpt_file(tmp_path, rows), CONTEXT, **others)
    prompts = made.prompts("0", 10)
    assert [len(prompt.token_ids) for prompt in prompts] == expected
    assert (made.recording.left_out, prompts[0].at_s) == (left_out, 0)
    words = f"took {len(expected)} requests of the file and left {left_out} out, which have no "
    assert made.selection.startswith(words) if left_out else made.selection == ""
    blocks = [(at, 10 * at, at, list(range(at))) for at in range(1, 5)]
    made = trace(mooncake_file(tmp_path, blocks), CONTEXT, block_tokens=10, **others)
    assert [len(prompt.token_ids) for prompt in made.prompts("0", 10)] == expected


def test_length_files_keep_the_lengths_of_a_row_together(tmp_path: Path) -> None:
    path = length_file(tmp_path, [(0, 5), (9, 0), *((n, 1000 - n) for n in range(5, 300))])
    made = sharegpt(path)
    found = sizes(made.prompts("0", 2000))
    assert {given + asked for given, asked in found} == {1000}
    assert len(set(found)) > 280
    assert (made.recording.left_out, made.size, made.max_context) == (2, None, 1000)
    assert found != sizes(made.prompts("1", 2000))
    assert sharegpt(path, max_input_tokens=7, limit=4).max_context == 1000
    assert sharegpt(path, max_input_tokens=7, limit=4).recording.left_out == 294


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny")


def test_texts_are_replayed_turn_by_turn(tmp_path: Path, model: Path) -> None:
    path = text_file(tmp_path, TALKS)
    context = WorkloadContext(2048, 7, str(model), None, True)
    made = trace(path, context)
    prompts = made.prompts("0", 10)
    assert [(p.session, p.turn) for p in prompts] == [(0, 0), (1, 0), (1, 1), (2, 0)]
    assert (made.size, made.recording.left_out, made.content_free) == (4, 1, False)
    texts = [text for _, text in prompts[2].messages]
    assert texts[0].endswith("\n\nName the device.")
    assert texts[1:] == ["the accelerator", "and the engine?"]
    assert prompts[2].shared_tokens == len(prompts[1].token_ids)
    assert prompts[2].token_ids[: prompts[2].shared_tokens] == prompts[1].token_ids
    assert all(prompt.at_s is None for prompt in prompts)
    plain = trace(path, WorkloadContext(2048, 7, str(model))).prompts("0", 10)
    assert [p.token_ids for p in plain] == [p.token_ids for p in prompts]
    assert not any(prompt.messages for prompt in plain)


def test_first_questions_are_drawn(tmp_path: Path, model: Path) -> None:
    path = text_file(tmp_path, TALKS)
    made = sharegpt(path, WorkloadContext(2048, 7, str(model), None, True))
    prompts = made.prompts("0", 60)
    asked = {prompt.messages[0][1].partition("\n\n")[2]: prompt.output_tokens for prompt in prompts}
    assert set(asked) == {TALKS[0][0][1], TALKS[1][1][1], TALKS[2][1][1]}
    assert len({prompt.token_ids for prompt in prompts}) == 60
    assert {(p.session, p.turn, p.shared_tokens) for p in prompts} == {(None, 0, 0)}
    assert not made.content_free
    lines = tmp_path / "lines.jsonl"
    entries = json.loads(path.read_text(encoding="utf-8"))
    lines.write_text("\n".join(map(json.dumps, entries)), encoding="utf-8")
    same = sharegpt(lines, WorkloadContext(2048, 7, str(model), None, True))
    assert same.prompts("0", 60) == prompts


def test_long_texts_are_left_out(tmp_path: Path, model: Path) -> None:
    path = text_file(tmp_path, TALKS)
    context = WorkloadContext(2048, 7, str(model))
    whole = trace(path, context)
    longest = max(len(prompt.token_ids) for prompt in whole.prompts("0", 10))
    cut = trace(path, context, max_input_tokens=longest - 1)
    assert (cut.size, cut.recording.left_out) == (3, 2)
    assert trace(path, context, limit=2).size == 2
    with pytest.raises(ValueError, match=r"^too_long: texts cannot be cut short.* got 'clip'"):
        trace(path, context, too_long="clip")
    with pytest.raises(ValueError, match=r"^file: .*no request is left; 0 were skipped .* and 5 "):
        trace(path, context, max_input_tokens=1)
    with pytest.raises(ValueError, match=r"^file: needs the model's tokenizer.json"):
        trace(path)


def plain(name: str, *lines: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / name
        path.write_text("\n".join(lines), encoding="utf-8")
        return path

    return write


def torn(folder: Path) -> Path:
    path = folder / "torn.csv.gz"
    path.write_bytes(gzip.compress(b"input_length,output_length\n" + b"1,2\n" * 5000)[:60])
    return path


AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens"
BURST = "Timestamp,Model,Request tokens,Response tokens"
DATE = "2023-11-16 18:17:03.97"


@pytest.mark.parametrize(
    ("workload", "write", "message"),
    [
        ("trace", lambda folder: folder / "absent", "file: no such file, got"),
        ("sharegpt", lambda folder: folder, "file: must be a regular file and is a folder, got"),
        ("trace", plain("a", "x,y", "1,2"), "file: {}: is no trace of a known format (azure, "),
        ("trace", plain("a", ""), "file: {}: is no trace of a known format"),
        (
            "trace",
            plain("a", AZURE, f"{DATE},12,3", f"{DATE},1x,3"),
            "file: {}, line 3: ContextTokens has to be a whole number from 0 on; correct it or "
            "take it out, got '1x'",
        ),
        (
            "trace",
            plain("a", AZURE, "yesterday,12,3"),
            "file: {}, line 2: TIMESTAMP has to be like 2023-11-16 18:17:03.979; correct",
        ),
        ("trace", plain("a", AZURE, f"{DATE},12"), "file: {}, line 2: has 2 fields instead of 3"),
        ("trace", plain("a", AZURE), "file: {}: no request is left; 0 were skipped"),
        ("trace", plain("a", "ContextTokens,x", "1,2"), "file: {}: has no column 'TIMESTAMP'; its"),
        (
            "trace",
            plain("a", BURST, "soon,m,1,2"),
            "file: {}, line 2: Timestamp has to be a number",
        ),
        ("trace", plain("a", BURST, "nan,m,1,2"), "file: {}, line 2: Timestamp has to be a number"),
        (
            "trace",
            plain("a", AZURE, f"{DATE},12,3", "9999-01-01 00:00:00,12,3"),
            "file: {}, line 3: arrives over 10 years from the first request taken; correct",
        ),
        ("trace", plain("a", BURST, "1,m,-1,2"), "file: {}, line 2: Request tokens has to be a"),
        (
            "trace",
            plain(
                "a", '{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [1]}'
            ),
            "file: {}, line 1: 600 tokens have to be 2 hash_ids of 512 tokens",
        ),
        ("trace", plain("a", '{"input_length": 5'), "file: {}, line 1: is no JSON ("),
        ("trace", plain("a", '{"input_length": 5}'), "file: {}, line 1: timestamp has to be a num"),
        (
            "trace",
            plain("a", '{"timestamp": 0, "input_length": 5, "output_length": 1, "hash_ids": "1"}'),
            "file: {}, line 1: hash_ids has to be a list of whole numbers; correct it",
        ),
        ("sharegpt", plain("a", "input_length", "1"), "file: {}: has no column 'output_length'"),
        ("sharegpt", torn, "file: {}: cannot be read: Compressed file ended"),
        ("sharegpt", lambda folder: length_file(folder, [(0, 1)]), "file: {}: no request is left"),
        ("sharegpt", plain("a", "[{"), "file: {}: is no JSON: "),
        ("sharegpt", plain("a", "[5]"), "file: {}, conversation 1: has to be a mapping with a"),
        (
            "sharegpt",
            plain("a", '{"conversations": [{"from": "human"}]}'),
            "file: {}, line 1: messages have to be {{from: …, value: …}} with texts",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_told(
    tmp_path: Path, model: Path, workload: str, write: Callable[[Path], Path], message: str
) -> None:
    path = write(tmp_path)
    expected = re.escape(message.format(path))
    with pytest.raises(ValueError, match=f"^{expected}"):
        WORKLOADS.get(workload).from_settings(
            {"file": str(path)}, WorkloadContext(2048, 7, str(model))
        )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"file": 5}, "file: must be the path of a file, got 5"),
        ({"file": None}, "file: has to be given for the workload trace"),
        (
            {"format": "csv"},
            "format: must be one of auto, azure, burstgpt, mooncake, sharegpt, got",
        ),
        ({"from": -1}, "from: must be a whole number of at least 0, got -1"),
        ({"too_long": "cut"}, "too_long: must be one of drop, clip, got 'cut'"),
        ({"limit": 0}, "limit: must be a whole number of at least 1, got 0"),
        ({"from": 9}, "file: "),
    ],
)
def test_wrong_settings_are_refused_by_name(
    tmp_path: Path, wrong: dict[str, Json], message: str
) -> None:
    path = burstgpt_file(tmp_path, [(1.0, 2, 3)])
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        TraceWorkload.from_settings({"file": str(path), **wrong}, CONTEXT)


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    rows = [(1.0, 20, 3)]
    assert trace(burstgpt_file(tmp_path, rows)).size == 1
    assert trace(burstgpt_file(tmp_path, rows * 2)).size == 2


needs_facts = pytest.mark.skipif(
    "SERVETUNE_FACTS" not in os.environ, reason="SERVETUNE_FACTS names no folder with real traces"
)


def fact(name: str) -> Path:
    return Path(os.environ["SERVETUNE_FACTS"]) / "traces" / name


@needs_facts
@pytest.mark.parametrize(
    ("name", "rows", "first"),
    [
        ("azure-2023-code.csv.gz", 8819, [(4808, 10), (3180, 8), (110, 27)]),
        ("azure-2023-conv.csv.gz", 19366, [(374, 44), (396, 109), (879, 55)]),
        ("mooncake-conversation.jsonl.gz", 12031, [(6758, 500), (7322, 490), (7236, 794)]),
        ("mooncake-synthetic.jsonl.gz", 3993, [(40160, 6), (36640, 4), (23769, 3)]),
    ],
)
def test_real_traces_are_replayed(name: str, rows: int, first: list[tuple[int, int]]) -> None:
    made = trace(fact(name), WorkloadContext(128_256, 7))
    assert made.size == rows
    prompts = made.prompts("0", 60)
    assert sizes(prompts)[:3] == first
    for place, prompt in enumerate(prompts):
        best = max((_common(prompt, other) for other in prompts[:place]), default=0)
        assert prompt.shared_tokens <= best < prompt.shared_tokens + 4
    assert made.prompts("0", 3)[2] == prompts[2]


@needs_facts
def test_real_length_files_are_drawn_from() -> None:
    made = sharegpt(fact("sharegpt-lengths.csv.gz"))
    assert made.recording.left_out == 819
    assert made.max_context <= 614 + 3333
    prompts = made.prompts("0", 1000)
    assert len({prompt.token_ids for prompt in prompts}) == 1000
