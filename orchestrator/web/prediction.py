"""Answers of the performance model to one request: nothing is kept from one to the next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from orchestrator.web.catalogue import Catalogue, Hardware
from orchestrator.web.errors import RefusedRequestError, shown
from orchestrator.web.layouts import PARALLELISM, Degrees, check_degrees, name_of, named_layers
from orchestrator.web.prediction_answers import (
    BottleneckShares,
    LayerAnswer,
    LayerCompute,
    LayerKindInfo,
    LayerMemory,
    LayersAnswer,
    Parallelism,
    SystemAnswer,
    SystemFacts,
    SystemMemory,
)
from orchestrator.web.prediction_models import (
    DTYPES,
    WEIGHT_DTYPES,
    LayerLayout,
    LayerLayouts,
    LayerRequest,
    SystemRequest,
)
from runtimes.errors import Problem
from runtimes.model import ModelFacts
from runtimes.node_curves import NodeCurves
from search.perfmodel.answer import PhaseCost
from search.perfmodel.layers import LayerGroup, LayerKind

if TYPE_CHECKING:
    from search.perfmodel.phases import PhaseReport

GB = 1e9
TERA = 1e12
_FIELDS = {
    "tp": "tensor_parallel",
    "cp": "context_parallel",
    "sp": "sequence_parallel",
    "ep": "expert_parallel",
}
"""Fields of `Degrees`, as the calls that name kinds of layers say them."""
_STAND_IN = {"moe": "feedforward", "lm_head": "embedding"}
"""Kinds of layers that may be left out, and whose layout they then take."""
_ANY_DTYPE = ("feedforward", "moe")


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of one part of a deployment."""

    weights: float
    activations: float
    kv_cache: float

    @property
    def total(self) -> float:
        return self.weights + self.activations + self.kv_cache

    def beside(self, other: Footprint) -> Footprint:
        """Of both at different times, so that each part has room for the larger."""
        return Footprint(
            max(self.weights, other.weights),
            max(self.activations, other.activations),
            max(self.kv_cache, other.kv_cache),
        )


def total(report: PhaseReport) -> Footprint:
    """Over all chips."""
    return Footprint(report.weights_bytes, report.activation_bytes, report.kv_cache_bytes)


def per_chip(report: PhaseReport) -> Footprint:
    """On the fullest chip."""
    return Footprint(
        report.weights_bytes_per_chip,
        report.activation_bytes_per_chip,
        report.kv_cache_bytes_per_chip,
    )


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model on chips, layer by layer."""

    model: ModelFacts
    hardware: Hardware
    groups: tuple[LayerGroup, ...]
    dtypes: Mapping[LayerKind, str]
    curves: Sequence[NodeCurves] = ()

    def cost(
        self, phase: Literal["prefill", "decode"], *, batch: int, new: int, context: int
    ) -> PhaseReport:
        """One phase of `batch` sequences: `new` tokens each, after `context` of them."""
        from search.perfmodel.phases import phase_cost

        return phase_cost(
            self.model, self.hardware.accelerator, self.groups, quantization=self.dtypes,
            phase=phase, batch=batch, new_tokens=new, context_tokens=context, curves=self.curves,
        )  # fmt: skip

    def check_chips(self, chips: int, path: str) -> None:
        """Raises: RefusedRequestError: the hardware has fewer than `chips`."""
        hardware = self.hardware
        if hardware.chips is not None and chips > hardware.chips:
            rule = f"has {hardware.chips} chips and the layout takes {chips}"
            remedy = f"lower the degrees, or name {hardware.accelerator.id} for any number of them"
            raise RefusedRequestError(Problem(path, rule, shown(hardware.name), remedy))

    def fits(self, fullest: Footprint, chips: int) -> bool:
        """Whether a chip has room for what the fullest of `chips` holds, and for the least that an
        engine needs beside it.
        """
        from search.perfmodel.memory import least_runtime_bytes

        needed = fullest.total + least_runtime_bytes(chips)
        return needed <= self.hardware.accelerator.memory_bytes


def check_length(model: ModelFacts, tokens: int, path: str) -> None:
    """Raises: RefusedRequestError: the model is known to take fewer tokens than stand at `path`."""
    if model.max_context and tokens > model.max_context:
        rule = f"is longer than the context of {model.name}"
        remedy = f"send 1 to {model.max_context:,}"
        raise RefusedRequestError(Problem(path, rule, str(tokens), remedy))


def added(parts: Sequence[tuple[float, PhaseCost]]) -> PhaseCost:
    """Costs one after the other, each as many times as the number before it says."""
    return PhaseCost(
        sum(times * cost.compute_s for times, cost in parts),
        sum(times * cost.memory_s for times, cost in parts),
        sum(times * cost.communication_s for times, cost in parts),
        sum(times * cost.overhead_s for times, cost in parts),
    )


@dataclass(frozen=True, slots=True)
class Predictor:
    """Answers requests about kinds of layers; safe to use from several threads.

    Attributes:
        catalogue: what names stand for.
        curves: nodes' own measurements.
    """

    catalogue: Catalogue = field(default_factory=Catalogue)
    curves: Sequence[NodeCurves] = ()

    def layers(self, model_id: str) -> LayersAnswer:
        """The kinds of layers of a model.

        Raises:
            RefusedRequestError: nothing is known of it.
        """
        named = named_layers(self.catalogue.model(model_id, "model_id"))
        return LayersAnswer(layers=[
            LayerKindInfo.model_validate({
                "type": name,
                "count": sum(kinds.values()),
                "available_parallelism": PARALLELISM[name],
                "available_dtypes": WEIGHT_DTYPES if name in _ANY_DTYPE else DTYPES,
            })
            for name, kinds in named.items()
        ])  # fmt: skip

    def layer_metrics(self, request: LayerRequest) -> LayerAnswer:
        """One kind of layer in the prefill of a batch.

        Raises:
            RefusedRequestError: something is unknown, or the degrees do not fit the model.
        """
        model = self.catalogue.model(request.model_id, "model_id")
        hardware = self.catalogue.hardware(request.hardware_config, "hardware_config")
        check_length(model, request.seq_length, "seq_length")
        name = request.layer_type
        kinds = named_layers(model).get(name)
        if kinds is None:
            known = ", ".join(named_layers(model))
            rule = f"{model.name} has no such layers"
            raise RefusedRequestError(Problem("layer_type", rule, shown(name), f"use {known}"))
        _check_dtypes({name: request}, "")
        groups, dtypes = _groups(model, {name: request}, "")
        deployment = Deployment(model, hardware, groups, dtypes, self.curves)
        report = deployment.cost(
            "prefill", batch=request.batch_size, new=request.seq_length, context=0
        )
        deployment.check_chips(report.chips, "hardware_config")
        return _layer_answer(request, sum(kinds.values()), report)

    def system_metrics(self, request: SystemRequest) -> SystemAnswer:
        """A whole model: a batch of prompts, then their answers.

        Raises:
            RefusedRequestError: something is unknown, or the degrees do not fit the model.
        """
        model = self.catalogue.model(request.model_id, "model_id")
        hardware = self.catalogue.hardware(request.hardware_config, "hardware_config")
        check_length(model, request.input_seq, "input_seq")
        check_length(model, request.output_seq, "output_seq")
        layouts = _layouts(model, request.layers)
        _check_dtypes(layouts, "layers.")
        groups, dtypes = _groups(model, layouts, "layers.")
        deployment = Deployment(model, hardware, groups, dtypes, self.curves)
        batch, answer = request.batch_size, request.output_seq
        prefill = deployment.cost("prefill", batch=batch, new=request.input_seq, context=0)
        deployment.check_chips(prefill.chips, "hardware_config")
        middle, end = request.input_seq + answer // 2, request.input_seq + answer - 1
        step = deployment.cost("decode", batch=batch, new=1, context=middle)
        last = deployment.cost("decode", batch=batch, new=1, context=end)
        cost = added([(1, prefill.cost), (answer - 1, step.cost)])
        memory = total(prefill).beside(total(last))
        fullest = per_chip(prefill).beside(per_chip(last))
        return SystemAnswer(
            ttft_ms=1e3 * prefill.cost.seconds,
            tpot_ms=1e3 * step.cost.seconds,
            throughput_tokens_s=batch * answer / cost.seconds,
            total_latency_ms=1e3 * cost.seconds,
            memory=SystemMemory(
                weight_memory_gb=memory.weights / GB,
                activation_memory_gb=memory.activations / GB,
                kv_cache_gb=memory.kv_cache / GB,
                total_memory_gb=memory.total / GB,
                memory_per_chip_gb=fullest.total / GB,
                hw_capacity_gb=hardware.capacity_bytes(prefill.chips) / GB,
            ),
            system=SystemFacts(
                num_chips=prefill.chips,
                bottleneck=cost.bottleneck.value,
                fits_on_hardware=deployment.fits(fullest, prefill.chips),
            ),
        )


def _layouts(model: ModelFacts, given: LayerLayouts) -> dict[str, LayerLayout]:
    """The layout of each kind of layer of `model`.

    Raises:
        RefusedRequestError: one is missing, or is for layers that the model has none of.
    """
    named = named_layers(model)
    found: dict[str, LayerLayout] = {}
    problems = []
    for name in named:
        layout = getattr(given, name) or getattr(given, _STAND_IN.get(name, name))
        if layout is None:
            remedy = f"add the layout of the {sum(named[name].values())} {name} layers"
            problems.append(
                Problem(f"layers.{name}", f"{model.name} has such layers", None, remedy)
            )
        else:
            found[name] = layout
    for name in type(given).model_fields:
        stands_in = any(_STAND_IN.get(other) == name for other in named if other in found)
        if getattr(given, name) is not None and name not in named and not stands_in:
            rule = f"{model.name} has no such layers"
            problems.append(Problem(f"layers.{name}", rule, None, "leave it out"))
    if problems:
        raise RefusedRequestError(*problems)
    return found


def _check_dtypes(layouts: Mapping[str, LayerLayout], prefix: str) -> None:
    problems = [
        Problem(
            f"{prefix}{name}.dtype" if prefix else "dtype",
            f"{name} layers are not stored so",
            shown(layout.dtype),
            f"use {', '.join(DTYPES)}",
        )
        for name, layout in layouts.items()
        if name not in _ANY_DTYPE and layout.dtype not in DTYPES
    ]
    if problems:
        raise RefusedRequestError(*problems)


def _groups(
    model: ModelFacts, layouts: Mapping[str, LayerLayout], prefix: str
) -> tuple[tuple[LayerGroup, ...], dict[LayerKind, str]]:
    """Groups of layers and their number formats, of degrees that fit the model.

    `prefix` stands before a layer's name in the request; it is empty where one layer is the whole
    request.
    """
    asked = list(_asked(model, layouts))
    check_degrees(
        model,
        [
            (kind, degrees, _places(f"{prefix}{name_of(kind)}." if prefix else ""))
            for kind, _, degrees in asked
        ],
    )
    groups = tuple(degrees.group(kind, count) for kind, count, degrees in asked)
    return groups, {kind: layouts[name_of(kind)].dtype for kind, _, _ in asked}


def _asked(
    model: ModelFacts, layouts: Mapping[str, LayerLayout]
) -> Iterator[tuple[LayerKind, int, Degrees]]:
    named = named_layers(model)
    for name, layout in layouts.items():
        degrees = Degrees(**{field: getattr(layout, said) for field, said in _FIELDS.items()})
        yield from ((kind, count, degrees) for kind, count in named[name].items())


def _places(prefix: str) -> dict[str, str]:
    return {field: f"{prefix}{said}" for field, said in _FIELDS.items()}


def _layer_answer(request: LayerRequest, count: int, report: PhaseReport) -> LayerAnswer:
    everywhere, fullest, cost = total(report), per_chip(report), report.cost
    share = 100 / cost.seconds if cost.seconds else 0.0
    return LayerAnswer(
        layer_type=request.layer_type,
        num_instances=count,
        num_chips=report.chips,
        parallelism=Parallelism(
            tensor_parallel=request.tensor_parallel,
            context_parallel=request.context_parallel,
            sequence_parallel=request.sequence_parallel,
            expert_parallel=request.expert_parallel,
        ),
        memory=LayerMemory(
            weights_per_chip_gb=fullest.weights / GB,
            activation_per_chip_gb=fullest.activations / GB,
            kv_cache_per_chip_gb=fullest.kv_cache / GB,
            total_weights_gb=everywhere.weights / GB,
            total_activation_gb=everywhere.activations / GB,
            total_kv_cache_gb=everywhere.kv_cache / GB,
        ),
        compute=LayerCompute(
            flops_per_chip_tflops=report.flops_per_chip / TERA,
            total_flops_tflops=report.flops / TERA,
        ),
        bottleneck=BottleneckShares(
            compute_pct=share * cost.compute_s,
            memory_pct=share * cost.memory_s,
            communication_pct=share * cost.communication_s,
            overhead_pct=share * cost.overhead_s,
        ),
    )
