"""Shape of a model: counts and sizes, never times."""

from __future__ import annotations

from dataclasses import dataclass, fields

from runtimes.quantization import CheckpointQuantization, Quantization

BYTES_PER_WEIGHT = {
    "bfloat16": 2.0,
    "float16": 2.0,
    "float32": 4.0,
    "bf16": 2.0,
    "fp16": 2.0,
    "fp8": 1.0,
    "fp8_e5m2": 1.0,
    "fp8_channel": 1.0,
    "fp8_block": 1 + 4 / (128 * 128),
    "int8": 1.0,
    "int4": 0.5 + 2.5 / 128,
    "mxfp8": 33 / 32,
    "mxfp4": 17 / 32,
    "nvfp4": 9 / 16,
}
"""Bytes of one weight, its scales included: blocks of 128 × 128 for `fp8_block`, groups of 128
with a zero point for `int4`, of 32 for the mx formats, of 16 for `nvfp4`."""


@dataclass(frozen=True, slots=True)
class MlaShape:
    """Widths of multi-head latent attention.

    Attributes:
        q_lora: rank of the query's projection; 0 when it has none.
        kv_lora: rank of the latent that is cached.
        nope, rope: head dimensions without and with rotary embedding.
        value: head dimension of the values.
    """

    q_lora: int
    kv_lora: int
    nope: int
    rope: int
    value: int


@dataclass(frozen=True, slots=True)
class LinearShape:
    """Widths of a gated delta rule, the linear attention of hybrid models.

    Attributes:
        key_heads, value_heads: heads of keys (and queries) and of values (and gates).
        key_dim, value_dim: width of one head.
        kernel: taps of the convolution before it.
    """

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    kernel: int = 4

    def weights(self, hidden: int) -> int:
        """Weights of one layer: projections in and out, two gates a value head, convolution."""
        keys, values = self.key_heads * self.key_dim, self.value_heads * self.value_dim
        projections = hidden * (2 * keys + 3 * values + 2 * self.value_heads)
        return projections + self.kernel * (2 * keys + values)


@dataclass(frozen=True, slots=True)
class WeightCounts:
    """Weights of a model over all its layers, by what they belong to.

    Attributes:
        attention: projections that tensor parallelism splits; linear attention among them.
        key_value: projections of keys and values, split over at most as many ranks as heads.
        latent: projections down to a latent, which every rank has in full.
        dense: dense MLPs.
        experts: routed experts.
        shared: experts that every token passes.
        router: projections that choose experts; every rank has them.
        norms: scales of the norms.
        embeddings: embedding and output projection.
    """

    attention: int = 0
    key_value: int = 0
    latent: int = 0
    dense: int = 0
    experts: int = 0
    shared: int = 0
    router: int = 0
    norms: int = 0
    embeddings: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return sum(getattr(self, part.name) for part in fields(self))


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Shape of a decoder-only transformer.

    Attributes:
        layers, hidden, intermediate, vocab: widths and counts; `intermediate` is that of dense
            MLPs, 0 when every layer has experts.
        heads, kv_heads, head_dim: attention shape.
        max_context: positions the model was made for, in tokens; 0 when unknown.
        tied: True when the output projection shares the embedding's weights.
        dtype: dtype of the checkpoint's weights that are not quantised.
        experts, experts_per_token, shared_experts: 0 for a dense model.
        moe_intermediate: inner width of one expert.
        dense_layers: layers of a mixture of experts that have a dense MLP instead.
        mla: shape of multi-head latent attention; None for any other.
        sliding_window: tokens that windowed layers attend to; 0 without.
        windowed_layers: layers with that window.
        linear_layers: layers without a KV cache (linear attention, state space).
        mtp_layers: layers that predict further tokens; not among `layers`.
        multimodal: True when the checkpoint also takes images or sound.
        architecture: class name in `config.json`; empty when unknown.
        quantization: what the checkpoint is quantised with; None when it is not.
        source: where the facts come from.
        linear: shape of the linear layers; None when unknown, they then count as attention.
        output_gate: True when a projection as wide as the queries gates the attention's output.
        gated_mlp: False for MLPs of two projections instead of three.
        checkpoint_bytes: bytes of the weights as the files state them; 0 when worked out.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    max_context: int = 0
    tied: bool = False
    dtype: str = "bfloat16"
    experts: int = 0
    experts_per_token: int = 0
    shared_experts: int = 0
    moe_intermediate: int = 0
    dense_layers: int = 0
    mla: MlaShape | None = None
    sliding_window: int = 0
    windowed_layers: int = 0
    linear_layers: int = 0
    mtp_layers: int = 0
    multimodal: bool = False
    architecture: str = ""
    quantization: CheckpointQuantization | None = None
    source: str = ""
    linear: LinearShape | None = None
    output_gate: bool = False
    gated_mlp: bool = True
    checkpoint_bytes: int = 0

    @property
    def is_moe(self) -> bool:
        """True for a mixture of experts."""
        return self.experts > 0

    @property
    def moe_layers(self) -> int:
        """Layers with experts."""
        return self.layers - self.dense_layers if self.is_moe else 0

    @property
    def weights(self) -> WeightCounts:
        """Weights by what they belong to.

        Left out: biases, norms of single heads, what predicts further tokens and what sees or
        hears; together under 0.2 % of any model in the catalogue.
        """
        linear_layers = self.linear_layers if self.linear is not None else 0
        linear = self.linear.weights(self.hidden) if self.linear is not None else 0
        attending = self.layers - linear_layers
        queries, keys, latent = self._attention()
        expert = 3 * self.hidden * self.moe_intermediate
        mlp = (3 if self.gated_mlp else 2) * self.hidden * self.intermediate
        return WeightCounts(
            attention=attending * queries + linear_layers * linear,
            key_value=attending * keys,
            latent=attending * latent,
            dense=(self.layers - self.moe_layers) * mlp,
            experts=self.moe_layers * self.experts * expert,
            shared=self.moe_layers * self.shared_experts * expert,
            router=self.moe_layers * self.hidden * self.experts,
            norms=(2 * self.layers + 1) * self.hidden,
            embeddings=self.vocab * self.hidden * (1 if self.tied else 2),
        )

    @property
    def parameters(self) -> int:
        """Weights in all; see `weights` for what is left out."""
        return self.weights.total

    @property
    def active_parameters(self) -> int:
        """Weights that one token passes, the whole embedding included."""
        if not self.is_moe:
            return self.parameters
        weights = self.weights
        idle = self.experts - self.experts_per_token
        return weights.total - weights.experts * idle // self.experts

    @property
    def weight_bytes(self) -> int:
        """Bytes of the checkpoint's weights as it stores them, scales included."""
        return self.weight_bytes_in(None)

    def weight_bytes_in(self, precision: Quantization | None) -> int:
        """Bytes of the weights once an engine holds them in `precision`.

        A checkpoint that is already quantised stays what it is.
        """
        if self.checkpoint_bytes:
            return self.checkpoint_bytes
        weights = self.weights
        linear, experts = self.bytes_per_weight(precision)
        plain = BYTES_PER_WEIGHT.get(self.dtype, 2.0)
        always_plain = weights.embeddings + weights.norms + weights.router
        of_experts = weights.experts + weights.shared
        others = weights.total - always_plain - of_experts
        return int(plain * always_plain + linear * others + experts * of_experts)

    def bytes_per_weight(self, precision: Quantization | None) -> tuple[float, float]:
        """Bytes of one weight of the linear layers, and of one of the experts'."""
        plain = BYTES_PER_WEIGHT.get(self.dtype, 2.0)
        stored = self.quantization
        if stored is not None:
            packed = plain if stored.weights is None else BYTES_PER_WEIGHT[stored.weights]
            return (plain if stored.experts_only else packed), packed
        wanted = precision if precision is not None else Quantization()
        linear = plain if wanted.gemm is None else BYTES_PER_WEIGHT[wanted.gemm]
        return linear, linear if wanted.moe is None else BYTES_PER_WEIGHT[wanted.moe]

    def kv_bytes_per_token(self, bytes_per_element: float = 2.0) -> int:
        """Bytes of KV cache one token takes over all layers that have one, and all shards.

        Windowed layers count in full: within the window they hold every token. The latent of
        multi-head latent attention stands once, and every tensor-parallel rank holds all of it.
        """
        attending = self.layers - self.linear_layers
        if self.mla is not None:
            return int(attending * (self.mla.kv_lora + self.mla.rope) * bytes_per_element)
        return int(2 * attending * self.kv_heads * self.head_dim * bytes_per_element)

    def _attention(self) -> tuple[int, int, int]:
        """One layer's split projections, those of keys and values, and those to a latent."""
        if self.mla is None:
            width = self.hidden * self.head_dim
            return width * self.heads * (3 if self.output_gate else 2), 2 * width * self.kv_heads, 0
        mla = self.mla
        queries = (mla.q_lora or self.hidden) * self.heads * (mla.nope + mla.rope)
        keys = mla.kv_lora * self.heads * (mla.nope + mla.value)
        out = self.heads * mla.value * self.hidden
        down = self.hidden * (mla.q_lora + mla.kv_lora + mla.rope)
        return queries + keys + out, 0, down
