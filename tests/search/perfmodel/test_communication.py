"""Collectives: the measured points, the order of things, and the way out to the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.hardware import ACCELERATORS, Accelerator
from runtimes.node_curves import NodeCurves
from search.perfmodel._curves import Floats, Ints
from search.perfmodel._measured import ALL_REDUCE
from search.perfmodel.communication import Fabric

ALL = tuple(ACCELERATORS.values())
NAMES = [accelerator.name for accelerator in ALL]
FABRIC = Fabric(ALL)
COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "point_to_point", "ring")
GB = 1e9


def seconds(fabric: Fabric, collective: str, index: int, ranks: int, size: float) -> float:
    method: Callable[[Ints, Ints, Floats], Floats] = getattr(fabric, collective)
    return float(method(np.array([index]), np.array([ranks]), np.array([size]))[0])


def of(name: str, collective: str, ranks: int, size: float) -> float:
    return seconds(FABRIC, collective, NAMES.index(name), ranks, size)


@pytest.mark.parametrize("name", ALL_REDUCE)
def test_small_all_reduces_take_the_measured_latency(name: str) -> None:
    for ranks, measured in ALL_REDUCE[name].fixed_s.items():
        assert of(name, "all_reduce", ranks, 1024) == pytest.approx(measured)
        assert of(name, "all_reduce", ranks, 65536) == pytest.approx(measured)


@pytest.mark.parametrize("name", ["A100-80GB", "L40S", "B200"])
def test_large_all_reduces_reach_the_measured_bus_bandwidth(name: str) -> None:
    for ranks, bus in ALL_REDUCE[name].bus.items():
        volume = 2 * (ranks - 1) / ranks * GB
        assert volume / of(name, "all_reduce", ranks, GB) == pytest.approx(bus, rel=0.02)


@pytest.mark.parametrize("name", ["H100", "H200"])
def test_a_bandwidth_that_rises_too_fast_with_the_ranks_is_evened_out(name: str) -> None:
    for ranks, bus in ALL_REDUCE[name].bus.items():
        volume = 2 * (ranks - 1) / ranks * GB
        assert volume / of(name, "all_reduce", ranks, GB) == pytest.approx(bus, rel=0.08)


def test_other_parts_reach_the_share_of_the_links_that_the_measured_one_does() -> None:
    h100, pcie = of("H100", "all_reduce", 2, GB), of("L40S", "all_reduce", 4, GB)
    assert of("H100-NVL", "all_reduce", 2, GB) == pytest.approx(h100 * 450 / 300, rel=0.01)
    assert of("H100-PCIE", "all_reduce", 4, GB) == pytest.approx(pcie / 2, rel=0.01)
    assert of("B300", "all_reduce", 8, GB) == pytest.approx(of("B200", "all_reduce", 8, GB))
    assert of("Gaudi3", "all_reduce", 8, GB) == pytest.approx(1.75 / (0.6 * 525), rel=0.01)


def test_two_ranks_of_a_mesh_share_one_link() -> None:
    two, eight = of("MI300X", "all_reduce", 2, GB), of("MI300X", "all_reduce", 8, GB)
    assert GB / two == pytest.approx(64e9 * 271 / 450, rel=0.01)
    assert 1.75 * GB / eight == pytest.approx(398 / 450 * 448e9, rel=0.01)
    assert of("MI300X", "point_to_point", 8, GB) == pytest.approx(two, rel=0.01)


@pytest.mark.parametrize("collective", COLLECTIVES)
def test_one_rank_waits_for_nobody(collective: str) -> None:
    for index in range(len(ALL)):
        assert seconds(FABRIC, collective, index, 1, GB) == 0


def test_an_all_reduce_is_a_reduce_scatter_and_an_all_gather_of_one_latency() -> None:
    whole = of("B200", "all_reduce", 8, GB)
    parts = of("B200", "reduce_scatter", 8, GB) + of("B200", "all_gather", 8, GB)
    assert parts - whole == pytest.approx(15e-6, rel=0.05)


def test_a_ring_passes_every_part_on() -> None:
    step = of("H100", "point_to_point", 8, GB / 8)
    assert of("H100", "ring", 8, GB) == pytest.approx(7 * step)


def test_beyond_the_domain_each_rank_sends_its_part_over_the_network() -> None:
    network = ACCELERATORS["H100"].network_bytes_per_s * 0.8
    inside = of("H100", "all_reduce", 8, 10 * GB)
    across = of("H100", "all_reduce", 64, 10 * GB)
    assert across > inside
    assert across == pytest.approx(2 * 7 / 8 * 10 * GB / 8 / network, rel=0.01)
    spread = of("H100", "all_to_all", 16, GB)
    assert spread == pytest.approx(GB / 2 / network, rel=0.01)
    assert of("H100", "point_to_point", 16, GB) == pytest.approx(GB / network, rel=0.01)


def test_a_racks_links_leave_the_node_and_a_boxs_do_not() -> None:
    small = Fabric(ALL, node_gpus=4)
    for name, same in (("GB200", True), ("H100", False)):
        index = NAMES.index(name)
        inside = seconds(FABRIC, "all_reduce", index, 8, 1024)
        assert (seconds(small, "all_reduce", index, 8, 1024) == inside) is same
    lone = Fabric([ACCELERATORS["H100"]], node_gpus=1)
    assert seconds(lone, "all_reduce", 0, 2, GB) == pytest.approx(GB / 40e9, rel=0.01)


def test_says_what_was_measured() -> None:
    for name, ranks, expected in (
        ("H100", 1, True),
        ("H100", 6, True),
        ("H100", 8, True),
        ("H100", 16, False),
        ("GB200", 4, True),
        ("GB200", 8, False),
        ("L40S", 2, True),
        ("H100-PCIE", 2, False),
        ("MI300X", 1, True),
        ("MI300X", 8, False),
    ):
        assert FABRIC.measured(NAMES.index(name), ranks) is expected, (name, ranks)


def test_a_nodes_own_all_reduces_replace_the_built_in_ones() -> None:
    node = NodeCurves(
        accelerator="A10G",
        gemm_flops={},
        gemm_bytes_per_s={},
        copy_bytes_per_s=4e11,
        all_reduce_s={2: ((1e3, 2e-5), (1e6, 1.9e-5), (1e8, 1e-2)), 4: ((1e6, 1e-3),)},
    )
    part = ACCELERATORS["A10G"]
    own, built_in = Fabric([part], [node]), Fabric([part])
    assert seconds(own, "all_reduce", 0, 2, 1e8) == pytest.approx(1e-2)
    assert seconds(own, "all_reduce", 0, 2, 1e9) == pytest.approx(1e-1)
    assert seconds(own, "all_reduce", 0, 2, 1.0) == pytest.approx(2e-5)
    assert seconds(own, "all_reduce", 0, 2, 1e6) == pytest.approx(2e-5)  # noise: never faster
    assert seconds(own, "all_gather", 0, 2, 2e8) == pytest.approx(1e-2)
    assert seconds(own, "all_reduce", 0, 4, 2e6) == pytest.approx(2e-3)
    kept = seconds(built_in, "all_reduce", 0, 8, 1e6)
    assert seconds(own, "all_reduce", 0, 8, 1e6) == pytest.approx(kept)
    assert own.measured(0, 2)
    assert not own.measured(0, 8)
    pair = Fabric([replace(part, scale_up=2)], [node])
    assert seconds(pair, "all_reduce", 0, 4, 1e6) == pytest.approx(1e-3)


indices = st.integers(0, len(ALL) - 1)
collectives = st.sampled_from(COLLECTIVES)
ranks_of = st.integers(1, 128)
sizes = st.floats(0, 1e11)
SWITCHED = [index for index, one in enumerate(ALL) if "mesh" not in one.link]


@given(indices, collectives, ranks_of, sizes, st.floats(1, 10))
def test_more_bytes_never_take_less_time(
    index: int, collective: str, ranks: int, size: float, factor: float
) -> None:
    less = seconds(FABRIC, collective, index, ranks, size)
    assert seconds(FABRIC, collective, index, ranks, size * factor) >= less * (1 - 1e-9)


@given(collectives, sizes)
def test_more_ranks_never_take_less_time(collective: str, size: float) -> None:
    ranks = np.arange(1, 129)
    for index in SWITCHED:
        method: Callable[[Ints, Ints, Floats], Floats] = getattr(FABRIC, collective)
        times = method(np.full(128, index), ranks, np.full(128, size))
        assert (np.diff(times) >= -1e-9 * times[1:]).all(), NAMES[index]


@given(st.sampled_from(ALL), collectives, ranks_of, sizes, st.floats(1, 10), st.floats(1, 10))
def test_faster_links_and_networks_are_never_slower(
    accelerator: Accelerator,
    collective: str,
    ranks: int,
    size: float,
    links: float,
    network: float,
) -> None:
    faster = replace(
        accelerator,
        link_bytes_per_s=accelerator.link_bytes_per_s * links,
        network_bytes_per_s=accelerator.network_bytes_per_s * network,
    )
    fabric = Fabric([accelerator, faster])
    slow = seconds(fabric, collective, 0, ranks, size)
    assert seconds(fabric, collective, 1, ranks, size) <= slow * (1 + 1e-9)


def test_rows_of_many_kinds_are_answered_at_once() -> None:
    rng = np.random.default_rng(7)
    count = 200
    which, ranks = rng.integers(0, len(ALL), count), rng.integers(1, 80, count)
    volumes = rng.uniform(1, GB, count)
    for collective in COLLECTIVES:
        together = getattr(FABRIC, collective)(which, ranks, volumes)
        alone = [
            seconds(FABRIC, collective, int(index), int(group), float(size))
            for index, group, size in zip(which, ranks, volumes, strict=True)
        ]
        assert together == pytest.approx(alone)
