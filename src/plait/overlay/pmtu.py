"""Search for the path MTU by probes the peer acknowledges in the tunnel (RFC 8899, DPLPMTUD), many sizes at a time.

Says which sizes to probe and what may be used; sends nothing and reads no clock. ICMP is never believed, it only
proposes a size. No probe is ever larger than the MTU of the interface. Sizes are whole IP packets in bytes.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

BASE = 1200
"""Used until more was acknowledged (RFC 8899, 5.1.2, BASE_PLPMTU)."""

FLOORS = (1024, 768, 552)
"""Tried when BASE itself is never acknowledged; 552 is Weave's smallest MTU."""

LADDER = (9000, 4352, 1500, 1492, 1480, 1460, 1450, 1420, 1400, 1280)
"""Probed at once, with the ceiling and the base: sizes that paths really have, and one that halves a wide gap.

9000 jumbo Ethernet; 4352 FDDI (RFC 1191 plateau table), here to split 1500 from 9000; 1500 Ethernet; 1492 PPPoE and
802.3; 1480 IP in IP; 1460 Google Cloud and IPv6 tunnels; 1450 VXLAN; 1420 WireGuard; 1400 IPsec and other VPNs;
1280 the least of IPv6 (RFC 8200). Each large size costs its bytes twice where it does not pass, so there are few.
"""

LARGEST = 65535
"""No IPv4 packet is longer; the loopback interface claims one byte more."""

RESOLUTION, WAYS, GRAIN = 8, 8, 4
"""The search ends when the best and the smallest lost size are closer than the first. A wider gap is divided into so
many parts, all probed at once, at multiples of the last."""

TRIES, LAST_TRIES = 2, 3
"""Lost probes before a size is given up: in a wide gap, where the next raise mends a mistake; in the last gap, whose
result stands, and in a verification (RFC 8899, 5.1.2, MAX_PROBES)."""

WAIT_FIRST, WAIT_RTTS, WAIT_LEAST, WAIT_MOST = 0.3, 3, 0.05, 1.0
"""Seconds a probe may take while no round trip was measured; later so many smoothed ones, between these seconds."""

RAISE_FIRST, RAISE_INTERVAL = 30.0, 600.0
"""Seconds until a search that ended below the ceiling is repeated; doubles up to RFC 8899's PMTU_RAISE_TIMER."""

VERIFY_INTERVAL = 30.0
"""Seconds between verifications of the MTU in use (RFC 8899, 5.1.1, CONFIRMATION_TIMER leaves the value open): how
long a black hole can last if nobody suspects it."""

IDLE_VERIFY_INTERVAL = 300.0
"""The same while nothing is carried: who begins to send finds a black hole by what is lost."""

RETRY_FIRST, RETRY_MOST = 1.0, 30.0
"""Seconds between attempts while nothing at all is acknowledged; doubles."""

HINT_INTERVAL = 1.0
"""Seconds after a hint in which others are ignored, or forged ones would buy a probe each."""

ASSUMED = "assumed, no probe was acknowledged yet"
ACKNOWLEDGED = "acknowledged by the peer"
HINTED = "acknowledged by the peer after a router's ICMP hint"
LOWERED = "the MTU of the interface, below what the peer acknowledged"
BLACK_HOLE = "black hole found: searching again"
KEPT = "kept from before, the peer acknowledges no probe of any size now"


_State = Enum("_State", ["DISABLED", "SEARCHING", "VERIFYING", "COMPLETE"])
"""SEARCHING and VERIFYING wait for acknowledgements, COMPLETE for the next verification or raise."""


@dataclass(frozen=True, slots=True)
class Hole:
    """A size that had passed and then vanished, and when that was found."""

    size: int
    at: float


class PathMtu:
    """The MTU of one path. Methods return the sizes to probe now, each in a datagram of its own with DF set.

    They are in the order to send in: the largest first, so the first acknowledgement already says most. A search sends
    the ladder, then divides the gap between the best size and the smallest lost one. A verification sends the MTU in
    use, and at last smaller sizes too, which tell a black hole from a path that is down.
    """

    def __init__(self, *, base: int = BASE) -> None:
        self.source = ASSUMED
        """Why `mtu` has its value, for people."""
        self.is_idle = False
        """Nothing is carried; set by the owner."""
        self.black_holes = self.ignored_hints = 0
        self.hole: Hole | None = None
        """The last black hole, until packets of its size pass again."""
        self._base = self._ceiling = base
        self._state = _State.DISABLED
        self._is_suspected = False
        self._best = 0  # largest acknowledged size, 0 if there is none
        self._alive = 0  # largest size below that acknowledged in this verification
        self._tries: dict[int, int] = {}  # sizes under test: how often sent
        self._tries_most, self._is_down = TRIES, False
        self._lost: set[int] = set()  # given up in this search
        self._asked: set[int] = set()  # sent in this search or verification
        self._asked_before: set[int] = set()  # and in the one before: acknowledgements may be late
        self._hint = 0  # accepted in this search or verification
        self._srtt: float | None = None
        self._hints_from, self._deadline, self._verify_at, self._raise_at = -math.inf, math.inf, math.inf, math.inf
        self._retry_after, self._raise_after = RETRY_FIRST, RAISE_FIRST

    @property
    def mtu(self) -> int:
        """What may be used now: the largest acknowledged size, or the base while there is none."""
        return min(self._best or self._base, self._ceiling)

    @property
    def is_searching(self) -> bool:
        """A search runs, or waits for the peer's first acknowledgement."""
        return self._state is _State.SEARCHING

    def start(self, ceiling: int, now: float) -> list[int]:
        """Begin with a new path, whose interface has the MTU `ceiling`. Answers to older probes must not come here."""
        self._ceiling = min(ceiling, LARGEST)
        self._best, self.source, self._is_down = 0, ASSUMED, False
        self._retry_after, self._raise_after = RETRY_FIRST, RAISE_FIRST
        self._verify_at, self._hints_from, self._srtt = math.inf, -math.inf, None
        self._asked.clear()  # acknowledgements of another path say nothing about this one
        return self._search(now)

    def ceiling_changed(self, ceiling: int, now: float) -> list[int]:
        """Take a new MTU of the interface: a lower one counts at once, a higher one starts a search."""
        ceiling, before = min(ceiling, LARGEST), self._ceiling
        if self._state is _State.DISABLED or ceiling == before:
            return []
        self._ceiling = ceiling
        if self._best > ceiling:
            self._best, self.source = ceiling, LOWERED
        if ceiling > before or self.is_searching:
            self._raise_after = RAISE_FIRST
            return self._search(now)
        return self._verify(now) if self._state is _State.VERIFYING else []

    def acknowledged(self, size: int, now: float, rtt: float | None = None) -> list[int]:
        """Take the peer's acknowledgement, and its round trip in seconds if known.

        Ignored are sizes that neither this search or verification asked for nor the one before: a peer may lie.
        """
        if size > self._ceiling or size not in self._asked | self._asked_before:
            return []
        self._measure(rtt)
        self._is_down, self._retry_after = False, RETRY_FIRST
        if size >= self._best:
            self._confirm(size, now)
        elif size in self._asked:
            self._alive = max(self._alive, size)
        return self._search_on(now) if self.is_searching else []

    def hint(self, mtu: int, now: float) -> list[int]:
        """Take the MTU that an ICMP "fragmentation needed" claims, perhaps forged: it costs a probe, never the MTU."""
        is_plausible = self._base <= mtu < max(self.mtu, *self._tries, 0) and mtu != self.mtu
        is_busy = self._state is _State.VERIFYING or self._hint > 0 or now < self._hints_from
        if is_busy or not is_plausible:
            self.ignored_hints += 1
            return []
        self._hints_from = now + HINT_INTERVAL
        if not self.is_searching:
            return self._verify(now, hint=mtu)
        self._hint = mtu
        if mtu > self._best:
            return [] if mtu in self._asked else self._ask([mtu])
        self._verify_at, self._is_suspected = min(self._verify_at, now), True
        return []

    def suspect(self, now: float) -> list[int]:
        """Verify the MTU in use, at once or right after a search: the owner saw data vanish while small probes pass."""
        self._verify_at, self._is_suspected = min(self._verify_at, now), True
        return self._verify(now) if self._state is _State.COMPLETE else []

    def handle_timer(self, now: float) -> list[int]:
        """Do what is due; nothing before `next_deadline`."""
        deadline = self.next_deadline()
        if deadline is None or now < deadline:
            return []
        if self.is_searching:
            return self._repeat_search(now)
        if self._state is _State.VERIFYING:
            return self._repeat_verification(now)
        return self._verify(now) if self._verify_due <= now else self._search(now)

    def next_deadline(self) -> float | None:
        """Give the time at which `handle_timer` has something to do; None before `start`."""
        if self._state is _State.DISABLED:
            return None
        if self._state is not _State.COMPLETE:
            return self._deadline
        can_raise = self._best < self._ceiling and not self._is_down
        return min(self._verify_due, self._raise_at) if can_raise else self._verify_due

    @property
    def _verify_due(self) -> float:
        is_patient = self.is_idle and not self._is_down and not self._is_suspected
        return self._verify_at + (IDLE_VERIFY_INTERVAL - VERIFY_INTERVAL if is_patient else 0.0)

    def _search(self, now: float) -> list[int]:
        self._begin(_State.SEARCHING)
        self._lost.clear()
        sizes = {size for size in (self._ceiling, self._base, *LADDER) if self._best < size <= self._ceiling}
        return self._round(sizes, TRIES, now) if sizes else self._finish(now)

    def _search_on(self, now: float) -> list[int]:
        self._tries = {size: tries for size, tries in self._tries.items() if size > self._best}
        if self._best == self._ceiling:
            return self._finish(now)
        return [] if self._tries else self._narrow(now)

    def _repeat_search(self, now: float) -> list[int]:
        if not self._tries:
            return self._search(now)
        again = [size for size, tries in self._tries.items() if tries < self._tries_most]
        if again:
            self._deadline = now + self._wait()
            return self._ask(again)
        self._lost.update(self._tries)
        self._tries.clear()
        return self._narrow(now)

    def _narrow(self, now: float) -> list[int]:
        low, high = self._best, min((size for size in self._lost if size > self._best), default=self._ceiling + 1)
        if low == 0:
            floors = {size for size in FLOORS if size < high}
            return self._round(floors, TRIES, now) if floors else self._back_off(now)
        if high - low < RESOLUTION:
            return self._finish(now)
        if low in (*LADDER, self._hint):  # probably just that: one small size more decides it
            return self._round({low // GRAIN * GRAIN + GRAIN}, LAST_TRIES, now)
        return self._round(_between(low, high), TRIES if high - low > WAYS * GRAIN else LAST_TRIES, now)

    def _finish(self, now: float) -> list[int]:
        self._complete()
        if self.source == BLACK_HOLE:
            self.source = ACKNOWLEDGED
        self._raise_at = now + self._raise_after
        self._raise_after = min(2 * self._raise_after, RAISE_INTERVAL)
        return []

    def _verify(self, now: float, hint: int = 0) -> list[int]:
        self._begin(_State.VERIFYING)
        self._is_suspected = False
        self._alive, self._hint = 0, hint
        return self._round({self.mtu, hint} - {0}, LAST_TRIES, now)

    def _repeat_verification(self, now: float) -> list[int]:
        tries = self._tries[self.mtu]
        if tries == LAST_TRIES:
            return self._give_up(now) if self._alive else self._path_is_down(now)
        self._deadline = now + self._wait()
        sizes = {self.mtu}
        if tries == LAST_TRIES - 1:
            sizes.add(min(self._base, self._ceiling))
            if self._is_down:  # or the base itself no longer passes
                sizes.add(min(FLOORS[-1], self._ceiling))
        return self._ask(sizes)

    def _give_up(self, now: float) -> list[int]:
        vanished, self._best = self.mtu, self._alive
        self._verify_at, self._raise_after = now + VERIFY_INTERVAL, RAISE_FIRST
        if self._alive == self._hint:
            self.source = HINTED
        else:
            self.source = BLACK_HOLE
            self.black_holes += 1
            self.hole = Hole(vanished, now)
        return self._search(now)

    def _path_is_down(self, now: float) -> list[int]:
        self._complete()
        self.source, self._is_down = KEPT, True
        return self._back_off(now)

    def _begin(self, state: _State) -> None:
        self._state, self._hint = state, 0
        self._asked, self._asked_before = set(), self._asked
        self._tries.clear()

    def _complete(self) -> None:
        self._state, self._hint = _State.COMPLETE, 0
        self._tries.clear()

    def _round(self, sizes: Iterable[int], tries: int, now: float) -> list[int]:
        self._tries.clear()
        self._tries_most = tries
        self._deadline = now + self._wait()
        return self._ask(sizes)

    def _ask(self, sizes: Iterable[int]) -> list[int]:
        asked = sorted(sizes, reverse=True)
        for size in asked:
            self._tries[size] = self._tries.get(size, 0) + 1
        self._asked.update(asked)
        return asked

    def _confirm(self, size: int, now: float) -> None:
        if size > self._best:
            self.source = HINTED if size == self._hint else ACKNOWLEDGED
            self._raise_after = RAISE_FIRST
        elif self.source == KEPT:
            self.source = ACKNOWLEDGED
        self._best = size
        if self.hole is not None and size >= self.hole.size:
            self.hole = None
        self._verify_at = now + VERIFY_INTERVAL
        if self._state is _State.VERIFYING:
            self._complete()

    def _measure(self, rtt: float | None) -> None:
        if rtt is not None and rtt >= 0:  # smoothed like TCP's (RFC 6298, 2.3)
            self._srtt = rtt if self._srtt is None else (7 * self._srtt + rtt) / 8

    def _wait(self) -> float:
        return WAIT_FIRST if self._srtt is None else min(max(WAIT_RTTS * self._srtt, WAIT_LEAST), WAIT_MOST)

    def _back_off(self, now: float) -> list[int]:
        self._deadline = self._verify_at = now + self._retry_after
        self._retry_after = min(2 * self._retry_after, RETRY_MOST)
        return []


def _between(low: int, high: int) -> set[int]:
    parts = (low + (high - low) * part // WAYS for part in range(1, WAYS))
    return {size for size in (part // GRAIN * GRAIN for part in parts) if size > low}
