"""Files of finished trials become few, and nothing is lost or told twice on the way."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from runtimes.measurement import RequestRecord
from tests.tracking.run_samples import measurement, trial_record
from tracking.layout import TABLES, RecordFile, RunLayout, TableName
from tracking.open import open_run
from tracking.parquet.compaction import FAN_IN, SMALL_BYTES, TARGET_BYTES, Sized, compact, plan
from tracking.parquet.merge import gather_stages
from tracking.parquet.read import UnreadableFile, read_stages, read_trials
from tracking.parquet.upkeep import STAGED, Upkeep
from tracking.parquet.write import RecordWriter, encode_requests, encode_samples
from tracking.records import Sample, StageRecord

ROOT = Path(__file__).parents[2]
_STAGES = 3
_REQUESTS = 4
_FEW = 4
"""Files of a level that are merged here at once."""


def _request(index: int) -> RequestRecord:
    sent_ns = 10_000_000 * index
    return RequestRecord(
        index, sent_ns, sent_ns, (sent_ns + 1_000_000, sent_ns + 3_000_000), sent_ns + 4_000_000,
        prompt_tokens=8, output_tokens=2, requested_output_tokens=2,
    )  # fmt: skip


def _writer(layout: RunLayout) -> RecordWriter:
    layout.create()
    return RecordWriter(layout, {"tp": "int"}, ["goodput_per_gpu"])


def _write_stage(layout: RunLayout, number: int, stage: int, attempt: int = 0) -> None:
    writer = _writer(layout)
    payload = encode_requests(
        run=layout.run,
        number=number,
        attempt=attempt,
        stage=stage,
        records=[_request(index) for index in range(_REQUESTS)],
    )
    writer.requests(number, attempt, stage, payload)
    record = StageRecord(
        layout.run, number, attempt, stage, "poisson", 8.0, 0.0, 1.0, measurement()
    )
    writer.stage(record)


def _write_trial(layout: RunLayout, number: int) -> None:
    for stage in range(_STAGES):
        _write_stage(layout, number, stage)
    writer = _writer(layout)
    samples = [Sample(at_ns, 0.0, 0, "m", "vllm:m", 1.0) for at_ns in (10, 20)]
    writer.samples(
        number, 0, encode_samples(run=layout.run, number=number, attempt=0, samples=samples)
    )
    writer.trial(trial_record(number))


def _files(layout: RunLayout) -> dict[TableName, int]:
    return {table: len(layout.files(table)) for table in TABLES}


def _check(layout: RunLayout, numbers: Iterable[int]) -> None:
    """Every row of these trials is there, once, without a complaint."""
    problems: list[UnreadableFile] = []
    numbers = list(numbers)
    assert [row.number for row in read_trials(layout, problems.append)] == numbers
    expected = [(number, stage) for number in numbers for stage in range(_STAGES)]
    assert [(row.number, row.stage) for row in read_stages(layout, problems.append)] == expected
    assert problems == []
    run = open_run(layout.root)
    for number in numbers[:3]:
        requests = run.requests(number, ["number", "stage", "index"])
        assert requests["number"].to_pylist() == [number] * _STAGES * _REQUESTS
        assert requests["index"].to_pylist() == list(range(_REQUESTS)) * _STAGES
        assert run.samples(number)["at_ns"].to_pylist() == [10, 20]


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    layout = RunLayout(tmp_path / "demo")
    layout.create()
    layout.experiment.write_text("name: demo\n")
    return layout


def test_the_stages_of_an_attempt_become_one_file_of_a_row_group_each(layout: RunLayout) -> None:
    _write_trial(layout, 5)
    for table in STAGED:
        gather_stages(layout, table, 5, 0)
        assert [file.path for file in layout.files(table)] == [layout.attempt_file(table, 5, 0)]
    with pq.ParquetFile(layout.attempt_file("requests", 5, 0)) as file:
        groups = [file.read_row_group(index) for index in range(file.num_row_groups)]
    assert [set(group["stage"].to_pylist()) for group in groups] == [{0}, {1}, {2}]
    _check(layout, [5])


def test_a_single_stage_is_renamed_and_a_later_one_joins(layout: RunLayout) -> None:
    _write_stage(layout, 0, 0)
    before = layout.stage_part("requests", 0, 0, 0).read_bytes()
    gather_stages(layout, "requests", 0, 0)
    whole = layout.attempt_file("requests", 0, 0)
    assert whole.read_bytes() == before
    _write_stage(layout, 0, 1)
    gather_stages(layout, "requests", 0, 0)
    assert [file.path for file in layout.files("requests")] == [whole]
    assert pq.read_table(whole)["stage"].to_pylist() == [0] * _REQUESTS + [1] * _REQUESTS


@pytest.mark.parametrize("left", [*itertools.product([True, False], repeat=_STAGES)])
def test_a_gathering_that_was_cut_off_is_read_once_and_healed(
    layout: RunLayout, left: tuple[bool, ...]
) -> None:
    """Killed behind the write, with any of the stages' files deleted already."""
    _write_trial(layout, 0)
    kept = {path: path.read_bytes() for path in layout.root.rglob("*-stage-*.parquet")}
    for table in STAGED:
        gather_stages(layout, table, 0, 0)
    for stage, stays in enumerate(left):
        for table in STAGED:
            path = layout.stage_part(table, 0, 0, stage)
            if stays:
                path.write_bytes(kept[path])
    (layout.stages_dir / ".trial-00000-0.parquet.tmp").write_bytes(b"killed while writing")
    _check(layout, [0])
    with Upkeep(layout, _FEW):
        pass
    _check(layout, [0])
    assert _files(layout) == dict.fromkeys(TABLES, 1)
    assert not list(layout.root.rglob("*.tmp"))


def test_a_compaction_that_was_cut_off_is_read_once_and_healed(
    layout: RunLayout, tmp_path: Path
) -> None:
    for number in range(_FEW):
        _write_trial(layout, number)
    copy = RunLayout(tmp_path / "copy")
    shutil.copytree(layout.root, copy.root)
    with Upkeep(copy, _FEW):
        pass
    assert _files(copy) == dict.fromkeys(TABLES, 1)
    for table in TABLES:  # written, and nothing deleted yet
        for file in copy.files(table):
            shutil.copy(file.path, layout.folder(table) / file.path.name)
    _check(layout, range(_FEW))
    with Upkeep(layout, _FEW):
        pass
    _check(layout, range(_FEW))
    assert _files(layout) == dict.fromkeys(TABLES, 1)


def test_files_stay_few_while_a_run_goes_on(layout: RunLayout) -> None:
    with Upkeep(layout, _FEW) as upkeep:
        for number in range(2 * _FEW + 1):
            _write_trial(layout, number)
            upkeep.ended(number, 0)
    _check(layout, range(2 * _FEW + 1))
    assert _files(layout) == dict.fromkeys(TABLES, 1)


def test_levels_grow_as_in_a_log_structured_merge_tree(layout: RunLayout) -> None:
    writer = _writer(layout)
    for number in range(_FEW * _FEW + _FEW + 1):
        writer.trial(trial_record(number))
        compact(layout, "trials", last=False, fan_in=_FEW)
    levels = [file.level for file in layout.files("trials")]
    assert levels == [3, 2, 1]
    assert [row.number for row in read_trials(layout)] == list(range(_FEW * _FEW + _FEW + 1))


def test_a_retry_joins_later_and_both_attempts_stay(layout: RunLayout) -> None:
    writer = _writer(layout)
    for number in range(_FEW):
        writer.trial(trial_record(number))
    compact(layout, "trials", last=False, fan_in=_FEW)
    writer.trial(trial_record(1, attempt=1))
    with Upkeep(layout, _FEW):
        pass
    rows = [(row.number, row.attempt) for row in read_trials(layout)]
    assert rows == [(0, 0), (1, 0), (1, 1), (2, 0), (3, 0)]


def test_a_reader_beside_a_compaction_finds_every_row_and_complains_of_nothing(
    layout: RunLayout,
) -> None:
    for number in range(8):
        _write_trial(layout, number)
    problems: list[UnreadableFile] = []
    stop = threading.Event()
    counts: list[int] = []

    def read() -> None:
        while not stop.is_set():
            counts.append(len(read_trials(layout, problems.append)))
            counts.append(len(read_stages(layout, problems.append)) // _STAGES)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(8, 20):
        _write_trial(layout, number)
        for table in STAGED:
            gather_stages(layout, table, number, 0)
        for table in TABLES:
            compact(layout, table, last=False, fan_in=_FEW)
    stop.set()
    reader.join()
    assert problems == []
    assert min(counts) >= 8
    _check(layout, range(20))


def test_a_damaged_file_is_left_and_said_once(
    layout: RunLayout, caplog: pytest.LogCaptureFixture
) -> None:
    writer = _writer(layout)
    for number in range(_FEW):
        writer.trial(trial_record(number))
    torn = layout.attempt_file("trials", 1, 0)
    torn.write_bytes(torn.read_bytes()[:-20])
    with Upkeep(layout, _FEW) as upkeep:
        for number in range(2 * _FEW):
            upkeep.ended(number, 0)
    assert torn.exists()
    assert len(layout.files("trials")) == 2, "the others are merged all the same"
    assert caplog.text.count(f"{torn} cannot be read and stays as it is") == 1
    found: list[UnreadableFile] = []
    assert [row.number for row in read_trials(layout, found.append)] == [0, 2, 3]
    assert [problem.path for problem in found] == [torn]


def test_a_pipe_among_the_files_is_said_and_not_waited_for(layout: RunLayout) -> None:
    _writer(layout).trial(trial_record(0))
    pipe = layout.attempt_file("trials", 1, 0)
    os.mkfifo(pipe)
    found: list[UnreadableFile] = []
    assert [row.number for row in read_trials(layout, found.append)] == [0]
    assert [problem.path for problem in found] == [pipe]


def _sized(number: int, size_bytes: int, level: int = 1) -> Sized:
    layout = RunLayout(Path("runs/demo"))
    path = (
        layout.attempt_file("requests", number, 0)
        if level == 1
        else layout.merged_file("requests", number, number + 9, level, number)
    )
    file = RecordFile.of(path)
    assert file is not None
    return Sized(file, size_bytes)


def test_what_is_large_stays_as_it_is() -> None:
    small = [_sized(number, 1000) for number in range(FAN_IN - 1)]
    large = [_sized(number, SMALL_BYTES) for number in range(1000, 1000 + FAN_IN)]
    assert plan([*small, *large], last=False) == []
    (group,) = plan([*small, *large, _sized(500, 1000)], last=False)
    assert [file.first for file in group] == [*range(FAN_IN - 1), 500]
    (group,) = plan([*small, *large], last=True)
    assert len(group) == FAN_IN - 1


def test_no_file_grows_beyond_the_target() -> None:
    half = TARGET_BYTES // 2
    parts = [_sized(10 * index, half - 1, level=2) for index in range(FAN_IN)]
    groups = plan(parts, last=False)
    assert {len(group) for group in groups} == {2}
    assert plan([_sized(0, half, level=2), _sized(10, half, level=2)], last=False) == []


_DRIVER = """
import sys
from pathlib import Path
from tests.tracking.test_compaction import _write_trial
from tracking.layout import RunLayout
from tracking.parquet.upkeep import Upkeep
layout = RunLayout(Path(sys.argv[1]))
with Upkeep(layout, 3) as keeper:
    for number in range(int(sys.argv[2]), 10_000):
        _write_trial(layout, number)
        print(number, flush=True)
        keeper.ended(number, 0)
"""


def test_a_driver_that_is_killed_again_and_again_loses_and_repeats_nothing(
    layout: RunLayout,
) -> None:
    done = -1
    for lines in (3, 7, 11):
        with subprocess.Popen(
            [sys.executable, "-c", _DRIVER, str(layout.root), str(done + 1)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        ) as driver:
            assert driver.stdout is not None
            for _ in range(lines):
                done = int(driver.stdout.readline())
            driver.send_signal(signal.SIGKILL)
        whole = {row.number for row in read_trials(layout)}
        assert whole >= set(range(done + 1))
        done = max(whole)
        for path in layout.root.rglob(f"trial-{done + 1:05d}-*.parquet"):
            path.unlink()  # of the trial that was being written: the next driver writes it again
        _check(layout, range(done + 1))
    with Upkeep(layout, _FEW):
        pass
    _check(layout, range(done + 1))
    assert _files(layout) == dict.fromkeys(TABLES, 1)
