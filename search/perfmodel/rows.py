"""Rows of published tables of measurements as questions; what was measured is never looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from runtimes.hardware import Accelerator
from search.perfmodel.row_formats import UnknownFormatError, row_formats
from search.perfmodel.row_layouts import UnreadableLayoutError
from search.perfmodel.row_names import (
    row_accelerator,
    row_engine,
    row_model,
    unknown_accelerator,
    unknown_model,
)
from search.perfmodel.row_question import (
    CommonRow,
    NoAnswerError,
    RowKind,
    RowQuestion,
    Unpredictable,
)
from search.perfmodel.row_sources import READERS, plain

__all__ = ["COLUMNS", "RowKind", "RowQuestion", "Unpredictable", "read_row", "read_rows"]

COLUMNS = (
    "source", "engine", "engine_version", "model", "quant", "gpu", "num_gpus", "tp", "pp", "dp",
    "ep", "isl", "osl", "concurrency_or_max", "note",
)  # fmt: skip
"""Columns that are read. Others may stand beside them."""


def read_row(row: Mapping[str, str]) -> RowQuestion | Unpredictable:
    """The question that `row` answers, or why there is none.

    Args:
        row: the columns of `COLUMNS` by name; a missing one is an empty one. What was measured
            (throughput, TTFT, TPOT) may stand among others and is not read, nor is what notes
            repeat of it.
    """
    full = {column: row.get(column) or "" for column in COLUMNS}
    source = full["source"]
    read = next((read for known, read in READERS.items() if source.startswith(known)), plain)
    try:
        return read(_common(full))
    except (NoAnswerError, UnreadableLayoutError, UnknownFormatError) as error:
        return Unpredictable(str(error))


def read_rows(rows: Iterable[Mapping[str, str]]) -> list[RowQuestion | Unpredictable]:
    """`read_row` of each, in order."""
    return [read_row(row) for row in rows]


def _common(row: Mapping[str, str]) -> CommonRow:
    source = row["source"]
    model = row_model(row["model"])
    if model is None:
        raise NoAnswerError(unknown_model(row["model"]))
    named = row_accelerator(row["gpu"], small_a100=source.startswith("argonne"))
    if named is None:
        raise NoAnswerError(unknown_accelerator(row["gpu"]))
    submission = source.startswith("mlperf")
    engine, engine_caveat = row_engine(row["engine"] or (row["note"] if submission else ""))
    quant = row["quant"]
    if submission and quant in _UNTOLD:
        quant = _narrowest(named.accelerator)
    formats = row_formats(
        model,
        quant,
        accelerator=named.accelerator,
        modelopt=engine == "tensorrt_llm" and not source.startswith("aic-"),
        kv_fp8=_fp8_cache(row, engine, named.accelerator),
    )
    told = "" if quant == row["quant"] else f"the row names no precision: taken as {quant}"
    old = _SOFTWARE_OF_2024 if "2024" in row["engine_version"] else ""
    alone = "" if any(row[column].strip() for column in _DEGREES) else _ONE_GPU
    caveats = (named.caveat, engine_caveat, formats.caveat, told, old, alone)
    return CommonRow(
        row, engine, formats, named.accelerator, tuple(caveat for caveat in caveats if caveat)
    )


_SOFTWARE_OF_2024 = "engines of 2024 are predicted as those of today"
_DEGREES = ("num_gpus", "tp", "pp", "dp", "ep")
_ONE_GPU = "the row names no GPUs: taken as one"
_UNTOLD = ("", "UNSET")


def _narrowest(accelerator: Accelerator) -> str:
    """The narrowest format it multiplies in: what submissions to a race of throughput use."""
    four = accelerator.supports("nvfp4") or accelerator.supports("mxfp4")
    return "fp4" if four else "fp8" if accelerator.supports("fp8") else "bf16"


def _fp8_cache(row: Mapping[str, str], engine: str, accelerator: Accelerator) -> bool:
    """Whether publishers run 8- and 4-bit checkpoints with a KV cache in fp8 like this.

    TensorRT-LLM's tables take NVIDIA's checkpoints, which have scales for one; InferenceX asks
    for one from TensorRT-LLM, ATOM and, on Blackwell, SGLang. vLLM keeps 16 bits unless asked.
    """
    if engine == "tensorrt_llm" or row["engine"].lower() == "atom":
        return True
    if row["source"].startswith("mlperf"):
        return True
    blackwell = accelerator.capability is not None and accelerator.capability >= (10, 0)
    return engine == "sglang" and blackwell
