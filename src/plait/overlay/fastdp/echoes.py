"""The heartbeats between plait nodes: which of ours await their echo, and the echoes of the peer's."""

from typing import NamedTuple

from plait.overlay.fastdp import wire
from plait.overlay.sleeve.token_bucket import TokenBucket

ECHOES_PER_SECOND = 100.0
"""Heartbeats echoed: a search of the path's MTU sends some 30 in a second, and who knows the UID can forge them."""

MAX_OUTSTANDING = 128
"""Heartbeats whose echo is awaited; those of one patience are some 40."""


class Traffic(NamedTuple):
    """What the datapath counted so far: frames of containers to and from the peer, and their bytes."""

    sent: int
    received: int
    sent_bytes: int
    received_bytes: int


class Answer(NamedTuple):
    """An echo of a heartbeat of ours, of `length` bytes; the rest is `quality.Sample`, counted from the first known."""

    length: int
    rtt: float
    sent: int
    received: int
    tx_bytes: int
    rx_bytes: int


class _Outstanding(NamedTuple):
    """A heartbeat whose echo is awaited; `sent` frames of containers went before it."""

    at: float
    length: int
    sent: int


class Echoes:
    """Makes heartbeats and echoes, and believes an echo only for an awaited heartbeat with the length it had."""

    def __init__(self, connection_uid: int, patience: float) -> None:
        """`patience`: seconds after which an echo says nothing of the present any more."""
        self._traffic: Traffic | None = None
        self._first_traffic = Traffic(0, 0, 0, 0)
        self._first_counts: tuple[int, int] | None = None
        self._counts = (0, 0)
        self._uid = connection_uid
        self._patience = patience
        self._sequence = 0
        self._heard_sequence: int | None = None
        self._outstanding: dict[int, _Outstanding] = {}
        self._bucket = TokenBucket(ECHOES_PER_SECOND, ECHOES_PER_SECOND)

    def count(self, traffic: Traffic) -> None:
        """Take the datapath's counters, as new as can be; they may have begun before the connection."""
        if self._traffic is None:
            self._first_traffic = traffic
        self._traffic = traffic

    def heartbeat(self, length: int, now: float) -> bytes:
        """Give a heartbeat of so many bytes, or of the least it can have."""
        self._sequence = wire.next_sequence(self._sequence)
        length = max(length, wire.EXTENDED_HEARTBEAT_BYTES)
        extension = self._extension(wire.Kind.PROBE, sequence=self._sequence)
        self._outstanding[self._sequence] = _Outstanding(now, length, extension.sent)
        if len(self._outstanding) > MAX_OUTSTANDING:
            del self._outstanding[next(iter(self._outstanding))]
        return wire.heartbeat(self._uid, length, extension)

    def echo(self, length: int, sequence: int, now: float) -> bytes | None:
        """Give the echo of the peer's heartbeat; None if it sends too many. No echo is larger than its heartbeat."""
        if not self._bucket.take(now):
            return None
        echo = self._extension(wire.Kind.ECHO, echoed_sequence=sequence, echoed_length=length)
        return wire.heartbeat(self._uid, wire.EXTENDED_HEARTBEAT_BYTES, echo)

    def is_new(self, sequence: int) -> bool:
        """Say whether the peer's heartbeat is later than all others: an old one may have taken its time."""
        is_new = self._heard_sequence is None or wire.is_after(sequence, self._heard_sequence)
        if is_new:
            self._heard_sequence = sequence
        return is_new

    def answered(self, echo: wire.Extension, now: float) -> Answer | None:
        """Take an echo; None if no heartbeat awaits it."""
        asked = self._outstanding.get(echo.echoed_sequence)
        if asked is None or asked.length != echo.echoed_length or now - asked.at >= self._patience:
            return None
        del self._outstanding[echo.echoed_sequence]
        self._compare(asked.sent, echo.received)
        first, last = self._first_traffic, self._traffic or self._first_traffic
        tx_bytes, rx_bytes = last.sent_bytes - first.sent_bytes, last.received_bytes - first.received_bytes
        return Answer(asked.length, max(now - asked.at, 0.0), *self._counts, tx_bytes, rx_bytes)

    def forget(self) -> None:
        """Await no echo any more: they would be of another path."""
        self._outstanding.clear()

    def _compare(self, sent: int, received: int) -> None:
        """Count from the first pair that both sides know: what was lost before says nothing of the path now."""
        if wire.UNKNOWN in (sent, received):
            return
        if self._first_counts is None:
            self._first_counts = (sent, received)
        self._counts = (sent - self._first_counts[0], received - self._first_counts[1])

    def _extension(
        self, kind: wire.Kind, *, sequence: int = 0, echoed_sequence: int = 0, echoed_length: int = 0
    ) -> wire.Extension:
        counts = (wire.UNKNOWN, wire.UNKNOWN) if self._traffic is None else self._traffic[:2]
        return wire.Extension(kind, sequence, echoed_sequence, echoed_length, *counts)
