"""What a running node looks after now and then: links and interfaces, names of targets, pending peers."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network

from plait.attach.runtime import RuntimeUnavailable
from plait.attach.service import Attacher
from plait.config import Config
from plait.container_life import ContainerLife
from plait.errors import PlaitError, StateError
from plait.ipam import tracker
from plait.ipam.service import AddressService
from plait.ipam_report import waiting
from plait.mesh.router import Router
from plait.mesh.transport import Transport
from plait.overlay.bridge import TAP, BridgeKeeper
from plait.overlay.live import ports_in_words
from plait.overlay.manager import OverlayManager
from plait.overlay.sleeve.supervisor import Pump
from plait.startup import Host
from plait.targets import RETRY_INTERVAL, Targets
from plait.troubles import Troubles

# How often the bridge, the tap and the attached interfaces are compared with what they should be, seconds.
RECONCILE_INTERVAL = 5.0
# Containers end together more often than alone: so long, seconds, their news are waited for.
GATHERING = 0.05
# A connection on which no frames pass after so long, seconds, is a problem: heartbeats go out every half second.
PENDING_PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class Upkeep:
    """The rooms of a node that are looked after. `follow_addresses`: tell of what was attached and detached."""

    config: Config
    host: Host
    troubles: Troubles
    router: Router
    targets: Targets
    transport: Transport
    pump: Pump
    overlays: OverlayManager
    bridge: BridgeKeeper
    attacher: Attacher
    addresses: AddressService | None
    life: ContainerLife
    follow_addresses: Callable[[], None]

    async def keep_reconciled(self) -> None:
        """Compare the bridge, the tap and the attached interfaces with what they should be, until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(RECONCILE_INTERVAL):
                    await self.life.woken.wait()
                await asyncio.sleep(GATHERING)
            self.life.woken.clear()
            try:
                repairs = [*await self._mend_tap(), *await asyncio.to_thread(self.bridge.ensure)]
                self._keep_local_sources()
                await self.troubles.keeping(self.attacher.reconcile())
                await self._look_after_addresses()
            except StateError:
                continue
            except PlaitError as error:
                self.troubles.report("bridge", str(error), "put it right, or 'plait stop' and 'plait launch'")
                continue
            finally:
                self.follow_addresses()
                self.targets.save_again()
                self._look_for_pending()
            self.troubles.clear("bridge")
            for repair in repairs:
                self.troubles.warn(repair)

    def _keep_local_sources(self) -> None:
        """What goes to addresses that this node gives out is for containers here."""
        if self.addresses is not None and not self.config.masq_local:
            owned = tracker.cidrs(self.addresses.allocator.ring.owned())
            self.attacher.keep_sources([IPv4Network((cidr.address, cidr.prefix_length)) for cidr in owned])

    async def _look_after_addresses(self) -> None:
        """Release what dead containers held, and say who waits."""
        try:
            await self.life.look()
        except RuntimeUnavailable:
            pass  # nobody is taken for dead because the engine does not answer
        if self.addresses is None:
            return
        found = waiting(self.addresses)
        if found is None:
            self.troubles.clear("addresses")
        else:
            self.troubles.report("addresses", *found, varies=True)

    async def _mend_tap(self) -> list[str]:
        if await asyncio.to_thread(self.bridge.has_tap):
            return []
        self.host.reopen_tap()
        self.pump.use_tap(self.host.tap_fd)
        return [f"the tap {TAP} was gone: made it again, and another pump for it"]

    async def keep_resolved(self) -> None:
        """Look up targets without an address again and again, until cancelled."""
        while True:
            await asyncio.sleep(RETRY_INTERVAL)
            await self.targets.retry_unresolved()
            self.transport.flush()

    def _look_for_pending(self) -> None:
        for link in self.router.links:
            live = self.overlays.get(link.id)
            if link.established_at is None and live is not None and _now() - link.added_at > PENDING_PATIENCE:
                self.troubles.report(
                    f"pending {link.peer}",
                    f"no frames pass between this host and {self.router.peers.label(link.peer)} at {link.address}: "
                    f"{'; '.join(session.state for session in live.sessions)}",
                    f"let UDP {ports_in_words(self.config.port, live.sessions)} through, both ways",
                    peer=link.peer,
                )


def _now() -> float:
    return asyncio.get_running_loop().time()
