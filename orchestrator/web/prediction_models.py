"""What the performance model's requests hold, with units; how they are answered is beside it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

LayerName: TypeAlias = Literal["attention", "feedforward", "moe", "norm", "embedding", "lm_head"]
"""Kinds of layers as requests name them; `attention` is every kind of it that a model has."""

Dtype: TypeAlias = Literal["fp32", "fp16", "bf16", "fp8", "int8"]
"""Number formats that every kind of layer takes."""

WeightDtype: TypeAlias = Literal[
    "fp32", "fp16", "bf16", "fp8", "int8", "fp8_block", "mxfp8", "int4", "mxfp4", "nvfp4"
]
"""Number formats that the linear layers without a cache (feedforward, moe) take."""

DTYPES: tuple[str, ...] = get_args(Dtype)
WEIGHT_DTYPES: tuple[str, ...] = get_args(WeightDtype)

MAX_TOKENS = 1 << 24
MAX_BATCH = 1 << 16
MAX_DEGREE = 1024
MAX_LAYERS = 1024


def _whole(value: object) -> object:
    """JSON knows one kind of number: 4.0 is the whole number 4."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_Whole = Annotated[int, BeforeValidator(_whole)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]


def measured(unit: str, description: str, **bounds: Any) -> Any:
    """A field with a unit, which OpenAPI shows in words and as `x-unit`."""
    return Field(
        description=f"{description} [{unit}]", json_schema_extra={"x-unit": unit}, **bounds
    )


Batch = Annotated[_Whole, measured("sequences", "sequences computed at once", ge=1, le=MAX_BATCH)]
TensorRanks = Annotated[
    _Whole, measured("chips", "chips that share the weights of one layer", ge=1, le=MAX_DEGREE)
]
ContextRanks = Annotated[
    _Whole, measured("chips", "chips that share one sequence", ge=1, le=MAX_DEGREE)
]
SequenceRanks = Annotated[
    _Whole,
    measured("chips", "chips that share the activations between blocks", ge=1, le=MAX_DEGREE),
]
ExpertRanks = Annotated[
    _Whole,
    measured("chips", "chips with different experts; `moe` alone takes it", ge=1, le=MAX_DEGREE),
]
ModelId = Annotated[
    Name, Field(description="Hub id of a known model, or the name of one of the server's own")
]
HardwareId = Annotated[
    Name,
    Field(
        description="accelerator (`H200`, `nvidia_h200_141gb`), system (`nvidia_nvl72_rack`), or "
        "the name of one of the server's own"
    ),
]


class Request(BaseModel):
    """Base of every request: closed and strict; what JSON calls an integer is one."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class LayersQuery(Request):
    """Which model's layers are asked for."""

    model_id: ModelId


class LayerLayout(Request):
    """How the layers of one kind lie over the chips, and what they are computed in."""

    tensor_parallel: TensorRanks = 1
    context_parallel: ContextRanks = 1
    sequence_parallel: SequenceRanks = 1
    expert_parallel: ExpertRanks = 1
    dtype: WeightDtype = Field(
        description="number format of the weights, and of the KV cache for `attention`; those "
        "below 8 bits and in blocks are for `feedforward` and `moe` alone"
    )


class LayerRequest(LayerLayout):
    """One kind of layer of a model, in the prefill of a batch."""

    model_id: ModelId
    hardware_config: HardwareId
    layer_type: LayerName = Field(description="kind of layer; one the model has")
    batch_size: Batch
    seq_length: _Whole = measured("tokens", "length of each prompt", ge=1, le=MAX_TOKENS)


class LayerLayouts(Request):
    """A layout for each kind of layer the model has.

    `moe` left out takes that of `feedforward`, `lm_head` left out that of `embedding`.
    """

    attention: LayerLayout = Field(description="layout of every kind of attention")
    feedforward: LayerLayout | None = Field(
        None, description="layout of the dense MLPs; and of the experts where `moe` is left out"
    )
    moe: LayerLayout | None = Field(
        None, description="layout of the mixtures of experts, for a model that has them"
    )
    norm: LayerLayout = Field(description="layout of the norms")
    embedding: LayerLayout = Field(
        description="layout of the embedding; and of the lm_head where that is left out"
    )
    lm_head: LayerLayout | None = Field(None, description="layout of the output projection")


class SystemRequest(Request):
    """A whole model, each kind of layer with a layout of its own."""

    model_id: ModelId
    hardware_config: HardwareId
    batch_size: Batch
    input_seq: _Whole = measured("tokens", "length of each prompt", ge=1, le=MAX_TOKENS)
    output_seq: _Whole = measured("tokens", "length of each answer", ge=1, le=MAX_TOKENS)
    layers: LayerLayouts = Field(description="layout of each kind of layer")


class DecoderLayerLayout(Request):
    """How one decoder layer lies over the chips."""

    layer_index: _Whole = measured(
        "index", "which decoder layer, counted from 0", ge=0, le=MAX_LAYERS - 1
    )
    tp_degree: TensorRanks
    cp_degree: ContextRanks
    sp_degree: SequenceRanks


class PhaseRequest(Request):
    """One phase: its model, hardware, batch and layers. Nothing has a default."""

    model: ModelId = Field(alias="model_config")
    hardware_config: HardwareId
    batch_size: Batch
    dtype: Dtype = Field(description="number format of all weights and of the KV cache")
    layer_configs: list[DecoderLayerLayout] = Field(
        description="layout of every decoder layer, each named once; the embedding goes with the "
        "first, the last norm and the lm_head with the last",
        min_length=1,
        max_length=MAX_LAYERS,
    )


class PrefillRequest(PhaseRequest):
    """The phase that computes the prompts."""

    seq_len: _Whole = measured("tokens", "length of each prompt", ge=1, le=MAX_TOKENS)


class DecodeRequest(PhaseRequest):
    """The phase that computes the answers, after prompts of the prefill's length."""

    seq_len: _Whole = measured("tokens", "length of each answer", ge=1, le=MAX_TOKENS)


class PhasesRequest(Request):
    """Prefill and decode, apart from each other."""

    prefill_req: PrefillRequest = Field(description="how the prompts are computed")
    decode_req: DecodeRequest = Field(description="how the answers are computed")
