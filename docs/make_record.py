"""Write the tables of columns in docs/record.md from the record's schema.

    .venv/bin/python -m docs.make_record

Each table stands between `<!-- columns: NAME -->` and `<!-- end -->`; what the columns mean stands
beside them in `tracking/parquet/*_columns.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pyarrow as pa

from tracking.parquet.columns import LATENCIES, UNIT_KEY, Columns
from tracking.parquet.measured_columns import (
    CLIENT,
    COST,
    COUNTS,
    JUDGEMENT,
    LATENCY_WORDS,
    THROUGHPUTS,
    latency_columns,
)
from tracking.parquet.other_columns import (
    EVENT_FIELDS,
    EVENT_PLACE,
    REQUESTS,
    SAMPLES,
    STAGE_HEAD,
    STAGE_TAIL,
)
from tracking.parquet.trial_columns import HEAD, TAIL

PAGE = Path(__file__).resolve().parent / "record.md"

_TABLE = re.compile(r"<!-- columns: (\w+) -->\n(.*?)<!-- end -->", re.DOTALL)
_WORDS = {
    pa.string(): "text",
    pa.int64(): "integer",
    pa.float64(): "number",
    pa.bool_(): "boolean",
    pa.timestamp("us", tz="UTC"): "timestamp, UTC",
}
_PARAMETERS = (
    "| `param_*` | of the parameter | one column per parameter: `param_tp`, "
    "`param_parallel_preset`, `param_max_num_seqs`, `param_env_NAME`; null where it was not "
    "searched ([types](#parameters)) |",
    "| `objective_*` | number | one column per objective, each in its own unit |",
)
_TABLES: Mapping[str, tuple[Iterable[Columns], tuple[str, ...], Iterable[Columns]]] = {
    "trials": (HEAD, (*_PARAMETERS, "| *measurement* | | see below |"), TAIL),
    "measurement": ((*COUNTS, *THROUGHPUTS, *JUDGEMENT, *CLIENT, *COST), (), ()),
    "stages": (STAGE_HEAD, ("| *measurement* | | as above |",), STAGE_TAIL),
    "requests": (REQUESTS, (), ()),
    "samples": (SAMPLES, (), ()),
    "events": ((*EVENT_PLACE, *EVENT_FIELDS), (), ()),
}


def with_tables(page: str) -> str:
    """`page` with every table as the schema has it.

    Raises:
        KeyError: the page asks for a table that there is not.
    """
    return _TABLE.sub(lambda match: _marked(match[1]), page)


def _marked(name: str) -> str:
    rows = _latencies() if name == "latencies" else _columns(name)
    return "\n".join([f"<!-- columns: {name} -->", *rows, "<!-- end -->"])


def _columns(name: str) -> Iterator[str]:
    head, between, tail = _TABLES[name]
    yield "| column | type | meaning |"
    yield "|---|---|---|"
    yield from map(_row, head)
    yield from between
    yield from map(_row, tail)


def _latencies() -> Iterator[str]:
    yield "| latency | definition | columns |"
    yield "|---|---|---|"
    for latency in LATENCIES:
        name, definition = LATENCY_WORDS[latency]
        names = [name for columns in latency_columns(latency) for name in columns.names]
        yield f"| {name} | {definition} | {_code(names)} |"


def _row(columns: Columns) -> str:
    kind = _words(columns.type)
    unit = f", {columns.unit}" if columns.unit else ""
    parts = _parts(columns.type)
    about = "; ".join(filter(None, [columns.about, f"each {parts}" if parts else ""]))
    return f"| {_code(columns.names)} | {kind}{unit} | {about} |"


def _words(kind: pa.DataType) -> str:
    if isinstance(kind, pa.MapType):
        return f"map of text to {_words(kind.item_type)}"
    if isinstance(kind, pa.ListType):
        inner = _words(kind.value_type)
        return f"list of {inner if inner == 'text' else f'{inner}s'}"
    return "record" if isinstance(kind, pa.StructType) else _WORDS[kind]


def _parts(kind: pa.DataType) -> str:
    """The fields of a record within, with their units."""
    if isinstance(kind, pa.MapType):
        return _parts(kind.item_type)
    if isinstance(kind, pa.ListType):
        return _parts(kind.value_type)
    if not isinstance(kind, pa.StructType):
        return ""
    fields = [kind.field(index) for index in range(kind.num_fields)]
    units = [(field.metadata or {}).get(UNIT_KEY, b"").decode() for field in fields]
    named = zip(fields, units, strict=True)
    return ", ".join(f"`{field.name}`" + (f" ({unit})" if unit else "") for field, unit in named)


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def main() -> None:
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
