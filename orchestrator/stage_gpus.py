"""The devices of an attempt while a stage is measured: read beside it, and summed up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

from runtimes.telemetry.gpu_watch import GpuReading, GpuWatch
from runtimes.telemetry.nvml import GpuState
from runtimes.telemetry.throttling import reasons_of
from tracking.records import GpuUse, Sample

GPU_THROTTLED = "gpu_throttled"
"""Flag of a stage in which a device was throttled for more than `_THROTTLED_SHARE` of it."""
GPU_ERRORS = "gpu_errors"
"""Flag of a stage in which a device reported an error of its own."""

_THROTTLED_SHARE = 0.05
_INTERVAL_S = 1.0


@asynccontextmanager
async def watched(watch: GpuWatch) -> AsyncIterator[None]:
    """Read the devices while the block runs: before it, about once a second, and after it."""
    if not watch.gpu_ids:
        yield
        return
    await asyncio.to_thread(watch.read)
    reading = asyncio.ensure_future(_keep_reading(watch))
    try:
        yield
    finally:
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
        await asyncio.to_thread(watch.close)


async def _keep_reading(watch: GpuWatch) -> None:
    """Read in the middle of each interval, until cancelled."""
    loop = asyncio.get_running_loop()
    at_s = loop.time() + _INTERVAL_S / 2
    while True:
        await asyncio.sleep(max(0.0, at_s - loop.time()))
        await asyncio.to_thread(watch.read)
        at_s = max(at_s + _INTERVAL_S, loop.time())


def samples_of(watch: GpuWatch, stage: int) -> Iterator[Sample]:
    """Every reading as samples of `stage`."""
    for reading in watch.readings:
        for gpu, state in reading.states.items():
            for metric, value in state.metrics.items():
                yield Sample(reading.at_ns, reading.unix_s, stage, metric, "", value, gpu)


def use_of(watch: GpuWatch) -> tuple[GpuUse, ...]:
    """What each device that answered did, in the order of `GpuWatch.gpu_ids`.

    Figures are of the readings while the load ran; of one that was too short for any, of those
    before and after it.
    """
    during = watch.readings[1:-1] or watch.readings
    return tuple(
        _use(gpu, [reading.states[gpu] for reading in during if gpu in reading.states], watch)
        for gpu in watch.gpu_ids
        if any(gpu in reading.states for reading in during)
    )


def flags_of(use: Sequence[GpuUse]) -> list[str]:
    """Flags of a stage in which the devices did `use`."""
    flags = []
    if any((device.throttled_ratio or 0.0) > _THROTTLED_SHARE for device in use):
        flags.append(GPU_THROTTLED)
    if any(device.ecc_errors or device.xids for device in use):
        flags.append(GPU_ERRORS)
    return flags


def _use(gpu: str, states: Sequence[GpuState], watch: GpuWatch) -> GpuUse:
    reasons = dict.fromkeys(
        reason for state in states for reason in reasons_of(state.clock_reasons or 0)
    )
    limits = [state.power_limit_w for state in states if state.power_limit_w is not None]
    heats = [state.temperature_c for state in states if state.temperature_c is not None]
    return GpuUse(
        gpu=gpu,
        uuid=states[0].uuid,
        samples=len(states),
        sm_clock_mean_mhz=_mean([state.sm_clock_mhz for state in states]),
        memory_clock_mean_mhz=_mean([state.memory_clock_mhz for state in states]),
        power_mean_w=_mean([state.power_w for state in states]),
        power_limit_w=min(limits, default=None),
        temperature_max_c=max(heats, default=None),
        utilization_mean=_mean([state.utilization_ratio for state in states]),
        throttled_ratio=_mean([state.throttled for state in states]),
        throttle_reasons=tuple(reasons),
        ecc_errors=_grown_errors(gpu, watch.readings),
        xids=tuple(code for device, code in watch.xids if device == gpu),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _grown_errors(gpu: str, readings: Sequence[GpuReading]) -> int | None:
    """Errors counted between the first reading and the last; None where they are not counted."""
    counted = [
        state.ecc_errors
        for reading in readings
        if (state := reading.states.get(gpu)) is not None and state.ecc_errors is not None
    ]
    return max(0, counted[-1] - counted[0]) if counted else None
