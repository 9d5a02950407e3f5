"""Named deadlines of a pure core, and how often something may be done."""

from collections import deque

GATHERING_DELAY = 0.02
"""Seconds from a cause to what it makes necessary, even if that was not done for long: causes come in bursts."""


class Schedule:
    """At most one deadline per name."""

    def __init__(self) -> None:
        self._deadlines: dict[str, float] = {}

    def at(self, name: str, when: float) -> None:
        """Set the deadline, whatever it was."""
        self._deadlines[name] = when

    def within(self, name: str, when: float) -> None:
        """Set the deadline unless one is set: what is deferred waits once, not anew with each cause."""
        self._deadlines.setdefault(name, when)

    def cancel(self, name: str) -> bool:
        """Forget a deadline; True if there was one."""
        return self._deadlines.pop(name, None) is not None

    def next(self) -> float | None:
        """Give the earliest deadline."""
        return min(self._deadlines.values(), default=None)

    def due(self, now: float) -> list[str]:
        """Give and forget the names whose time has come, earliest first."""
        names = sorted((when, name) for name, when in self._deadlines.items() if when <= now)
        for _, name in names:
            del self._deadlines[name]
        return [name for _, name in names]


class Pace:
    """Says when something is due that may be done `burst` times in any `interval` seconds."""

    def __init__(self, burst: int, interval: float) -> None:
        self._burst = burst
        self._interval = interval
        self._done: deque[float] = deque(maxlen=burst)

    def due(self, now: float) -> float:
        """When to do it, if the cause came now."""
        soon = now + GATHERING_DELAY
        return soon if len(self._done) < self._burst else max(soon, self._done[0] + self._interval)

    def done(self, now: float) -> None:
        """Note that it was done."""
        self._done.append(now)
