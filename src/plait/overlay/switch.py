"""Which overlay carries a connection, why, and whose a control message is (spec: fastdp, section 6).

All common overlays run at once; the switch picks the best for sending and says what the connection as a whole is.
It moves no frames and runs no overlay.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from plait.errors import PlaitError

FASTDP = "fastdp"
SLEEVE = "sleeve"
PLAIT1 = "plait1"
OVERLAYS = (FASTDP, PLAIT1, SLEEVE)
"""What a node can offer, best first. The order of names shared with Weave must be Weave's."""

SUPERSEDED = {SLEEVE: PLAIT1}
"""An overlay that is not run where a better form of it is common to both peers."""

LEGACY_TAGS = frozenset((1, 2, 3))
"""Sleeve's messages as mesh tags of their own, for peers from before overlays had names."""


class Choice(StrEnum):
    """Why an overlay carries a connection, as one of a few words; the first better overlay counts."""

    FIRST_CHOICE = "first_choice"
    PEER_LACKS_BETTER = "peer_lacks_better"
    BETTER_PENDING = "better_pending"
    BETTER_UNHEALTHY = "better_unhealthy"
    BETTER_FAILED = "better_failed"
    NOTHING_WORKS = "nothing_works"


class NoCommonOverlay(PlaitError):
    """Two peers that cannot exchange frames."""


@dataclass(frozen=True, slots=True)
class Control:
    """A control message as it stands in the mesh; `index` is None in the form for legacy peers."""

    index: int | None
    tag: int
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A control message for one of our overlays."""

    overlay: str
    tag: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class BestChanged:
    """Frames go by this overlay from now on; flows that name another one must be flushed."""

    overlay: str
    reason: str
    is_fall: bool = False
    """A better one worked until now."""


@dataclass(frozen=True, slots=True)
class ConnectionEstablished:
    """The first overlay works."""


@dataclass(frozen=True, slots=True)
class ConnectionFailed:
    """No overlay is left."""

    reason: str


Event = BestChanged | ConnectionEstablished | ConnectionFailed


@dataclass(slots=True)
class _Overlay:
    name: str
    is_established: bool = False
    illness: str | None = None
    failure: str | None = None

    @property
    def works(self) -> bool:
        return self.is_established and self.illness is None and self.failure is None

    @property
    def may_work(self) -> bool:
        """It works, or that is still to be found out."""
        return self.illness is None and self.failure is None

    @property
    def trouble(self) -> str:
        if self.failure is not None:
            return f"{self.name} failed: {self.failure}"
        if self.illness is not None:
            return f"{self.name} is unhealthy: {self.illness}"
        return f"{self.name} is not established yet"


class OverlaySwitch:
    """The overlays of one connection, in our own order of preference: the order that counts in control messages."""

    def __init__(self, ours: Sequence[str], theirs: Collection[str] | None) -> None:
        """`theirs` is None for a peer that names no overlays: it speaks sleeve. Raises NoCommonOverlay."""
        offered = {SLEEVE} if theirs is None else set(theirs)
        self.is_legacy = theirs is None
        common = [name for name in dict.fromkeys(ours) if name in offered]
        self.common = tuple(name for name in common if SUPERSEDED.get(name) not in common)
        self._ours = tuple(ours)
        self._lacking = frozenset(ours) - offered
        if not self.common:
            raise NoCommonOverlay(
                f"the peer offers the overlays {' '.join(sorted(offered)) or '(none)'} and this node "
                f"{' '.join(ours) or '(none)'}: none in common, so they cannot exchange frames"
            )
        self.ignored_controls = 0
        self._overlays = {name: _Overlay(name) for name in self.common}
        self._best = self._overlays[self.common[0]]

    @property
    def best(self) -> str:
        """The overlay that frames go by. When all have failed the last choice stands."""
        return self._best.name

    @property
    def reason(self) -> str:
        """One sentence: why this overlay and not a better one."""
        if self.failure is not None:
            return self.failure
        better = [self._overlays[name].trouble for name in self.common[: self.common.index(self.best)]]
        if not self._best.works:
            return f"nothing works yet: {'; '.join([*better, self._best.trouble])}"
        lacking = [name for name in self._ours[: self._ours.index(self.best)] if name in self._lacking]
        if lacking and not better:
            better = [f"the peer does not speak {' or '.join(lacking)} (Weave, or another version of plait)"]
        return f"{self.best} is used because {'; '.join(better)}" if better else f"{self.best} is the first choice"

    @property
    def choice(self) -> Choice:
        """The same in a word."""
        if not self._best.works:
            return Choice.NOTHING_WORKS
        if self.best != self.common[0]:
            better = self._overlays[self.common[0]]
            if better.failure is not None:
                return Choice.BETTER_FAILED
            return Choice.BETTER_PENDING if better.illness is None else Choice.BETTER_UNHEALTHY
        is_lacking = any(name in self._lacking for name in self._ours[: self._ours.index(self.best)])
        return Choice.PEER_LACKS_BETTER if is_lacking else Choice.FIRST_CHOICE

    @property
    def is_established(self) -> bool:
        """At least one living overlay was established."""
        return any(overlay.is_established and overlay.failure is None for overlay in self._overlays.values())

    @property
    def failure(self) -> str | None:
        """Why no overlay is left; None while one lives.

        One on hold is no life by itself: the mesh must send around a link on which nothing passes (Weave stayed on it).
        """
        if any(overlay.may_work for overlay in self._overlays.values()):
            return None
        return "no overlay is left: " + "; ".join(overlay.trouble for overlay in self._overlays.values())

    def established(self, overlay: str) -> list[Event]:
        """An overlay found that the peer hears it."""
        was_established = self.is_established
        self._overlays[overlay].is_established = True
        events: list[Event] = [] if was_established or not self.is_established else [ConnectionEstablished()]
        return events + self._choose()

    def healthy(self, overlay: str) -> list[Event]:
        """An overlay on hold hears the peer again."""
        self._overlays[overlay].illness = None
        return self._choose()

    def unhealthy(self, overlay: str, why: str) -> list[Event]:
        """An overlay is on hold; it may come back."""
        self._overlays[overlay].illness = why
        return self._choose_or_end()

    def failed(self, overlay: str, why: str) -> list[Event]:
        """An overlay ended for good on this connection; it keeps its place in the order of control messages."""
        if self._overlays[overlay].failure is not None:
            return []
        self._overlays[overlay].failure = why
        return self._choose_or_end()

    def outgoing(self, overlay: str, tag: int, payload: bytes = b"") -> Control | None:
        """Address a control message of an overlay; None if this peer has no way to receive it."""
        if overlay not in self._overlays:
            return None
        if self.is_legacy:
            return Control(None, tag, payload) if tag in LEGACY_TAGS else None
        return Control(self.common.index(overlay), tag, payload)

    def incoming(self, control: Control) -> Incoming | None:
        """Find the overlay a control message is for; None, and counted, if there is none."""
        if (control.index is None) == self.is_legacy:
            index = control.index or 0
            if 0 <= index < len(self.common):
                return Incoming(self.common[index], control.tag, control.payload)
        self.ignored_controls += 1
        return None

    def _choose_or_end(self) -> list[Event]:
        failure = self.failure
        return self._choose() if failure is None else [ConnectionFailed(failure)]

    def _choose(self) -> list[Event]:
        alive = [overlay for overlay in self._overlays.values() if overlay.failure is None]
        best = next((overlay for overlay in alive if overlay.works), alive[0] if alive else self._best)
        if best is self._best:
            return []
        before, self._best = self._best, best
        is_worse = self.common.index(best.name) > self.common.index(before.name)
        return [BestChanged(best.name, self.reason, is_worse and before.is_established)]
