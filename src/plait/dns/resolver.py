"""All of a node's names in one piece: what it knows, what it answers from, and the address it answers at."""

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Callable, Container, Iterable
from ipaddress import IPv4Address

from plait.api import model
from plait.api.figures import NameFigures
from plait.dns.entries import Entry
from plait.dns.responder import Responder
from plait.dns.server import Counts, DnsServer
from plait.dns.service import NameService
from plait.dns.settings import Settings
from plait.errors import PlaitError
from plait.host import firewall, tables
from plait.host.kernel_errors import NoSuchLink
from plait.host.netlink import Netlink
from plait.mesh.gossip import GossipData
from plait.mesh.name import PeerName

DOCKER_BRIDGE = "docker0"
"""Its address is where containers can ask, whatever network they are on: Weave's choice."""

DEFAULT_PORT = 53
FIREWALL_INTERVAL = 30.0
"""Seconds between looks at chains of others: who reloads a firewall takes our rules from them."""

LABELS = "weave:"
"""Container IDs that begin so stand for no container: `weave:extern`, `weave:expose`."""

_log = logging.getLogger(__name__)


class Resolver:
    """Owns the names. `known` are the peers of the mesh, `broadcast` tells all of them, `warn` tells people.

    Register `service` as the gossiper of its channel; then `start`, `service.keep_expiring`, and `close` at the end.
    Implements `plait.api.model.Names`.
    """

    def __init__(
        self,
        us: PeerName,
        known: Container[PeerName],
        settings: Settings,
        broadcast: Callable[[GossipData], None],
        warn: Callable[[str], None],
    ) -> None:
        self.service = NameService(us, known, settings.domain, broadcast, time.time, warn)
        self._us = us
        self._settings = settings
        self._warn = warn
        self._server: DnsServer | None = None
        self._held: set[str] = set()

    async def start(self) -> None:
        """Listen. Raises PlaitError if the operator's address cannot be had; if the Docker bridge's cannot, warns."""
        settings = self._settings
        found = settings.listen or await asyncio.to_thread(_docker_bridge)
        if found is None:
            _log.info("names are not served: there is no %s; --dns-listen-address says where else", DOCKER_BRIDGE)
            return
        rng = random.Random(secrets.randbits(64))
        responder = Responder(self.service.database.entries, self.service.domain, settings.ttl, rng)
        server = DnsServer(responder, *found, settings.resolv_conf, settings.fallback_timeout, warn=self._warn)
        try:
            await server.listen()
        except PlaitError as error:
            if settings.listen is not None:
                raise
            self._warn(f"names are not served: {error}")
            return
        self._server = server

    async def keep_reachable(self) -> None:
        """Have firewalls of this host let containers ask at the Docker bridge, until cancelled.

        An address that the operator chose is the operator's to open.
        """
        while self._settings.listen is None and self.address is not None:
            try:
                await asyncio.to_thread(_accept, *self.address)
            except PlaitError as error:
                self._warn(f"containers may not reach the names at {self.address[0]}: {error}")
            await asyncio.sleep(FIREWALL_INTERVAL)

    async def close(self) -> None:
        """Give the address back."""
        if self._server is not None:
            await self._server.close()
            self._server = None

    def containers_have(self, addresses: set[str]) -> None:
        """Hear which addresses the containers of this host have now: names for those that went are deleted."""
        gone, self._held = self._held - addresses, addresses
        self._release(gone)

    def _release(self, addresses: Iterable[str]) -> None:
        numbers = {int(IPv4Address(text)) for text in addresses if ":" not in text}
        doomed = [entry for entry in self.service.database.entries if self._is_released(entry, numbers)]
        for container_id, address in {(entry.container_id, entry.address) for entry in doomed}:
            self.service.remove(container_id, address)

    def _is_released(self, entry: Entry, addresses: set[int]) -> bool:
        return (
            entry.origin == self._us
            and not entry.tombstone
            and entry.address in addresses
            and not entry.container_id.startswith(LABELS)
        )

    # Names

    @property
    def domain(self) -> str:
        """See Names."""
        return self.service.domain

    @property
    def address(self) -> tuple[str, int] | None:
        """See Names."""
        return self._server.address if self._server is not None else None

    def add(self, container_id: str, address: int, hostname: str) -> bool:
        """See Names."""
        return self.service.add(container_id, address, hostname)

    def remove(self, container_id: str | None, address: int | None, hostname: str | None) -> int:
        """See Names."""
        return self.service.remove(container_id, address, hostname)

    def lookup(self, hostname: str) -> list[int]:
        """See Names."""
        return self.service.lookup(hostname)

    def reverse(self, address: int) -> str | None:
        """See Names."""
        return self.service.reverse(address)

    def report(self) -> model.Dns:
        """See Names."""
        address = self.address
        return model.Dns(
            domain=self.domain,
            upstream=list(self._server.upstream) if self._server is not None else [],
            address=f"{address[0]}:{address[1]}" if address is not None else "",
            ttl=self._settings.ttl,
            entries=[_reported(entry) for entry in self.service.database.entries],
        )

    def figures(self) -> NameFigures:
        """See Names."""
        counts = Counts() if self._server is None else self._server.counts
        queries = {
            "local": counts.answered - counts.unknown - counts.refused,
            "nxdomain": counts.unknown,
            "unreadable": counts.refused,
            "forwarded": counts.forwarded,
            "overload": counts.overload,
        }
        return NameFigures(served=self._server is not None, queries=queries, upstream_failures=counts.failed)


def _reported(entry: Entry) -> model.DnsEntry:
    return model.DnsEntry(
        hostname=entry.hostname.encode(errors="replace").decode(),
        origin=str(entry.origin),
        container_id=entry.container_id.encode(errors="replace").decode(),
        address=str(IPv4Address(entry.address)),
        version=entry.version,
        tombstone=entry.tombstone,
    )


def _accept(address: str, port: int) -> None:
    for chain in firewall.droppers("input"):
        firewall.keep_accepts(chain, tables.name_accepts(address, port))


def _docker_bridge() -> tuple[str, int] | None:
    try:
        with Netlink() as netlink:
            found = [each.cidr for each in netlink.addresses(DOCKER_BRIDGE) if each.cidr.version == 4]
    except NoSuchLink:
        return None
    return (str(found[0].ip), DEFAULT_PORT) if found else None
