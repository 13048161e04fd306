"""How the rows of each source are read: what its publisher measured, and with which settings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from runtimes.serving_limits import ServingLimits
from search.perfmodel.question import Configuration, Load
from search.perfmodel.row_layouts import RowDegrees, plain_degrees, silicon_degrees
from search.perfmodel.row_question import CommonRow, NoAnswerError, RowKind, RowQuestion
from search.perfmodel.row_roles import roles_of
from search.perfmodel.row_scenarios import scenario
from search.perfmodel.row_settings import (
    SWEEP_LENGTH_SHARE,
    bench_limits,
    is_tight,
    room_for,
    sweep_limits,
    table_requests,
)

_ALL_AT_ONCE = frozenset({"max", "inf", "offline", "saturated"})


def plain(read: CommonRow) -> RowQuestion:
    """Columns that mean what they say, and any load there are words for."""
    if read.row["concurrency_or_max"].strip().lower() not in _ALL_AT_ONCE:
        return _open(read)
    inputs, outputs = read.length("isl"), read.length("osl")
    limits = room_for(read.defaults(), inputs + outputs, 0)
    configuration = read.configuration(plain_degrees(read.row, attention_groups=False), limits)
    load = Load(input_tokens=inputs, output_tokens=outputs, saturated=True)
    return read.question(configuration, load, RowKind.OFFLINE)


def _closed(read: CommonRow) -> RowQuestion:
    """Fixed concurrency, degrees as the columns say."""
    groups = "dp_attention=true" in read.row["note"]
    return _at_concurrency(read, plain_degrees(read.row, attention_groups=groups))


def _silicon(read: CommonRow) -> RowQuestion:
    return _at_concurrency(read, silicon_degrees(read.row))


def _at_concurrency(read: CommonRow, degrees: RowDegrees) -> RowQuestion:
    concurrency = read.concurrency()
    per_group = -(-concurrency // (degrees.groups * degrees.replicas))
    inputs, outputs = read.length("isl"), read.length("osl")
    limits = room_for(read.defaults(), inputs + outputs, per_group)
    configuration = read.configuration(degrees, limits)
    share = 1.0
    if read.from_sweep:
        share = SWEEP_LENGTH_SHARE
        limits = sweep_limits(limits, configuration, inputs, per_group)
        configuration = replace(configuration, limits=limits)
    load = Load(
        input_tokens=inputs * share,
        output_tokens=outputs * share,
        equal_lengths=not read.from_sweep,
        concurrency=concurrency,
    )
    return read.question(configuration, load, RowKind.CLOSED_LOOP)


def _overview(read: CommonRow) -> RowQuestion:
    """TensorRT-LLM's overview: a fixed number of requests, all sent at once."""
    groups = "attention DP on" in read.row["note"] and read.model.is_moe
    degrees = plain_degrees(read.row, attention_groups=groups)
    inputs, outputs = read.length("isl"), read.length("osl")
    configuration = read.configuration(degrees, read.defaults())
    limits = bench_limits(configuration.limits, configuration, inputs, outputs)
    limits = replace(limits, compiled_graphs="nograph" not in read.row["engine_version"])
    requests = table_requests(inputs, outputs)
    load = Load(
        input_tokens=inputs, output_tokens=outputs, equal_lengths=True, concurrency=requests
    )
    return read.question(replace(configuration, limits=limits), load, RowKind.OFFLINE)


_RATE = re.compile(r"(?:qps ?= ?|poisson ~?)(inf|\d[\d.e+]*)", re.IGNORECASE)
_REQUESTS = re.compile(r"(\d+) requests")


def _open(read: CommonRow) -> RowQuestion:
    """Requests at a rate; an infinite one sends all at once."""
    found = _RATE.search(read.row["concurrency_or_max"])
    if found is None:
        return _closed(read)
    degrees = plain_degrees(read.row, attention_groups=False)
    inputs, outputs = read.length("isl"), read.length("osl")
    limits = room_for(_told(read.row, read.defaults()), inputs + outputs, 0)
    configuration = read.configuration(degrees, limits)
    rate = _rate(found[1])
    if rate < float("inf"):
        load = Load(input_tokens=inputs, output_tokens=outputs, request_rate=rate)
        return read.question(configuration, load, RowKind.OPEN_LOOP)
    counted = _REQUESTS.search(read.row["note"])
    if counted is None:
        load = Load(input_tokens=inputs, output_tokens=outputs, saturated=True)
    else:
        load = Load(input_tokens=inputs, output_tokens=outputs, concurrency=float(counted[1]))
    return read.question(configuration, load, RowKind.OFFLINE)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if rate <= 0:
        raise NoAnswerError(f"{text} is no number of requests per second")
    return rate


_LIMIT = re.compile(r"(max_num_seqs|max_num_batched_tokens) ?= ?(\d+)")


def _told(row: Mapping[str, str], base: ServingLimits) -> ServingLimits:
    """Limits that the words for the load name besides."""
    named = {name: int(value) for name, value in _LIMIT.findall(row["concurrency_or_max"])}
    return replace(
        base,
        max_num_seqs=named.get("max_num_seqs", base.max_num_seqs),
        max_num_batched_tokens=named.get("max_num_batched_tokens", base.max_num_batched_tokens),
    )


def _static(read: CommonRow) -> RowQuestion:
    """A fixed batch that starts together; one output token only is prefill alone."""
    batch = read.concurrency()
    inputs, outputs = read.length("isl"), read.length("osl")
    degrees = plain_degrees(read.row, attention_groups=False)
    limits = room_for(read.defaults(), inputs + outputs, batch)
    limits = replace(limits, prefix_caching=False)
    if read.row["engine"].lower() == "llama.cpp":
        return _llama_cpp(read, degrees, replace(limits, max_num_batched_tokens=batch))
    load = Load(input_tokens=inputs, output_tokens=outputs, concurrency=batch)
    kind = RowKind.PREFILL if outputs == 1 else RowKind.STATIC_BATCH
    return read.question(read.configuration(degrees, limits), load, kind)


def _llama_cpp(read: CommonRow, degrees: RowDegrees, limits: ServingLimits) -> RowQuestion:
    """One sequence, its prompt in pieces as long as the batch; GPUs hold layers of their own.

    That is what `llama-bench -b` is: the tables' figures are those of one sequence at any batch.
    """
    layers = RowDegrees(tp=1, pp=degrees.tp * degrees.pp, replicas=degrees.replicas)
    load = Load(input_tokens=read.length("isl"), output_tokens=read.length("osl"), concurrency=1)
    return read.question(read.configuration(layers, limits), load, RowKind.STATIC_BATCH)


def _disaggregated(read: CommonRow) -> RowQuestion:
    """Prefill and decode on engines of their own."""
    roles = roles_of(read.row)
    concurrency = read.concurrency()
    inputs, outputs = read.length("isl"), read.length("osl")
    per_group = -(-concurrency // (roles.decode.groups * roles.decode.replicas))
    limits = room_for(read.defaults(), inputs + outputs, per_group)
    share = SWEEP_LENGTH_SHARE if read.from_sweep else 1.0
    load = Load(input_tokens=inputs * share, output_tokens=outputs * share, concurrency=concurrency)
    decode = _in_memory(read.configuration(roles.decode, limits))
    prefill = _in_memory(read.configuration(roles.prefill, limits))
    prefill = replace(prefill, speculation=None)
    asked = read.question(decode, load, RowKind.DISAGGREGATED)
    return replace(asked, prefill=prefill)


def _in_memory(configuration: Configuration) -> Configuration:
    """The same with SGLang's share of memory as large as its publishers made it where needed."""
    if configuration.engine != "sglang" or not is_tight(configuration):
        return configuration
    return replace(configuration, limits=replace(configuration.limits, memory_fraction=0.95))


def _scenario(read: CommonRow) -> RowQuestion:
    """MLPerf: lengths and limits are those of its dataset and scenario, layouts are not told."""
    known = scenario(read.model.name, read.row["concurrency_or_max"])
    if known is None:
        raise NoAnswerError(
            f"no lengths or limits are known of scenario {read.row['concurrency_or_max']!r} "
            f"of {read.row['model']!r}"
        )
    degrees = smallest_degrees(read)
    limits = room_for(read.defaults(), known.longest, 0)
    configuration = read.configuration(degrees, replace(limits, prefix_caching=False))
    load = Load(input_tokens=known.input_tokens, output_tokens=known.output_tokens, saturated=True)
    kind = RowKind.OFFLINE if known.tpot_limit_ms is None else RowKind.UNDER_LIMITS
    asked = read.question(configuration, load, kind)
    caveat = "the row tells no layout: the fewest GPUs per engine that hold the weights"
    return replace(
        asked,
        extrapolates=(*asked.extrapolates, caveat),
        tpot_limit_ms=known.tpot_limit_ms,
    )


_WEIGHT_SHARE = 0.75
"""Share of its memory that one GPU gives to weights at most, where a layout is chosen."""


def smallest_degrees(read: CommonRow) -> RowDegrees:
    """Engines of as few GPUs as hold the weights with room for a KV cache, as many as there are.

    Raises:
        NoAnswerError: the row states no GPUs, or too few.
    """
    gpus = read.length("num_gpus")
    weights = read.model.weight_bytes_in(read.formats.quantization)
    for tp in (1, 2, 4, 8, 16):
        fits = weights / tp <= _WEIGHT_SHARE * read.accelerator.memory_bytes
        if gpus % tp == 0 and read.model.heads % tp == 0 and fits:
            ep = tp if read.model.is_moe else 1
            return RowDegrees(tp=tp, ep=ep, replicas=gpus // tp)
    raise NoAnswerError(f"no layout over {gpus} GPUs holds {weights / 1e9:.0f} GB of weights")


READERS: Mapping[str, Callable[[CommonRow], RowQuestion]] = MappingProxyType(
    {
        "aic-silicon-sample-disagg": _disaggregated,
        "inferencemax-raw-disagg": _disaggregated,
        "aic-silicon-sample": _silicon,
        "trtllm-perf-overview": _overview,
        "argonne": _static,
        "trtllm-static-batch": _static,
        "trtllm-first-token": _static,
        "splitwise": _static,
        "mlperf": _scenario,
    }
)
"""Beginning of a source's name → how its rows are read; the first that fits, else `plain`."""
