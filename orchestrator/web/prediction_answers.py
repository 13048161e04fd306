"""What the performance model's API answers, with units. GB are 10^9 bytes."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.web.errors import ProblemBody
from orchestrator.web.prediction_models import LayerName, measured

BottleneckName: TypeAlias = Literal["compute", "memory", "communication", "overhead"]
DegreeName: TypeAlias = Literal[
    "tensor_parallel", "context_parallel", "sequence_parallel", "expert_parallel"
]


class Answer(BaseModel):
    """Base of every answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LayerKindInfo(Answer):
    """One kind of layer of a model."""

    type: LayerName = Field(description="kind of layer")
    count: int = measured("layers", "how many the model has")
    available_parallelism: list[DegreeName] = Field(
        description="degrees that split something of it; others leave a copy on each chip"
    )
    available_dtypes: list[str] = Field(description="number formats it can be asked for in")


class LayersAnswer(Answer):
    """The kinds of layers of a model."""

    layers: list[LayerKindInfo] = Field(description="one entry a kind")


class Parallelism(Answer):
    """The degrees that were asked for."""

    tensor_parallel: int = measured("chips", "chips that share the weights of one layer")
    context_parallel: int = measured("chips", "chips that share one sequence")
    sequence_parallel: int = measured("chips", "chips that share activations between blocks")
    expert_parallel: int = measured("chips", "chips with different experts")


class LayerMemory(Answer):
    """Memory of all layers of the kind, on the fullest chip and over all chips."""

    weights_per_chip_gb: float = measured("GB", "weights on the fullest chip")
    activation_per_chip_gb: float = measured("GB", "activations on the fullest chip")
    kv_cache_per_chip_gb: float = measured("GB", "KV cache on the fullest chip")
    total_weights_gb: float = measured("GB", "weights over all chips, copies included")
    total_activation_gb: float = measured("GB", "activations over all chips")
    total_kv_cache_gb: float = measured("GB", "KV cache over all chips")


class LayerCompute(Answer):
    """Arithmetic of all layers of the kind."""

    flops_per_chip_tflops: float = measured("TFLOP", "operations of one chip, not a rate")
    total_flops_tflops: float = measured("TFLOP", "operations of all chips, not a rate")


class BottleneckShares(Answer):
    """What share of the time goes to what; together 100."""

    compute_pct: float = measured("%", "operators that wait for arithmetic")
    memory_pct: float = measured("%", "operators that wait for memory")
    communication_pct: float = measured("%", "exchange between chips")
    overhead_pct: float = measured("%", "launches, and what else takes time whatever the size")


class LayerAnswer(Answer):
    """One kind of layer in the prefill of a batch."""

    layer_type: LayerName = Field(description="kind of layer")
    num_instances: int = measured("layers", "how many the model has")
    num_chips: int = measured("chips", "chips the layout takes")
    parallelism: Parallelism = Field(description="the degrees asked for")
    memory: LayerMemory = Field(description="memory at the end of the prefill")
    compute: LayerCompute = Field(description="arithmetic of the prefill")
    bottleneck: BottleneckShares = Field(description="where the time of the prefill goes")


class SystemMemory(Answer):
    """Memory when every answer is complete."""

    weight_memory_gb: float = measured("GB", "weights over all chips, copies included")
    activation_memory_gb: float = measured("GB", "activations over all chips")
    kv_cache_gb: float = measured("GB", "KV cache of all sequences over all chips")
    total_memory_gb: float = measured("GB", "sum of the three")
    memory_per_chip_gb: float = measured("GB", "the same sum on the fullest chip")
    hw_capacity_gb: float = measured(
        "GB", "usable memory of the system, or of `num_chips` single accelerators"
    )


class SystemFacts(Answer):
    """What the layout comes to."""

    num_chips: int = measured("chips", "chips the layout takes")
    bottleneck: BottleneckName = Field(description="what most of the time goes to")
    fits_on_hardware: bool = Field(
        description="whether one chip has room for the fullest chip's memory and the least that "
        "an engine needs beside it"
    )


class SystemAnswer(Answer):
    """A whole model: one batch of prompts, then their answers token by token."""

    ttft_ms: float = measured("ms", "time to the first token: the prefill of the whole batch")
    tpot_ms: float = measured("ms", "mean time of one decode step")
    throughput_tokens_s: float = measured("tokens/s", "output tokens of the batch per second")
    total_latency_ms: float = measured("ms", "time to the last token")
    memory: SystemMemory = Field(description="memory when every answer is complete")
    system: SystemFacts = Field(description="chips, bottleneck, and whether it fits")


class PhaseMetrics(Answer):
    """One phase."""

    latency_ms: float = measured(
        "ms", "prefill: until the first token; decode: all tokens after the first"
    )
    step_ms: float = measured("ms", "prefill: the whole batch; decode: the mean step")
    memory_gb: float = measured("GB", "weights, activations and KV cache over all chips")
    memory_per_chip_gb: float = measured("GB", "the same on the fullest chip")
    hw_capacity_gb: float = measured(
        "GB", "usable memory of the system, or of `num_chips` single accelerators"
    )
    flops: float = measured("FLOP", "operations of the whole phase over all chips")
    communication_time_ms: float = measured("ms", "the part of `latency_ms` spent on exchange")
    num_chips: int = measured("chips", "chips the layout takes")
    bottleneck: BottleneckName = Field(description="what most of the time goes to")
    fits_on_hardware: bool = Field(
        description="whether one chip has room for the fullest chip's memory and the least that "
        "an engine needs beside it"
    )


class PhaseFailure(Answer):
    """Why one phase has no answer, while the other has one."""

    error: str = Field(description="the reason in words")
    errors: list[ProblemBody] = Field(description="what was found wrong")


class PhasesSystem(Answer):
    """Both phases together."""

    total_time_ms: float = measured("ms", "a request's prefill and decode, one after the other")
    throughput_tokens_s: float = measured(
        "tokens/s", "output tokens per second, prefill and decode keeping pace with each other"
    )
    total_memory_gb: float = measured("GB", "memory of all chips of both phases")
    utilization_percent: float = measured(
        "%", "achieved operations per second over the dense peak of all chips of both phases"
    )
    num_chips: int = measured("chips", "chips of both phases")
    shared_chips: bool = Field(
        description="whether the phases take turns on the same chips: model, hardware, dtype and "
        "layers are equal; otherwise each has chips of its own"
    )
    bottleneck: BottleneckName = Field(description="what most of the time goes to")
    fits_on_hardware: bool = Field(description="whether both phases fit")


class PhasesAnswer(Answer):
    """Prefill and decode apart, and together."""

    prefill: PhaseMetrics | PhaseFailure = Field(description="the prompts, or why not")
    decode: PhaseMetrics | PhaseFailure = Field(description="the answers, or why not")
    system: PhasesSystem | None = Field(description="both; null when one of them failed")
