"""Prefill and decode asked for apart: each with its own hardware, batch and layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.web.errors import RefusedRequestError, body_of
from orchestrator.web.layouts import Degrees, check_degrees, decoder_groups, decoder_kinds
from orchestrator.web.prediction import (
    GB,
    Deployment,
    Footprint,
    Predictor,
    added,
    check_length,
    per_chip,
    total,
)
from orchestrator.web.prediction_answers import (
    PhaseFailure,
    PhaseMetrics,
    PhasesAnswer,
    PhasesSystem,
)
from orchestrator.web.prediction_models import (
    DecodeRequest,
    DecoderLayerLayout,
    PhaseRequest,
    PhasesRequest,
    PrefillRequest,
)
from runtimes.errors import Problem
from runtimes.hardware import Accelerator
from runtimes.model import ModelFacts
from search.perfmodel.answer import PhaseCost
from search.perfmodel.layers import LayerKind, layers_of

_FIELDS = {"tp": "tp_degree", "cp": "cp_degree", "sp": "sp_degree"}


@dataclass(frozen=True, slots=True)
class _Phase:
    """One phase as predicted; seconds and operations are those of the whole phase."""

    deployment: Deployment
    batch: int
    chips: int
    cost: PhaseCost
    step_s: float
    flops: float
    memory: Footprint
    fullest: Footprint

    @property
    def fits(self) -> bool:
        return self.deployment.fits(self.fullest, self.chips)

    @property
    def seconds_per_sequence(self) -> float:
        return self.cost.seconds / self.batch

    @property
    def peak_flops(self) -> float:
        """Dense peak of all its chips, in the format of its weights."""
        dtypes = set(self.deployment.dtypes.values())
        return self.chips * _peak(self.deployment.hardware.accelerator, dtypes.pop())


def phases_metrics(predictor: Predictor, request: PhasesRequest) -> PhasesAnswer:
    """Both phases, or one and the reason why there is no other.

    Raises:
        RefusedRequestError: neither can be answered.
    """
    prompt = request.prefill_req.seq_len
    prefill = _tried(lambda: _prefill(predictor, request.prefill_req))
    decode = _tried(lambda: _decode(predictor, request.decode_req, prompt))
    if isinstance(prefill, RefusedRequestError) and isinstance(decode, RefusedRequestError):
        raise RefusedRequestError(*prefill.problems, *decode.problems)
    system = None
    if isinstance(prefill, _Phase) and isinstance(decode, _Phase):
        system = _system(prefill, decode, request.decode_req.seq_len)
    return PhasesAnswer(prefill=_answer(prefill), decode=_answer(decode), system=system)


def _tried(phase: Callable[[], _Phase]) -> _Phase | RefusedRequestError:
    try:
        return phase()
    except RefusedRequestError as error:
        return error


def _prefill(predictor: Predictor, request: PrefillRequest) -> _Phase:
    deployment = _deployment(predictor, request, "prefill_req")
    report = deployment.cost("prefill", batch=request.batch_size, new=request.seq_len, context=0)
    deployment.check_chips(report.chips, "prefill_req.hardware_config")
    return _Phase(
        deployment, request.batch_size, report.chips, report.cost, report.cost.seconds,
        report.flops, total(report), per_chip(report),
    )  # fmt: skip


def _decode(predictor: Predictor, request: DecodeRequest, prompt: int) -> _Phase:
    """All tokens after the first, each at the cost of the step in the middle of the answer."""
    deployment = _deployment(predictor, request, "decode_req")
    steps, batch = request.seq_len - 1, request.batch_size
    step = deployment.cost("decode", batch=batch, new=1, context=prompt + request.seq_len // 2)
    deployment.check_chips(step.chips, "decode_req.hardware_config")
    last = deployment.cost("decode", batch=batch, new=1, context=prompt + request.seq_len - 1)
    return _Phase(
        deployment, batch, step.chips, added([(steps, step.cost)]), step.cost.seconds,
        steps * step.flops, total(last), per_chip(last),
    )  # fmt: skip


def _deployment(
    predictor: Predictor, request: PrefillRequest | DecodeRequest, path: str
) -> Deployment:
    model = predictor.catalogue.model(request.model, f"{path}.model_config")
    check_length(model, request.seq_len, f"{path}.seq_len")
    hardware = predictor.catalogue.hardware(request.hardware_config, f"{path}.hardware_config")
    groups = decoder_groups(model, _layers(model, request, path))
    dtypes = dict.fromkeys(layers_of(model), str(request.dtype))
    return Deployment(model, hardware, groups, dtypes, predictor.curves)


def _layers(model: ModelFacts, request: PhaseRequest, path: str) -> list[Degrees]:
    """Degrees of each decoder layer in order.

    Raises:
        RefusedRequestError: a layer is missing, named twice or not there, or its degrees do not
            fit the model.
    """
    places: dict[int, tuple[str, DecoderLayerLayout]] = {}
    problems = []
    for place, config in enumerate(request.layer_configs):
        where = f"{path}.layer_configs[{place}]"
        index = config.layer_index
        if index >= model.layers:
            rule = f"{model.name} has {model.layers} decoder layers, counted from 0"
            problems.append(
                Problem(f"{where}.layer_index", rule, str(index), f"use 0 to {model.layers - 1}")
            )
        elif index in places:
            rule = "this layer is named twice"
            problems.append(Problem(f"{where}.layer_index", rule, str(index), "name it once"))
        places.setdefault(index, (where, config))
    missing = [index for index in range(model.layers) if index not in places]
    if missing:
        rule = f"{len(missing)} of the {model.layers} decoder layers of {model.name} are missing"
        remedy = f"add {', '.join(map(str, missing[:8]))}{' …' if len(missing) > 8 else ''}"
        problems.append(Problem(f"{path}.layer_configs", rule, None, remedy))
    if problems:
        raise RefusedRequestError(*problems)
    ordered = [places[index] for index in range(model.layers)]
    layers = [Degrees(c.tp_degree, c.cp_degree, c.sp_degree) for _, c in ordered]
    asked: list[tuple[LayerKind, Degrees, dict[str, str]]] = []
    for kinds, degrees, (where, _) in zip(decoder_kinds(model), layers, ordered, strict=True):
        said = {field: f"{where}.{name}" for field, name in _FIELDS.items()}
        asked += ((kind, degrees, said) for kind in kinds)
    check_degrees(model, asked)
    return layers


def _answer(phase: _Phase | RefusedRequestError) -> PhaseMetrics | PhaseFailure:
    if isinstance(phase, RefusedRequestError):
        words = (" ".join(str(problem).split()) for problem in phase.problems)
        return PhaseFailure(error="; ".join(words), errors=body_of(phase.problems))
    return PhaseMetrics(
        latency_ms=1e3 * phase.cost.seconds,
        step_ms=1e3 * phase.step_s,
        memory_gb=phase.memory.total / GB,
        memory_per_chip_gb=phase.fullest.total / GB,
        hw_capacity_gb=phase.deployment.hardware.capacity_bytes(phase.chips) / GB,
        flops=phase.flops,
        communication_time_ms=1e3 * phase.cost.communication_s,
        num_chips=phase.chips,
        bottleneck=phase.cost.bottleneck.value,
        fits_on_hardware=phase.fits,
    )


def _system(prefill: _Phase, decode: _Phase, answer: int) -> PhasesSystem:
    """Both in balance: on the same chips they take turns, else the slower one sets the pace."""
    shared = prefill.deployment == decode.deployment
    per_sequence = (prefill.seconds_per_sequence, decode.seconds_per_sequence)
    rate = 1 / (sum(per_sequence) if shared else max(per_sequence))
    work = prefill.flops / prefill.batch + decode.flops / decode.batch
    phases = (prefill,) if shared else (prefill, decode)
    fullest = prefill.fullest.beside(decode.fullest)
    memory = prefill.memory.beside(decode.memory)
    cost = added([(1, prefill.cost), (1, decode.cost)])
    return PhasesSystem(
        total_time_ms=1e3 * cost.seconds,
        throughput_tokens_s=rate * answer,
        total_memory_gb=(
            memory.total if shared else prefill.memory.total + decode.memory.total
        ) / GB,
        utilization_percent=100 * rate * work / sum(phase.peak_flops for phase in phases),
        num_chips=sum(phase.chips for phase in phases),
        shared_chips=shared,
        bottleneck=cost.bottleneck.value,
        fits_on_hardware=(
            prefill.deployment.fits(fullest, prefill.chips)
            if shared
            else prefill.fits and decode.fits
        ),
    )  # fmt: skip


def _peak(accelerator: Accelerator, dtype: str) -> float:
    """Dense FLOP/s in `dtype`, or in bf16 where it has no figure for that."""
    figures = {"fp8": accelerator.fp8_flops, "int8": accelerator.int8_ops}
    return figures.get(dtype) or accelerator.bf16_flops
