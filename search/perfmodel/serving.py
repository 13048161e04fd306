"""From steps to what users see: continuous batching as a fluid in balance.

Each step gives every running sequence one token; prompts are computed beside them, one chunk at a
time, at the rate at which sequences end. All arrays are [configurations]; tokens and sequences
are those of one group of ranks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search.perfmodel.operators import Costs, Step, StepModel
from search.perfmodel.tables import Floats

_ROUNDS = 12
"""Iterations until sequences that decode and those that wait for their prompts balance."""
_LEAST_LATER = 0.01
"""Tokens after the first, where an answer is one token: a loop without steps has no balance."""
_FULL = 0.999
"""Share of the sequences for which a step has room from which on it counts as full."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one group of ranks is given.

    Attributes:
        input_tokens: mean length of a prompt.
        new_tokens: of them, those that no prefix cache has.
        output_tokens: mean length of an answer.
        budget: tokens of one step at most.
        accepted: tokens a sequence gets per step: 1, more with speculation.
        decode_tokens: tokens computed per sequence and step: 1 and its drafts.
        equal_lengths: whether all requests are equally long.
    """

    input_tokens: Floats
    new_tokens: Floats
    output_tokens: Floats
    budget: Floats
    accepted: Floats
    decode_tokens: Floats
    equal_lengths: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Balance:
    """The steady state of one group of ranks.

    Attributes:
        tpot_s: time per output token.
        prompt_s: from being scheduled to the first token.
        queued_s: what a prompt waits for others that arrived with it.
        decoding: sequences that decode, on average.
        rate: requests that end per second.
    """

    tpot_s: Floats
    prompt_s: Floats
    queued_s: Floats
    decoding: Floats
    rate: Floats


class Serving:
    """Continuous batching on a step model."""

    def __init__(self, model: StepModel, traffic: Traffic) -> None:
        self._model = model
        self._traffic = traffic
        self._context = traffic.input_tokens + traffic.output_tokens / 2

    def decode_costs(self, decodes: Floats) -> Costs:
        """One step of `decodes` sequences halfway through their answers."""
        zero = np.zeros_like(decodes)
        traffic = self._traffic
        step = Step(decodes, traffic.decode_tokens, self._context, zero, zero, zero, zero)
        return self._model.costs(step)

    def prompt_costs(self) -> Costs:
        """One whole prompt by itself, in one step."""
        traffic = self._traffic
        zero, one = np.zeros_like(self._context), np.ones_like(self._context)
        cached = traffic.input_tokens - traffic.new_tokens
        new = traffic.new_tokens
        return self._model.costs(
            Step(zero, traffic.decode_tokens, self._context, new, new, cached, one)
        )

    def _mixed_seconds(self, decodes: Floats, tokens: Floats) -> Floats:
        """A step of `decodes` sequences with `tokens` of prompts beside them."""
        traffic = self._traffic
        piece = np.minimum(tokens, traffic.new_tokens)
        cached = traffic.input_tokens - traffic.new_tokens
        before = cached + np.maximum(traffic.new_tokens - piece, 0.0) / 2
        finished = tokens / np.maximum(traffic.new_tokens, 1.0)
        costs = self._model.costs(
            Step(decodes, traffic.decode_tokens, self._context, tokens, piece, before, finished)
        )
        return costs.seconds + self._model.scales.prompt_s * finished

    def closed_loop(self, running: Floats, clients: Floats) -> Balance:
        """Each of `clients` sends its next request once it has an answer; `running` run at most."""
        return self._balance(running, None, clients)

    def open_loop(self, rate: Floats, most: Floats) -> Balance:
        """`rate` requests per second, of which at most `most` run at once; stable rates only."""
        return self._balance(most, rate, np.full_like(most, np.inf))

    def _balance(self, running: Floats, rate: Floats | None, clients: Floats) -> Balance:
        """The fixed point of sequences that decode and prompts that are computed beside them.

        With `rate` as many decode as arrive in the time an answer takes, without it those of
        `running` whose prompt is not being computed, and no more than Little's law leaves of
        `clients` that also wait for what passes outside of the engine. Where prompts fill the
        token budget, only as many decode as leave room for the prompts that follow them. In a
        closed loop a sequence never meets its own prompt.
        """
        traffic = self._traffic
        new = np.maximum(traffic.new_tokens, 1.0)
        later = np.maximum(traffic.output_tokens - 1, _LEAST_LATER) / traffic.accepted
        scales = self._model.scales
        met = np.where(traffic.equal_lengths, 1.0, scales.varied)
        cohort = scales.cohort * met if rate is None else 0.0
        most = traffic.budget / (traffic.decode_tokens + new / later)
        others = np.maximum(running - 1, 0.0) / running if rate is None else 1.0
        decoding = np.minimum(running, most) if rate is None else np.minimum(running, most) / 2
        for _ in range(_ROUNDS):
            plain = self.decode_costs(np.maximum(decoding, 1.0)).seconds
            room = np.maximum(traffic.budget - decoding * traffic.decode_tokens, 1.0)
            demand = new * decoding / later * others
            together = 1 + cohort * np.maximum(np.minimum(room / new, running) - 1, 0.0)
            lump = np.minimum(np.maximum(new * together, demand), room)
            share = np.minimum(demand / lump, 1.0)
            mixed = self._mixed_seconds(decoding, lump)
            step = (1 - share) * plain + share * mixed
            prompt = mixed * np.maximum(new / lump, 1.0)
            extra = np.maximum(mixed - plain, 0.0) * np.maximum(new / lump, new / room)
            queued = met * scales.queue * np.maximum(running - 1, 0.0) ** scales.queue_power * extra
            if rate is None:
                answering = later * step
                inside = answering + prompt + queued
                target = np.minimum(running / inside, clients / (inside + scales.first_token_s))
                target = target * answering
            else:
                target = rate * later * step
            # As many decode as prompts follow when every step is full of them.
            full = np.minimum(most, later * step * room / (new * mixed))
            target = np.clip(target, 1e-6, np.minimum(running, full))
            decoding = np.sqrt(decoding * target)
        ended = decoding / (later * step)
        if rate is None:
            # Where the budget is full the others inside wait, as long as Little's law says.
            inside = np.minimum(running, clients - ended * scales.first_token_s)
            waiting = np.maximum(queued, inside / ended - later * step - prompt)
            queued = np.where(decoding < _FULL * full, queued, waiting)
        return Balance(step / traffic.accepted, prompt, queued, decoding, ended)
