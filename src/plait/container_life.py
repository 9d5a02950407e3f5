"""What starts and ends of containers mean for their names and addresses, as Weave has it (spec: ipam 12, dns 6).

A container that dies loses its names at once, and its addresses after 30 s unless it starts again; one that is removed
loses its addresses at once, if nobody else uses its network.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from plait.ipam.records import Holding

_DOCKER_ID = re.compile(r"[0-9a-f]{64}")


class Names(Protocol):
    """What knows the names of containers of this host."""

    def named(self) -> set[str]:
        """Give the idents of containers that have names from this node."""

    def container_died(self, container_id: str) -> None:
        """Delete the names of one."""


class Addresses(Protocol):
    """What gives addresses to containers of this host."""

    def owned(self) -> dict[str, Holding]:
        """Give all that is recorded, by ident."""

    def census(self, alive: Iterable[str]) -> None:
        """Hear which containers live."""

    def container_started(self, ident: str) -> None:
        """Hear that one starts."""

    def container_died(self, ident: str) -> None:
        """Hear that one died."""

    def container_destroyed(self, ident: str) -> None:
        """Hear that one is gone for good."""


class ContainerLife:
    """Hears an engine's news of containers (docker.events.Listener), and looks at all of them now and then.

    `living` gives those of some idents that live, whatever keeps them alive (attach.service.Attacher.living).
    """

    def __init__(
        self,
        names: Names | None,
        addresses: Addresses | None,
        living: Callable[[Iterable[str]], Awaitable[set[str]]],
    ) -> None:
        self.woken = asyncio.Event()
        """Set to have everything looked at now."""
        self._names = names
        self._addresses = addresses
        self._living = living
        self._destroyed: set[str] = set()
        self._has_gap = False

    def started(self, ident: str) -> None:
        """It keeps the addresses that it had when it died."""
        self._destroyed.discard(ident)
        if self._addresses is not None:
            self._addresses.container_started(ident)

    def died(self, ident: str) -> None:
        """Its names go; its interface is looked for at once."""
        if self._names is not None:
            self._names.container_died(ident)
        if self._addresses is not None:
            self._addresses.container_died(ident)
        self.woken.set()

    def destroyed(self, ident: str) -> None:
        """Its addresses go with the next look, which comes at once, unless another container lives in its network."""
        self._destroyed.add(ident)
        self.woken.set()

    def missed(self) -> None:
        """The engine was not heard for a while: the next look, which comes at once, is for names too."""
        self._has_gap = True
        self.woken.set()

    async def look(self) -> None:
        """Release what containers that are gone held. Raise RuntimeUnavailable if it cannot be known: nothing went."""
        destroyed, has_gap = set(self._destroyed), self._has_gap
        held = self._addresses.owned() if self._addresses is not None else {}
        named = {ident for ident in self._named() if _DOCKER_ID.fullmatch(ident)} if has_gap else set()
        alive = await self._living(held.keys() | named)
        if self._addresses is not None:
            self._addresses.census(alive)
            for ident in destroyed - alive:
                self._addresses.container_destroyed(ident)
        if self._names is not None:
            for ident in named - alive:
                self._names.container_died(ident)
        self._destroyed -= destroyed
        self._has_gap = self._has_gap and not has_gap

    def _named(self) -> set[str]:
        return self._names.named() if self._names is not None else set()
