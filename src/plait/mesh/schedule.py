"""Named deadlines of a pure core."""


class Schedule:
    """At most one deadline per name."""

    def __init__(self) -> None:
        self._deadlines: dict[str, float] = {}

    def at(self, name: str, when: float) -> None:
        """Set the deadline, whatever it was."""
        self._deadlines[name] = when

    def within(self, name: str, when: float) -> float:
        """Set the deadline unless one is set, so that what is deferred waits once, not anew with each cause.

        Give the deadline that counts.
        """
        return self._deadlines.setdefault(name, when)

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
