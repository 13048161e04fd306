"""Keeps the files of a run few while it goes on, in a thread that nobody waits for."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import ParamSpec

from runtimes.errors import RunFolderError
from tracking.files import drop_temporaries
from tracking.layout import STAGE_LEVEL, TABLES, RunLayout, TableName
from tracking.parquet.compaction import FAN_IN, compact, drop_repeated
from tracking.parquet.events import write_events
from tracking.parquet.merge import DamagedInputError, gather_stages
from tracking.parquet.parameters import ParameterTypes
from tracking.parquet.tables import DAMAGE
from tracking.parquet.upgrade import Upgrade

_logger = logging.getLogger(__name__)

STAGED: tuple[TableName, ...] = ("stages", "requests")
"""Tables that are stored stage by stage while an attempt runs."""

P = ParamSpec("P")


class Upkeep:
    """Merges files of a run as its trials end, and once more when it is left.

    Enter it with the run's lock held and nothing running; leave it when the journal is closed.
    Nothing that fails here loses a row or stops a run: what cannot be merged stays as it is, which
    readers take as well, and is said in the log once.

    Args:
        layout: the run; its folders must exist.
        fan_in: after so many attempts files are merged, so many of a level at once.
    """

    def __init__(self, layout: RunLayout, fan_in: int = FAN_IN) -> None:
        self._layout = layout
        self._fan_in = fan_in
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._count = 0
        self._thread = threading.Thread(target=self._work, name="upkeep", daemon=True)
        self._left: set[Path] = set()
        self._told: set[str] = set()

    def __enter__(self) -> Upkeep:
        for table in TABLES:
            drop_temporaries(self._layout.folder(table))
        drop_temporaries(self._layout.events_dir)
        for number, attempt in self._with_stages():
            self.ended(number, attempt)
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._jobs.put(None)
        self._thread.join()

    def ended(self, number: int, attempt: int) -> None:
        """Every row of an attempt is on disk, and none follows."""
        self._jobs.put(partial(self._gather, number, attempt))

    def one_schema(self, parameter_types: ParameterTypes, objectives: Sequence[str]) -> None:
        """Write files of another schema again in that of a `RecordWriter` of these arguments."""
        self._jobs.put(partial(self._upgrade, Upgrade(parameter_types, objectives)))

    def _work(self) -> None:
        for table in TABLES:
            self._safely(drop_repeated, self._layout, table)
        while (job := self._jobs.get()) is not None:
            job()
        self._compact(last=True)

    def _gather(self, number: int, attempt: int) -> None:
        for table in STAGED:
            self._safely(gather_stages, self._layout, table, number, attempt)
        self._count += 1
        if self._count % self._fan_in == 0:
            self._compact(last=False)

    def _upgrade(self, upgrade: Upgrade) -> None:
        for table in TABLES:
            for file in self._layout.files(table):
                self._safely(upgrade.file, file.path, table)

    def _compact(self, *, last: bool) -> None:
        for table in TABLES:
            self._safely(self._compact_table, table, last)
        self._safely(write_events, self._layout, last=last)

    def _compact_table(self, table: TableName, last: bool) -> None:
        compact(self._layout, table, last=last, fan_in=self._fan_in, leave=self._left)

    def _safely(self, step: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        while True:
            damaged = len(self._left)
            try:
                step(*args, **kwargs)
            except DamagedInputError as error:
                self._left.add(error.path)
                self._tell(str(error))
            except (*DAMAGE, RunFolderError) as error:
                self._tell(str(error))
            if len(self._left) == damaged:
                return  # done, or no use in trying again without the file that stopped it

    def _tell(self, words: str) -> None:
        if words not in self._told:
            self._told.add(words)
            _logger.warning("%s: files could not be merged: %s", self._layout.root, words)

    def _with_stages(self) -> dict[tuple[int, int], None]:
        """Attempts of which files of single stages stand."""
        files = [file for table in STAGED for file in self._layout.files(table)]
        return {
            (file.first, file.attempt): None
            for file in files
            if file.level == STAGE_LEVEL and file.attempt is not None
        }
