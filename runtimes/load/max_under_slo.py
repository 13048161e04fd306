"""The highest rate at which the SLO holds, found on one running engine.

A single stream says where to begin. The rate doubles until the SLO breaks, in short probes; then
bisection with long ones closes in on where it does. Since one long probe is still uncertain, the
probes near the limit are taken together (`runtimes.load.capacity`), and more of them are made
there, longer the further out the percentile of the limit lies, until the interval of the capacity
is as narrow as wanted, or as many requests as in `MAX_NEAR` of them have been sent.

A probe that failed while the client was the limit says nothing of the engine. It is made once more,
and if that is no better, its rate bounds the search from above but not the result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, TypeAlias

from runtimes.load.arrivals import ConcurrencyLoad, Load, PoissonLoad, StopRules
from runtimes.load.capacity import (
    LEAST_REQUESTS,
    NEAR,
    Capacity,
    Point,
    estimate,
    requests_of_stage,
)
from runtimes.load.probe import excess, surely_fails
from runtimes.load.program import Bracket, LoadProgram, StageOutcome
from runtimes.slo import Slo

STREAM_REQUESTS = 20
"""Requests of the single stream that the search begins with."""
SCOUT_REQUESTS = 32
"""Requests of the first probe after it. Each doubling of the rate doubles them, so that probes far
below the capacity take as long as the others and not many times longer."""
MAX_HALVINGS = 5
"""How often the rate is halved below the first probe's before it is said to hold at none."""
FAR = 1.5
"""While the bracket is wider, its ends over each other, a probe in its middle is likely to be far
from the limit."""
ENOUGH_NEAR = 3
"""Long probes near the limit that make bisection unnecessary."""
STEEP = 0.6
"""Difference of ln(figure / limit) that two long probes at about the same rate do not have by
chance. Where the figure rises by more within the resolution, there is nothing left to estimate."""
AROUND = 0.05
"""A probe at a rate that is so near the capacity counts, however far its figure is from the limit:
leaving out those that met a long busy period would make the tail look shorter than it is."""
NARROW = 0.7
"""Half-width of the interval at which the search ends, as a share of the resolution: were there
chance alone, 99 of 100 estimates would then be within the resolution."""
MIN_NEAR = 8
"""Stages near the limit from which on their interval is believed: whoever looks after each probe
sees a narrow one too early."""
MAX_NEAR = 16
"""Stages near the limit after which there are no more, however wide the interval is."""
MAX_SHOWN = 3
"""Further probes just below the capacity, until one has met the SLO that can stand for it."""
MAX_TRIES = 2
"""Probes at a rate where the client was the limit, until what holds there is left unknown."""
MAX_LONG = 32
"""Long probes of a search, whatever they say. Twelve are usual."""
WARM_UP_CONCURRENCY = 32

_Probes: TypeAlias = Mapping[float, Sequence[StageOutcome]]


@dataclass(frozen=True, slots=True)
class MaxUnderSloProgram(LoadProgram):
    """Poisson probes by doubling, by bisection, and near the limit.

    Attributes:
        slo: what is to hold; at least one limit.
        requests: of a probe at most; fewer where that tells as much.
        stop: what may end a probe earlier. Those that only ask whether the SLO holds also end
            when that is hopeless.
        start_rate: of the first probe; None begins with a single stream, and then twice its rate.
        max_rate: rates above it are not tried.
        resolution: how far apart the two ends of the bracket may be, relatively, and how far the
            result may be from the capacity.

    Raises:
        ValueError: the SLO is empty or a number is out of range.
    """

    slo: Slo
    requests: int = field()
    stop: StopRules = field(default_factory=StopRules)
    start_rate: float | None = None
    max_rate: float | None = None
    resolution: float = 0.05
    kind: ClassVar[str] = "max_under_slo"

    def __post_init__(self) -> None:
        if not self.slo.limits:
            raise ValueError("slo: must have a limit, since the load is the highest that keeps it")
        if self.requests < 1:
            raise ValueError(f"requests: must be at least 1, got {self.requests}")
        for name, rate in (("start_rate", self.start_rate), ("max_rate", self.max_rate)):
            if rate is not None and not (math.isfinite(rate) and rate > 0):
                raise ValueError(f"{name}: must be positive requests per second, got {rate}")
        if self.start_rate and self.max_rate and self.start_rate > self.max_rate:
            words = f"must be at most max_rate, {self.max_rate:g}, got {self.start_rate:g}"
            raise ValueError(f"start_rate: {words}")
        if not 0 < self.resolution <= 1:
            raise ValueError(f"resolution: must be above 0 and at most 1, got {self.resolution}")

    @property
    def warm_up(self) -> Load:
        requests = min(WARM_UP_CONCURRENCY, self.requests)
        return ConcurrencyLoad(requests, self.requests, self.stop)

    def next_stage(self, done: Sequence[StageOutcome]) -> Load | None:
        """The single stream, where no rate is given; then probes until the capacity is known."""
        if not done and self.start_rate is None:
            return ConcurrencyLoad(1, min(STREAM_REQUESTS, self.requests), self.stop)
        if done and _spoilt(done[-1]) and _tries(done) < MAX_TRIES:
            return done[-1].load
        first = self._first_rate(done)
        if first is None or sum(map(self._is_long, done)) >= MAX_LONG:
            return None
        probes = self._probes(done)
        for rate, tried in probes.items():
            if self._in_doubt(tried):
                return self._probe(rate)
        following = self._following(probes, first)
        if following is not None and _unknown(probes.get(following.value, ())):
            return None
        return following

    def _following(self, probes: _Probes, first: float) -> PoissonLoad | None:
        """The next probe, where none has to be repeated."""
        found = _held(probes)
        if found.high is None:
            higher = min(first if found.low is None else 2 * found.low, self._highest)
            if higher == found.low:
                return self._confirmed(found, probes)
            return self._scout(higher, first)
        if found.low is None:
            lower = found.high / 2
            return self._scout(lower, first) if lower >= first / 2**MAX_HALVINGS else None
        closed = found.high <= found.low * (1 + self.resolution)
        if self._at_cliff(found, probes) or (closed and _unknown(probes[found.high])):
            return self._confirmed(found, probes)
        near = self._near(probes)
        if len(near) < ENOUGH_NEAR and found.high / found.low > 1 + self.resolution:
            middle = math.sqrt(found.low * found.high)
            far = found.high / found.low > FAR
            return self._probe(middle) if far else self._whole(middle)
        return self._refined(probes, near) if near else self._confirmed(found, probes)

    def deciding(self, done: Sequence[StageOutcome]) -> int:
        """The stage that met the SLO by itself at the highest rate up to the capacity.

        Where no probe came near the limit it is the one at the highest rate that held, and only
        where none did, the one at the lowest load.
        """
        probes = self._probes(done)
        capacity = self._capacity(probes)
        shown = None if capacity is None else self._shown(probes, capacity)
        if shown is not None:
            return done.index(shown)
        low = _held(probes).low
        held = _all(probes) if low is None else probes[low]
        highest = _best_held([outcome for outcome in held if _excess(outcome) <= 0])
        if highest is not None:
            return done.index(highest)
        streams = sum(isinstance(outcome.load, ConcurrencyLoad) for outcome in done)
        return streams - 1 if streams else done.index(probes[min(probes)][-1])

    def bracket(self, done: Sequence[StageOutcome]) -> Bracket:
        """What is known after `done`; after the last stage, the result with its uncertainty."""
        probes = self._probes(done)
        capacity = self._capacity(probes)
        if capacity is not None:
            return Bracket(capacity.low, capacity.high)
        return _held({rate: tried for rate, tried in probes.items() if not _unknown(tried)})

    @property
    def _highest(self) -> float:
        return math.inf if self.max_rate is None else self.max_rate

    def _first_rate(self, done: Sequence[StageOutcome]) -> float | None:
        """Rate of the first probe; None when the single stream has shown that none can hold."""
        if self.start_rate is not None:
            return self.start_rate
        streams = [o.measurement for o in done if isinstance(o.load, ConcurrencyLoad)]
        stream = streams[-1]
        if stream.request_throughput <= 0 or surely_fails(stream, 0.0):
            return None
        return min(2 * stream.request_throughput, self._highest)

    @property
    def _bisecting(self) -> int:
        """Requests of a long probe that only has to say on which side of the limit it is."""
        return min(self.requests, LEAST_REQUESTS)

    def _probe(self, rate: float, requests: int | None = None) -> PoissonLoad:
        """A probe that ends when it is seen to fail: whether it holds is the whole question."""
        stop = replace(self.stop, hopeless=True)
        return PoissonLoad(rate, self._bisecting if requests is None else requests, stop)

    def _whole(self, rate: float, requests: int | None = None) -> PoissonLoad:
        """A probe that runs to its end, since how far it is from the limit is the question."""
        stop = replace(self.stop, hopeless=False)
        requests = self._bisecting if requests is None else requests
        return PoissonLoad(min(rate, self._highest), requests, stop)

    def _scout(self, rate: float, first: float) -> PoissonLoad:
        """A probe that is as long as the first one, in seconds, but not in requests."""
        if self.start_rate is not None:
            return self._probe(rate)
        requests = max(SCOUT_REQUESTS, round(SCOUT_REQUESTS * rate / first))
        return self._probe(rate, min(requests, self._bisecting))

    def _is_long(self, outcome: StageOutcome) -> bool:
        return isinstance(outcome.load, PoissonLoad) and outcome.load.requests >= self._bisecting

    def _probes(self, done: Sequence[StageOutcome]) -> _Probes:
        """The open-loop stages by rate.

        Long ones replace a short one, and others those that failed while the client was the limit.
        """
        probes: dict[float, list[StageOutcome]] = {}
        for outcome in done:
            if isinstance(outcome.load, PoissonLoad):
                tried = probes.setdefault(outcome.load.rate, [])
                if tried and not self._is_long(tried[0]):
                    tried.clear()
                tried.append(outcome)
        for rate, tried in probes.items():
            probes[rate] = [outcome for outcome in tried if not _spoilt(outcome)] or tried
        return probes

    def _in_doubt(self, tried: Sequence[StageOutcome]) -> bool:
        """Whether a short probe failed, but not surely, so that a long one has to say."""
        last = tried[-1]
        if self._is_long(last) or _excess(last) <= 0 or _unknown(tried):
            return False
        return not surely_fails(last.measurement, last.load.value)

    def _refined(self, probes: _Probes, near: Sequence[StageOutcome]) -> PoissonLoad | None:
        """One more probe near the limit, or None when the capacity is known and has been shown."""
        capacity = estimate(_points(near))
        requests = min(self.requests, requests_of_stage(capacity.limit, self.resolution))
        stages = sum(outcome.load.requests for outcome in near) / requests
        narrow = capacity.half_width <= NARROW * self.resolution
        if stages < MIN_NEAR or (stages < MAX_NEAR and not narrow):
            return self._whole(self._within(capacity.rate, probes, near), requests)
        shown = self._shown(probes, capacity)
        close = shown is not None and (
            shown.load.value * (1 + self.resolution / 2) >= min(capacity.rate, self._highest)
        )
        if close or stages >= MAX_NEAR + MAX_SHOWN:
            return None
        return self._whole(capacity.rate / (1 + self.resolution / 4), requests)

    def _within(self, rate: float, probes: _Probes, near: Sequence[StageOutcome]) -> float:
        """The rate, unless probes far from the limit say that the capacity is not there.

        That happens where latency grows more steeply than thought: then halfway, in logarithms,
        from that probe to the nearest that was near the limit.
        """
        rates = [outcome.load.value for outcome in near]
        known = set(map(id, near))
        others = [o for o in _all(probes) if self._is_long(o) and id(o) not in known]
        far = [(o.load.value, _excess(o)) for o in others]
        below = max((r for r, y in far if y < -NEAR and r < max(rates)), default=0.0)
        above = min((r for r, y in far if y > NEAR and r > min(rates)), default=math.inf)
        if rate <= below:
            return math.sqrt(below * min(r for r in rates if r > below))
        if rate >= above:
            return math.sqrt(above * max(r for r in rates if r < above))
        return rate

    def _confirmed(self, found: Bracket, probes: _Probes) -> PoissonLoad | None:
        """None when both ends of the bracket have had the longest probe or are unknown."""
        for rate in (found.low, found.high):
            if rate is None or _unknown(probes[rate]):
                continue
            if probes[rate][-1].load.requests < self.requests:
                return self._probe(rate, self.requests)
        return None

    def _shown(self, probes: _Probes, capacity: Capacity) -> StageOutcome | None:
        """The long probe at the highest rate up to the capacity that met the SLO."""
        return _best_held(
            [
                outcome
                for outcome in _all(probes)
                if self._is_long(outcome)
                and outcome.load.value <= capacity.rate
                and _excess(outcome) <= 0
            ]
        )

    def _near(self, probes: _Probes) -> list[StageOutcome]:
        """Long probes, run to their end, near the limit in their figure or in their rate."""
        whole = [
            outcome
            for outcome in _all(probes)
            if self._is_long(outcome)
            and not outcome.load.stop.hopeless
            and math.isfinite(_excess(outcome))
        ]
        near = [outcome for outcome in whole if abs(_excess(outcome)) <= NEAR]
        if not near:
            return []
        capacity = estimate(_points(near)).rate
        return [
            outcome
            for outcome in whole
            if abs(_excess(outcome)) <= NEAR
            or abs(math.log(outcome.load.value / capacity)) <= AROUND
        ]

    def _capacity(self, probes: _Probes) -> Capacity | None:
        if self._at_cliff(_held(probes), probes):
            return None
        near = self._near(probes)
        return estimate(_points(near)) if len(near) >= ENOUGH_NEAR else None

    def _at_cliff(self, found: Bracket, probes: _Probes) -> bool:
        """Whether the bracket is closed, and the figure rises in it by more than chance makes."""
        if found.low is None or found.high is None or _unknown(probes[found.high]):
            return False
        rise = _excess(probes[found.high][-1]) - _excess(probes[found.low][-1])
        return rise >= STEEP and found.high <= found.low * (1 + self.resolution)


def _points(near: Sequence[StageOutcome]) -> list[Point]:
    return [Point(o.load.value, _excess(o), o.measurement) for o in near]


def _excess(outcome: StageOutcome) -> float:
    """`excess`; inf where the client was the limit, since then no figure is the engine's."""
    found = excess(outcome.measurement, outcome.load.value)
    return math.inf if found > 0 and _client_limited(outcome) else found


def _client_limited(outcome: StageOutcome) -> bool:
    return "client_limited" in outcome.measurement.flags


def _spoilt(outcome: StageOutcome) -> bool:
    """Whether it failed while the client was the limit: not, as far as is known, the engine."""
    if isinstance(outcome.load, ConcurrencyLoad):
        return _client_limited(outcome) and surely_fails(outcome.measurement, 0.0)
    return _client_limited(outcome) and _excess(outcome) > 0


def _tries(done: Sequence[StageOutcome]) -> int:
    """Stages of the last load that the client spoilt."""
    return sum(outcome.load == done[-1].load and _spoilt(outcome) for outcome in done)


def _unknown(tried: Sequence[StageOutcome]) -> bool:
    """Whether all probes of a rate, at least one, say nothing of the engine."""
    return bool(tried) and all(map(_spoilt, tried))


def _all(probes: _Probes) -> list[StageOutcome]:
    return [outcome for tried in probes.values() for outcome in tried]


def _best_held(held: Sequence[StageOutcome]) -> StageOutcome | None:
    """The one at the highest rate; of those at one rate, one that the client did not limit."""
    return max(held, key=lambda one: (one.load.value, not _client_limited(one)), default=None)


def _held(probes: _Probes) -> Bracket:
    """The lowest rate at which the SLO did not hold and the highest below it at which it did."""
    held = {rate: sum(_excess(outcome) for outcome in tried) <= 0 for rate, tried in probes.items()}
    high = min((rate for rate in held if not held[rate]), default=None)
    below = [rate for rate in held if held[rate] and (high is None or rate < high)]
    return Bracket(max(below, default=None), high)
