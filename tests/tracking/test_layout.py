"""File names of a run, run ids, and finding the run a user means."""

from __future__ import annotations

import os
import random
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from runtimes.errors import RunFolderError
from tests.unprivileged import refused
from tracking.layout import (
    ATTEMPT_LEVEL,
    STAGE_LEVEL,
    RecordFile,
    RunLayout,
    find_run,
    new_run_id,
)

_NOON = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def _run(results: Path, run: str) -> RunLayout:
    layout = RunLayout(results / run)
    layout.create()
    layout.experiment.write_text("name: demo\n")
    return layout


def test_names_are_the_documented_ones() -> None:
    layout = RunLayout(Path("runs/demo"))
    named = {
        "experiment.yaml": layout.experiment,
        "journal": layout.journal_dir,
        "events": layout.events_dir,
        "live": layout.live_dir,
        "live/status.json": layout.live_status,
        "live/metrics.prom": layout.final_metrics,
        "lock": layout.lock,
        "report.html": layout.report,
        "trials/trial-00003-0.parquet": layout.attempt_file("trials", 3, 0),
        "stages/trial-00003-1-stage-002.parquet": layout.stage_part("stages", 3, 1, 2),
        "requests/trial-00003-1-stage-002.parquet": layout.stage_part("requests", 3, 1, 2),
        "samples/trial-00003-1.parquet": layout.attempt_file("samples", 3, 1),
        "stages/trials-00003-00070-level-2-000004.parquet": layout.merged_file(
            "stages", 3, 70, 2, 4
        ),
        "events/segments-00000001-00000003.parquet": layout.events_file(1, 3),
        "logs/trial-00003-0.log": layout.log_file(3, 0),
    }
    assert {path.relative_to(layout.root).as_posix() for path in named.values()} == set(named)
    assert all(path == layout.root / name for name, path in named.items())
    assert layout.run == "demo"


def test_create_makes_every_folder_and_keeps_what_is_there(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path / "runs" / "demo")
    layout.create()
    layout.log_file(0, 0).write_text("kept")
    layout.create()
    folders = {path.name for path in layout.root.iterdir() if path.is_dir()}
    assert folders == {
        "journal", "trials", "stages", "requests", "samples", "events", "logs", "live",
    }  # fmt: skip
    assert layout.log_file(0, 0).read_text() == "kept"


def test_listings_hold_records_only_and_what_was_merged_last_comes_first(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path / "demo")
    layout.create()
    expected = [
        layout.merged_file("stages", 0, 9, 3, 7),
        layout.merged_file("stages", 0, 100_000, 2, 1),
        layout.attempt_file("stages", 2, 0),
        layout.attempt_file("stages", 2, 1),
        layout.attempt_file("stages", 100_000, 0),
        layout.stage_part("stages", 2, 0, 0),
        layout.stage_part("stages", 2, 0, 1000),
    ]
    for path in reversed(expected):
        path.touch()
    (layout.stages_dir / ".trial-00002-0.parquet.tmp").touch()
    (layout.stages_dir / "notes.parquet").touch()
    assert [file.path for file in layout.files("stages")] == expected
    of_one = layout.files_of("stages", 11)
    assert [file.path for file in of_one] == [expected[1]]
    assert layout.stage_parts("stages", 2, 0) == expected[5:]
    assert layout.stage_parts("stages", 2, 1) == []


def test_a_file_name_tells_what_is_in_it() -> None:
    layout = RunLayout(Path("runs/demo"))
    part = RecordFile.of(layout.stage_part("requests", 3, 1, 2))
    whole = RecordFile.of(layout.attempt_file("requests", 3, 1))
    merged = RecordFile.of(layout.merged_file("requests", 3, 70, 2, 4))
    assert part is not None
    assert (part.first, part.last, part.attempt, part.stage) == (3, 3, 1, 2)
    assert part.level == STAGE_LEVEL
    assert whole is not None
    assert (whole.level, whole.attempt, whole.stage) == (ATTEMPT_LEVEL, 1, None)
    assert merged is not None
    assert (merged.first, merged.last, merged.level, merged.sequence) == (3, 70, 2, 4)
    assert RecordFile.of(Path("trial-3.parquet.tmp")) is None


def test_run_id_is_name_utc_and_four_hex() -> None:
    east = _NOON.astimezone(timezone(timedelta(hours=9)))
    run = new_run_id("llama-70b", east, random.Random(1))
    assert re.fullmatch(r"llama-70b-20260301T120000Z-[0-9a-f]{4}", run)
    assert run == new_run_id("llama-70b", _NOON, random.Random(1))
    assert run != new_run_id("llama-70b", _NOON, random.Random(2))


@pytest.mark.parametrize(
    ("name", "start"),
    [("a/b c", "a-b-c-2026"), ("../up", "up-2026"), ("", "run-2026"), ("q3.5_x", "q3.5_x-2026")],
)
def test_run_id_is_always_one_folder_name(name: str, start: str) -> None:
    assert new_run_id(name, _NOON, random.Random(0)).startswith(start)


def test_find_run_takes_a_folder_an_id_or_the_newest(tmp_path: Path) -> None:
    old = _run(tmp_path, "b-20260101T000000Z-0001")
    new = _run(tmp_path, "a-20260102T000000Z-0002")
    os.utime(new.root, (0, 0))  # what the id says counts, not when the folder was touched
    (tmp_path / "not-a-run").mkdir()
    assert find_run(old.root) == old
    assert find_run(tmp_path) == new
    assert find_run(Path(old.run), tmp_path) == old


def test_a_renamed_run_is_as_old_as_its_folder(tmp_path: Path) -> None:
    _run(tmp_path, "a-20260102T000000Z-0002")
    renamed = _run(tmp_path, "the-good-one")
    after = datetime(2026, 1, 3, tzinfo=UTC).timestamp()
    os.utime(renamed.root, (after, after))
    assert find_run(tmp_path) == renamed
    os.utime(renamed.root, (0, 0))
    assert find_run(tmp_path).run == "a-20260102T000000Z-0002"


def test_no_run_says_where_it_looked_and_what_there_is(tmp_path: Path) -> None:
    known = _run(tmp_path, "a-20260102T000000Z-0002")
    with pytest.raises(RunFolderError) as raised:
        find_run(Path("missing"), tmp_path)
    message = str(raised.value)
    assert "missing does not exist" in message
    assert str(tmp_path) in message
    assert known.run in message
    assert "--results" in message


def test_an_empty_folder_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=f"{tmp_path} is no run folder and holds none"):
        find_run(tmp_path)
    with pytest.raises(RunFolderError, match="Newest runs there: none"):
        find_run(Path("x"), tmp_path)


def test_digits_that_are_no_time_block_no_other_run(tmp_path: Path) -> None:
    _run(tmp_path, "x-99999999T999999Z-abcd")
    wanted = _run(tmp_path, new_run_id("demo", _NOON, random.Random(1)))
    assert find_run(wanted.root.relative_to(tmp_path), tmp_path) == wanted
    assert find_run(tmp_path).root.parent == tmp_path


def test_a_name_that_is_too_long_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="cannot be looked into: File name too long"):
        find_run(Path("x" * 5000), tmp_path)


def test_what_may_not_be_read_is_said_and_hides_no_other_run(tmp_path: Path) -> None:
    run = _run(tmp_path, "secret")
    with refused(tmp_path), pytest.raises(RunFolderError, match="looked into: Permission denied"):
        find_run(run.root)
