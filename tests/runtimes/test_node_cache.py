"""Where a node keeps what outlives trials."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtimes.node_cache import node_cache


@pytest.mark.parametrize(
    ("env", "folder"),
    [
        ({"SERVETUNE_CACHE": "/fast/cache", "XDG_CACHE_HOME": "/x"}, "/fast/cache"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/servetune"),
        ({"SERVETUNE_CACHE": "", "XDG_CACHE_HOME": "/x"}, "/x/servetune"),
    ],
)
def test_the_first_variable_that_is_set_wins(env: dict[str, str], folder: str) -> None:
    assert node_cache(env) == Path(folder)


def test_without_variables_it_is_below_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert node_cache({}) == Path("/home/ada/.cache/servetune")
    assert node_cache({"SERVETUNE_CACHE": "~/mine"}) == Path("/home/ada/mine")
