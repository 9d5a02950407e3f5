"""What a path is like: round-trip time, loss and rate, from the acknowledgements of probes."""

from collections import deque
from collections.abc import Callable
from typing import Protocol

WINDOW = 10.0
"""Seconds that loss and rate look back."""

ENOUGH_DATAGRAMS = 100
"""So many data datagrams in the window make a measure of loss; below, only the probes themselves are counted."""

SMOOTHING = 1 / 8
"""Of the round-trip time (RFC 6298, alpha)."""

SUSPICION_INTERVAL = 5.0
"""Seconds between two suspicions that `is_losing` is a black hole: each costs a probe of the path's MTU."""

JITTER_GAIN = 1 / 16
"""Of the jitter (RFC 3550, 6.4.1)."""

MAX_SAMPLES = 512
PROBES_REMEMBERED = 30


class Sample(Protocol):
    """What one acknowledgement tells: `rtt` in seconds, the others counted from the connection's beginning.

    `sent`: data units (datagrams or frames) sent before the probe; `received`: how many of them had arrived, as the
    peer counts. `tx_bytes`, `rx_bytes`: bytes of data in both directions, by our own counters.
    """

    @property
    def rtt(self) -> float: ...  # noqa: D102
    @property
    def sent(self) -> int: ...  # noqa: D102
    @property
    def received(self) -> int: ...  # noqa: D102
    @property
    def tx_bytes(self) -> int: ...  # noqa: D102
    @property
    def rx_bytes(self) -> int: ...  # noqa: D102


class PathQuality:
    """Fed by a session. Times are seconds, rates bytes a second; None means not known yet."""

    def __init__(self) -> None:
        self.rtt: float | None = None
        self.jitter: float | None = None
        """How much one round trip differs from the next, smoothed (RFC 3550, 6.4.1, with round trips for transits)."""
        self.is_losing = False
        """Data vanished since the last probe, which passed: maybe what is large does not fit the path any more."""
        self._samples: deque[tuple[float, Sample]] = deque(maxlen=MAX_SAMPLES)
        self._probes: deque[bool] = deque(maxlen=PROBES_REMEMBERED)
        self._is_waiting = False
        self._last_rtt: float | None = None

    def asked(self) -> None:
        """Note that a heartbeat is sent: an earlier one without an answer is lost."""
        if self._is_waiting:
            self._probes.append(False)
        self._is_waiting = True

    def acknowledged(self, acked: Sample, now: float) -> None:
        """Take an acknowledgement."""
        if self._is_waiting:
            self._probes.append(True)
            self._is_waiting = False
        self._measure_rtt(acked.rtt)
        samples = self._samples
        if samples and (acked.sent < samples[-1][1].sent or acked.received < samples[-1][1].received):
            # One of the two pumps began anew, or acknowledgements overtook each other: counts cannot be compared.
            samples.clear()
        before = samples[-1] if samples else None
        samples.append((now, acked))
        while len(samples) > 2 and samples[1][0] <= now - WINDOW:
            samples.popleft()
        if before is not None:
            self.is_losing = acked.sent - before[1].sent > acked.received - before[1].received

    @property
    def loss(self) -> float | None:
        """The part of datagrams that do not arrive at the peer, 0 to 1."""
        if len(self._samples) >= 2:
            first, last = self._samples[0][1], self._samples[-1][1]
            sent = last.sent - first.sent
            if sent >= ENOUGH_DATAGRAMS:
                return min(max(1.0 - (last.received - first.received) / sent, 0.0), 1.0)
        return self._probes.count(False) / len(self._probes) if self._probes else None

    @property
    def tx_rate(self) -> float | None:
        """UDP payload bytes a second to the peer."""
        return self._rate(lambda acked: acked.tx_bytes)

    @property
    def rx_rate(self) -> float | None:
        """UDP payload bytes a second from the peer."""
        return self._rate(lambda acked: acked.rx_bytes)

    def _measure_rtt(self, rtt: float) -> None:
        if self._last_rtt is not None:
            self.jitter = self.jitter or 0.0
            self.jitter += JITTER_GAIN * (abs(rtt - self._last_rtt) - self.jitter)
        self._last_rtt = rtt
        self.rtt = rtt if self.rtt is None else self.rtt + SMOOTHING * (rtt - self.rtt)

    def _rate(self, count: Callable[[Sample], int]) -> float | None:
        if len(self._samples) < 2:
            return None
        (began, first), (ended, last) = self._samples[0], self._samples[-1]
        return max(count(last) - count(first), 0) / (ended - began) if ended > began else None
