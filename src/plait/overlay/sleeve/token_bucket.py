"""A rate limiter without a clock."""

ANSWERS_PER_SECOND = 1000.0
ANSWERS_BURST = 50.0
"""Linux's own limits for the ICMP errors of a host (icmp_msgs_per_sec, icmp_msgs_burst)."""


class TokenBucket:
    """Lets `burst` events through at once and `rate` a second in the long run."""

    def __init__(self, rate: float = ANSWERS_PER_SECOND, burst: float = ANSWERS_BURST) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at: float | None = None

    def take(self, now: float) -> bool:
        """Say whether one more event may happen at `now` (seconds), and count it if so."""
        if self.available(now) < 1:
            return False
        self.spend(1)
        return True

    def available(self, now: float) -> int:
        """Give how many events may happen at `now`."""
        if self._at is not None and now > self._at:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        return int(self._tokens)

    def spend(self, events: int) -> None:
        """Count events that `available` allowed."""
        self._tokens -= events
