"""Which devices a deployment gets: arithmetic on an inventory, nothing else."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from runtimes.errors import InternalError
from runtimes.plan import Allocation


@dataclass(frozen=True, slots=True)
class Room:
    """What a bundle can hold at most: so many GPUs, for deployments that ask for these labels."""

    gpus: int
    labels: frozenset[str] = frozenset()

    def takes(self, gpus: int, label: str | None) -> bool:
        """Whether a deployment of `gpus` GPUs that has to run on nodes with `label` fits."""
        return gpus <= self.gpus and (label is None or label in self.labels)


def node_label(node: str) -> str:
    """The label that a study gives one node alone, for a trial that has to run there."""
    return f"node={node}"


@dataclass(frozen=True, slots=True)
class Bundle:
    """Devices of one node that one bundle actor owns.

    Attributes:
        gpu_ids: device ids in the order of their topology, neighbours next to each other.
        gpu_model: what the driver calls them.
        visible: True for real devices, exported through CUDA_VISIBLE_DEVICES.
        labels: of its node; an engine's environment may ask for one.
        accelerator: name of the known accelerator that all its devices are; empty for none.
    """

    id: str
    node: str
    gpu_ids: tuple[str, ...]
    gpu_model: str = ""
    visible: bool = True
    labels: frozenset[str] = frozenset()
    accelerator: str = ""

    @property
    def room(self) -> Room:
        """What it holds when all its devices are in order."""
        return Room(len(self.gpu_ids), self.labels)

    def has(self, label: str | None) -> bool:
        """Whether its node is one for deployments that ask for `label`; None asks for nothing."""
        return label is None or label in self.labels


class Inventory:
    """Bundles, which of their devices are free, and which are withheld.

    A device is withheld while somebody outside the study uses it (foreign), or for good
    (quarantined): it is not given out, and no part of what there is to use.
    """

    def __init__(self) -> None:
        self._bundles: dict[str, Bundle] = {}
        self._free: dict[str, set[str]] = {}
        self._foreign: dict[str, set[str]] = {}
        self._quarantined: dict[str, set[str]] = {}
        self._usable: dict[str, int] = {}

    @property
    def bundles(self) -> Mapping[str, Bundle]:
        return dict(self._bundles)

    @property
    def capacity(self) -> int:
        """Devices that there are to use: all that are not withheld."""
        return sum(self._usable.values())

    @property
    def foreign(self) -> int:
        """Devices that somebody else uses at present."""
        return sum(map(len, self._foreign.values()))

    @property
    def quarantined(self) -> int:
        """Devices that are not given out any more."""
        return sum(map(len, self._quarantined.values()))

    @property
    def free(self) -> int:
        """Devices that no trial holds."""
        return self.free_without(())

    def free_without(self, kept: Collection[str]) -> int:
        """Devices that no trial holds, those of the bundles `kept` left out."""
        return sum(len(free) for bundle, free in self._free.items() if bundle not in kept)

    @property
    def rooms(self) -> tuple[Room, ...]:
        """What every bundle can ever hold: foreign devices come back, quarantined ones do not."""
        return tuple(
            Room(len(bundle.gpu_ids) - len(self._quarantined[id]), bundle.labels)
            for id, bundle in self._bundles.items()
        )

    def add(self, bundle: Bundle) -> None:
        """Take a bundle into the inventory, all its devices free.

        Raises:
            InternalError: it is there already; its devices may be in use.
        """
        if bundle.id in self._bundles:
            raise InternalError(f"bundle {bundle.id!r} is found a second time")
        self._bundles[bundle.id] = bundle
        self._free[bundle.id] = set(bundle.gpu_ids)
        self._foreign[bundle.id] = set()
        self._quarantined[bundle.id] = set()
        self._count(bundle.id)

    def remove(self, bundle_id: str) -> None:
        """Forget a bundle that is lost."""
        for devices in (self._free, self._foreign, self._quarantined):
            devices.pop(bundle_id, None)
        self._bundles.pop(bundle_id, None)
        self._usable.pop(bundle_id, None)

    def quarantine(self, bundle_id: str, gpu_ids: Collection[str]) -> None:
        """Give these devices out no more; unknown ones are passed over."""
        known = self._known(bundle_id, gpu_ids)
        if known:
            self._free[bundle_id] -= known
            self._foreign[bundle_id] -= known
            self._quarantined[bundle_id] |= known
            self._count(bundle_id)

    def withhold(self, bundle_id: str, gpu_ids: Collection[str]) -> None:
        """Give these devices out no more until `give_back`: somebody else uses them."""
        known = self._known(bundle_id, gpu_ids)
        if known:
            self._free[bundle_id] -= known
            self._foreign[bundle_id] |= known - self._quarantined[bundle_id]
            self._count(bundle_id)

    def give_back(self, bundle_id: str, gpu_ids: Collection[str]) -> None:
        """Foreign devices are free again; what was not withheld is passed over."""
        returned = self._foreign.get(bundle_id, set()) & set(gpu_ids)
        if returned:
            self._foreign[bundle_id] -= returned
            self._free[bundle_id] |= returned
            self._count(bundle_id)

    def allocate(
        self, gpus: int, kept: Collection[str] = (), *, label: str | None = None
    ) -> Allocation | None:
        """Devices for a deployment of `gpus` GPUs, now held; None when they are not free.

        Best fit: the bundle that has the fewest free devices left over, so that large blocks
        stay whole. Inside it an aligned run of neighbours where there is one. The bundles `kept`
        give nothing, nor those of nodes without `label`.
        """
        fitting = [
            id
            for id, free in self._free.items()
            if len(free) >= gpus and self._bundles[id].has(label) and id not in kept
        ]
        if not fitting:
            return None
        chosen = min(fitting, key=lambda id: (len(self._free[id]), id))
        bundle, free = self._bundles[chosen], self._free[chosen]
        devices = _devices(bundle.gpu_ids, free, gpus)
        free.difference_update(devices)
        return Allocation(chosen, bundle.node, devices, bundle.visible)

    def nearest(
        self, gpus: int, kept: Collection[str] = (), *, label: str | None = None
    ) -> str | None:
        """The bundle that can hold `gpus` GPUs and lacks the fewest of them; None: no such one.

        While nobody else takes devices of it, what it lacks can only shrink; so one that would
        have to wait for foreign devices is no such one.
        """
        large = [
            id
            for id, bundle in self._bundles.items()
            if self._usable[id] >= gpus and bundle.has(label) and id not in kept
        ]
        return min(large, key=lambda id: (-len(self._free[id]), id), default=None)

    def release(self, allocation: Allocation) -> None:
        """Give devices back; those of a lost bundle are forgotten, withheld ones stay so."""
        id = allocation.bundle
        if id in self._free:
            withheld = self._foreign[id] | self._quarantined[id]
            self._free[id].update(set(allocation.gpu_ids) - withheld)

    def _count(self, bundle_id: str) -> None:
        withheld = len(self._foreign[bundle_id]) + len(self._quarantined[bundle_id])
        self._usable[bundle_id] = len(self._bundles[bundle_id].gpu_ids) - withheld

    def _known(self, bundle_id: str, gpu_ids: Collection[str]) -> set[str]:
        bundle = self._bundles.get(bundle_id)
        return set() if bundle is None else set(bundle.gpu_ids).intersection(gpu_ids)


def capacity_reason(gpus: int, rooms: Iterable[Room], label: str | None = None) -> str | None:
    """Why a deployment of `gpus` GPUs can never be placed in `rooms`; None when it can.

    `label` is that of the only nodes it can run on.
    """
    every = list(rooms)
    sizes = sorted(
        (room.gpus for room in every if room.gpus and (label is None or label in room.labels)),
        reverse=True,
    )
    if sizes and gpus <= sizes[0]:
        return None
    if not any(room.gpus for room in every):
        return f"needs {gpus} GPUs, the cluster has none"
    if not sizes:
        return f"needs {gpus} GPUs on a node labelled {label}; no node is"
    labelled = f" labelled {label}" if label is not None else ""
    total = sum(sizes)
    if gpus <= total:
        largest = f"the largest has {sizes[0]} ({total} in all)"
        return f"needs {gpus} GPUs on one node{labelled}, {largest}"
    if labelled:
        return f"needs {gpus} GPUs on one node{labelled}; such nodes have {total}"
    return f"needs {gpus} GPUs, the cluster has {total}"


def _devices(order: Sequence[str], free: set[str], count: int) -> tuple[str, ...]:
    """`count` free devices: an aligned run, else any run of neighbours, else the first free."""
    starts = [*range(0, len(order) - count + 1, count), *range(len(order) - count + 1)]
    for start in starts:
        run = order[start : start + count]
        if free.issuperset(run):
            return tuple(run)
    return tuple([device for device in order if device in free][:count])
