"""What the allocator does when containers start, die and are destroyed."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from plait.ipam.actions import Action
from plait.ipam.records import Records

if TYPE_CHECKING:
    from plait.ipam.waiting import Waiting


class ContainerLives(ABC):
    """A part of the allocator. `dead` are containers that died lately, and when (Unix seconds)."""

    dead: dict[str, float]
    records: Records
    waiting: "Waiting"
    _now: float

    @abstractmethod
    def revive(self, ident: str) -> None:
        """A container that asks for something, or starts, lives."""

    @abstractmethod
    def _release_all(self, ident: str) -> bool: ...

    @abstractmethod
    def _finish(self) -> list[Action]: ...

    def container_started(self, now: float, ident: str) -> list[Action]:
        """Keep what a container had when it died."""
        self._now = now
        self.revive(ident)
        return self._finish()

    def container_died(self, now: float, ident: str) -> list[Action]:
        """Release what a container holds in a while, unless it starts again; end its requests now."""
        self._now = now
        if self.records.is_container(ident):
            self.dead[ident] = now
        self.waiting.cancel_of(ident)
        return self._finish()

    def container_destroyed(self, now: float, ident: str) -> list[Action]:
        """Release at once what a container holds."""
        self._now = now
        if self.records.is_container(ident):
            self._release_all(ident)
            self.dead.pop(ident, None)
        return self._finish()

    def prune(self, now: float, running: Iterable[str]) -> list[Action]:
        """Release what containers hold that are not among the running ones."""
        self._now = now
        alive = set(running)
        for ident, holding in self.records:
            if holding.is_container and ident not in alive:
                self._release_all(ident)
        return self._finish()

    def census(self, now: float, alive: Collection[str]) -> list[Action]:
        """Hear which containers live now: the others died, those that were thought dead live."""
        self._now = now
        for ident in [ident for ident in self.dead if ident in alive]:
            self.revive(ident)
        holders = {ident for ident, holding in self.records if holding.is_container}
        for ident in holders.difference(alive, self.dead):
            self.dead[ident] = now
            self.waiting.cancel_of(ident)
        return self._finish()
