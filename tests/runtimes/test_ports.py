"""Held ports, with real sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from random import Random

import pytest

from runtimes.errors import EngineError
from runtimes.failure import FailureKind
from runtimes.ports import MAX_TRIES, PORTS, HeldPort, listened_on

HOST = "127.0.0.1"


@pytest.fixture
def free() -> Iterator[HeldPort]:
    with HeldPort(Random()) as held:
        yield held


def only(port: int) -> range:
    return range(port, port + 1)


def test_the_port_is_in_the_range_and_on_loopback(free: HeldPort) -> None:
    assert free.port in PORTS
    assert (PORTS[0], PORTS[-1]) == (20_000, 32_000)
    assert free.host == HOST


@pytest.mark.parametrize("option", [None, socket.SO_REUSEADDR, socket.SO_REUSEPORT])
def test_nobody_else_binds_a_held_port(free: HeldPort, option: int | None) -> None:
    with socket.socket() as other:
        if option is not None:
            other.setsockopt(socket.SOL_SOCKET, option, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind((HOST, free.port))


def test_a_held_port_answers_nobody(free: HeldPort) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, free.port), timeout=5)


@pytest.mark.parametrize("option", [None, socket.SO_REUSEADDR])
def test_the_engine_binds_right_after_release(free: HeldPort, option: int | None) -> None:
    free.release()
    with socket.socket() as engine:
        if option is not None:
            engine.setsockopt(socket.SOL_SOCKET, option, 1)
        engine.bind((HOST, free.port))
        engine.listen()
        with socket.create_connection((HOST, free.port), timeout=5) as client:
            assert client.getpeername() == (HOST, free.port)


def test_a_released_port_is_not_handed_out_before_its_holder_ends(free: HeldPort) -> None:
    port = free.port
    free.release()
    free.release()
    with pytest.raises(EngineError, match="no free port"):
        HeldPort(Random(), ports=only(port))
    with free:
        pass
    with HeldPort(Random(), ports=only(port)) as again:
        assert again.port == port


def test_holders_at_the_same_time_get_different_ports() -> None:
    holders: list[HeldPort] = []
    gate = threading.Barrier(16)

    def hold() -> None:
        gate.wait()
        holders.append(HeldPort(Random(7)))  # all wish for the same ports in the same order

    threads = [threading.Thread(target=hold) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with ExitStack() as stack:
        ports = {stack.enter_context(holder).port for holder in holders}
        assert len(ports) == len(threads)


def test_the_choice_is_the_generators() -> None:
    with HeldPort(Random(3)) as first, HeldPort(Random(3)) as second:
        wishes = Random(3).sample(PORTS, MAX_TRIES)
        assert wishes.index(first.port) < wishes.index(second.port)


def test_running_out_of_ports_says_what_to_do() -> None:
    with HeldPort(Random()) as held, pytest.raises(EngineError) as raised:
        HeldPort(Random(), ports=only(held.port))
    failure = raised.value.failure
    assert failure.kind is FailureKind.PORT_IN_USE
    assert failure.kind.retryable
    assert f"no free port on 127.0.0.1: 1 of {held.port}–{held.port} tried" in failure.message
    assert "ss -ltn" in failure.remedy


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])  # addresses kept for documentation
def test_an_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(EngineError) as raised:
        HeldPort(Random(), host)
    assert raised.value.failure.kind is FailureKind.INVALID_CONFIG
    assert f"cannot bind a port on '{host}'" in raised.value.failure.message


def test_a_group_holds_every_derived_port_until_release() -> None:
    with HeldPort(Random(), offsets=(0, 1, 233)) as held:
        assert held.group == (held.port, held.port + 1, held.port + 233)
        for port in held.group:
            with socket.socket() as other, pytest.raises(OSError, match="in use"):
                other.bind((HOST, port))
        held.release()
        for port in held.group:
            with socket.socket() as engine:
                engine.bind((HOST, port))
            with pytest.raises(EngineError):
                HeldPort(Random(), ports=only(port))
    for port in held.group:
        with HeldPort(Random(), ports=only(port)):
            pass


def test_a_group_is_passed_over_when_one_of_its_ports_is_taken() -> None:
    with HeldPort(Random()) as first, socket.socket() as other:
        first.release()
        other.bind((HOST, first.port))
        near = range(first.port - 6, first.port)
        with pytest.raises(EngineError, match="with 6 derived from each"):
            HeldPort(Random(), ports=near, offsets=range(7))
        with HeldPort(Random(), ports=near, offsets=(0, 50)) as free:
            assert free.port in near


def test_a_group_that_was_given_up_leaves_nothing_held() -> None:
    with HeldPort(Random()) as blocked:
        before = only(blocked.port - 1)
        with pytest.raises(EngineError):
            HeldPort(Random(), ports=before, offsets=(0, 1))
        with HeldPort(Random(), ports=before) as again:
            assert again.port == before[0]


def test_a_port_held_on_all_addresses_is_nobodys_on_any() -> None:
    with (
        HeldPort(Random(), "0.0.0.0") as held,
        socket.socket() as other,
        pytest.raises(OSError, match="in use"),
    ):
        other.bind((HOST, held.port))


@pytest.mark.parametrize("option", [None, socket.SO_REUSEADDR, socket.SO_REUSEPORT])
def test_a_listener_is_seen(option: int | None) -> None:
    with socket.socket() as server:
        if option is not None:
            server.setsockopt(socket.SOL_SOCKET, option, 1)
        server.bind((HOST, 0))
        port: int = server.getsockname()[1]
        server.listen()
        assert listened_on([port], "0.0.0.0") == (port,)
        assert listened_on([port]) == (port,)
    assert listened_on([port]) == ()


def test_connections_that_wait_out_their_time_are_no_listener() -> None:
    with socket.create_server((HOST, 0)) as server:
        port: int = server.getsockname()[1]
        with socket.create_connection((HOST, port), timeout=5) as client:
            taken, _ = server.accept()
            taken.close()  # the side that closes first keeps the port in TIME_WAIT
            assert client.recv(1) == b""
    with socket.socket() as strict, pytest.raises(OSError, match="in use"):
        strict.bind((HOST, port))
    assert listened_on([port]) == ()
