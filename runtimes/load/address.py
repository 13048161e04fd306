"""Where a server that somebody else runs is reached."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[\w.:%~-]+")


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Host and port of a server, and whether it speaks TLS."""

    host: str
    port: int
    tls: bool = False

    @classmethod
    def of(cls, url: str) -> ServerAddress:
        """The address that `url` names; a path of `/` or `/v1` is left out.

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
        if parts.path.rstrip("/") not in ("", "/v1") or parts.query or parts.fragment:
            raise ValueError(
                f"{url!r} goes on after host and port; routes below a path do not work"
            )
        return cls(parts.hostname, port or _PORTS[parts.scheme], parts.scheme == "https")

    def tls_context(self) -> ssl.SSLContext | None:
        """How its certificate is checked: by the system's authorities; None for plain HTTP.

        `SSL_CERT_FILE` names further ones, as for every OpenSSL program.
        """
        return ssl.create_default_context() if self.tls else None
