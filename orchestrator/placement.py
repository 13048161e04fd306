"""Which devices a deployment gets: arithmetic on an inventory, nothing else."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from runtimes.errors import InternalError
from runtimes.plan import Allocation


@dataclass(frozen=True, slots=True)
class Bundle:
    """Devices of one node that one bundle actor owns.

    Attributes:
        gpu_ids: device ids in the order of their topology, neighbours next to each other.
        visible: True for real devices, exported through CUDA_VISIBLE_DEVICES.
    """

    id: str
    node: str
    gpu_ids: tuple[str, ...]
    gpu_model: str = ""
    visible: bool = True


class Inventory:
    """Bundles and which of their devices are free."""

    def __init__(self) -> None:
        self._bundles: dict[str, Bundle] = {}
        self._free: dict[str, set[str]] = {}

    @property
    def bundles(self) -> Mapping[str, Bundle]:
        return dict(self._bundles)

    @property
    def capacity(self) -> int:
        """Devices in all."""
        return sum(len(bundle.gpu_ids) for bundle in self._bundles.values())

    @property
    def free(self) -> int:
        """Devices that no trial holds."""
        return self.free_without(())

    def free_without(self, kept: Collection[str]) -> int:
        """Devices that no trial holds, those of the bundles `kept` left out."""
        return sum(len(free) for bundle, free in self._free.items() if bundle not in kept)

    @property
    def largest(self) -> int:
        """Devices of the largest bundle: the largest deployment that can ever be placed."""
        return max((len(bundle.gpu_ids) for bundle in self._bundles.values()), default=0)

    def add(self, bundle: Bundle) -> None:
        """Take a bundle into the inventory, all its devices free.

        Raises:
            InternalError: it is there already; its devices may be in use.
        """
        if bundle.id in self._bundles:
            raise InternalError(f"bundle {bundle.id!r} is found a second time")
        self._bundles[bundle.id] = bundle
        self._free[bundle.id] = set(bundle.gpu_ids)

    def remove(self, bundle_id: str) -> None:
        """Forget a bundle that is lost."""
        self._bundles.pop(bundle_id, None)
        self._free.pop(bundle_id, None)

    def allocate(self, gpus: int, kept: Collection[str] = ()) -> Allocation | None:
        """Devices for a deployment of `gpus` GPUs, now held; None when they are not free.

        Best fit: the bundle that has the fewest free devices left over, so that large blocks
        stay whole. Inside it an aligned run of neighbours where there is one. The bundles `kept`
        give nothing.
        """
        fitting = [id for id, free in self._free.items() if len(free) >= gpus and id not in kept]
        if not fitting:
            return None
        chosen = min(fitting, key=lambda id: (len(self._free[id]), id))
        bundle, free = self._bundles[chosen], self._free[chosen]
        devices = _devices(bundle.gpu_ids, free, gpus)
        free.difference_update(devices)
        return Allocation(chosen, bundle.node, devices, bundle.visible)

    def nearest(self, gpus: int, kept: Collection[str] = ()) -> str | None:
        """The bundle that can hold `gpus` GPUs and lacks the fewest of them; None: no such one.

        While nobody else takes devices of it, what it lacks can only shrink.
        """
        large = [
            id
            for id, bundle in self._bundles.items()
            if len(bundle.gpu_ids) >= gpus and id not in kept
        ]
        return min(large, key=lambda id: (-len(self._free[id]), id), default=None)

    def release(self, allocation: Allocation) -> None:
        """Give devices back; those of a lost bundle are forgotten."""
        if allocation.bundle in self._free:
            self._free[allocation.bundle].update(allocation.gpu_ids)


def capacity_reason(gpus: int, bundles: Iterable[Bundle]) -> str | None:
    """Why a deployment of `gpus` GPUs can never be placed on `bundles`; None when it can."""
    sizes = sorted((len(bundle.gpu_ids) for bundle in bundles), reverse=True)
    if sizes and gpus <= sizes[0]:
        return None
    if not sizes:
        return f"needs {gpus} GPUs, the cluster has none"
    total = sum(sizes)
    if gpus <= total:
        return f"needs {gpus} GPUs on one node, the largest has {sizes[0]} ({total} in all)"
    return f"needs {gpus} GPUs, the cluster has {total}"


def _devices(order: Sequence[str], free: set[str], count: int) -> tuple[str, ...]:
    """`count` free devices: an aligned run, else any run of neighbours, else the first free."""
    starts = [*range(0, len(order) - count + 1, count), *range(len(order) - count + 1)]
    for start in starts:
        run = order[start : start + count]
        if free.issuperset(run):
            return tuple(run)
    return tuple([device for device in order if device in free][:count])
