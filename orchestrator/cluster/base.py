"""One protocol for every place where bundles of devices live."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from orchestrator.detection import common_accelerator
from orchestrator.messages import ClusterEvent, TrialOrder
from orchestrator.placement import Bundle
from runtimes.errors import ClusterError
from runtimes.telemetry.gpus import usable_gpus
from runtimes.telemetry.nvml import GpuState
from runtimes.telemetry.release import DirtyGpu

Deliver: TypeAlias = Callable[[ClusterEvent], None]
"""Takes an event from any thread; never blocks."""


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """Where to find devices.

    Attributes:
        kind: `ray`, `local` or `in_process`.
        address: of a Ray cluster: `auto`, `local` to start one, or host:port.
        simulated_gpus: devices that are only counted, per node; None for real ones.
        accelerator: name for the record where no device can be asked.
        max_gpus: devices to take at most; None for all.
        offline: True for a Ray started here that tells nobody of its use, whatever is set.
    """

    kind: str
    address: str = "auto"
    simulated_gpus: int | None = None
    accelerator: str = ""
    max_gpus: int | None = None
    offline: bool = False


class Cluster(Protocol):
    """Bundles of devices, and the means to run trials on them.

    Events reach the `Deliver` given at construction: `FoundBundle` for every bundle, `FromTrial`
    for every event of a launched attempt, ending with exactly one `AttemptDone`, `ReturnedGpu`
    for a device that was watched, or `LostBundle`, after which nothing more comes from that bundle.
    """

    def start(self) -> None:
        """Find bundles and take them; blocks until there is one.

        Raises:
            ClusterError: there is no cluster, or it has no device to give.
        """

    def launch(self, order: TrialOrder) -> None:
        """Start an attempt on the devices its order names; returns at once."""

    def cancel(self, bundle_id: str, number: int, attempt: int) -> None:
        """Stop a running attempt; returns at once. Unknown attempts are passed over."""

    def watch(self, bundle_id: str, gpu: DirtyGpu) -> None:
        """Tell, once, when a foreign device is free again; returns at once."""

    def metrics_targets(self) -> Sequence[str]:
        """`host:port` of what the cluster itself serves to Prometheus; quick, never raises."""

    def close(self) -> None:
        """End every attempt that still runs and give the bundles back; safe to call twice."""


def create_cluster(settings: ClusterSettings, deliver: Deliver) -> Cluster:
    """The cluster of `settings.kind`, not yet started. Ray is imported only when it is used."""
    if settings.kind == "ray":
        from orchestrator.cluster.ray_cluster import RayCluster

        return RayCluster(settings, deliver)
    if settings.kind == "local":
        from orchestrator.cluster.local import LocalCluster

        return LocalCluster(settings, deliver)
    from orchestrator.cluster.in_process import InProcessCluster

    return InProcessCluster(settings, deliver)


def own_bundle(settings: ClusterSettings, bundle_id: str, node: str) -> Bundle:
    """The devices of this node as one bundle.

    Raises:
        ClusterError: there is none that is free.
    """
    if settings.simulated_gpus is not None:
        count = min(settings.simulated_gpus, settings.max_gpus or settings.simulated_gpus)
        ids = tuple(str(index) for index in range(count))
        return Bundle(bundle_id, node, ids, settings.accelerator, visible=False)
    found = usable_gpus(os.environ)
    free = [gpu for gpu in found if gpu.is_free][: settings.max_gpus]
    if not free:
        raise ClusterError(_no_gpu(len(found)))
    return real_bundle(bundle_id, node, tuple(gpu.index for gpu in free), free)


def real_bundle(
    bundle_id: str, node: str, gpu_ids: tuple[str, ...], gpus: Sequence[GpuState]
) -> Bundle:
    """Devices with what their driver says of them: `gpus`, as many of them as it tells of."""
    known = common_accelerator(gpus) if len(gpus) == len(gpu_ids) else None
    model = gpus[0].name if gpus else ""
    accelerator = "" if known is None else known.name
    return Bundle(bundle_id, node, gpu_ids, model, accelerator=accelerator)


def _no_gpu(found: int) -> str:
    if found:
        return f"all {found} GPUs of this node are in use by others; free some, then run again"
    return (
        "this node has no GPU (neither NVML nor nvidia-smi lists one). Use a Ray cluster that has "
        "some (`cluster.address`), or count slots without devices with `cluster.simulated_gpus`"
    )
