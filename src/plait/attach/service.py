"""The node's attaching: what was asked is written down first, then the kernel is made to agree; one thing at a time.

Who may have which address is decided before (ipam); names are given by the caller (dns).
"""

import asyncio
import math
import re
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from ipaddress import IPv4Network, ip_interface
from pathlib import Path
from typing import TypeVar

from plait.api.model import Interface
from plait.attach import expose, interface, inventory
from plait.attach.container import NAMED_PREFIX, Container, ContainerDied, InHostNamespace, resolve
from plait.attach.interface import CIDR, Bridge, BridgeMissing
from plait.attach.inventory import ALL_CONTAINERS, EXPOSED
from plait.attach.runtime import ContainerNotRunning, ContainerRuntime, NoSuchContainer, RuntimeUnavailable
from plait.errors import AddressConflict, PlaitError, UsageError
from plait.host import underlay
from plait.host.kernel_errors import NoSuchNamespace
from plait.host.netlink import Netlink
from plait.state import Attachment, Exposure, Store

_T = TypeVar("_T")
# Seconds between full checks of the firewall rules: they list every rule of the host, which may have thousands.
RULES_CHECK_INTERVAL = 60.0
# A container's full name in Docker: what only Docker can say the state of.
_DOCKER_ID = re.compile(r"[0-9a-f]{64}\Z")
_GONE = (NoSuchContainer, ContainerNotRunning, ContainerDied, NoSuchNamespace)


class Attacher:
    """Attaches containers and exposes the host, and remembers both in the store. Methods may raise any PlaitError.

    `warn` gets sentences for people about things that were done all the same; it is called in the event loop.
    """

    def __init__(
        self, store: Store, bridge: Bridge, runtime: ContainerRuntime | None, warn: Callable[[str], None]
    ) -> None:
        self._store = store
        self._bridge = bridge
        self._runtime = runtime
        self._warn_in_loop = warn
        self._lock = asyncio.Lock()
        self._is_begun = False
        self._rules_checked = -math.inf
        self._kept: frozenset[IPv4Network] = frozenset()
        self._looked_at: set[str] = set()  # namespaces whose inside was checked by this process

    @property
    def count(self) -> int:
        """How many containers are attached."""
        return len(self._store.attachments)

    @property
    def exposed(self) -> list[str]:
        """The CIDRs of the host on the bridge."""
        return [exposure.cidr for exposure in self._store.exposures]

    def keep_sources(self, networks: Collection[IPv4Network]) -> None:
        """Have what goes to these networks keep its source where it would be masqueraded, from the next look on."""
        if self._kept != frozenset(networks):
            self._kept = frozenset(networks)
            self._rules_checked = -math.inf

    async def attach(self, container_text: str, cidrs: list[str], multicast_route: bool = True) -> list[str]:
        """Give a container `ethwe` with these addresses; the answer is all of them, without prefix length.

        Raise AddressConflict if another living container or the host has one of them, UsageError for no address.
        """
        wanted = _parse(cidrs)
        if not wanted:
            raise UsageError(f"no address is given for {container_text}; write one like 10.2.1.1/24")
        container = await resolve(container_text, self._runtime)
        async with self._lock:
            await self._in_thread(self._attach, container, wanted, multicast_route)
        return [str(cidr.ip) for cidr in wanted]

    async def detach(self, container_text: str, cidrs: list[str]) -> list[str]:
        """Take these addresses (all, if none is given) from a container; the answer is those that it had.

        What is recorded of a container that is gone is forgotten, and counts as taken.
        """
        wanted = _parse(cidrs)
        try:
            container = await resolve(container_text, self._runtime)
        except _GONE:
            record = self._recorded(await self._ident(container_text))
            if record is None:
                raise
            container = _container(record)
        async with self._lock:
            removed = await self._in_thread(self._detach, container, wanted)
        return [str(cidr.ip) for cidr in removed]

    async def expose(self, cidrs: list[str], masquerade: bool = True) -> list[str]:
        """Give the host these addresses; the answer is all of them, without prefix length. Raise AddressConflict."""
        wanted = _parse(cidrs)
        if not wanted:
            raise UsageError("no address is given to expose the host with; write one like 10.2.1.1/24")
        async with self._lock:
            await self._in_thread(self._expose, wanted, masquerade)
        return [str(cidr.ip) for cidr in wanted]

    async def hide(self, cidrs: list[str]) -> list[str]:
        """Take these addresses (all, if none is given) from the host; the answer is those that it had."""
        wanted = _parse(cidrs)
        async with self._lock:
            removed = await self._in_thread(self._hide, wanted)
        return [str(cidr.ip) for cidr in removed]

    async def ident_of(self, container_text: str) -> str:
        """Give the name under which a container is recorded. Raise what `resolve` raises."""
        return (await resolve(container_text, self._runtime)).ident

    async def recorded_ident(self, container_text: str) -> str:
        """The same, of a container that may be gone: what is not known is its own name."""
        try:
            return await self.ident_of(container_text)
        except _GONE:
            ident = await self._ident(container_text)
            record = self._recorded(ident)
            return record.ident if record is not None else ident

    async def living(self, candidates: Iterable[str]) -> set[str]:
        """Give those of these names that are attached or run, and those whose end nobody here could notice.

        Raise RuntimeUnavailable if only the engine knows, and it does not answer.
        """
        attached = {record.ident for record in self._store.attachments}
        left = {ident for ident in candidates if ident not in attached and not _is_ours_to_know(ident)}
        if self._runtime is not None and any(map(_DOCKER_ID.match, left)):
            running = {container.ident for container in await self._runtime.running()}
            left = {ident for ident in left if ident in running or not _DOCKER_ID.match(ident)}
        return attached | left

    async def is_running(self, container_text: str) -> bool:
        """False if the engine says that this container does not run; True also if there is no engine to ask."""
        if self._runtime is None:
            return True
        try:
            return (await self._runtime.inspect(container_text)).running
        except NoSuchContainer:
            return False
        except RuntimeUnavailable:
            return True

    async def interfaces(self, idents: list[str]) -> list[Interface]:
        """Interfaces of containers, of all (`weave:allids`), of the host (`weave:expose`); unknown ones give none."""
        found: list[Interface] = []
        for ident in idents:
            if ident == EXPOSED:
                found.append(await asyncio.to_thread(inventory.bridge_interface, self._bridge))
                continue
            containers = await (
                self._all_containers(self._warn_in_loop) if ident == ALL_CONTAINERS else self._one_container(ident)
            )
            found += await asyncio.to_thread(inventory.container_interfaces, self._bridge, containers)
        return found

    async def ends(self, text: str) -> list[inventory.End]:
        """Interfaces of one container on the bridge, or of all that can be found (`weave:allids`).

        Raise what `resolve` raises, and BridgeMissing.
        """
        if text == ALL_CONTAINERS:
            containers = await self._all_containers(lambda sentence: None)
        else:
            containers = [await resolve(text, self._runtime)]
        return await asyncio.to_thread(inventory.container_ends, self._bridge, containers)

    async def reconcile(self) -> None:
        """Make the kernel agree with the store, and forget containers that are gone.

        The first call looks at everything, and adopts addresses found on the bridge; later ones, made for every few
        seconds, look from the host's side and go deeper where something is off. What cannot be mended is told to
        `warn`; only StateError and BridgeMissing are raised.
        """
        async with self._lock:
            await self._in_thread(self._reconcile)

    async def _in_thread(self, work: Callable[..., _T], *arguments: object) -> _T:
        """Run to the end even if the caller is cancelled, so that the lock is held as long as the work runs."""
        self._loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task])
            if not task.cancelled() and (error := task.exception()) is not None:
                self._warn_in_loop(f"a cancelled request failed: {error}")
            raise

    def _warn(self, text: str) -> None:
        """From the thread that works; the loop gets it before the work's result."""
        self._loop.call_soon_threadsafe(self._warn_in_loop, text)

    def _attach(self, container: Container, wanted: list[CIDR], multicast_route: bool) -> None:
        before = self._store.attachment(container.ident)
        if before is not None and before.netns_id != container.netns_id:
            before = None  # it was restarted, and lost what it had
        self._refuse_conflicts(wanted, container)
        known = [ip_interface(cidr) for cidr in before.cidrs] if before else []
        self._warn_of_overlaps([cidr for cidr in wanted if cidr not in known])
        self._store.put_attachment(_record(container, _union(known, wanted), multicast_route))
        try:
            interface.attach(container, wanted, self._bridge, multicast_route)
        except BaseException as error:
            self._restore(container.ident, None if isinstance(error, ContainerDied) else before)
            raise
        self._looked_at.add(container.netns_id)

    def _restore(self, ident: str, before: Attachment | None) -> None:
        if before is None:
            self._store.forget_attachment(ident)
        else:
            self._store.put_attachment(before)

    def _detach(self, container: Container, wanted: list[CIDR]) -> list[CIDR]:
        old = self._store.attachment(container.ident)
        gone = old is not None and not _container(old).is_alive()
        for record in self._store.attachments:
            if record is old or record.netns_id == container.netns_id:
                self._record_detached(record, wanted)
        if old is not None and gone:
            return [cidr for cidr in map(ip_interface, old.cidrs) if not wanted or cidr in wanted]
        return interface.detach(container, wanted or None)

    def _record_detached(self, record: Attachment, wanted: list[CIDR]) -> None:
        remaining = tuple(cidr for cidr in record.cidrs if wanted and ip_interface(cidr) not in wanted)
        self._restore(record.ident, replace(record, cidrs=remaining) if remaining else None)

    def _expose(self, wanted: list[CIDR], masquerade: bool) -> None:
        self._refuse_conflicts(wanted, None)
        before = self._store.exposures
        known = [ip_interface(exposure.cidr) for exposure in before]
        self._warn_of_overlaps([cidr for cidr in wanted if cidr not in known])
        new = {exposure.cidr: exposure for exposure in before}
        new |= {str(cidr): Exposure(str(cidr), masquerade) for cidr in wanted}
        had = expose.present(self._bridge)
        self._store.set_exposures(list(new.values()))
        try:
            self._apply_exposures(list(new.values()))
        except BaseException:
            self._store.set_exposures(before)
            expose.remove(self._bridge, [cidr for cidr in wanted if cidr not in had])
            raise

    def _hide(self, wanted: list[CIDR]) -> list[CIDR]:
        before = self._store.exposures
        hidden = wanted or _union([ip_interface(e.cidr) for e in before], expose.present(self._bridge))
        remaining = [exposure for exposure in before if ip_interface(exposure.cidr) not in hidden]
        self._store.set_exposures(remaining)
        removed = expose.remove(self._bridge, hidden)
        self._apply_exposures(remaining)
        return removed

    def _apply_exposures(self, exposures: list[Exposure]) -> None:
        expose.apply(self._bridge, exposures, self._warn, self._kept)
        self._rules_checked = time.monotonic()

    def _reconcile(self) -> None:
        is_first, self._is_begun = not self._is_begun, True
        sound = inventory.sound_ports(self._bridge)
        records = self._store.attachments
        living = [record for record in records if self._mend(record, sound)]
        self._looked_at &= {record.netns_id for record in living}
        dead = {interface.host_end_name(_container(record)) for record in records if record not in living}
        if is_first or dead:
            for name in sorted(set(inventory.remove_leftovers(self._bridge)) - dead):
                self._warn(f"removed the interface {name}, left over from a container that is gone")
        if is_first:
            self._adopt_exposures()
        self._mend_exposures()

    def _mend(self, record: Attachment, sound: set[str]) -> bool:
        """Whether the container still lives."""
        container = _container(record)
        if not container.is_alive():
            self._store.forget_attachment(record.ident)
            return False
        if record.netns_id in self._looked_at and interface.host_end_name(container) in sound:
            return True
        try:
            interface.attach(container, map(ip_interface, record.cidrs), self._bridge, record.multicast_route)
        except ContainerDied:
            self._store.forget_attachment(record.ident)
            return False
        except PlaitError as error:
            self._warn(f"the container {record.ident} is not attached as it should be: {error}")
        else:
            self._looked_at.add(record.netns_id)
        return True

    def _adopt_exposures(self) -> None:
        """Addresses that Weave, or a node whose state was lost, put on the bridge."""
        known = [ip_interface(cidr) for cidr in self.exposed]
        adopted = [Exposure(str(cidr), True) for cidr in expose.present(self._bridge) if cidr not in known]
        if adopted:
            self._store.set_exposures(self._store.exposures + adopted)

    def _mend_exposures(self) -> None:
        exposures = self._store.exposures
        is_due = time.monotonic() - self._rules_checked > RULES_CHECK_INTERVAL
        try:
            if is_due or not expose.is_in_place(self._bridge, exposures):
                self._apply_exposures(exposures)
        except BridgeMissing:
            raise
        except PlaitError as error:
            self._warn(f"the host is not exposed as it should be: {error}")

    def _refuse_conflicts(self, wanted: list[CIDR], container: Container | None) -> None:
        """`container` None: the host itself wants them."""
        addresses = {cidr.ip for cidr in wanted}
        if container is not None:
            for exposure in self._store.exposures:
                if ip_interface(exposure.cidr).ip in addresses:
                    raise _conflict(exposure.cidr, EXPOSED)
        for record in self._store.attachments:
            if container is not None and container.netns_id == record.netns_id:
                continue
            for cidr in record.cidrs:
                if ip_interface(cidr).ip in addresses and _container(record).is_alive():
                    raise _conflict(cidr, record.ident)

    def _warn_of_overlaps(self, cidrs: list[CIDR]) -> None:
        with Netlink() as host:
            routes = {version: host.routes(version) for version in {cidr.version for cidr in cidrs}}
        for cidr in cidrs:
            for route in routes[cidr.version]:
                overlapped = underlay.overlap_with(cidr, [route], ignored_devices=(self._bridge.name,))
                if overlapped is not None:
                    self._warn(f"{overlapped} (device {route.device}); what is there and what is attached may not meet")

    def _recorded(self, text: str) -> Attachment | None:
        """By ident, or by the beginning of a Docker id as Docker takes it."""
        exact = self._store.attachment(text)
        if exact is not None or not text:
            return exact
        found = [record for record in self._store.attachments if record.docker_id and record.docker_id.startswith(text)]
        return found[0] if len(found) == 1 else None

    async def _ident(self, text: str) -> str:
        """The id of a Docker container that does not run; else the text itself."""
        if self._runtime is not None:
            try:
                return (await self._runtime.inspect(text)).ident
            except (NoSuchContainer, RuntimeUnavailable):
                pass  # it is not Docker's (any more)
        return text

    async def _one_container(self, ident: str) -> list[Container]:
        try:
            return [await resolve(ident, self._runtime)]
        except (*_GONE, InHostNamespace, UsageError):
            return []

    async def _all_containers(self, warn: Callable[[str], None]) -> list[Container]:
        """Those recorded, then Docker's; a namespace that both know, or that containers share, once."""
        found = {record.netns_id: _container(record) for record in self._store.attachments}
        try:
            running = await self._runtime.running() if self._runtime is not None else []
        except RuntimeUnavailable as error:
            warn(str(error))
            running = []
        for listed in running:
            for container in await self._one_container(listed.ident):
                found.setdefault(container.netns_id, container)
        return list(found.values())


def _is_ours_to_know(ident: str) -> bool:
    """Namespaces and processes: nobody but this node knows them by these names."""
    return ident.startswith(NAMED_PREFIX) or (ident.isascii() and ident.isdigit())


def _record(container: Container, cidrs: list[CIDR], multicast_route: bool) -> Attachment:
    texts = tuple(str(cidr) for cidr in cidrs)
    return Attachment(
        container.ident,
        str(container.netns),
        container.netns_id,
        container.pid,
        container.docker_id,
        texts,
        multicast_route,
    )


def _container(record: Attachment) -> Container:
    return Container(record.ident, Path(record.netns), record.netns_id, record.pid, record.docker_id)


def _parse(cidrs: list[str]) -> list[CIDR]:
    return _union([], [_parse_one(cidr) for cidr in cidrs])


def _parse_one(text: str) -> CIDR:
    try:
        if "/" not in text or "%" in text:
            raise ValueError("not of the form address/length")
        cidr = ip_interface(text)
        if cidr.ip.is_multicast or cidr.ip.is_loopback or cidr.ip.is_unspecified:
            raise ValueError("not an address that one machine of a network can have")
        return cidr
    except ValueError as error:
        raise UsageError(f"{text!r} cannot be given to a container ({error}); write it like 10.2.1.1/24") from error


def _union(first: Iterable[CIDR], second: Iterable[CIDR]) -> list[CIDR]:
    return list(dict.fromkeys([*first, *second]))


def _conflict(cidr: str, owner: str) -> AddressConflict:
    return AddressConflict(
        f"the address {cidr} is in use on this host by {owner}; choose another one, or take it from there first"
    )
