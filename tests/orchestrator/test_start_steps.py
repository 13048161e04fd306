"""Steps of a start: told as they change, at most once a second."""

from __future__ import annotations

import asyncio

from orchestrator.start_steps import StartSteps


def test_the_first_is_told_at_once_and_of_the_next_ones_the_last() -> None:
    async def run() -> list[str]:
        told: list[str] = []
        steps = StartSteps(told.append)
        for number in range(50):
            steps.say("loading weights", f"loading weights, {number} of 50")
        assert told == ["loading weights, 0 of 50"]
        assert steps.words == "loading weights, 49 of 50"
        await asyncio.sleep(1.2)
        steps.say("loading weights", "loading weights, 49 of 50")
        steps.close()
        return told

    assert asyncio.run(run()) == ["loading weights, 0 of 50", "loading weights, 49 of 50"]


def test_nothing_is_told_after_the_end() -> None:
    async def run() -> list[str]:
        told: list[str] = []
        steps = StartSteps(told.append)
        steps.say("launching")
        steps.say("compiling")
        steps.close()
        await asyncio.sleep(1.1)
        return told

    assert asyncio.run(run()) == ["launching"]


def test_the_time_counts_from_the_step_not_from_its_figures() -> None:
    async def run() -> None:
        steps = StartSteps(lambda words: None)
        steps.say("loading weights", "loading weights, 1 of 2")
        await asyncio.sleep(0.05)
        steps.say("loading weights", "loading weights, 2 of 2")
        assert steps.step_s >= 0.05
        before_s = steps.step_s
        steps.say("compiling")
        assert steps.step_s < before_s
        steps.close()

    asyncio.run(run())
