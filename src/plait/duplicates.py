"""Addresses that are in use on two hosts: the nodes tell each other theirs, as they do with MAC addresses.

Allocation keeps apart what it gives out; addresses that people choose themselves nobody kept apart. Weave peers pass
the channel on unread, and say nothing of their own.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address

from plait import holdings
from plait.api import remarks
from plait.attach.inventory import EXPOSED
from plait.ipam.check import Use
from plait.mesh.name import PeerName
from plait.mesh.router import Router
from plait.mesh.transport import Transport
from plait.overlay.announcements import Announcements
from plait.state import Store
from plait.troubles import Troubles

CHANNEL = "plait-addresses"
"""Format: docs/protocol/fastdp.md, with addresses of 16 bytes; IPv4 as RFC 4291, section 2.5.5.2, maps it."""

ADDRESS_BYTES = 16


class Duplicates:
    """Of one node."""

    def __init__(self, router: Router, store: Store, transport: Transport, troubles: Troubles) -> None:
        self._router = router
        self._store = store
        self._transport = transport
        self._troubles = troubles
        self._told: set[str] = set()
        self._announcements = Announcements(router.our_name, router.peers, self._compare, item_bytes=ADDRESS_BYTES)
        router.register(CHANNEL, self._announcements)

    def look(self) -> None:
        """Tell the others what this host has now, and compare with what they have."""
        news = self._announcements.set_own(
            (packed(address) for address in held(holdings.uses(self._store))), time.time()
        )
        if news is not None:
            self._router.broadcast(CHANNEL, news)
            asyncio.get_running_loop().call_soon(self._transport.flush)
        self._compare()

    def forget(self, peer: PeerName) -> None:
        """Forget a peer that left the mesh."""
        self._announcements.forget(peer)

    def _compare(self) -> None:
        found = shared(held(holdings.uses(self._store)), self._announcements.owners())
        for address, (holder, peer) in found.items():
            who = "this host itself" if holder == EXPOSED else f"{holder} on this host"
            what = f"{address} is held by {who} and on {self._router.peers.label(peer)}: frames for it go to either"
            release = f"'plait hide {address}/..'" if holder == EXPOSED else f"'plait detach {address}/.. {holder}'"
            cure = f"take it away on one of the two: {release} here, or the like there"
            remarks.say(f"{what}; cure: {cure}")
            self._troubles.report(f"duplicate {address}", what, cure, peer=peer)
        for address in self._told - found.keys():
            self._troubles.clear(f"duplicate {address}")
        self._told = set(found)


def held(uses: Iterable[Use]) -> dict[str, str]:
    """Give the addresses in use, without lengths, and who holds each."""
    return {use.cidr.partition("/")[0]: use.ident for use in uses}


def packed(address: str) -> bytes:
    """Give the 16 bytes of an address."""
    parsed = ip_address(address)
    return IPv6Address(f"::ffff:{parsed}").packed if isinstance(parsed, IPv4Address) else parsed.packed


def shared(ours: Mapping[str, str], theirs: Mapping[bytes, PeerName]) -> dict[str, tuple[str, PeerName]]:
    """Give our addresses that a peer has too: who holds it here, and which peer."""
    return {
        address: (holder, theirs[key]) for address, holder in sorted(ours.items()) if (key := packed(address)) in theirs
    }
