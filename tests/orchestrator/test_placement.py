"""Which devices a trial gets: never two trials on one, neighbours together, or why not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.placement import Bundle, Inventory, Room, capacity_reason
from runtimes.errors import InternalError
from runtimes.plan import Allocation


def bundle(name: str, gpus: int, *, visible: bool = True) -> Bundle:
    return Bundle(name, f"node-{name}", tuple(str(i) for i in range(gpus)), visible=visible)


def inventory(*bundles: Bundle) -> Inventory:
    made = Inventory()
    for one in bundles:
        made.add(one)
    return made


def allocate(held: Inventory, gpus: int) -> Allocation:
    allocation = held.allocate(gpus)
    assert allocation is not None
    return allocation


def test_an_allocation_says_where_and_whether_devices_are_exported() -> None:
    held = inventory(bundle("a", 4, visible=False))
    assert held.allocate(2) == Allocation("a", "node-a", ("0", "1"), visible=False)
    assert (held.capacity, held.free, held.rooms) == (4, 2, (Room(4),))


def test_small_trials_fill_the_fuller_bundle_so_that_large_blocks_stay_whole() -> None:
    held = inventory(bundle("a", 8), bundle("b", 8))
    assert allocate(held, 2).bundle == "a"
    assert [allocate(held, 2).bundle for _ in range(3)] == ["a", "a", "a"]
    assert allocate(held, 8).bundle == "b"
    assert held.allocate(1) is None


def test_devices_are_neighbours_and_aligned_where_they_can_be() -> None:
    held = inventory(bundle("a", 8))
    one = allocate(held, 1)
    assert allocate(held, 4).gpu_ids == ("4", "5", "6", "7")
    assert allocate(held, 2).gpu_ids == ("2", "3")
    held.release(one)
    assert allocate(held, 2).gpu_ids == ("0", "1")


def test_a_run_of_neighbours_is_better_than_none_and_scattered_devices_better_than_waiting() -> (
    None
):
    held = inventory(bundle("a", 8))
    parts = [allocate(held, 1) for _ in range(8)]
    for index in (1, 2, 5):
        held.release(parts[index])
    assert allocate(held, 2).gpu_ids == ("1", "2")
    held.release(parts[7])
    assert allocate(held, 2).gpu_ids == ("5", "7")


def test_a_trial_stays_within_one_bundle() -> None:
    held = inventory(bundle("a", 4), bundle("b", 4))
    assert held.allocate(5) is None
    assert held.free == 8


def test_kept_bundles_give_nothing() -> None:
    held = inventory(bundle("a", 4), bundle("b", 8))
    assert held.allocate(8, kept={"b"}) is None
    kept = held.allocate(2, kept={"a"})
    assert kept is not None
    assert kept.bundle == "b"
    assert held.free_without({"b"}) == 4


def test_the_nearest_bundle_is_the_one_that_lacks_least() -> None:
    held = inventory(bundle("a", 8), bundle("b", 8), bundle("c", 4))
    allocate(held, 4)  # c, which fits exactly
    allocate(held, 4)  # a
    allocate(held, 5)  # b
    assert held.nearest(8) == "a"
    assert held.nearest(8, kept={"a"}) == "b"
    assert held.nearest(8, kept={"a", "b"}) is None
    assert held.nearest(9) is None


def test_devices_of_a_lost_bundle_are_forgotten() -> None:
    held = inventory(bundle("a", 4), bundle("b", 2))
    allocation = allocate(held, 4)
    held.remove("a")
    held.release(allocation)
    assert (held.capacity, held.free, held.rooms) == (2, 2, (Room(2),))
    held.remove("a")
    held.remove("b")
    assert (held.capacity, held.free, held.rooms) == (0, 0, ())
    assert held.allocate(1) is None


def test_a_bundle_is_found_once() -> None:
    held = inventory(bundle("a", 4))
    allocate(held, 2)
    with pytest.raises(InternalError, match="bundle 'a' is found a second time"):
        held.add(bundle("a", 4))
    assert held.free == 2
    held.remove("a")
    held.add(bundle("a", 4))
    assert held.free == 4


@pytest.mark.parametrize(
    ("gpus", "sizes", "reason"),
    [
        (8, [4, 8], None),
        (1, [1], None),
        (1, [], "needs 1 GPUs, the cluster has none"),
        (8, [4, 4], "needs 8 GPUs on one node, the largest has 4 (8 in all)"),
        (9, [4, 4], "needs 9 GPUs, the cluster has 8"),
    ],
)
def test_why_a_trial_can_never_be_placed(gpus: int, sizes: list[int], reason: str | None) -> None:
    assert capacity_reason(gpus, map(Room, sizes)) == reason


def test_a_bundle_is_as_large_as_its_devices_and_labelled_as_its_node() -> None:
    labelled = Bundle("a", "node-a", ("0", "1"), labels=frozenset({"engine-sglang"}))
    assert labelled.room == Room(2, frozenset({"engine-sglang"}))


LABELLED = [Room(8), Room(2, frozenset({"engine-sglang"})), Room(4, frozenset({"engine-sglang"}))]


@pytest.mark.parametrize(
    ("gpus", "label", "reason"),
    [
        (4, "engine-sglang", None),
        (2, "engine-vllm", "needs 2 GPUs on a node labelled engine-vllm; no node is"),
        (
            5,
            "engine-sglang",
            "needs 5 GPUs on one node labelled engine-sglang, the largest has 4 (6 in all)",
        ),
        (8, "engine-sglang", "needs 8 GPUs on one node labelled engine-sglang; such nodes have 6"),
    ],
)
def test_why_a_trial_can_never_be_placed_where_its_engine_is(
    gpus: int, label: str, reason: str | None
) -> None:
    assert capacity_reason(gpus, LABELLED, label) == reason


def test_a_labelled_trial_gets_devices_of_such_a_node_only() -> None:
    held = inventory(bundle("a", 8), labelled("b", 8, "engine-sglang"))
    taken = held.allocate(2, label="engine-sglang")
    assert taken is not None
    assert taken.bundle == "b"
    assert held.allocate(2, label="engine-vllm") is None
    assert held.allocate(8, label="engine-sglang") is None
    assert held.nearest(8, label="engine-sglang") == "b"
    assert held.nearest(8) == "a"
    assert held.nearest(8, label="engine-vllm") is None


def labelled(name: str, gpus: int, *labels: str) -> Bundle:
    ids = tuple(str(index) for index in range(gpus))
    return Bundle(name, f"node-{name}", ids, labels=frozenset(labels))


def test_a_quarantined_device_is_never_given_out_again() -> None:
    held = inventory(bundle("a", 4))
    taken = allocate(held, 2)
    held.quarantine("a", ["1", "3", "9"])
    held.release(taken)
    assert (held.capacity, held.free, held.quarantined) == (2, 2, 2)
    assert held.rooms == (Room(2),)
    assert allocate(held, 2).gpu_ids == ("0", "2")
    held.give_back("a", ["1", "3"])
    assert held.allocate(1) is None


def test_a_foreign_device_comes_back() -> None:
    held = inventory(bundle("a", 4))
    taken = allocate(held, 4)
    held.withhold("a", ["1", "2"])
    held.release(taken)
    assert (held.capacity, held.free, held.foreign) == (2, 2, 2)
    assert held.rooms == (Room(4),), "it is there to be waited for"
    assert held.allocate(3) is None
    assert held.nearest(3) is None, "nobody knows when"
    held.give_back("a", ["2", "0"])
    assert (held.capacity, held.free, held.foreign) == (3, 3, 1)
    assert held.nearest(3) == "a"
    held.quarantine("a", ["1"])
    held.give_back("a", ["1"])
    assert (held.foreign, held.quarantined, held.free) == (0, 1, 3)


def test_withheld_devices_of_an_unknown_bundle_are_passed_over() -> None:
    held = inventory(bundle("a", 2))
    held.withhold("z", ["0"])
    held.quarantine("z", ["0"])
    held.give_back("z", ["0"])
    assert (held.capacity, held.free) == (2, 2)
    held.withhold("a", ["0"])
    held.remove("a")
    held.add(bundle("a", 2))
    assert (held.capacity, held.foreign) == (2, 0)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=60),
)
def test_no_device_is_held_twice_whatever_is_taken_and_given_back(
    sizes: list[int], steps: list[tuple[bool, int]]
) -> None:
    held = inventory(*(bundle(str(index), size) for index, size in enumerate(sizes)))
    taken: list[Allocation] = []
    for take, number in steps:
        if take:
            before = held.free
            allocation = held.allocate(number + 1)
            if allocation is not None:
                assert len(allocation.gpu_ids) == number + 1
                assert held.free == before - number - 1
                taken.append(allocation)
        elif taken:
            held.release(taken.pop(number % len(taken)))
        devices = [(one.bundle, gpu) for one in taken for gpu in one.gpu_ids]
        assert len(set(devices)) == len(devices)
        assert held.free == held.capacity - len(devices)
