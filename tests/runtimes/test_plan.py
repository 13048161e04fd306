from __future__ import annotations

import pytest

from runtimes.plan import ProcessPlan, pasted

VALUES = {"host": "::1", "port": 8000, "master_host": "10.0.0.1", "master_port": 29500, "bin": "/e"}


@pytest.mark.parametrize(
    ("part", "filled"),
    [
        ("{port}", "8000"),
        ("--port={port}", "--port=8000"),
        ("{master_host}:{master_port}", "10.0.0.1:29500"),
        ("tcp://[{host}]:{port}/x", "tcp://[::1]:8000/x"),
        ("{bin}/vllm", "/e/vllm"),
        ("{files}/trtllm.yaml", "{files}/trtllm.yaml"),
    ],
)
def test_placeholders_are_filled_in(part: str, filled: str) -> None:
    assert ProcessPlan((part,)).command(**VALUES) == (filled,)


@pytest.mark.parametrize(
    "part",
    ["{{x}} {port} {host}", '{"a": "{port}"}', "{% if x %}{port}{% endif %}", "say {host}", "port"],
)
def test_what_users_write_with_braces_stays(part: str) -> None:
    assert ProcessPlan((part,)).command(**VALUES) == (part,)


def test_a_pasted_command_knows_no_built_folder() -> None:
    assert pasted(("{bin}/vllm", "serve", "a {bin}/b")) == ("vllm", "serve", "a {bin}/b")
