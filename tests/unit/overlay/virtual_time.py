"""A clock that jumps from one due thing to the next: events that were put in, and deadlines of state machines."""

from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from itertools import count


class VirtualTime:
    """`now` in seconds. A subclass says when its state machines want to be called, and calls them."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Do something later."""
        heappush(self._events, (when, next(self._order), what))

    def deadlines(self) -> Iterable[float | None]:
        """When each of the machines wants to be called; None for never."""
        raise NotImplementedError

    def wake(self) -> None:
        """Call the machines."""
        raise NotImplementedError

    def run_until(self, end: float) -> None:
        """Let everything happen that is due before `end`."""
        while True:
            timer = min((deadline for deadline in self.deadlines() if deadline is not None), default=None)
            event = self._events[0][0] if self._events else None
            due = min((at for at in (timer, event) if at is not None), default=None)
            if due is None or due >= end:
                break
            self.now = max(self.now, due)
            if event is not None and event <= self.now:
                heappop(self._events)[2]()
            else:
                self.wake()
        self.now = end
