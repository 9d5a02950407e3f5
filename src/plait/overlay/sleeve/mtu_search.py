"""Search for the overlay MTU of a path: the largest candidate whose test the neighbour acknowledged.

Starts from the kernel's path MTU, never tests above it, and halves the interval while tests are lost
(spec: sleeve, section 7). Tests and acknowledgements are the session's messages.
"""

from plait.overlay.ethernet import HEADER_BYTES
from plait.overlay.sleeve.datagram import SpecialKind, special_kind

FLOOR = 552
"""Assumed to pass without a test (Weave: the smallest candidate); the kernel alone may say less."""

ATTEMPTS = 8
FIRST_TIMEOUT = 0.010
"""Seconds; doubles with each attempt, so a lost candidate costs 2.55 s (Weave's values)."""


def mtu_test_length(candidate: int) -> int:
    """Give the length of the MTU test for an overlay MTU."""
    return candidate + HEADER_BYTES


class MtuSearch:
    """One search at a time. Methods give the candidate to test now, or None if there is nothing to send."""

    def __init__(self) -> None:
        self.candidate: int | None = None
        """Under test; None when no search runs."""
        self.result: int | None = None
        """What the last search found; a search without any acknowledgement keeps what an earlier one found."""
        self.is_at_ceiling = False
        """The last search's first candidate was acknowledged: there is nothing more to find."""
        self.deadline: float | None = None
        self._ceiling = FLOOR
        self._good = FLOOR
        self._bad = FLOOR + 1
        self._attempts = 0
        self._is_answered = False

    def begin(self, ceiling: int, now: float) -> int | None:
        """Start anew below or at `ceiling`; at or below FLOOR the ceiling is the result at once."""
        self._ceiling = ceiling
        self._good, self._bad = min(FLOOR, ceiling), ceiling + 1
        self._is_answered = False
        return self._try(ceiling, now)

    def verified(self, value: int, now: float) -> int | None:
        """Take the neighbour's acknowledgement; values that are not under test are ignored."""
        if value != self.candidate:
            return None
        self._good = value
        self._is_answered = True
        return self._try((self._good + self._bad) // 2, now)

    def handle_timer(self, now: float) -> int | None:
        """Repeat an unanswered test, or give its candidate up."""
        if self.candidate is None or self.deadline is None or now < self.deadline:
            return None
        if self._attempts < ATTEMPTS:
            return self._send(now)
        self._bad = self.candidate
        return self._try((self._good + self._bad) // 2, now)

    def _try(self, candidate: int, now: float) -> int | None:
        # A test of the length of another special frame would be read as that.
        if special_kind(mtu_test_length(candidate)) is not SpecialKind.MTU_TEST:
            candidate -= 1
        if candidate <= self._good or self._good + 1 >= self._bad:
            self._finish()
            return None
        self.candidate = candidate
        self._attempts = 0
        return self._send(now)

    def _finish(self) -> None:
        self.candidate = self.deadline = None
        if self._is_answered or self.result is None:
            self.result = self._good
        else:
            # When nothing came back the path was down, which says nothing about sizes.
            self.result = min(self.result, self._ceiling)
        self.is_at_ceiling = self._is_answered and self.result == self._ceiling

    def _send(self, now: float) -> int | None:
        self.deadline = now + FIRST_TIMEOUT * 2**self._attempts
        self._attempts += 1
        return self.candidate
