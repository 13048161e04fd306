"""Why the clocks of a GPU are below their highest, by the bits that NVML tells."""

from __future__ import annotations

THROTTLE_REASONS = {
    0x1: "gpu_idle",
    0x2: "applications_clocks_setting",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
    0x200: "board_limit",
    0x400: "reliability",
}
"""Name of each bit of `nvmlDeviceGetCurrentClocksEventReasons`, as `nvidia-smi` calls it; the
last two are of drivers that still called them throttle reasons (nvml.h)."""

THROTTLED = 0x8 | 0x20 | 0x40 | 0x80
"""Bits of heat, the board's power brake and a hardware slowdown: the device is slower than its
model. A software power cap is none of them: it is how a busy device works."""


def reasons_of(bits: int) -> tuple[str, ...]:
    """Names of the set bits, the lowest first; one that is not known as `0x800`."""
    return tuple(
        THROTTLE_REASONS.get(1 << place, hex(1 << place))
        for place in range(bits.bit_length())
        if bits >> place & 1
    )
