"""Virtual time: events in a heap, and a clock that jumps from one to the next."""

import heapq
import itertools
from collections.abc import Callable


class Clock:
    """Runs callbacks in order of time; equal times in order of scheduling."""

    def __init__(self) -> None:
        self.now = 0.0
        self._order = itertools.count()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []

    def call_at(self, when: float, callback: Callable[[], None]) -> None:
        """Run the callback at `when` (or now, if that is past)."""
        heapq.heappush(self._heap, (max(when, self.now), next(self._order), callback))

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        """Run the callback in `delay` seconds."""
        self.call_at(self.now + delay, callback)

    def run_until(self, end: float) -> None:
        """Run everything that is due up to `end`, then stand there."""
        while self._heap and self._heap[0][0] <= end:
            self.now, _, callback = heapq.heappop(self._heap)
            callback()
        self.now = end
