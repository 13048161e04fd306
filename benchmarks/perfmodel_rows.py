"""What rows of published tables measured, in the terms of a prediction, and which cannot be true.

For the accuracy of the performance model only: the model itself never sees what is read here.
"""

from __future__ import annotations

import csv
import gzip
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from search.perfmodel.question import Configuration
from search.perfmodel.row_question import RowKind, RowQuestion

_FOLDER = "SERVETUNE_FACTS"
_TABLE = "groundtruth.csv.gz"


def published_rows() -> list[dict[str, str]]:
    """The rows of the published tables, from the folder that `SERVETUNE_FACTS` names.

    Raises:
        SystemExit: the variable is not set, or there is no such file.
    """
    folder = os.environ.get(_FOLDER)
    table = Path(folder or ".") / _TABLE
    if not folder or not table.is_file():
        why = f"{table} is no file" if folder else f"{_FOLDER} is not set"
        print(f"{why}: {_FOLDER} names the folder with {_TABLE}, the measured rows",
              file=sys.stderr)  # fmt: skip
        raise SystemExit(2)
    with gzip.open(table, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@dataclass(frozen=True, slots=True)
class Measured:
    """What a row measured; None for what it did not.

    Attributes:
        ttft_ms, tpot_ms: means (a mean of the gaps between tokens counts as the latter).
        output_tok_s: output tokens per second of the whole deployment.
    """

    ttft_ms: float | None
    tpot_ms: float | None
    output_tok_s: float | None


def measured(row: Mapping[str, str], asked: RowQuestion) -> Measured:
    """What `row` measured of what `asked` predicts, with the same meaning and units.

    Throughput of input and output together is that of the output in the proportion of the
    lengths. Disaggregated rows of InferenceX state the output of the GPUs that decode, which is
    that of the whole. Rates per GPU are those of the whole divided by its GPUs.
    """
    throughput = _figure(row, "throughput_tok_s_total_or_output")
    meaning = row.get("which_throughput") or ""
    load = asked.question.load
    if throughput is not None and meaning.startswith("total"):
        inputs, outputs = _figure(row, "isl"), _figure(row, "osl")
        whole = (inputs or 0.0) + (outputs or 0.0)
        throughput = throughput * (outputs or 0.0) / whole if whole else None
    elif throughput is not None and "per GPU" in meaning:
        throughput *= asked.question.configuration.spread.gpus
    if load.output_tokens <= 1 or (asked.kind is RowKind.PREFILL):
        throughput = None
    return Measured(_figure(row, "ttft_ms"), _figure(row, "tpot_ms"), throughput)


def _figure(row: Mapping[str, str], column: str) -> float | None:
    text = (row.get(column) or "").strip()
    value = float(text) if text else 0.0
    return value if value > 0 else None


def same_run(row: Mapping[str, str]) -> tuple[str, ...]:
    """A key that rows of one run share: two imports of it state the same latencies to the digit.

    Keep one of each in any count of errors; the imports differ in the layout they state, which
    `rows.read_row` undoes.
    """
    columns = ("engine", "gpu", "isl", "osl", "concurrency_or_max", "ttft_ms", "tpot_ms",
               "throughput_tok_s_total_or_output")  # fmt: skip
    return tuple(row.get(column) or "" for column in columns)


def impossible(row: Mapping[str, str], asked: RowQuestion) -> str:
    """Why no machine can have measured `row`; empty when nothing forbids it.

    A token cannot take less than one reading of the weights that it passes at the peak bandwidth
    of its ranks, nor can a deployment multiply faster than all its GPUs' peak.
    """
    configuration, load = asked.question.configuration, asked.question.load
    figures = measured(row, asked)
    floor_ms = _weights_read_s(configuration) * 1e3
    if figures.tpot_ms is not None and figures.tpot_ms < floor_ms and not _speculates(asked):
        return f"{figures.tpot_ms:.3g} ms per token, but reading the weights takes {floor_ms:.3g}"
    if figures.output_tok_s is None or asked.kind is RowKind.UNDER_LIMITS:
        return ""
    at_once = load.concurrency
    if at_once is not None and asked.kind is RowKind.STATIC_BATCH and not _speculates(asked):
        fastest = at_once / floor_ms * 1e3
        if figures.output_tok_s > fastest:
            return f"{figures.output_tok_s:.0f} tok/s, but reading the weights allows {fastest:.0f}"
    needed = _flops_per_output_token(asked) * figures.output_tok_s
    gpus = configuration.spread.gpus + (asked.prefill.spread.gpus if asked.prefill else 0)
    peak = gpus * _peak_flops(configuration)
    if needed > peak:
        return f"takes {needed / peak:.2f} of the peak of {gpus} GPUs"
    return ""


def _speculates(asked: RowQuestion) -> bool:
    return asked.question.configuration.speculation is not None


def _weights_read_s(configuration: Configuration) -> float:
    """Seconds to read what one token passes, all ranks of one engine reading at their peak."""
    model = configuration.model
    linear, expert = model.bytes_per_weight(configuration.quantization)
    weights = model.weights
    share = model.experts_per_token / model.experts if model.is_moe else 0.0
    others = weights.total - weights.experts - weights.embeddings
    read = linear * others + expert * weights.experts * share
    spread = configuration.spread
    ranks = spread.stage_gpus if configuration.model.is_moe else spread.tp
    return float(read) / ranks / configuration.accelerator.memory_bytes_per_s


def _flops_per_output_token(asked: RowQuestion) -> float:
    """Multiplications and additions of one output token and of its share of the prompt."""
    load, model = asked.question.load, asked.question.configuration.model
    matrices = model.active_parameters - model.weights.embeddings
    return 2.0 * matrices * (1 + load.input_tokens / load.output_tokens)


def _peak_flops(configuration: Configuration) -> float:
    accelerator, stored = configuration.accelerator, configuration.model.quantization
    formats = [accelerator.bf16_flops]
    if stored is not None and stored.weights is not None:
        four = stored.weights in ("nvfp4", "mxfp4")
        formats.append(accelerator.fp8_flops or 0.0)
        formats.append((accelerator.fp4_flops or 0.0) if four else 0.0)
    return max(formats)


def doubtful(row: Mapping[str, str]) -> str:
    """Why `row` hardly means what it says; empty for all others. The reasons are `DOUBTFUL`'s."""
    model, gpu, note = row["model"], row["gpu"], row["note"]
    own_sweep = "auto-gap-analysis" in note
    cached = own_sweep and model.endswith("Llama-3.1-8B-Instruct-FP8") and gpu.startswith("H200")
    planned = "_c_tp" in note and model.startswith("Qwen/Qwen3-32B")
    limited = model == "nvidia/DeepSeek-R1-NVFP4" and row["engine_version"] == "1.3.0rc1"
    return next(
        (
            words
            for words, holds in zip(DOUBTFUL, (cached, planned, limited), strict=False)
            if holds
        ),
        "",
    )


DOUBTFUL = {
    "nvidia/Llama-3.1-8B-Instruct-FP8 on H200, vLLM 0.12 (21 rows)": (
        "nothing forbids them, but at 100 output tokens their prompts alone take up to 0.8 of the "
        "fp8 peak, more than any GEMM was measured to reach, and 4000 tokens of a prompt come back "
        "in the time of 2000: prompts were in the prefix cache"
    ),
    "Qwen/Qwen3-32B fp8 on H100, lengths 4000 and 1000, `c_` in the id (7 rows)": (
        "the concurrency is the batch that a planner wanted, not what the run states; vLLM's "
        "tokens take no longer than their decoding without any prompt"
    ),
    "nvidia/DeepSeek-R1-NVFP4 on B200, TensorRT-LLM 1.3.0rc1 (6 rows)": (
        "85 to 92 ms per token whatever the batch and layout, four times those of other runs of "
        "this model: something else than the GPUs was the limit"
    ),
    "deepseek-ai/DeepSeek-R1 on GB200, tp of 12 to 72 with ep 1 (55 rows)": (
        "GPUs of prefill and decode added up and stated as one tensor-parallel engine; heads or "
        "experts do not divide by it; the shares are not told, so they have no question"
    ),
    "llama.cpp (929 rows)": (
        "the batch is that of the prompt's pieces (`llama-bench -b`): throughput equals the tokens "
        "of one sequence over its latency; read as one sequence"
    ),
}
"""Rows that are kept although they do not mean what they seem to, and why."""
