"""URLs of servers that somebody else runs."""

from __future__ import annotations

import pytest

from runtimes.load.address import ServerAddress


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://10.0.0.7:8000", ServerAddress("10.0.0.7", 8000)),
        ("http://10.0.0.7:8000/", ServerAddress("10.0.0.7", 8000)),
        ("http://gpu-3:8000/v1", ServerAddress("gpu-3", 8000)),
        ("http://gpu-3", ServerAddress("gpu-3", 80)),
        ("https://serve.example.org", ServerAddress("serve.example.org", 443, tls=True)),
        ("http://[::1]:8000", ServerAddress("::1", 8000)),
        ("http://gpu_3.internal:8000", ServerAddress("gpu_3.internal", 8000)),
        ("http://[fe80::1%eth0]:8000", ServerAddress("fe80::1%eth0", 8000)),
        ("https://gate/openai/v1/", ServerAddress("gate", 443, tls=True, path="/openai")),
        ("http://gate/openai", ServerAddress("gate", 80, path="/openai")),
        ("http://gate:8000/a/b-c/v1", ServerAddress("gate", 8000, path="/a/b-c")),
        ("http://gate/v10", ServerAddress("gate", 80, path="/v10")),
    ],
)
def test_a_url_is_an_address(url: str, address: ServerAddress) -> None:
    assert ServerAddress.of(url) == address
    assert ServerAddress.of(address.url) == address
    assert (address.tls_context() is not None) == address.tls


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("gpu-3:8000", "does not begin with http:// or https://"),
        ("ftp://gpu-3", "does not begin with http:// or https://"),
        ("http://", "names no host"),
        ("http://gpu-3:99999", "is no URL"),
        ("http://gpu-3:port", "is no URL"),
        ("http://gpu-3/team a", "has a path with characters that have to be escaped"),
        ("http://gpu-3/v1?key=1", "has a query or a fragment"),
        ("http://gpu-3/#v1", "has a query or a fragment"),
        ("http://gpu-3:0", "nothing listens on port 0"),
        ("http://gpu 3:8000", "neither a name nor an address"),
        ("http://gpu-3<:8000", "neither a name nor an address"),
    ],
)
def test_what_is_none_says_why(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ServerAddress.of(url)


def test_a_password_in_it_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="API key") as raised:
        ServerAddress.of("http://me:hunter2@gpu-3:8000")
    assert "hunter2" not in str(raised.value)
