"""Errors of GPUs as the driver reports them while they happen: Xids."""

from __future__ import annotations

import ctypes
from collections.abc import Collection

from runtimes.telemetry.nvml import library, told

_MOST = 1000
"""Events taken at once: a device that floods the driver's queue does not hold its reader."""


class XidWatch:
    """Hears the Xids of some devices, from now until it is closed.

    It hears none where NVML cannot be asked, and of devices that report no such events.

    Args:
        gpus: UUIDs of the devices.
    """

    def __init__(self, gpus: Collection[str]) -> None:
        self._events: object | None = None
        self._by_handle: dict[int | None, str] = {}
        nvml = library()
        if nvml is None or not gpus:
            return
        self._events = told(nvml, nvml.nvmlEventSetCreate)
        kind = nvml.nvmlEventTypeXidCriticalError
        for uuid in gpus if self._events is not None else ():
            handle = told(nvml, nvml.nvmlDeviceGetHandleByUUID, uuid)
            if handle is not None:
                told(nvml, nvml.nvmlDeviceRegisterEvents, handle, kind, self._events)
                self._by_handle[_address(handle)] = uuid

    def taken(self) -> list[tuple[str, int]]:
        """Device and code of every Xid since it was last asked; does not wait for any."""
        nvml = library()
        if nvml is None or self._events is None:
            return []
        found: list[tuple[str, int]] = []
        while len(found) < _MOST:
            event = told(nvml, nvml.nvmlEventSetWait_v2, self._events, 0)
            if event is None:
                break
            uuid = self._by_handle.get(_address(event.device))
            if uuid is not None:
                found.append((uuid, int(event.eventData)))
        return found

    def close(self) -> None:
        nvml = library()
        if nvml is not None and self._events is not None:
            told(nvml, nvml.nvmlEventSetFree, self._events)
            self._events = None


def _address(handle: object) -> int | None:
    """Where a device's handle points: its identity, which a lost device keeps."""
    return ctypes.cast(handle, ctypes.c_void_p).value  # type: ignore[arg-type]  # a pointer
