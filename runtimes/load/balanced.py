"""One client for several servers of one deployment: each request goes to the least busy one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from runtimes.load.http import HttpClient, LoadClient, Receiver


def balanced(clients: Sequence[HttpClient]) -> LoadClient:
    """A client of all the servers that `clients` speak to; of a single one, that client itself."""
    return clients[0] if len(clients) == 1 else BalancedClient(clients)


class BalancedClient:
    """Sends each request to the server with the fewest outstanding ones.

    Among equals the one that was sent fewest goes first, then the first in order: a closed loop
    of one stream uses all servers in turn. However many servers there are, the load sends the same
    requests at the same scheduled times; only which server answers depends on their speed.

    Args:
        clients: one for each server, at least one, all with the same key; closed with this.
    """

    def __init__(self, clients: Sequence[HttpClient]) -> None:
        self._clients = tuple(clients)
        self._outstanding = [0] * len(clients)
        self._sent = [0] * len(clients)

    @property
    def connections_opened(self) -> int:
        """Connections made so far, to all servers."""
        return sum(client.connections_opened for client in self._clients)

    @property
    def sent(self) -> tuple[int, ...]:
        """Requests sent to each server so far."""
        return tuple(self._sent)

    async def open(self, count: int) -> None:
        """Have at least `count` connections ready, an equal share to each server.

        Raises:
            HttpError: a server does not take them.
        """
        share = -(-count // len(self._clients))
        await asyncio.gather(*(client.open(share) for client in self._clients))

    def post_request(self, path: str, body: bytes) -> bytes:
        """See `HttpClient.post_request`; `stream` addresses it to the server it goes to."""
        return self._clients[0].post_request(path, body)

    async def stream(self, request: bytes, receiver: Receiver, *, timeout_s: float) -> None:
        """See `HttpClient.stream`.

        Raises:
            HttpError: no complete response within `timeout_s`.
        """
        chosen = min(
            range(len(self._clients)),
            key=lambda index: (self._outstanding[index], self._sent[index], index),
        )
        client, first = self._clients[chosen], self._clients[0]
        if client is not first:
            request = request.replace(first.host_header, client.host_header, 1)
        self._outstanding[chosen] += 1
        self._sent[chosen] += 1
        try:
            await client.stream(request, receiver, timeout_s=timeout_s)
        finally:
            self._outstanding[chosen] -= 1

    def mask(self, text: str) -> str:
        """`text` without the API key, should a server have echoed it."""
        return self._clients[0].mask(text)

    def give_up(self) -> None:
        """See `HttpClient.give_up`."""
        for client in self._clients:
            client.give_up()

    async def close(self) -> None:
        """Close every connection to every server. Idempotent."""
        for client in self._clients:
            await client.close()
