"""Hypothesis strategies for everything the record can hold."""

from __future__ import annotations

from array import array

from hypothesis import strategies as st

from runtimes.failure import Failure, FailureKind
from runtimes.json_types import Json
from runtimes.measurement import (
    ClientHealth,
    Distribution,
    Interval,
    Measurement,
    RequestRecord,
    Window,
)
from runtimes.parallel import DEGREES, ParallelLayout
from runtimes.quantization import PARTS, PRECISIONS, Quantization
from runtimes.slo import SloLimit, SloVerdict
from search.perfmodel.expected import Estimate, Expected
from search.trial import TrialState
from tracking.parquet.parameters import ParameterType
from tracking.records import EngineUse, GpuUse, Sample, StageRecord, TrialRecord

PARAMETER_TYPES: dict[str, ParameterType] = {
    "tp": "int",
    "gpu-memory-utilization": "float",
    "enable-prefix-caching": "bool",
    "env.MODE": "string",
    "compilation-config": "json",
    "compilation.config": "json",
    "speculative-config": {"method": "string", "tokens": "int", "deep": {"on": "bool"}},
    "cuda-graph-sizes": ["int"],
}
OBJECTIVES = ("goodput_per_gpu", "ttft_p99_ms")

_text = st.text(max_size=12)
_texts = st.lists(_text, max_size=3).map(tuple)
_text_map = st.dictionaries(_text, _text, max_size=3)
_count = st.integers(0, 10**12)
_number = st.floats(allow_nan=False)
_number_map = st.dictionaries(_text, _number, max_size=3)
_unix_s = st.floats(0, 4e9)
_ns = st.integers(0, 2**53)
_structured: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers() | _number | _text,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_text, inner, max_size=2),
    max_leaves=4,
)
_speculative: st.SearchStrategy[Json] = st.fixed_dictionaries(
    {},
    optional={
        "method": _text,
        "tokens": st.integers(1, 8),
        "deep": st.fixed_dictionaries({}, optional={"on": st.booleans()}),
    },
)
_params: st.SearchStrategy[dict[str, Json]] = st.fixed_dictionaries(
    {},
    optional={
        "tp": st.none() | st.integers(1, 64),
        "gpu-memory-utilization": st.none() | st.integers(0, 1) | st.floats(0, 1),
        "enable-prefix-caching": st.none() | st.booleans(),
        "env.MODE": st.none() | _text,
        "compilation-config": _structured,
        "compilation.config": _structured,
        "speculative-config": st.none() | _speculative,
        "cuda-graph-sizes": st.none() | st.lists(st.none() | st.integers(1, 64), max_size=3),
    },
)
_limits = st.builds(SloLimit, st.sampled_from(["ttft_ms", "e2e_ms"]), st.just("p99"), _number)
_distributions = st.none() | st.builds(
    Distribution, _count, *[_number] * 6, *[st.none() | _number] * 8
)
_windows = st.builds(Window, _number, _number, _text, st.booleans(), _count)
_clients = st.builds(
    ClientHealth,
    processes=_count,
    cpu_s=_number,
    cpu_share=_number,
    lag_p99_ms=_number,
    lag_max_ms=_number,
    send_lateness_p99_ms=_number,
    held_ratio=st.none() | _number,
    connections_opened=_count,
    chunks_per_read=_number,
)

measurements = st.builds(
    Measurement,
    requests_completed=_count,
    requests_failed=_count,
    duration_s=_number,
    input_tokens=st.none() | _count,
    output_tokens=st.none() | _count,
    requested_output_tokens=_count,
    ttft_ms=_distributions,
    tpot_ms=_distributions,
    itl_ms=_distributions,
    e2e_ms=_distributions,
    request_throughput=_number,
    input_throughput=st.none() | _number,
    output_throughput=st.none() | _number,
    total_throughput=st.none() | _number,
    goodput=_number,
    slo=st.lists(st.builds(SloVerdict, _limits, st.none() | _number), max_size=2).map(tuple),
    flags=_texts,
    ttft_scheduled_ms=_distributions,
    e2e_scheduled_ms=_distributions,
    slo_attainment=st.none() | _number,
    tokens_per_chunk=st.none() | _number,
    sent_prompt_tokens=_count,
    template_tokens=st.none() | _count,
    shared_prompt_tokens=_count,
    cached_prompt_tokens=st.none() | _count,
    window=st.none() | _windows,
    client=st.none() | _clients,
    intervals=st.dictionaries(_text, st.builds(Interval, _number, _number), max_size=3),
    energy_j=st.none() | _number,
    stopped_by=_text,
    client_limits=_texts,
)
failures = st.builds(
    Failure,
    st.sampled_from(FailureKind),
    _text,
    _text,
    st.none() | st.integers(-64, 255),
    _text,
)
_optional = {"moe_tp", "moe_ep", "moe_dense_tp"}
_layouts = st.builds(
    ParallelLayout,
    **{
        name: st.integers(1, 64) | (st.none() if name in _optional else st.nothing())
        for name in DEGREES
    },
)
_quantizations = st.builds(
    Quantization, **{part: st.none() | st.sampled_from(PRECISIONS) for part in PARTS}
)
_estimates = st.builds(Estimate, _number, _number, _number)
_expected = st.builds(Expected, _estimates, _estimates, _estimates, _number)
trials = st.builds(
    TrialRecord,
    run=_text,
    number=st.integers(0, 99),
    attempt=st.integers(0, 3),
    state=st.sampled_from(TrialState),
    engine=_text,
    params=_params,
    config_id=_text,
    command=_texts,
    deploy_command=_texts,
    simulated=st.booleans(),
    model=_text,
    model_revision=st.none() | _text,
    seed=st.integers(0, 2**63 - 1),
    gpus=st.integers(0, 64),
    layout=_layouts,
    quantization=_quantizations,
    baseline=st.booleans(),
    reference=st.booleans(),
    env=_text_map,
    gpu_ids=_texts,
    gpu_model=_text,
    gpu_uuids=_texts,
    node=_text,
    bundle=_text,
    driver_version=_text,
    cuda_version=_text,
    environment_hash=_text,
    compile_cache=_text,
    process_ids=st.lists(st.integers(1, 2**22), max_size=3).map(tuple),
    started_unix_s=st.none() | _unix_s,
    ended_unix_s=st.none() | _unix_s,
    startup_s=st.none() | _number,
    warmup_s=st.none() | _number,
    measure_s=st.none() | _number,
    stop_s=st.none() | _number,
    gpu_seconds=_number,
    deciding_stage=st.none() | st.integers(0, 9),
    predicted=st.none() | _expected,
    measurement=st.none() | measurements,
    objectives=st.dictionaries(st.sampled_from([*OBJECTIVES, "other"]), _number),
    failure=st.none() | failures,
    reason=_text,
    flags=_texts,
    engine_version=_text,
    engine_config=_text_map,
    versions=_text_map,
)
_maybe = st.none() | _number
_engine_uses = st.builds(EngineUse, _number, *[_maybe] * 8)
_gpu_uses = st.builds(
    GpuUse,
    _text,
    _text,
    _count,
    *[_maybe] * 7,
    _texts,
    st.none() | _count,
    st.lists(st.integers(1, 200), max_size=2).map(tuple),
)
stages = st.builds(
    StageRecord,
    run=_text,
    number=st.integers(0, 99),
    attempt=st.integers(0, 3),
    stage=st.integers(0, 20),
    load=_text,
    load_value=_number,
    started_unix_s=_unix_s,
    ended_unix_s=_unix_s,
    measurement=measurements,
    counters_before=_number_map,
    counters_after=_number_map,
    cache=_text,
    designed_hit_rate=st.none() | _number,
    observed_hit_rate=st.none() | _number,
    acceptance_length=st.none() | _number,
    repetition_score=st.none() | _number,
    template_sha256=_text,
    engine_use=st.none() | _engine_uses,
    gpu_use=st.lists(_gpu_uses, max_size=2).map(tuple),
    repeat_of=st.none() | st.integers(0, 20),
    warmup_requests=st.none() | _count,
    warmup_steady=st.none() | st.booleans(),
    cross_check=_number_map,
    cross_check_note=st.sampled_from(["", "vllm-bench: not installed"]),
)
_chunks = st.lists(st.tuples(_ns, st.integers(0, 2**31)), max_size=5)


@st.composite
def _requests(draw: st.DrawFn) -> RequestRecord:
    chunks = draw(_chunks)
    chunk_ns = [at_ns for at_ns, _ in chunks]
    tokens = [tokens for _, tokens in chunks]
    return draw(
        st.builds(
            RequestRecord,
            index=_count,
            scheduled_ns=_ns,
            sent_ns=_ns,
            chunk_ns=st.sampled_from([tuple(chunk_ns), array("q", chunk_ns)]),
            end_ns=_ns,
            prompt_tokens=st.none() | _count,
            output_tokens=st.none() | _count,
            requested_output_tokens=_count,
            error=st.none() | _text,
            first_byte_ns=st.none() | _ns,
            chunk_tokens=st.sampled_from([None, tuple(tokens), array("q", tokens)]),
            cached_tokens=st.none() | _count,
            sent_tokens=st.none() | _count,
            content_tokens=st.none() | _count,
            shared_tokens=_count,
            session=st.none() | _count,
            turn=_count,
        )
    )


requests = _requests()
samples = st.builds(
    Sample,
    at_ns=_ns,
    unix_s=_unix_s,
    stage=st.integers(0, 20),
    metric=_text,
    engine_metric=_text,
    value=_number,
    gpu=_text,
)
