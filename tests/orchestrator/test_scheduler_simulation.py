"""The scheduler on hundreds of GPUs with thousands of trials, invariants checked at every event.

A small event simulation: trials take random time, fail at random, nodes are lost and come, devices
stay dirty or are used by others for a while. What must hold is checked on the actions alone, not
on the scheduler's own books.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.placement import Bundle
from orchestrator.scheduler import (
    Action,
    Answered,
    Ask,
    AttemptEnded,
    BundleGone,
    BundleReady,
    Cancel,
    Event,
    GpusReleased,
    Launch,
    Limits,
    Record,
    Scheduler,
    StopAsked,
    Tick,
    Watch,
)
from runtimes.failure import FailureKind
from runtimes.telemetry.release import DirtyGpu
from search.trial import Cancelled, Outcome
from tests.orchestrator.schedules import DONE, dirty, failed, foreign, node, trial

_SIZES = (1, 1, 1, 2, 2, 4, 8)
_ASK_S = 0.01


@dataclass
class World:
    """Everything around the scheduler: bundles, running attempts, a clock, a sampler."""

    seed: int
    nodes: int
    gpus_per_node: int
    limits: Limits
    losses: int = 0
    stop_at_s: float | None = None
    fail_share: float = 0.1
    dirty_share: float = 0.0
    foreign_share: float = 0.0
    events: list[tuple[float, int, Event]] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    busy: dict[tuple[str, str], int] = field(default_factory=dict)
    running: dict[tuple[int, int], Launch] = field(default_factory=dict)
    alive: dict[str, Bundle] = field(default_factory=dict)
    withheld: set[tuple[str, str]] = field(default_factory=set)
    final: Counter[int] = field(default_factory=Counter)
    launches: Counter[int] = field(default_factory=Counter)
    asked: int = 0
    ended: str = ""
    busy_gpu_s: float = 0.0
    now_s: float = 0.0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.order = itertools.count()
        self.scheduler = Scheduler(self.limits)
        for index in range(self.nodes):
            self.at(0.0, BundleReady(node(f"n{index}", self.gpus_per_node)))
        self.at(0.5, Tick())
        for index in range(self.losses):
            lost_s = self.rng.uniform(100.0, 2000.0)
            self.at(lost_s, BundleGone(f"n{index}", "its actor died"))
            self.at(lost_s + 300.0, BundleReady(node(f"again{index}", self.gpus_per_node)))
        if self.stop_at_s is not None:
            self.at(self.stop_at_s, StopAsked("SIGINT"))
            self.at(self.stop_at_s, StopAsked("SIGINT"))

    def at(self, when_s: float, event: Event) -> None:
        heapq.heappush(self.events, (when_s, next(self.order), event))

    def live(self) -> None:
        """Let everything happen, until the scheduler says that the study has ended."""
        while self.events and not self.ended:
            then_s, _, event = heapq.heappop(self.events)
            self.busy_gpu_s += len(self.busy) * (then_s - self.now_s)
            self.now_s = then_s
            self.happen(event)
            for action in self.scheduler.handle(event, self.now_s):
                self.actions.append(action)
                self.obey(action)
            self.check()

    def happen(self, event: Event) -> None:
        if isinstance(event, BundleReady):
            self.alive[event.bundle.id] = event.bundle
        elif isinstance(event, BundleGone):
            self.alive.pop(event.bundle_id, None)
            self.withheld = {gpu for gpu in self.withheld if gpu[0] != event.bundle_id}
        elif isinstance(event, GpusReleased):
            self.withheld -= {(event.bundle_id, gpu) for gpu in event.gpu_ids}
        elif isinstance(event, AttemptEnded) and (event.number, event.attempt) in self.running:
            bundle = self.running[event.number, event.attempt].allocation.bundle
            self.withheld |= {(bundle, gpu.gpu) for gpu in event.dirty}

    def obey(self, action: Action) -> None:
        assert not self.ended, "nothing follows the end"
        if isinstance(action, Ask):
            self.asked += 1
            gpus = self.rng.choice(_SIZES)
            self.at(self.now_s + _ASK_S, Answered(action.number, trial(action.number, gpus)))
        elif isinstance(action, Launch):
            self.launch(action)
        elif isinstance(action, Cancel):
            ended = AttemptEnded(action.number, action.attempt, Cancelled("stopped"))
            self.at(self.now_s + self.rng.uniform(0.0, 5.0), ended)
        elif isinstance(action, Record):
            self.record(action)
        elif isinstance(action, Watch):
            assert (action.bundle_id, action.gpu.gpu) in self.withheld
            released = GpusReleased(action.bundle_id, (action.gpu.gpu,))
            self.at(self.now_s + self.rng.expovariate(1 / 200.0), released)
        else:
            self.ended = action.reason

    def launch(self, action: Launch) -> None:
        number, attempt = action.trial.number, action.trial.attempt
        bundle = self.alive[action.allocation.bundle]
        assert self.final[number] == 0, "what is over is not run again"
        assert (number, attempt) not in self.running
        assert len(set(action.allocation.gpu_ids)) == action.trial.gpus
        assert set(action.allocation.gpu_ids) <= set(bundle.gpu_ids)
        for gpu in action.allocation.gpu_ids:
            assert (bundle.id, gpu) not in self.busy, "no device is given twice"
            assert (bundle.id, gpu) not in self.withheld, "what is not free is not given on"
            self.busy[bundle.id, gpu] = number
        self.running[number, attempt] = action
        self.launches[number] += 1
        ended = AttemptEnded(number, attempt, self.outcome(), self.found(action))
        self.at(self.now_s + self.rng.expovariate(1 / 60.0), ended)

    def found(self, launch: Launch) -> tuple[DirtyGpu, ...]:
        """Devices of the attempt that will not be free after it."""
        found = []
        for gpu in launch.allocation.gpu_ids:
            chance = self.rng.random()
            if chance < self.dirty_share:
                found.append(dirty(gpu))
            elif chance < self.dirty_share + self.foreign_share:
                found.append(foreign(gpu))
        return tuple(found)

    def outcome(self) -> Outcome:
        if self.rng.random() >= self.fail_share:
            return DONE
        return failed(self.rng.choice([FailureKind.GPU_BUSY, FailureKind.CRASHED]))

    def record(self, action: Record) -> None:
        number, attempt = action.trial.number, action.trial.attempt
        launch = self.running.pop((number, attempt), None)
        assert (launch is None) is (action.allocation is None)
        if launch is not None:
            assert action.allocation == launch.allocation
            for gpu in launch.allocation.gpu_ids:
                assert self.busy.pop((launch.allocation.bundle, gpu)) == number
        if not action.retry:
            self.final[number] += 1

    def check(self) -> None:
        """What holds after every event, whatever has happened."""
        inventory = self.scheduler.inventory
        devices = sum(len(bundle.gpu_ids) for bundle in self.alive.values())
        capacity = devices - len(self.withheld)
        assert inventory.foreign + inventory.quarantined == len(self.withheld)
        assert len(self.busy) <= capacity
        assert (inventory.capacity, inventory.free) == (capacity, capacity - len(self.busy))
        assert self.scheduler.running == len(self.running)
        assert abs(self.scheduler.gpu_seconds(self.now_s) - self.busy_gpu_s) < 1e-3
        waiting = self.asked - len(self.launches.keys() | self.final.keys())
        assert waiting <= self.limits.lookahead + self.nodes + 1, "proposals know some results"


def test_thousands_of_trials_on_hundreds_of_gpus() -> None:
    world = World(seed=1, nodes=64, gpus_per_node=8, limits=Limits(trials=3000), losses=6)
    world.live()
    assert world.ended == "all 3000 trials were tried"
    assert world.asked == 3000
    assert set(world.final.values()) == {1}
    assert len(world.final) == 3000
    assert max(world.launches.values()) == 2
    # GPUs wait for nothing: while trials were plenty, nearly all of them were in use.
    assert world.busy_gpu_s / (512 * world.now_s) > 0.6


def test_large_trials_do_not_wait_for_ever_among_small_ones() -> None:
    limits = Limits(trials=600, overtakes=4)
    world = World(seed=3, nodes=1, gpus_per_node=8, limits=limits, fail_share=0.0)
    world.live()
    order = [action.trial.number for action in world.actions if isinstance(action, Launch)]
    late = [position - number for position, number in enumerate(order)]
    # A trial of the whole node is passed by 4 others, and waits with at most one of its like.
    assert max(late) <= 3 * limits.overtakes
    assert len(order) == 600


@pytest.mark.parametrize("stop_at_s", [0.0, 0.7, 40.0, 300.0])
def test_a_stop_ends_every_running_trial_once(stop_at_s: float) -> None:
    world = World(seed=5, nodes=8, gpus_per_node=8, limits=Limits(), stop_at_s=stop_at_s)
    world.live()
    assert world.ended == "SIGINT"
    assert world.busy == {}
    cancels = [action for action in world.actions if isinstance(action, Cancel)]
    assert len({(cancel.number, cancel.attempt) for cancel in cancels}) == len(cancels)
    assert set(world.final.values()) <= {1}


def test_budgets_end_a_study_without_cancelling() -> None:
    limits = Limits(gpu_seconds=20_000.0)
    world = World(seed=7, nodes=4, gpus_per_node=8, limits=limits)
    world.live()
    assert world.ended == "the budget of 5.55556 GPU hours is spent"
    assert not any(isinstance(action, Cancel) for action in world.actions)
    assert set(world.final.values()) == {1}
    assert world.busy_gpu_s >= 20_000.0


def test_the_same_events_give_the_same_actions() -> None:
    def actions() -> list[Action]:
        limits = Limits(trials=400, retries=2)
        world = World(seed=11, nodes=6, gpus_per_node=8, limits=limits, losses=2, fail_share=0.3)
        world.live()
        return world.actions

    assert actions() == actions()


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    nodes=st.integers(1, 6),
    gpus_per_node=st.integers(1, 9),
    losses=st.integers(0, 3),
    trials=st.integers(1, 120),
    retries=st.integers(0, 3),
    overtakes=st.integers(0, 6),
    lookahead=st.integers(1, 10),
    fail_share=st.floats(0.0, 1.0),
    dirty_share=st.sampled_from([0.0, 0.0, 0.01, 0.3]),
    foreign_share=st.sampled_from([0.0, 0.0, 0.05, 0.6]),
)
def test_every_trial_ends_exactly_once_in_any_world(
    seed: int,
    nodes: int,
    gpus_per_node: int,
    losses: int,
    trials: int,
    retries: int,
    overtakes: int,
    lookahead: int,
    fail_share: float,
    dirty_share: float,
    foreign_share: float,
) -> None:
    limits = Limits(trials=trials, retries=retries, overtakes=overtakes, lookahead=lookahead)
    world = World(
        seed=seed, nodes=nodes, gpus_per_node=gpus_per_node, limits=limits,
        losses=min(losses, nodes), fail_share=fail_share, dirty_share=dirty_share,
        foreign_share=foreign_share,
    )  # fmt: skip
    world.live()
    complete = "the only trial was tried" if trials == 1 else f"all {trials} trials were tried"
    assert world.ended in (
        complete,
        "every node of the study is lost",
        "every GPU of the study is quarantined",
    )
    assert set(world.final.values()) <= {1}
    if world.ended == complete:
        assert sorted(world.final) == list(range(trials))
    assert world.running == {}
    assert max(world.launches.values(), default=0) <= retries + 1
