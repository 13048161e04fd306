"""What docs/record.md says of columns is what the schema has."""

from __future__ import annotations

from dataclasses import fields
from typing import get_args

from docs import make_record
from tests.test_docs import anchors
from tracking.events import Event
from tracking.parquet.columns import Columns
from tracking.parquet.measured_columns import measurement
from tracking.parquet.other_columns import REQUESTS, SAMPLES, STAGE_HEAD, STAGE_TAIL
from tracking.parquet.schema import events_schema
from tracking.parquet.trial_columns import HEAD, TAIL


def test_the_tables_are_those_of_the_schema() -> None:
    page = make_record.PAGE.read_text(encoding="utf-8")
    words = "docs/record.md is not up to date: run `python -m docs.make_record`"
    assert page == make_record.with_tables(page), words
    assert page.count("<!-- columns: ") == page.count("<!-- end -->") == 7


def test_a_stale_table_is_replaced() -> None:
    stale = "before\n<!-- columns: requests -->\n| old |\n<!-- end -->\nafter"
    fresh = make_record.with_tables(stale)
    assert "old" not in fresh
    assert fresh.startswith("before\n<!-- columns: requests -->\n| column | type | meaning |\n")
    assert "| `chunk_ns` | list of integers, ns since sent_ns | " in fresh
    assert fresh.endswith("<!-- end -->\nafter")


def test_every_column_says_what_it_means() -> None:
    groups: list[Columns] = [*HEAD, *measurement(), *TAIL, *STAGE_HEAD, *STAGE_TAIL]
    silent = [group.names for group in [*groups, *REQUESTS, *SAMPLES] if not group.about]
    assert silent == []
    assert "parameters" in anchors(make_record.PAGE.read_text(encoding="utf-8"))


def test_every_field_of_an_event_has_a_column() -> None:
    names = {item.name for event in get_args(Event) for item in fields(event)}
    assert names <= set(events_schema().names)
