"""How long collectives take: a latency by group size, and bytes over a measured bandwidth.

Inside a scale-up domain an all-reduce over n ranks takes α(n) for the first 64 KiB, and
2(n - 1)/n / bus(n) for each byte more. Half of it, the reduce-scatter or the all-gather, moves half
the bytes. Beyond the domain the ranks of a domain first share the work, so that each sends only
its part over the network; the two overlap, and the slower of them counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from runtimes.hardware import ACCELERATORS, Accelerator
from runtimes.node_curves import Curve, NodeCurves
from search.perfmodel._curves import CurveSet, Floats, Ints
from search.perfmodel._measured import ALL_REDUCE, H100, L40S, SMALL_BYTES, measured_as
from search.perfmodel.efficiency import curves_of

_POINT_TO_POINT_S = 10e-6
"""Latency of one send and receive: aiconfigurator's constant."""

_NETWORK_SHARE = 0.8
"""Share of the network's bandwidth that a transfer between nodes reaches; assumed."""

_OTHER_SHARE = 0.6
"""The same for scale-up links of which no measurement is known (ICI, RoCE); assumed, the least
that NVLink reaches on H100."""

_KNOWN_LINKS = ("NVLink", "PCIe", "mesh")

_GROUPS = (2, 4, 8, 16, 32, 64, 128)
"""Ranks at which bandwidths are tabulated; from the largest measured group on the last stands."""

_LARGEST_BOX = 16
"""Links that connect more accelerators than this leave the box (a rack's NVLink, ICI)."""


class Fabric:
    """What connects the GPUs of a sequence of accelerators, and what collectives cost on it.

    Every method takes arrays of one length: indices into `accelerators`, ranks of the group,
    bytes; and gives seconds, 0 for one rank. Ranks fill one scale-up domain before the next.
    More bytes never take less time, and more ranks neither (bandwidths measured to rise with the
    ranks faster than the volume are evened out), with two exceptions: on a full mesh, where two
    ranks share one link and eight share all, larger groups are faster; and between the ranks that
    a node measured itself, its own figures stand as they are.

    Args:
        curves: all-reduces a node measured; they replace the built-in figures of its accelerator
            for those ranks, and the other collectives' that are derived from them.
        node_gpus: GPUs of one node, where that is fewer than the links connect.
    """

    def __init__(
        self,
        accelerators: Sequence[Accelerator],
        curves: Sequence[NodeCurves] = (),
        *,
        node_gpus: int | None = None,
    ) -> None:
        own = [curves_of(one, curves) for one in accelerators]
        reduces = [node.all_reduce_s if node is not None else {} for node in own]
        self._accelerators = accelerators
        self._own = {
            (index, ranks): CurveSet([_rising(curve)], before=0, after=1)
            for index, by_ranks in enumerate(reduces)
            for ranks, curve in by_ranks.items()
        }
        self._domain = np.array(
            [
                max(_domain(one, node_gpus), *by_ranks, 1)
                for one, by_ranks in zip(accelerators, reduces, strict=True)
            ],
            dtype=np.int64,
        )
        self._network = np.array([one.network_bytes_per_s for one in accelerators])
        self._pair = np.array([1 / _bus(one, 2) for one in accelerators])
        self._fixed = CurveSet([_latencies(one) for one in accelerators], before=0, after=0.1)
        self._per_byte = CurveSet([_costs(one) for one in accelerators], before=0, after=0)

    def all_reduce(self, accelerator: Ints, ranks: Ints, bytes_: Floats) -> Floats:
        """Every rank gets the sum of the ranks' tensors of `bytes_`."""
        inside = self._inside(accelerator, ranks, bytes_)
        nodes, per_node = self._nodes(accelerator, ranks)
        share = 2 * (nodes - 1) / nodes * bytes_ / per_node
        return self._with_network(accelerator, nodes, inside, share)

    def all_gather(self, accelerator: Ints, ranks: Ints, bytes_: Floats) -> Floats:
        """Every rank gets all of a tensor of `bytes_` of which each holds an equal part."""
        return self.all_reduce(accelerator, ranks, bytes_ / 2)

    def reduce_scatter(self, accelerator: Ints, ranks: Ints, bytes_: Floats) -> Floats:
        """Every rank gets its equal part of the sum of the ranks' tensors of `bytes_`."""
        return self.all_reduce(accelerator, ranks, bytes_ / 2)

    def all_to_all(self, accelerator: Ints, ranks: Ints, bytes_: Floats) -> Floats:
        """Every rank sends an equal part of its `bytes_` to each rank, itself included."""
        inside = self._inside(accelerator, ranks, bytes_ / 2)
        nodes, per_node = self._nodes(accelerator, ranks)
        return self._with_network(accelerator, nodes, inside, (1 - per_node / ranks) * bytes_)

    def point_to_point(self, accelerator: Ints, ranks: Ints, bytes_: Floats) -> Floats:
        """One rank sends `bytes_` to its neighbour in a row of `ranks`.

        A row longer than a domain is as slow as its slowest pair, which the network connects.
        """
        seconds = _POINT_TO_POINT_S + bytes_ * self._hop(accelerator, ranks)
        return np.where(ranks > 1, seconds, 0.0)

    def ring(self, accelerator: Ints, ranks: Ints, bytes_: Floats) -> Floats:
        """Every rank sees all of a tensor of `bytes_`.

        Each holds an equal part, and the parts go from one to the next (ranks - 1) times.
        """
        seconds = _POINT_TO_POINT_S + bytes_ / ranks * self._hop(accelerator, ranks)
        figures: Floats = (ranks - 1) * seconds
        return figures

    def measured(self, accelerator_index: int, ranks: int) -> bool:
        """Whether an all-reduce of so many ranks was measured on that accelerator itself.

        True also between measured sizes, and for one rank, which waits for nobody.
        """
        if ranks == 1 or (accelerator_index, ranks) in self._own:
            return True
        accelerator = self._accelerators[accelerator_index]
        name = _reference(accelerator)
        own_links = accelerator.name == name and not _is_mesh(accelerator)
        largest = min(max(ALL_REDUCE[name].bus), int(self._domain[accelerator_index]))
        return own_links and ranks <= largest

    def _hop(self, accelerator: Ints, ranks: Ints) -> Floats:
        """Seconds per byte between two neighbours in a row of `ranks`."""
        pair = self._pair[accelerator]
        network = 1 / (self._network[accelerator] * _NETWORK_SHARE)
        outside = ranks > self._domain[accelerator]
        return np.where(outside, np.maximum(pair, network), pair)

    def _nodes(self, accelerator: Ints, ranks: Ints) -> tuple[Ints, Ints]:
        """Scale-up domains that the ranks lie in, and ranks in each."""
        per_node = np.minimum(ranks, self._domain[accelerator])
        return -(-ranks // per_node), per_node

    def _inside(self, accelerator: Ints, ranks: Ints, bytes_: Floats) -> Floats:
        """Seconds of an all-reduce of `bytes_` among the ranks of one domain."""
        ranks = np.minimum(ranks, self._domain[accelerator])
        size = ranks.astype(np.float64)
        beyond = np.maximum(bytes_ - SMALL_BYTES, 0)
        seconds = self._fixed(accelerator, size) + beyond * self._per_byte(accelerator, size)
        for (index, group), curve in self._own.items():
            rows = (accelerator == index) & (ranks == group)
            if rows.any():
                seconds[rows] = curve(np.zeros(rows.sum(), dtype=np.int64), bytes_[rows])
        return np.where(ranks > 1, seconds, 0.0)

    def _with_network(
        self, accelerator: Ints, nodes: Ints, inside: Floats, share: Floats
    ) -> Floats:
        """Seconds when each rank also sends `share` bytes over the network."""
        latency = 2 * _POINT_TO_POINT_S * np.log2(nodes)
        network = share / (self._network[accelerator] * _NETWORK_SHARE)
        figures: Floats = latency + np.maximum(inside, network)
        return figures


def _domain(accelerator: Accelerator, node_gpus: int | None) -> int:
    """Accelerators that the fast links connect, in boxes of `node_gpus`."""
    if node_gpus is None or accelerator.scale_up > _LARGEST_BOX:
        return accelerator.scale_up
    return min(accelerator.scale_up, node_gpus)


def _is_mesh(accelerator: Accelerator) -> bool:
    return "mesh" in accelerator.link


def _reference(accelerator: Accelerator) -> str:
    """The accelerator whose measured all-reduces are taken, by the kind of its links."""
    if "PCIe" in accelerator.link:
        return L40S
    like = measured_as(accelerator)
    return like if "NVLink" in accelerator.link and like != L40S else H100


def _bus(accelerator: Accelerator, ranks: int) -> float:
    """Bus bandwidth of an all-reduce in bytes per second: the volume 2(n - 1)/n over the time."""
    if not any(word in accelerator.link for word in _KNOWN_LINKS):
        return accelerator.link_bytes_per_s * _OTHER_SHARE
    reference = _reference(accelerator)
    bus = ALL_REDUCE[reference].bus
    share = bus[min(ranks, max(bus))] / ACCELERATORS[reference].link_bytes_per_s
    links = (ranks - 1) / (accelerator.scale_up - 1) if _is_mesh(accelerator) else 1.0
    return accelerator.link_bytes_per_s * share * min(links, 1.0)


def _latencies(accelerator: Accelerator) -> Curve:
    """Ranks → seconds of a small all-reduce."""
    measured = ALL_REDUCE[_reference(accelerator)].fixed_s
    return tuple((float(ranks), seconds) for ranks, seconds in measured.items())


def _costs(accelerator: Accelerator) -> Curve:
    """Ranks → seconds per byte of a large all-reduce, never falling but on a mesh."""
    costs = [(float(n), 2 * (n - 1) / n / _bus(accelerator, n)) for n in _GROUPS]
    return tuple(costs) if _is_mesh(accelerator) else _never_falling(costs)


def _never_falling(costs: list[tuple[float, float]]) -> Curve:
    """The nearest curve that never falls: where it would, the geometric mean of the points."""
    runs: list[list[tuple[float, float]]] = []
    for point in costs:
        runs.append([point])
        while len(runs) > 1 and _mean(runs[-2]) > _mean(runs[-1]):
            runs[-2:] = [runs[-2] + runs[-1]]
    return tuple((ranks, _mean(run)) for run in runs for ranks, _ in run)


def _mean(points: list[tuple[float, float]]) -> float:
    return float(np.exp(np.mean([np.log(cost) for _, cost in points])))


def _rising(curve: Curve) -> Curve:
    """`curve` with the noise taken out that would make more bytes take less time."""
    sizes, seconds = np.asarray(curve, dtype=np.float64).T
    return tuple(zip(sizes.tolist(), np.maximum.accumulate(seconds).tolist(), strict=True))
