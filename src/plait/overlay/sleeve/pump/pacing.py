"""Spreads datagrams to a Weave peer over time: its UDP socket holds some 90, and what comes at once is lost."""

from collections import deque
from typing import NamedTuple

from plait.overlay.sleeve.pump.link import Socket
from plait.overlay.sleeve.token_bucket import TokenBucket

DATAGRAMS_PER_SECOND = 80_000.0
"""More than weaver takes in on the machines it was measured on (docs/benchmarks.md), so that it is never held back."""

BURST = 48.0
"""Half of the 208 kB that Linux gives a socket, counted as the kernel does."""

INTERVAL = 0.001
"""Seconds until waiting datagrams are looked at again: what epoll can do."""

MAX_WAITING = 4096
"""Datagrams, 50 ms at the full rate: a longer queue would only be older."""


class Paced(NamedTuple):
    """One datagram and how it leaves."""

    socket: Socket
    payload: bytes


class Pacer:
    """A queue with a rate. `dropped` counts what found no room."""

    def __init__(self) -> None:
        self.dropped = 0
        self._bucket = TokenBucket(DATAGRAMS_PER_SECOND, BURST)
        self._waiting: deque[Paced] = deque()

    @property
    def is_waiting(self) -> bool:
        """Something waits for its time."""
        return bool(self._waiting)

    def allowance(self, now: float) -> int:
        """Give how many datagrams may leave at once, past the queue; none while others wait in it."""
        return 0 if self._waiting else self._bucket.available(now)

    def spend(self, datagrams: int) -> None:
        """Count datagrams that left past the queue."""
        self._bucket.spend(datagrams)

    def put(self, socket: Socket, payloads: list[bytes]) -> None:
        """Take datagrams."""
        room = MAX_WAITING - len(self._waiting)
        self._waiting.extend(Paced(socket, payload) for payload in payloads[:room])
        self.dropped += max(len(payloads) - room, 0)

    def take(self, now: float) -> list[Paced]:
        """Give what may leave now, in order."""
        waiting, take = self._waiting, self._bucket.take
        ready: list[Paced] = []
        while waiting and take(now):
            ready.append(waiting.popleft())
        return ready
