"""Whether frames pass, judged from heartbeats, and when the next heartbeat is due. Times are seconds.

Towards Weave only what arrives can be judged. Between plait nodes each heartbeat is echoed, so both directions are: an
echo proves that the peer hears us and we hear it.
"""

from enum import Enum
from math import inf

from plait.overlay.sleeve.session import FAST_HEARTBEAT, FIRST_REPEAT, HEARTBEAT_TIMEOUT, SLOW_HEARTBEAT

PATIENCE = 2.5
"""Intervals without an echo until frames go another way; IDLE - 1 more while no frames do."""

IDLE = 2.5
"""Intervals between two heartbeats while the connection has no frames to carry: 700 bit/s with their echoes."""

QUICK = 0.25
"""Part of the interval until the next heartbeat, where one is not answered: so six decide, and chance loss does not."""

WAIT_RTTS = 3
"""A heartbeat is missed after so many round trips, if that is longer."""

HEARING = 0.25
"""Intervals above that between heartbeats since the last sign of the peer in which we still hear it: it sends one each,
quicker in trouble."""

STALL, GRACE = 0.5, 1.0
"""Intervals above that between heartbeats in which the session was not called, so this host was too busy to hear; and
how long it then listens."""

RECOVERY_ECHOES = 3
"""Heartbeats in a row that must be echoed before frames come back."""

HOLD_FIRST, HOLD_MOST = 1.0, 60.0
"""Seconds that echoes must come for before frames come back; doubles with each fall that follows another soon."""

FORGIVEN_AFTER = 120.0
"""Seconds of health after which an earlier fall is forgotten."""


class Illness(Enum):
    """Which direction is dead."""

    SILENT = "nothing comes from the peer"
    DEAF = "the peer does not hear us"


class SilenceHealth:
    """Weave's rule (spec: fastdp, section 2): a minute without a heartbeat is an illness, one heartbeat the cure."""

    hold = 0.0
    patience = HEARTBEAT_TIMEOUT

    def __init__(self, interval: float = SLOW_HEARTBEAT) -> None:
        """`interval`: between heartbeats once the peer hears us."""
        self.illness: Illness | None = None
        self.heartbeat_at = inf
        self._slow = interval
        self._interval = FAST_HEARTBEAT
        self._silent_at = inf

    def begin(self, now: float) -> None:
        """The mesh connection stays."""
        self._silent_at = now + HEARTBEAT_TIMEOUT

    def carries(self, is_idle: bool) -> None:
        """Weave's interval is what it is."""

    def heard(self, now: float) -> None:
        """A heartbeat of the peer came."""
        self._silent_at = now + HEARTBEAT_TIMEOUT
        self.illness = None

    def sent(self, now: float, rtt: float | None) -> None:
        """A heartbeat of ours goes out."""
        self.heartbeat_at = now + self._interval

    def slow_down(self, now: float) -> None:
        """The peer hears us, or there is no hope that it does soon."""
        if self._interval != self._slow:
            self._interval = self._slow
            self.heartbeat_at = now + self._slow

    def judge(self, now: float) -> None:
        """Look at the time."""
        if now >= self._silent_at:
            self.illness, self._silent_at = Illness.SILENT, inf
            self.slow_down(now)

    def next_deadline(self) -> float:
        """When the next heartbeat or judgement is due."""
        return min(self.heartbeat_at, self._silent_at)


class EchoHealth:
    """Between plait nodes: no echo for PATIENCE is an illness, RECOVERY_ECHOES in a row are the cure, after `hold`."""

    def __init__(self, interval: float) -> None:
        """`interval`: between heartbeats while all is well."""
        self.illness: Illness | None = None
        self.hold = 0.0
        self.heartbeat_at = inf
        self.patience = PATIENCE * interval
        self._interval = self.rest = interval
        """`rest`: seconds between two heartbeats that are answered."""
        self._repeat = FIRST_REPEAT
        self._is_proven = False
        self._is_waiting = False
        self._streak = 0
        self._sent_at = self._heard_at = self._healthy_at = self._answered_from = self._looked_at = -inf
        self._silent_at = inf

    def begin(self, now: float) -> None:
        """The mesh connection stays."""
        self._answered_from = self._looked_at = now
        self._silent_at = now + self.patience

    def heard(self, now: float) -> None:
        """Something of the peer came."""
        self._heard_at = now

    def carries(self, is_idle: bool) -> None:
        """Say whether frames were carried since the last heartbeat: if not, the next ones come more slowly."""
        self.rest = self._interval * (IDLE if is_idle and self._is_proven and self.illness is None else 1.0)

    def sent(self, now: float, rtt: float | None) -> None:
        """A heartbeat of ours goes out; `rtt` is the round trip as far as known."""
        if self._is_waiting:
            self._streak = 0
        self._is_waiting, self._sent_at = True, now
        self.heartbeat_at = now + self._wait(now, rtt or 0.0)

    def echoed(self, now: float, *, is_heartbeat: bool) -> bool:
        """Take an echo, of a heartbeat or of a probe of the path's MTU; say whether it is the first after silence."""
        is_first = now >= self._silent_at
        if is_first:
            self._answered_from = now
        self._is_proven = True
        self._silent_at = now + self.patience + self.rest - self._interval
        if is_heartbeat:
            self._streak += self._is_waiting
            self._is_waiting = False
        if self.illness and self._streak >= RECOVERY_ECHOES and now >= self._answered_from + self.hold:
            self.illness, self._healthy_at = None, now
        if is_heartbeat:
            self.heartbeat_at = self._sent_at + (QUICK * self._interval if self.illness else self.rest)
        return is_first

    def judge(self, now: float) -> None:
        """Look at the time."""
        if self.illness is None and now - self._looked_at > STALL * self._interval + self.rest:
            self._silent_at = max(self._silent_at, now + GRACE * self._interval)
        self._looked_at = now
        if now < self._silent_at:
            return
        if self.illness is None and self._is_proven:
            is_soon = now < self._healthy_at + FORGIVEN_AFTER
            self.hold = min(max(2 * self.hold, HOLD_FIRST), HOLD_MOST) if is_soon else HOLD_FIRST
        is_heard = now < self._heard_at + HEARING * self._interval + self.rest
        self.illness = Illness.DEAF if is_heard else Illness.SILENT

    def next_deadline(self) -> float:
        """When the next heartbeat or judgement is due; an illness is looked at with each heartbeat."""
        return self.heartbeat_at if self.illness else min(self.heartbeat_at, self._silent_at)

    def _wait(self, now: float, rtt: float) -> float:
        if not self._is_proven and self.illness is None:
            wait, self._repeat = self._repeat, min(2 * self._repeat, FAST_HEARTBEAT)
            return wait
        if now >= self._silent_at:
            return self._interval
        return min(max(WAIT_RTTS * rtt, QUICK * self._interval), self._interval)


Health = SilenceHealth | EchoHealth
