"""One client for several servers of one deployment: each request goes to the least busy one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from runtimes.load.connection import OnEnd, Receiver
from runtimes.load.exchange import Exchange, LoadClient, awaited
from runtimes.load.http import HttpClient


def balanced(clients: Sequence[HttpClient], *, first: int = 0) -> LoadClient:
    """A client of all the servers that `clients` speak to; of a single one, that client itself."""
    return clients[0] if len(clients) == 1 else BalancedClient(clients, first=first)


class BalancedClient:
    """Sends each request to the server with the fewest outstanding ones.

    Among equals the one that was sent fewest goes first, then the next in order from `first` on: a
    closed loop of one stream uses all servers in turn. However many servers there are, the load
    sends the same requests at the same scheduled times; only which server answers depends on their
    speed. Requests of one conversation all go to one server, as behind a router that knows
    sessions.

    Args:
        clients: one for each server, at least one, all with the same key; closed with this.
        first: position in `clients` of the server that is preferred among equals. Conversations
            are dealt without regard to it, so that several processes deal them alike.
    """

    def __init__(self, clients: Sequence[HttpClient], *, first: int = 0) -> None:
        self._clients = tuple(clients)
        self._order = [(first + step) % len(clients) for step in range(len(clients))]
        self._outstanding = [0] * len(clients)
        self._sent = [0] * len(clients)

    @property
    def connections_opened(self) -> int:
        """Connections made so far, to all servers."""
        return sum(client.connections_opened for client in self._clients)

    async def open(self, count: int) -> None:
        """Have at least `count` connections ready, an equal share to each server.

        Raises:
            HttpError: a server does not take them.
        """
        share = -(-count // len(self._clients))
        await asyncio.gather(*(client.open(share) for client in self._clients))

    def post_request(self, path: str, body: bytes) -> bytes:
        """See `HttpClient.post_request`; `begin` addresses it to the server it goes to."""
        return self._clients[0].post_request(path, body)

    def begin(
        self,
        request: bytes,
        receiver: Receiver,
        on_end: OnEnd,
        *,
        timeout_s: float,
        affinity: int | None = None,
    ) -> Exchange:
        """See `HttpClient.begin`.

        `affinity`, the number of the conversation that the request belongs to, says the server,
        all of them in turn; without it, the least busy one is chosen.
        """
        chosen = self._least_busy() if affinity is None else affinity % len(self._clients)
        client, first = self._clients[chosen], self._clients[0]
        if client is not first:
            request = request.replace(first.host_header, client.host_header, 1)
        self._outstanding[chosen] += 1
        self._sent[chosen] += 1

        def ended(reason: str | None) -> None:
            self._outstanding[chosen] -= 1
            on_end(reason)

        return client.begin(request, receiver, ended, timeout_s=timeout_s)

    async def stream(
        self, request: bytes, receiver: Receiver, *, timeout_s: float, affinity: int | None = None
    ) -> None:
        """See `HttpClient.stream`.

        Raises:
            HttpError: there was no complete response.
        """
        await awaited(self, request, receiver, timeout_s=timeout_s, affinity=affinity)

    def _least_busy(self) -> int:
        return min(self._order, key=lambda index: (self._outstanding[index], self._sent[index]))

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
