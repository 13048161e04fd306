"""The environment that engines get: what is inherited, what is taken out, what no proxy serves."""

from __future__ import annotations

import pytest

from runtimes.supervisor import engine_environment

LOOPBACK = "127.0.0.1,localhost,::1,0.0.0.0"


def environment(base: dict[str, str], **extra: str) -> dict[str, str]:
    return engine_environment(base, extra=extra, secrets={}, visible_devices=None)


@pytest.mark.parametrize(
    "name",
    [
        "RAY_ADDRESS",
        "RAY_JOB_ID",
        "OMP_NUM_THREADS",
        "PYTHONPATH",
        "PYTHONHOME",
        "PYTHONBREAKPOINT",
        "VIRTUAL_ENV",
        "CUDA_VISIBLE_DEVICES",
    ],
)
def test_what_is_scrubbed_and_can_be_set_again(name: str) -> None:
    base = {name: "inherited", "HOME": "/home/someone"}
    assert name not in environment(base)
    assert environment(base)["HOME"] == "/home/someone"
    assert environment(base, **{name: "wanted"})[name] == "wanted"
    assert base[name] == "inherited"


@pytest.mark.parametrize(
    ("devices", "shown"), [(["3"], "3"), (["0", "2"], "0,2"), (["GPU-8f"], "GPU-8f"), ([], "")]
)
def test_devices_of_the_allocation_win(devices: list[str], shown: str) -> None:
    made = engine_environment(
        {"CUDA_VISIBLE_DEVICES": "0,1,2,3"},
        extra={"CUDA_VISIBLE_DEVICES": "7"},
        secrets={},
        visible_devices=devices,
    )
    assert made["CUDA_VISIBLE_DEVICES"] == shown


def test_secrets_reach_the_engine() -> None:
    made = engine_environment(
        {}, extra={"HF_TOKEN": "old"}, secrets={"HF_TOKEN": "hf_new"}, visible_devices=None
    )
    assert made["HF_TOKEN"] == "hf_new"


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        pytest.param({}, LOOPBACK, id="absent"),
        pytest.param({"NO_PROXY": "a.example, b"}, f"a.example,b,{LOOPBACK}", id="list"),
        pytest.param({"no_proxy": "localhost"}, "localhost,127.0.0.1,::1,0.0.0.0", id="in-part"),
        pytest.param({"no_proxy": "low", "NO_PROXY": "up"}, f"low,{LOOPBACK}", id="two"),
        pytest.param({"NO_PROXY": "*"}, "*", id="everything"),
    ],
)
def test_no_proxy_serves_loopback(base: dict[str, str], expected: str) -> None:
    made = environment(base)
    assert (made["NO_PROXY"], made["no_proxy"]) == (expected, expected)


def test_the_users_no_proxy_wins() -> None:
    made = environment({"no_proxy": "base.example"}, NO_PROXY="user.example")
    assert made["no_proxy"] == made["NO_PROXY"] == f"user.example,{LOOPBACK}"


def test_addresses_of_the_deployment_are_reached_without_a_proxy() -> None:
    made = engine_environment(
        {"NO_PROXY": "a.example"},
        extra={},
        secrets={},
        visible_devices=None,
        hosts=["10.0.0.7", "127.0.0.1"],
    )
    assert made["no_proxy"] == made["NO_PROXY"] == f"a.example,{LOOPBACK},10.0.0.7"
