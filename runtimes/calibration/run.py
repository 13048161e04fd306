"""Runs the probe in an engine's environment, and makes curves of what it says."""

from __future__ import annotations

import asyncio
import json
import math
import statistics
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

from runtimes.calibration.probe.said import TAG
from runtimes.environment.base import prepare
from runtimes.errors import EngineError, MissingToolError, UserError
from runtimes.node_cache import node_cache
from runtimes.node_curves import Curve, NodeCurves
from runtimes.plan import Environment
from runtimes.quantization import bits
from runtimes.supervisor import EngineProcess, engine_environment

DEADLINE_S = 3600.0
"""Of the whole; the probe's parts have shorter ones of their own."""

_START = (
    "import runpy, sys; sys.path.append(sys.argv.pop(1)); "
    "runpy.run_module('probe', run_name='__main__')"
)
_GRACE_S = 2.0
_POLL_S = 0.1
_TAIL_LINES = 12
_FEW_TOKENS = 32
"""Up to so many tokens a GEMM takes as long as reading its weights."""
_IDLE_REMEDY = "see that the node is idle and has memory to spare, then calibrate again"


@dataclass(frozen=True, slots=True)
class Device:
    """What is measured.

    Attributes:
        kind: `cuda` or `cpu`.
        name: as its driver or the system calls it.
        vendor: `nvidia`, `amd`, `intel`, or empty.
        memory_bytes: its memory, or the machine's.
        devices: GPUs that the environment sees, or cores.
        software: names and versions.
    """

    kind: str
    name: str
    vendor: str
    memory_bytes: int
    devices: int
    software: Mapping[str, str]

    @property
    def accelerator(self) -> str:
        """The name of its curves, where `runtimes.hardware` has none for it."""
        return self.name if self.kind == "cuda" else "cpu"


@dataclass(frozen=True, slots=True)
class Begun:
    """A kernel is being measured, at so many sizes."""

    part: str
    points: int


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a kernel, in the unit of its curve."""

    part: str
    size: float
    value: float


@dataclass(frozen=True, slots=True)
class Failed:
    """The rest of a kernel's figures cannot be had."""

    part: str
    reason: str


Event: TypeAlias = Device | Begun | Figure | Failed


@dataclass(frozen=True, slots=True)
class Calibration:
    """Curves, named as the driver names the device, and what was measured."""

    curves: NodeCurves
    device: Device


async def calibrate(
    environment: Environment,
    *,
    env: Mapping[str, str],
    visible_devices: Sequence[str] | None,
    ranks: Sequence[int] | None = None,
    quick: bool = False,
    on_event: Callable[[Event], None],
    on_progress: Callable[[str], None],
    deadline_s: float = DEADLINE_S,
) -> Calibration:
    """Measure this node with the torch of `environment`; what is started ends with the call.

    Args:
        environment: with an interpreter of this node, or requirements that one is built of.
        env: usually `os.environ`.
        visible_devices: GPUs to use; None for all that there are.
        ranks: sizes of the groups that all-reduce is measured with; None for those that fit.
        quick: True for fewer sizes.
        on_event: told everything as it is measured; what it raises ends the measurement.
        on_progress: told how an environment is built, in words.
        deadline_s: when the probe is given up.

    Raises:
        UserError: the environment cannot be used or has no torch, the probe ended early or said
            nothing that can be understood, or the least that curves consist of is missing.
    """
    with TemporaryDirectory(prefix="servetune-calibrate-") as scratch:
        folder = Path(scratch)
        try:
            prepared = await prepare(
                environment,
                cache=node_cache(env),
                log=folder / "environment.log",
                env=env,
                on_progress=on_progress,
            )
        except EngineError as error:
            failure = error.failure
            raise UserError(f"{failure.message}; {failure.remedy}") from None
        python = (environment.interpreter or "").format(bin=prepared.bin)
        argv = [python, "-c", _START, str(Path(__file__).parent)]
        argv += ["--quick"] if quick else []
        argv += [] if ranks is None else ["--ranks", ",".join(map(str, ranks))]
        # Threads that wait for each other by spinning lose whole time slices beside other work.
        extra = {"OMP_WAIT_POLICY": env.get("OMP_WAIT_POLICY", "PASSIVE")}
        if visible_devices is not None:
            extra["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        variables = engine_environment(
            env, extra=extra, secrets={}, visible_devices=visible_devices
        )
        launch = prepared.launch(argv, variables, devices=visible_devices, files=folder, model="")
        heard = _Heard(python)
        async with EngineProcess.running(
            launch.argv,
            env=launch.env,
            log_path=folder / "probe.log",
            cwd=folder,
            grace_s=_GRACE_S,
        ) as process:
            async with aclosing(_lines(process, deadline_s)) as lines:
                async for line in lines:
                    for event in heard.take(line):
                        on_event(event)
            heard.check_end(process)
    return heard.calibration()


async def _lines(process: EngineProcess, deadline_s: float) -> AsyncGenerator[str, None]:
    """What the process writes, line by line, until it and all it started are gone.

    Raises:
        UserError: that takes longer than `deadline_s`.
    """
    ended = asyncio.ensure_future(process.wait())
    end_s = asyncio.get_running_loop().time() + deadline_s
    rest = b""
    try:
        with process.log_path.open("rb") as log:
            while True:
                over = ended.done()
                *whole, rest = (rest + log.read()).split(b"\n")
                for line in whole:
                    yield line.decode(errors="replace")
                if over:
                    return
                if asyncio.get_running_loop().time() > end_s:
                    raise UserError(
                        f"the probe did not end within {deadline_s:.0f} s; {_IDLE_REMEDY}"
                        f"{_tail(process)}"
                    )
                await asyncio.wait({ended}, timeout=_POLL_S)
    finally:
        ended.cancel()


def _tail(process: EngineProcess) -> str:
    """The end of its log, set apart; what the probe says to us left out."""
    lines = [line for line in process.log_tail().splitlines() if line and TAG not in line]
    return "".join(f"\n    {line[:200]}" for line in lines[-_TAIL_LINES:])


class _Heard:
    """What the probe has said so far."""

    def __init__(self, python: str) -> None:
        self._python = python
        self._device: Device | None = None
        self._points: dict[str, list[tuple[float, float]]] = {}
        self._missing: dict[str, str] = {}
        self._ended = False

    def take(self, line: str) -> list[Event]:
        """The events of one line; none for what libraries write.

        Raises:
            UserError: there is no torch, or the line is none that a probe writes.
        """
        _, tag, text = line.partition(TAG)
        if not tag:
            return []
        try:
            said = json.loads(text)
            return self._understood(said)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise UserError(
                f"{self._python}: the probe said what is no figure: {text[:120]!r}; {_IDLE_REMEDY}"
            ) from None

    def _understood(self, said: Mapping[str, Any]) -> list[Event]:
        if "no_torch" in said:
            raise MissingToolError(
                f"{self._python}: cannot import torch ({said['no_torch']}); name the interpreter "
                "that an engine is installed for, as /opt/vllm/bin/python"
            )
        if "end" in said:
            self._ended = True
            return []
        if "device" in said:
            facts = dict(said["device"])
            facts.pop("cache_bytes")
            self._device = Device(**facts)
            return [self._device]
        part = said["part"]
        if "points" in said:
            self._points.setdefault(part, [])
            return [Begun(part, said["points"])]
        if "reason" in said:
            first = part not in self._missing  # later ones follow from it
            self._missing.setdefault(part, str(said["reason"]))
            return [Failed(part, self._missing[part])] if first else []
        size, value = float(said["size"]), float(said["value"])
        points = self._points[part]
        if not (math.isfinite(value) and value > 0 and size > (points[-1][0] if points else 0)):
            raise ValueError
        points.append((size, value))
        return [Figure(part, size, value)]

    def check_end(self, process: EngineProcess) -> None:
        """Raises: UserError: the probe did not come to its end."""
        if self._ended:
            return
        code = process.exit_code or 0
        ending = f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"
        during = f" while measuring {list(self._points)[-1]}" if self._points else ""
        reason = f": {self._missing['device']}" if "device" in self._missing else ""
        raise UserError(
            f"{self._python}: the probe {ending}{during}{reason}; name a Python with torch, or "
            f"{_IDLE_REMEDY}{_tail(process)}"
        )

    def calibration(self) -> Calibration:
        """The curves.

        Raises:
            UserError: no copy or no GEMM was measured.
        """
        gemms = self._curves("gemm ")
        copies = self._points.get("copy")
        if self._device is None or not copies or "bf16" not in gemms:
            reasons = "; ".join(f"{part}: {why}" for part, why in self._missing.items())
            raise UserError(f"too little could be measured: {reasons}; {_IDLE_REMEDY}")
        curves = NodeCurves(
            accelerator=self._device.accelerator,
            gemm_flops=gemms,
            gemm_bytes_per_s={name: _weights_read(name, curve) for name, curve in gemms.items()},
            copy_bytes_per_s=copies[-1][1],
            prefill_attention_flops=tuple(self._points.get("prefill attention", ())),
            decode_attention_s=tuple(self._points.get("decode attention", ())),
            all_reduce_s={
                int(ranks): curve for ranks, curve in self._curves("all-reduce ").items()
            },
            software=dict(self._device.software),
            measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
            missing=dict(self._missing),
        )
        return Calibration(curves, self._device)

    def _curves(self, prefix: str) -> dict[str, Curve]:
        return {
            part.removeprefix(prefix): tuple(points)
            for part, points in self._points.items()
            if part.startswith(prefix) and points
        }


def _weights_read(number_format: str, curve: Curve) -> float:
    """Bytes of weights per second at few tokens: 2 · tokens operations a weight."""
    size_bytes = bits(number_format) / 8
    return statistics.median(
        flops / (2 * tokens) * size_bytes for tokens, flops in curve if tokens <= _FEW_TOKENS
    )
