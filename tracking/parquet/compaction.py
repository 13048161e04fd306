"""Which files of a table are merged into larger ones, and when: a log-structured merge tree.

Files of attempts are level 1. `FAN_IN` files of a level make one of a higher level, so that a row
is written again only as often as the logarithm of the number of trials says, and the number of
files grows as slowly, until files are so large that nothing is gained by merging them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from tracking.layout import ATTEMPT_LEVEL, RecordFile, RunLayout, TableName
from tracking.parquet.merge import keys_of, merge, schema_of

FAN_IN = 64
TARGET_BYTES = 128 << 20
"""No merged file is made larger, and none of half the size is merged again."""
SMALL_BYTES = 2 << 20
"""An attempt's file of this size is left as it is; and what is smaller is merged at a run's end."""


@dataclass(frozen=True, slots=True)
class Sized:
    """A file and its size."""

    file: RecordFile
    size_bytes: int

    @property
    def complete(self) -> bool:
        """Whether it is large enough to stay as it is."""
        limit = SMALL_BYTES if self.file.level == ATTEMPT_LEVEL else TARGET_BYTES // 2
        return self.size_bytes >= limit


def plan(files: Iterable[Sized], *, last: bool, fan_in: int = FAN_IN) -> list[list[RecordFile]]:
    """Groups of at least two files, each to be merged into one.

    Args:
        files: of one table; those of stages are passed over.
        last: no trial follows, so that few files will not become many.
        fan_in: files of a level that are waited for before they are merged.
    """
    open_ = [item for item in files if item.file.level >= ATTEMPT_LEVEL and not item.complete]
    if last:
        small = [item for item in open_ if item.size_bytes < SMALL_BYTES]
        return list(_groups(small, len(small)))
    by_level = sorted(open_, key=lambda item: item.file.level)
    groups: list[list[RecordFile]] = []
    for _, found in groupby(by_level, key=lambda item: item.file.level):
        alike = list(found)
        full = len(alike) // fan_in * fan_in
        groups += _groups(sorted(alike, key=_by_number)[:full], fan_in)
    return groups


def compact(
    layout: RunLayout,
    table: TableName,
    *,
    last: bool,
    fan_in: int = FAN_IN,
    leave: Iterable[Path] = (),
) -> None:
    """Merge what `plan` says, write before delete.

    Args:
        layout: the run; nobody else may merge or delete files of it.
        table: whose files.
        last: as for `plan`.
        fan_in: as for `plan`.
        leave: files that are left alone.

    Raises:
        DamagedInputError: a file cannot be read; it stays as it is, and so do its fellows.
        OSError: the disk refused; nothing is lost.
    """
    left = frozenset(leave)
    while True:
        files = [file for file in layout.files(table) if file.path not in left]
        groups = plan(
            [Sized(file, file.path.stat().st_size) for file in files], last=last, fan_in=fan_in
        )
        merged = [_merge_alike(layout, table, group) for group in groups]
        if last or not any(merged):
            return


def drop_repeated(layout: RunLayout, table: TableName) -> None:
    """Delete files whose rows all stand in one of a higher level: a merge was cut off behind its
    write.

    Raises:
        DamagedInputError: a file cannot be read.
    """
    files = layout.files(table)
    for index, higher in enumerate(files):
        within = [
            file
            for file in files[index + 1 :]
            if file.level < higher.level and higher.first <= file.first <= file.last <= higher.last
        ]
        held = keys_of(higher.path, table) if within and higher.path.exists() else frozenset()
        for file in within:
            if held and file.path.exists() and keys_of(file.path, table) <= held:
                file.path.unlink()


def _merge_alike(layout: RunLayout, table: TableName, group: Sequence[RecordFile]) -> bool:
    """Merge those of one schema: some may be another servetune's. True if any were."""
    alike: dict[bytes, list[RecordFile]] = {}
    for file in group:
        schema = schema_of(file.path).serialize().to_pybytes()
        alike.setdefault(schema, []).append(file)
    several = [files for files in alike.values() if len(files) > 1]
    for files in several:
        level = 1 + max(file.level for file in files)
        sequence = 1 + max(file.sequence for file in layout.files(table))
        first, last = min(file.first for file in files), max(file.last for file in files)
        output = layout.merged_file(table, first, last, level, sequence)
        merge([file.path for file in files], output, table)
        for file in files:
            file.path.unlink()
    return bool(several)


def _groups(files: Sequence[Sized], most: int) -> Iterator[list[RecordFile]]:
    """Neighbours by number: at most so many, and no more than `TARGET_BYTES`, together."""
    group: list[RecordFile] = []
    group_bytes = 0
    for item in sorted(files, key=_by_number):
        if len(group) == most or (group and group_bytes + item.size_bytes > TARGET_BYTES):
            yield from [group] if len(group) > 1 else []
            group, group_bytes = [], 0
        group.append(item.file)
        group_bytes += item.size_bytes
    yield from [group] if len(group) > 1 else []


def _by_number(item: Sized) -> tuple[int, int, tuple[int, ...]]:
    return (item.file.first, item.file.last, item.file.order)
