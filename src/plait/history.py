"""What happened to this node: a bounded ring of events, each one sentence. Pure: takes the time it is to note."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

MAX_EVENTS = 1000
"""Events kept; the oldest go. A busy day of a mesh of 100 hosts has a few hundred."""


class Kind(StrEnum):
    """What an event is about."""

    NODE_STARTED = "node_started"
    CONNECTION_UP = "connection_up"
    CONNECTION_DOWN = "connection_down"
    CONNECTION_REFUSED = "connection_refused"
    OVERLAY_CHANGED = "overlay_changed"
    MTU_CHANGED = "mtu_changed"
    PEER_JOINED = "peer_joined"
    PEER_LEFT = "peer_left"
    HEALTH_CHANGED = "health_changed"
    PROBLEM_BEGUN = "problem_begun"
    PROBLEM_OVER = "problem_over"
    TASK_DIED = "task_died"
    TASK_RESTARTED = "task_restarted"
    PUMP_RESTARTED = "pump_restarted"


@dataclass(frozen=True, slots=True)
class Happening:
    """An event. `number` counts from 1 without gaps, `at` is Unix time, `peer` a peer's name or empty."""

    number: int
    at: float
    kind: Kind
    what: str
    peer: str = ""
    nickname: str = ""
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """What a reader gets: how many events are gone that it `missed`, those that are left, and where to go on."""

    missed: int
    events: list[Happening]
    last: int


class History:
    """The ring."""

    def __init__(self, limit: int = MAX_EVENTS) -> None:
        self._events: deque[Happening] = deque(maxlen=limit)
        self._last = 0

    @property
    def last(self) -> int:
        """The number of the newest event, 0 before the first."""
        return self._last

    def add(self, kind: Kind, what: str, at: float, *, peer: str = "", nickname: str = "", cure: str = "") -> Happening:
        """Note an event."""
        self._last += 1
        event = Happening(self._last, at, kind, what, peer, nickname, cure)
        self._events.append(event)
        return event

    def after(self, number: int, wanted: Callable[[Happening], bool] = lambda event: True) -> Page:
        """Give the events after this number that are wanted. A number of another life of the node counts as 0."""
        if number > self._last:
            number = 0
        oldest = self._last - len(self._events) + 1
        missed = max(oldest - number - 1, 0) if number else 0
        return Page(missed, [each for each in self._events if each.number > number and wanted(each)], self._last)
