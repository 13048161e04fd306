"""One attempt on a stand-in's second device, which changes as its stages go; run as a process.

Arguments, each JSON: what the device shows, one after the other, as clock reasons, memory errors
and Xids so far: from the start on, and from each time on that a stage begins to be measured or is
done; and the concurrencies of the attempt's stages.

Writes a pickle of the stages' records, the result, the facts and the samples.
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from orchestrator.messages import Phase, PhaseEntered, StageDone, TrialEvent
from orchestrator.trial_body import TrialBody
from runtimes.load.arrivals import ConcurrencyLoad, Load
from runtimes.load.program import LoadProgram, StageOutcome
from tests.orchestrator.attempts import Attempt, order
from tests.runtimes.standin_nvml import StandinGpu, show


@dataclass(frozen=True)
class Steps(LoadProgram):
    """These concurrencies, of which the last one decides."""

    kind: ClassVar[str] = "steps"
    streams: tuple[int, ...] = (2,)

    def next_stage(self, done: Sequence[StageOutcome]) -> Load | None:
        told = [one.load.value for one in done]
        if told != list(self.streams[: len(done)]):
            raise AssertionError(f"told of the stages {told}")
        return (
            ConcurrencyLoad(self.streams[len(done)], 8) if len(done) < len(self.streams) else None
        )

    def deciding(self, done: Sequence[StageOutcome]) -> int:
        return len(done) - 1

    @property
    def requests(self) -> int:
        return 8

    @property
    def warm_up(self) -> Load:
        return ConcurrencyLoad(2, 8)


class OnStandin(Attempt):
    """Shows the next state of the device whenever a stage begins or has ended."""

    def __post_init__(self) -> None:
        self.to_show = list(json.loads(sys.argv[1]))
        self.show_next()
        self.body = TrialBody(self.order, self.heard)

    def heard(self, event: TrialEvent) -> None:
        self.events.append(event)
        measured = isinstance(event, PhaseEntered) and event.phase is Phase.MEASURING
        if self.to_show and (measured or isinstance(event, StageDone)):
            self.show_next()

    def show_next(self) -> None:
        reasons, errors, xids = self.to_show.pop(0)
        show(
            Path(os.environ["STANDIN_NVML"]),
            StandinGpu("GPU-a"),
            StandinGpu("GPU-b", power_mw=650_000, clock_reasons=reasons, ecc_errors=errors),
            xids=xids,
        )


def main() -> None:
    streams = tuple(json.loads(sys.argv[2]))
    plain = order()
    real = replace(plain.allocation, gpu_ids=("1",), visible=True)
    attempt = OnStandin(replace(plain, allocation=real, program=Steps(streams)))
    asyncio.run(attempt.run())
    done = attempt.done
    records = [stage.record for stage in attempt.stages]
    sys.stdout.buffer.write(pickle.dumps((records, done.result, done.facts, done.samples)))


if __name__ == "__main__":
    main()
