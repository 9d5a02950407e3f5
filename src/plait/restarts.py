"""Whether a task that died is started again, and when. Pure: takes the time of each death."""

from collections import deque

MAX_DEATHS = 5
WINDOW = 300.0
"""A task that dies so often within so many seconds is not started again: the whole node is."""

FIRST_DELAY, MAX_DELAY = 0.5, 30.0
"""Seconds until a task is started again; doubles with each death within the window."""


class Restarts:
    """Of one task. Times are seconds of one clock."""

    def __init__(self) -> None:
        self._deaths: deque[float] = deque(maxlen=MAX_DEATHS)

    def died(self, now: float) -> float | None:
        """Note a death; gives after how many seconds to start again, None if that is given up."""
        while self._deaths and self._deaths[0] <= now - WINDOW:
            self._deaths.popleft()
        self._deaths.append(now)
        if len(self._deaths) == MAX_DEATHS:
            return None
        return float(min(FIRST_DELAY * 2 ** (len(self._deaths) - 1), MAX_DELAY))
