"""Where a server that somebody else runs is reached."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[\w.:%~-]+")
_PATH = re.compile(r"[\w.:%~/@+,=-]*", re.ASCII)
_VERSION = "/v1"


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a server's routes are.

    Attributes:
        host, port: where it listens.
        tls: whether it speaks TLS.
        path: what its routes begin with, as behind a gateway: `/openai` for one that answers at
            `/openai/v1/completions`. Empty, or without a slash at its end.
    """

    host: str
    port: int
    tls: bool = False
    path: str = ""

    @classmethod
    def of(cls, url: str) -> ServerAddress:
        """The address that `url` names; `/v1` at its end, which every route has, is left out.

        Raises:
            ValueError: it is no such URL; the message says what is wrong with it.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"{url!r} is no URL: {error}") from None
        if parts.scheme not in _PORTS:
            raise ValueError(f"{url!r} does not begin with http:// or https://")
        if not parts.hostname:
            raise ValueError(f"{url!r} names no host")
        if not _HOST.fullmatch(parts.hostname):
            raise ValueError(f"{url!r} has a host that is neither a name nor an address")
        if port == 0:
            raise ValueError(f"{url!r}: nothing listens on port 0")
        if parts.username or parts.password:
            raise ValueError("a URL may not hold a user name or password; give an API key")
        if parts.query or parts.fragment:
            raise ValueError(f"{url!r} has a query or a fragment, which routes cannot follow")
        if not _PATH.fullmatch(parts.path):
            raise ValueError(f"{url!r} has a path with characters that have to be escaped (%20)")
        path = parts.path.rstrip("/").removesuffix(_VERSION).rstrip("/")
        return cls(parts.hostname, port or _PORTS[parts.scheme], parts.scheme == "https", path)

    @property
    def url(self) -> str:
        """The address as a URL, its port written out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{self.path}"

    def tls_context(self) -> ssl.SSLContext | None:
        """How its certificate is checked: by the system's authorities; None for plain HTTP.

        `SSL_CERT_FILE` names further ones, as for every OpenSSL program.
        """
        return ssl.create_default_context() if self.tls else None
