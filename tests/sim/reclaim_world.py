"""The world of allocators, with leases and heirs: clocks that go at different rates and step, and disks that are lost.

The law here is about who *may give out* an address. Who has no lease may not, so it does not count; containers of a
peer that was away may have addresses that an heir gives out again, which `ipam check` names.
"""

import random
from collections.abc import Callable
from functools import partial

from plait.ipam.address import Range
from plait.ipam.reclaim.core import Reclaim
from plait.ipam.reclaim.estate import AllocatorEstate
from plait.ipam.reclaim.messages import Answer, Durable, decode_durable, encode
from plait.ipam.reclaim.world import Ask, Instant
from plait.mesh.name import PeerName
from sim.ipam_world import Host, Violation, World

AFTER = 60.0
TICK = 1.0
PATIENCE = 3.0
RATES = (0.95, 1.05)
"""Of clocks: a lease may last 1/0.95, and is waited for 1.25/1.05 of its time."""


class Kit:
    """What a host has besides its allocator: the core and the clocks live as long as the node, `disk` longer."""

    def __init__(self) -> None:
        self.core: Reclaim | None = None
        self.estate: AllocatorEstate | None = None
        self.disk: bytes | None = None
        self.began = self.rate = self.steps = self.base = 0.0


class ReclaimWorld(World):
    """A world in which every host has the same duration."""

    def __init__(self, seed: int, count: int, after: float = AFTER, universe: str = "10.9.0.0/25") -> None:
        super().__init__(seed, count, universe)
        self.after = after
        self.kits = {host.name: Kit() for host in self.hosts}
        self.is_forgetful = False
        self.reclaimed = 0

    def instant(self, host: Host) -> Instant:
        kit = self.kits[host.name]
        slow = kit.base + (self.clock.now - kit.began) * kit.rate
        return Instant(slow, slow + kit.steps)

    def members(self, host: Host) -> list[PeerName]:
        return [other.name for other in self.hosts if other is not host and self.reaches(host, other)]

    # Lives

    def equip(self, host: Host) -> None:
        assert host.allocator is not None
        kit = self.kits[host.name]
        kit.began, kit.rate, kit.steps = self.clock.now, self.rng.uniform(*RATES), 0.0
        kit.base = self.rng.uniform(0, 1e6)
        stored = decode_durable(kit.disk) if kit.disk is not None else Durable()
        estate = AllocatorEstate(
            host.allocator,
            lambda: self.members(host),
            lambda actions: self.do(host, actions),
            lambda: self.clock.now,
            lambda: self.instant(host),
        )
        kit.core = estate.core = Reclaim(
            str(host.name), self.after, random.Random(self.rng.random()), estate, stored, self.instant(host)
        )
        kit.estate = estate
        host.allocator.guard = estate
        self._save(host)
        self.clock.call_later(self.rng.uniform(0, TICK), partial(self._tick_core, host, host.life))

    def crash(self, host: Host) -> None:
        super().crash(host)
        kit = self.kits[host.name]
        if kit.estate is not None:
            self.reclaimed += kit.estate.taken
        kit.core = kit.estate = None

    def lose_disk(self, host: Host) -> None:
        super().lose_disk(host)
        kit = self.kits[host.name]
        kit.core = kit.estate = kit.disk = None

    def core(self, host: Host) -> Reclaim:
        core = self.kits[host.name].core
        assert core is not None
        return core

    def _save(self, host: Host) -> None:
        core = self.core(host)
        if core.is_dirty:
            core.saved()
            if not self.is_forgetful:
                self.kits[host.name].disk = encode(core.durable())

    # Questions

    def _tick_core(self, host: Host, life: int) -> None:
        if host.allocator is None or host.life != life:
            return
        if self.rng.random() < 0.001:
            self.kits[host.name].steps += self.rng.uniform(0, 20)
        self._ask(host, self.core(host).tick(self.instant(host)))
        self.check()
        self.clock.call_later(TICK, partial(self._tick_core, host, life))

    def _ask(self, host: Host, asks: list[Ask]) -> None:
        self._save(host)
        for ask in asks:
            receiver = self.host(PeerName.parse(ask.peer))
            if receiver is not None:
                self._send(host, receiver, partial(self._question, host, host.life, ask))
            self.clock.call_later(PATIENCE, partial(self._silent, host, host.life, ask))

    def _question(self, sender: Host, life: int, ask: Ask, to: Host) -> None:
        answer = self.core(to).question(ask.question, self.instant(to))
        self._save(to)
        self.check()
        self._send(to, sender, partial(self._answer, life, ask, answer))

    def _answer(self, life: int, ask: Ask, answer: Answer, to: Host) -> None:
        if to.life == life:
            before = to.allocator
            self._ask(to, self.core(to).answered(ask, answer, self.instant(to)))
            assert to.allocator is before
            self.check()

    def _silent(self, host: Host, life: int, ask: Ask) -> None:
        if host.allocator is not None and host.life == life:
            self.core(host).silent(ask, self.instant(host))

    # Laws

    def owned(self, host: Host) -> list[Range]:
        if host.allocator is None or not self.core(host).may_give(self.instant(host)):
            return []
        return host.allocator.space.owned()

    def check_users(self) -> None:
        """Only who may give an address out is asked: see above."""

    def taken(self) -> int:
        """How many addresses heirs took."""
        return self.reclaimed + sum(kit.estate.taken for kit in self.kits.values() if kit.estate is not None)

    def wait_for(self, what: str, is_so: Callable[[], bool], seconds: float) -> None:
        """Let time pass until something is so; a Violation if it takes too long."""
        end = self.clock.now + seconds
        while not is_so():
            if self.clock.now > end:
                raise Violation(f"{self.where()}: not in {seconds:g} s: {what}")
            self.run_for(5)

    def is_whole(self) -> bool:
        """Running hosts own all, and may give it out."""
        owned = sum(piece.size for host in self.running for piece in self.owned(host))
        is_giving = all(self.core(host).may_give(self.instant(host)) for host in self.running)
        return is_giving and owned == self.universe.range.size
