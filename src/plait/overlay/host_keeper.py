"""Looks after what this host's forwarding depends on: the kernel's datapath, the containers here and elsewhere."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping

from plait.errors import PlaitError
from plait.mesh.name import PeerName
from plait.overlay.fastdp.control import FastdpControl
from plait.overlay.sleeve import ipc

_log = logging.getLogger(__name__)

INTERVAL = 5.0
"""Seconds between looks when nobody asks for one."""


class HostKeeper:
    """Of one node. With a kernel that carries frames that decides about all of them, else the pump does."""

    def __init__(
        self,
        kernel: FastdpControl | None,
        tell_pump: Callable[[ipc.ToPump], None],
        plan: Callable[[], None],
        warn: Callable[[str], None],
        *,
        remotes: Callable[[], Collection[str]],
        containers: Callable[[], list[bytes]],
        on_containers: Callable[[Iterable[bytes]], None],
    ) -> None:
        """`plan`: put topology and connections into effect in the kernel. `remotes`: the neighbours' IP addresses.

        `containers` finds the MAC addresses of this host's containers where no kernel does, in a thread;
        `on_containers` gets them after each look.
        """
        self._kernel = kernel
        self._tell_pump = tell_pump
        self._plan = plan
        self._warn = warn
        self._remotes = remotes
        self._containers = containers
        self._on_containers = on_containers
        self._asked = asyncio.Event()
        self._here: frozenset[bytes] = frozenset()
        self._elsewhere: Mapping[bytes, PeerName] = {}

    async def keep(self) -> None:
        """Keep the datapath as it must be and tell of the containers here, until cancelled: at times and when asked."""
        while True:
            self._asked.clear()
            try:
                self._found(await self._look())
            except (PlaitError, OSError) as error:
                what = "containers of this host" if self._kernel is None else "kernel's datapath"
                self._warn(f"the {what} cannot be looked after ({error}): tried again in a moment")
            self._plan()
            try:
                async with asyncio.timeout(INTERVAL):
                    await self._asked.wait()
            except TimeoutError:
                if self._kernel is not None:
                    self._kernel.kernel.sweep()

    def ask(self) -> None:
        """Something changed that must be known at once: a container came or went, or a neighbour's path."""
        self._asked.set()

    def announced(self, owners: Mapping[bytes, PeerName]) -> None:
        """Other peers told which MAC addresses they have."""
        self._elsewhere = owners
        if self._kernel is None:
            self._tell_elsewhere()
        else:
            self._kernel.set_announced(owners)
            self._plan()

    def peer_gone(self, peer: PeerName, short_id: int | None, nickname: str) -> None:
        """A peer left the mesh; call it before `announced` lacks it."""
        if self._kernel is not None and short_id is not None:
            self._kernel.peer_gone(peer, short_id, nickname)

    def announced_by(self, mac: bytes) -> PeerName | None:
        """Give the other peer that says it has an address; None if nobody does, or it is here."""
        return None if mac in self._here else self._elsewhere.get(mac)

    async def _look(self) -> Collection[bytes]:
        if self._kernel is None:
            return await asyncio.to_thread(self._containers)
        datapath = self._kernel.kernel
        for repair in await asyncio.to_thread(datapath.ensure, self._remotes()):
            _log.info("%s", repair)
        return datapath.container_macs()

    def _found(self, macs: Collection[bytes]) -> None:
        before, self._here = self._here, frozenset(macs)
        self._on_containers(macs)
        if self._kernel is None and self._here != before:
            self._tell_elsewhere()

    def _tell_elsewhere(self) -> None:
        """A container that came here is announced by its former host for a moment: what is here is here."""
        macs: dict[int, list[bytes]] = {}
        for mac, peer in self._elsewhere.items():
            if mac not in self._here:
                macs.setdefault(int(peer), []).append(mac)
        self._tell_pump(ipc.SetAnnounced(macs))
