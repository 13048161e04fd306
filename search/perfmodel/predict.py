"""The way in: any number of questions, answered at once."""

from __future__ import annotations

from collections.abc import Sequence

from runtimes.node_curves import NodeCurves
from search.perfmodel.answer import Interval, Memory, PhaseCost, Prediction
from search.perfmodel.batch import Batch, Outcomes
from search.perfmodel.fit import Fit, stored_fit
from search.perfmodel.operators import Costs
from search.perfmodel.overheads import Scales
from search.perfmodel.question import Question


def predict(
    questions: Sequence[Question], *, curves: Sequence[NodeCurves] = (), fit: Fit | None = None
) -> list[Prediction]:
    """Answers in the order of `questions`.

    Args:
        questions: any mix of models, accelerators, engines and loads; quickest all at once.
        curves: a node's own measurements; they replace the built-in ones of its accelerator.
        fit: overheads of engines and what is uncertain about them; the stored one by default.
    """
    if not questions:
        return []
    fit = fit if fit is not None else stored_fit()
    batch = Batch(questions, curves)
    scales = Scales.of([fit.overheads(each.configuration) for each in questions])
    outcomes = batch.outcomes(scales)
    decode, prompt = batch.phases(scales, outcomes.decoding)
    memories = batch.memories(outcomes.running)
    return [
        _prediction(
            question, outcomes, at, memory=memories[at], decode=_phase(decode, at),
            prefill=_phase(prompt, at), fit=fit,
            notes=fit.extrapolates(
                question.configuration, batch.efficiencies, int(batch.accelerator[at])
            ),
        )
        for at, question in enumerate(questions)
    ]  # fmt: skip


def _prediction(
    question: Question, outcomes: Outcomes, at: int, *, memory: Memory, decode: PhaseCost,
    prefill: PhaseCost, fit: Fit, notes: tuple[str, ...],
) -> Prediction:  # fmt: skip
    load, configuration = question.load, question.configuration
    spread = fit.spread(configuration, len(notes))
    requests = float(outcomes.request_rate[at])
    output = requests * load.output_tokens
    ttft_ms, tpot_ms = float(outcomes.ttft_s[at]) * 1e3, float(outcomes.tpot_s[at]) * 1e3
    return Prediction(
        ttft_ms=ttft_ms,
        tpot_ms=tpot_ms,
        e2e_ms=float(outcomes.e2e_s[at]) * 1e3,
        request_throughput=requests,
        output_throughput=output,
        total_throughput=requests * (load.output_tokens + load.input_tokens),
        gpus=configuration.spread.gpus,
        running=float(outcomes.running[at]),
        waiting_ms=float(outcomes.waiting_s[at]) * 1e3,
        memory=memory,
        decode=decode,
        prefill=prefill,
        ttft_interval_ms=_interval(ttft_ms, spread.ttft),
        tpot_interval_ms=_interval(tpot_ms, spread.tpot),
        throughput_interval=_interval(output, spread.throughput),
        extrapolates=notes,
        stable=bool(outcomes.stable[at]),
    )


def _phase(costs: Costs, at: int) -> PhaseCost:
    return PhaseCost(
        float(costs.compute[at]),
        float(costs.memory[at]),
        float(costs.communication[at]),
        float(costs.overhead[at]),
    )


def _interval(value: float, factors: tuple[float, float]) -> Interval:
    return Interval(value * factors[0], value * factors[1])
