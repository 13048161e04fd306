"""The simulated engine in virtual time: a stage of load in the time that its arithmetic takes.

What `runtimes.simulator` plays on a clock behind HTTP: the same engine model, the same noise and
the same time from a request to the queue, without sockets, so that a stage of a thousand requests
costs a fraction of a second. What a client and a machine add is left out.
"""

from __future__ import annotations

import heapq
import random
from collections import defaultdict
from collections.abc import Sequence

from runtimes.hardware import find_accelerator
from runtimes.load.arrivals import Load
from runtimes.load.job import LoadJob
from runtimes.load.result import LoadResult
from runtimes.load.stop import StopJudge
from runtimes.measurement import RequestRecord
from runtimes.model import find_model
from runtimes.simulator.arguments import parse_engine
from runtimes.simulator.engine_model import EngineModel, Request, Step
from runtimes.simulator.replica import step_factor
from runtimes.simulator.resolve import Resolved, resolve
from runtimes.simulator.timing import FRONTEND_S
from runtimes.slo import Slo
from runtimes.workloads.base import Prompt

JITTER = 0.03
"""Relative standard deviation of step durations that tests play with."""


def resolved(*engine_argv: str, model: str, accelerator: str) -> Resolved:
    """A configuration as the simulator would start it, with vLLM's arguments `engine_argv`."""
    facts = find_model(model)
    assert facts is not None
    return resolve(parse_engine(engine_argv, model), facts, find_accelerator(accelerator))


class VirtualEngine:
    """One replica without pipeline stages.

    Args:
        jitter: relative standard deviation of step durations.
        seed: of the jitter, which goes on from stage to stage.
        slower: factor on every step's duration.
    """

    def __init__(
        self, resolved: Resolved, *, jitter: float = JITTER, seed: int = 0, slower: float = 1.0
    ) -> None:
        assert resolved.limits.stages == 1
        self._resolved = resolved
        self._jitter = jitter
        self._slower = slower
        self._random = random.Random(seed)

    def run(
        self,
        load: Load,
        prompts: Sequence[Prompt],
        *,
        seed: int = 0,
        stagger_s: float = 0.0,
        slo: Slo | None = None,
    ) -> LoadResult:
        """One stage against an idle engine; sessions of one request each.

        With an `slo` the stop rules are followed as the client follows them.
        """
        prompts = prompts[: load.requests]
        job = LoadJob(prompts, load, "", {}, seed, 60.0, 60.0, slo=slo or Slo())
        stage = _Stage(self._resolved, job, stagger_s, judged=slo is not None)
        at_s = 0.0
        while stage.left:
            stage.arrive(at_s)
            step = stage.model.begin_step()
            if step is None:
                at_s = stage.next_arrival_s
                continue
            at_s += step.duration_s * self._slower * step_factor(self._random, self._jitter)
            stage.finish(step, at_s)
        return stage.result()


class _Stage:
    """Requests on their way to the engine, in it, and done."""

    def __init__(self, resolved: Resolved, job: LoadJob, stagger_s: float, *, judged: bool) -> None:
        self.model = EngineModel(resolved.limits, resolved.timer.latency_s)
        self._load = job.load
        self._prompts = job.prompts
        self._stagger_s = stagger_s
        self._judge = StopJudge(job, 0) if judged else None
        self._stopped_by = ""
        schedule_ns = job.load.schedule_ns(job.seed, job.prompts)
        self._closed = schedule_ns is None
        sent_s = [offset_ns / 1e9 for offset_ns in schedule_ns or ()]
        self._sent_s = dict(enumerate(sent_s))
        self._arriving = [(at_s + FRONTEND_S, number) for number, at_s in enumerate(sent_s)]
        self._to_come = len(job.prompts)
        self._in_flight = 0
        self._chunk_ns: dict[int, list[int]] = defaultdict(list)
        self._records: list[RequestRecord] = []

    @property
    def left(self) -> int:
        """Requests that are still to end."""
        return self._to_come + self._in_flight

    @property
    def next_arrival_s(self) -> float:
        """When the next request reaches the queue of an engine that has nothing to do."""
        return self._arriving[0][0]

    def arrive(self, at_s: float) -> None:
        """Send what a closed loop is to send by `at_s`, and queue what has arrived by then."""
        while self._closed and not self._stopped_by and len(self._sent_s) < len(self._prompts):
            if len(self._sent_s) - len(self._records) >= self._held(at_s):
                break
            heapq.heappush(self._arriving, (at_s + FRONTEND_S, len(self._sent_s)))
            self._sent_s[len(self._sent_s)] = at_s
        while self._arriving and self._arriving[0][0] <= at_s:
            _, number = heapq.heappop(self._arriving)
            prompt = self._prompts[number]
            request = Request(str(number), len(prompt.token_ids), prompt.output_tokens)
            self.model.add(request)
            self._to_come -= 1
            self._in_flight += 1

    def finish(self, step: Step, at_s: float) -> None:
        """Hand out what a step that ends at `at_s` has made."""
        at_ns = round(at_s * 1e9)
        before = len(self._records)
        for emission in self.model.finish_step(step):
            self._chunk_ns[int(emission.request_id)].append(at_ns)
            if emission.finished:
                self._in_flight -= 1
                self._records.append(self._record(int(emission.request_id)))
        if self._judge is None or self._stopped_by:
            return
        for record in self._records[before:]:
            self._judge.ended(record)
        self._judge.sampled(at_ns, self._in_flight)
        if len(self._records) > before:
            self._stopped_by = self._judge.verdict(at_ns)
        if self._stopped_by:
            self._arriving = [one for one in self._arriving if self._sent_s[one[1]] <= at_s]
            heapq.heapify(self._arriving)
            self._to_come = len(self._arriving)

    def _held(self, at_s: float) -> int:
        held = self._load.held(at_s)
        assert held is not None
        if at_s >= self._stagger_s:
            return held
        return max(1, round(held * at_s / self._stagger_s))

    def result(self) -> LoadResult:
        records = tuple(sorted(self._records, key=lambda record: record.index))
        ended_ns = max(record.end_ns for record in records)
        last_ns = max(record.sent_ns for record in records)
        return LoadResult(
            records, 0, ended_ns, 0.0, stopped_by=self._stopped_by, last_arrival_ns=last_ns
        )

    def _record(self, number: int) -> RequestRecord:
        prompt, chunk_ns = self._prompts[number], self._chunk_ns[number]
        sent_ns = round(self._sent_s[number] * 1e9)
        return RequestRecord(
            index=number,
            scheduled_ns=sent_ns,
            sent_ns=sent_ns,
            chunk_ns=chunk_ns,
            end_ns=chunk_ns[-1],
            prompt_tokens=len(prompt.token_ids),
            output_tokens=prompt.output_tokens,
            requested_output_tokens=prompt.output_tokens,
            first_byte_ns=chunk_ns[0],
            sent_tokens=len(prompt.token_ids),
        )
