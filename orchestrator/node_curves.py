"""Curves of nodes as files: which an experiment names, and where a calibration writes its own."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

import yaml

from runtimes.errors import UserError
from runtimes.json_types import Json, short_hash
from runtimes.node_curves import NodeCurves, dump_curves, load_curves
from tracking.files import write_atomically

if TYPE_CHECKING:
    from orchestrator.spec.models import ExperimentSpec
    from runtimes.calibration.run import Calibration, Device
    from runtimes.hardware import Accelerator

_PCIE_BYTES_PER_S = 32e9


def curves_of(spec: ExperimentSpec) -> tuple[NodeCurves, ...]:
    """The curves that `cluster.curves` names.

    Raises:
        UserError: a file has gone or changed since the experiment was checked.
    """
    return tuple(load_curves(path) for path in spec.cluster.curves)


def default_path(accelerator: str, device: Device) -> Path:
    """A name in the current folder: the same for equal devices and software, whatever the host."""
    words = "".join(each if each.isalnum() else "-" for each in accelerator.lower())
    kind = short_hash([device.name, device.memory_bytes, dict(device.software)], 6)
    return Path(f"curves-{'-'.join(filter(None, words.split('-')))}-{kind}.json")


def check_writable(path: Path) -> None:
    """Raises: UserError: nothing can be written there; told before minutes are spent."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name a file")
    try:
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise _unwritable(path, error) from None


def check_replaceable(path: Path, accelerator: str) -> None:
    """Raises: UserError: `path` holds something else than curves of that accelerator."""
    if not path.exists():
        return
    try:
        held = load_curves(path).accelerator
    except UserError:
        raise UserError(
            f"{path}: is there already and holds no curves; name another file"
        ) from None
    if held != accelerator:
        raise UserError(
            f"{path}: is there already and holds the curves of {held}, not of {accelerator}; name "
            "another file"
        )


def write_curves(path: Path, curves: NodeCurves) -> None:
    """Put `curves` at `path`, complete or not at all.

    Raises:
        UserError: it cannot be written; what was there still is.
    """
    _write(path, dump_curves(curves))


def write_hardware(path: Path, calibration: Calibration, known: Accelerator | None) -> None:
    """Write the accelerator that was measured down as one of the user's own.

    Raises:
        UserError: it cannot be written, or who makes a CPU is not known.
    """
    entry = hardware_entry(calibration, known)
    if known is None and not entry["vendor"]:
        raise UserError(
            f"{path}: not written, since the vendor of {calibration.device.name} is not known; "
            "describe it by hand"
        )
    document = {"accelerators": {calibration.curves.accelerator: entry}}
    _write(path, yaml.safe_dump(document, sort_keys=False, allow_unicode=True))


def hardware_entry(calibration: Calibration, known: Accelerator | None) -> dict[str, Json]:
    """What was measured, under the keys of `runtimes.hardware.Accelerator`.

    Rates are the highest that were reached, so no share of them that curves tell is above 1.

    Args:
        calibration: with the name that the accelerator shall have.
        known: the accelerator it is; it tells what cannot be measured.
    """
    curves, device = calibration.curves, calibration.device
    software = ", ".join(f"{name} {version}" for name, version in curves.software.items())
    entry: dict[str, Json] = {"like": known.name} if known is not None else {}
    if known is None:
        entry["vendor"] = device.vendor
    entry["memory_bytes"] = device.memory_bytes
    for number_format, curve in curves.gemm_flops.items():
        entry[f"{number_format}_flops"] = max(rate for _, rate in curve)
    entry["memory_bytes_per_s"] = max(curves.copy_bytes_per_s, *curves.gemm_bytes_per_s.values())
    if curves.all_reduce_s:
        ranks = max(curves.all_reduce_s)
        entry["link_bytes_per_s"] = bus_bytes_per_s(curves, ranks)
        entry["link"] = f"as all-reduce of {ranks} ranks uses it"
    elif known is None and device.kind == "cpu":
        entry["link_bytes_per_s"] = curves.copy_bytes_per_s / 2
        entry["link"] = "memory of one machine"
    elif known is None:
        entry["link_bytes_per_s"] = _PCIE_BYTES_PER_S
        entry["link"] = "PCIe 4, assumed: no group of ranks was measured"
    entry["source"] = f"servetune calibrate of {device.name}, {curves.measured_at}, {software}"
    return entry


def bus_bytes_per_s(curves: NodeCurves, ranks: int) -> float:
    """What each rank of the largest all-reduce sends per second: 2 (n - 1) / n of the tensor."""
    return max(2 * (ranks - 1) / ranks * size / took for size, took in curves.all_reduce_s[ranks])


def _write(path: Path, text: str) -> None:
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path}: cannot be written: {error.strerror}; name another file")
