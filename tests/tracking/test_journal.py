"""The journal: every event comes back, whatever instant a writer was killed at."""

from __future__ import annotations

import itertools
import resource
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from runtimes.errors import RunFolderError
from tests.unprivileged import refused
from tracking.events import (
    BundleLost,
    BundleTaken,
    Event,
    Expanded,
    Finished,
    GpuAwaited,
    GpuReturned,
    GpuWithheld,
    Launched,
    PhaseChanged,
    Proposed,
    RunEnded,
    RunStarted,
    SpaceExhausted,
    StopRequested,
)
from tracking.journal import Journal, read_journal

_EVERY_KIND: list[Event] = [
    RunStarted("demo-1", "0.1.0", resumed=False),
    Proposed(0, "vllm", {"tp": 2, "x": [1, None, "é\u2028\n"], "env.A": "b"}, "c0", baseline=True),
    Launched(0, 1, "b0", "node-a", ["0", "1"]),
    PhaseChanged(0, 1, "starting", [4, 5]),
    Finished(0, 1, "failed", retry=True),
    Expanded(None, 2, {"tp * pp <= 8": 3}),
    BundleTaken("b0", "node-a", "H200", ["0", "1"], ["engine-sglang"]),
    BundleLost("b0", "node died"),
    GpuAwaited(0, 1, "node-a", "1", "pid 4 (x, user ada)", 40 << 30),
    GpuWithheld(0, 1, "b0", "node-a", "1", "foreign", "pid 4 (x, user ada)", 40 << 30),
    GpuReturned("b0", "1"),
    SpaceExhausted(),
    StopRequested("budget"),
    RunEnded("done"),
]


def _clock() -> Callable[[], float]:
    ticks = itertools.count(1000)
    return lambda: next(ticks) + 0.5


def _write(folder: Path, events: list[Event], segment_bytes: int = 1 << 20) -> None:
    with Journal(folder, clock=_clock(), segment_bytes=segment_bytes) as journal:
        for event in events:
            journal.append(event)


def _events(folder: Path) -> list[Event]:
    return [event for _, event in read_journal(folder)]


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_kind_of_event_comes_back_with_its_time(tmp_path: Path) -> None:
    assert {type(event) for event in _EVERY_KIND} == set(get_args(Event))
    _write(tmp_path, _EVERY_KIND)
    expected = [(1000.5 + index, event) for index, event in enumerate(_EVERY_KIND)]
    assert read_journal(tmp_path) == expected


def test_an_event_is_on_disk_when_append_returns(tmp_path: Path) -> None:
    journal = Journal(tmp_path, clock=_clock())
    journal.append(RunEnded("one"))
    assert _events(tmp_path) == [RunEnded("one")]
    journal.append(RunEnded("two"))
    assert _events(tmp_path) == [RunEnded("one"), RunEnded("two")]
    journal.close()


def test_no_folder_and_no_segment_have_no_events(tmp_path: Path) -> None:
    Journal(tmp_path, clock=_clock()).close()
    assert read_journal(tmp_path) == []
    assert read_journal(tmp_path / "absent") == []


def test_a_torn_tail_at_every_byte_costs_one_event(tmp_path: Path) -> None:
    _write(tmp_path, [SpaceExhausted(), Proposed(1, "vllm", {"größe": "ü", "tp": 2}, "c")])
    segment = tmp_path / "00000001.jsonl"
    whole = segment.read_bytes()
    start = whole.index(b"\n") + 1
    for cut in range(start, len(whole)):
        segment.write_bytes(whole[:cut])
        assert _events(tmp_path) == [SpaceExhausted()]
    for cut in range(start):
        segment.write_bytes(whole[:cut])
        assert _events(tmp_path) == []


@pytest.mark.parametrize("tail", [b"\x00\x00\x00", b"{bad}\n", b"17\n", b"\xff\xfe\n", b"{}\n"])
def test_a_damaged_last_line_is_left_out(tmp_path: Path, tail: bytes) -> None:
    _write(tmp_path, [SpaceExhausted()])
    segment = tmp_path / "00000001.jsonl"
    segment.write_bytes(segment.read_bytes() + tail)
    assert _events(tmp_path) == [SpaceExhausted()]


@pytest.mark.parametrize("bad", [b"{bad}\n", b"\n", b"17\n", b"\xff\n"])
@pytest.mark.parametrize("after", [b"", b"{torn"])
def test_a_damaged_line_elsewhere_is_an_error(tmp_path: Path, bad: bytes, after: bytes) -> None:
    _write(tmp_path, [SpaceExhausted(), RunEnded("done")])
    segment = tmp_path / "00000001.jsonl"
    first, last = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(first + bad + (after or last))
    with pytest.raises(RunFolderError, match=r"00000001\.jsonl, line 2: the journal is damaged"):
        read_journal(tmp_path)


def test_a_torn_tail_of_an_older_segment_is_forgiven(tmp_path: Path) -> None:
    _write(tmp_path, [SpaceExhausted(), RunEnded("killed here")])
    segment = tmp_path / "00000001.jsonl"
    torn = segment.read_bytes()[:-5]
    segment.write_bytes(torn)
    _write(tmp_path, [RunStarted("demo", "0.1.0", resumed=True)])
    assert _events(tmp_path) == [SpaceExhausted(), RunStarted("demo", "0.1.0", resumed=True)]
    assert segment.read_bytes() == torn
    assert _names(tmp_path) == ["00000001.jsonl", "00000002.jsonl"]


def test_each_writer_has_segments_of_its_own(tmp_path: Path) -> None:
    first = Journal(tmp_path, clock=_clock())
    second = Journal(tmp_path, clock=_clock())
    first.append(StopRequested("1"))
    second.append(StopRequested("2"))
    first.append(StopRequested("3"))
    first.close()
    first.append(StopRequested("4"))
    first.close()
    second.close()
    assert _names(tmp_path) == ["00000001.jsonl", "00000002.jsonl", "00000003.jsonl"]
    assert [event.reason for event in _events(tmp_path) if isinstance(event, StopRequested)] == [
        "1", "3", "2", "4",
    ]  # fmt: skip


def test_full_segments_are_followed_by_new_ones_in_order(tmp_path: Path) -> None:
    events: list[Event] = [StopRequested(str(number)) for number in range(30)]
    _write(tmp_path, events, segment_bytes=200)
    assert _events(tmp_path) == events
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) > 5
    assert max(sizes) <= 200


def test_an_event_larger_than_a_segment_has_one_to_itself(tmp_path: Path) -> None:
    events: list[Event] = [RunEnded("a"), RunEnded("b" * 500), RunEnded("c")]
    _write(tmp_path, events, segment_bytes=200)
    assert _events(tmp_path) == events
    assert len(_names(tmp_path)) == 3


def test_the_segment_after_number_99999999_is_still_in_order(tmp_path: Path) -> None:
    (tmp_path / "99999999.jsonl").touch()
    _write(tmp_path, [RunEnded("a")])
    _write(tmp_path, [RunEnded("b")])
    assert "100000001.jsonl" in _names(tmp_path)
    assert _events(tmp_path) == [RunEnded("a"), RunEnded("b")]


def test_a_refused_write_damages_nothing_that_follows(tmp_path: Path) -> None:
    journal = Journal(tmp_path, clock=_clock())
    journal.append(RunEnded("a"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # the next line is cut at byte 100
    try:
        with pytest.raises(OSError):
            journal.append(RunEnded("b" * 200))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "00000001.jsonl").stat().st_size == 100
    journal.append(RunEnded("c"))
    journal.close()
    assert _events(tmp_path) == [RunEnded("a"), RunEnded("c")]


def test_an_event_of_a_newer_servetune_is_named(tmp_path: Path) -> None:
    _write(tmp_path, [SpaceExhausted()])
    segment = tmp_path / "00000001.jsonl"
    line = b'{"at_unix_s":1.0,"kind":"teleported"}\n'
    segment.write_bytes(segment.read_bytes() + line)
    with pytest.raises(RunFolderError, match=r"00000001\.jsonl, line 2: .*'teleported'"):
        read_journal(tmp_path)


@pytest.mark.parametrize(
    "bad",
    [
        b'{"at_unix_s":1' + b"0" * 400 + b',"kind":"space_exhausted"}',
        b'{"at_unix_s":NaN,"kind":"space_exhausted"}',
        b"[" * 100_000,
    ],
)
def test_a_line_that_no_writer_wrote_is_named(tmp_path: Path, bad: bytes) -> None:
    (tmp_path / "00000001.jsonl").write_bytes(bad + b"\n\n")
    with pytest.raises(RunFolderError, match=r"00000001\.jsonl, line 1: the journal is damaged"):
        read_journal(tmp_path)


def test_a_segment_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    _write(tmp_path, [RunEnded("one")])
    segment = tmp_path / "00000001.jsonl"
    with refused(segment), pytest.raises(RunFolderError, match=f"{tmp_path}.*: Permission denied"):
        read_journal(tmp_path)
    (tmp_path / "00000002.jsonl").mkdir()
    with pytest.raises(RunFolderError, match=r"00000002\.jsonl: .*: Is a directory"):
        read_journal(tmp_path)
