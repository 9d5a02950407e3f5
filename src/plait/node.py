"""Composition root: a Config becomes a running node. The only module that knows all rooms; it decides nothing else."""

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

import msgspec

from plait import checkup, holdings, sdnotify
from plait.api import model, trace_model
from plait.api.server import serve
from plait.asking import Asking
from plait.attach.interface import Bridge
from plait.attach.service import Attacher
from plait.checkup import Checkup
from plait.config import Config
from plait.dns.codec import CHANNEL as NAMES_CHANNEL
from plait.dns.containers import ContainerNames
from plait.dns.resolver import Resolver
from plait.docker.client import DockerClient
from plait.docker.events import EngineWatch
from plait.errors import NotFound, StateError
from plait.host import udp, underlay
from plait.ipam.attaching import Attaching
from plait.ipam.check import check
from plait.ipam.mesh_view import MeshView
from plait.ipam.paxos import Voter
from plait.ipam.service import CHANNEL as ADDRESSES_CHANNEL
from plait.ipam.service import AddressService
from plait.ipam.settings import Settings
from plait.mesh import events
from plait.mesh.addresses import join_address
from plait.mesh.events import ConnectionId
from plait.mesh.features import LocalFeatures
from plait.mesh.gossip import GossipData
from plait.mesh.maker import ConnectionMaker
from plait.mesh.name import PeerName
from plait.mesh.questions import CHANNEL as QUESTIONS_CHANNEL
from plait.mesh.records import PeerSummary
from plait.mesh.router import Router
from plait.mesh.shortids import SHORT_IDS
from plait.mesh.transport import Identity, Transport
from plait.overlay.bridge import BridgeKeeper, BridgeSettings
from plait.overlay.fastdp.announcements import CHANNEL as MACS_CHANNEL
from plait.overlay.fastdp.announcements import Announcements
from plait.overlay.fastdp.control import FastdpControl
from plait.overlay.live import our_features
from plait.overlay.manager import OverlayManager
from plait.overlay.sleeve.plait1.native.build import build
from plait.overlay.sleeve.plait1.native.engine import load_engine
from plait.overlay.sleeve.supervisor import Pump
from plait.overlay.switch import FASTDP
from plait.report import Sources, build_report
from plait.startup import Host, range_overlap
from plait.state import Store
from plait.targets import Targets
from plait.tracing import Tracer
from plait.troubles import SHOWN_SECONDS, Troubles
from plait.upkeep import Upkeep

_T = TypeVar("_T")
_log = logging.getLogger("plait")

# How long a node that leaves lets the news of who owns its addresses go out, seconds: as Weave's reset does.
HANDOVER_SECONDS = 0.5


class Node:
    """A running node; implements `plait.api.model.NodeService`."""

    def __init__(self, config: Config, store: Store, host: Host) -> None:
        self._config = config
        self._store = store
        self._troubles = Troubles()
        self._stopping = asyncio.Event()
        self._is_ready = False
        self._clock_offset = time.time() - asyncio.get_running_loop().time()
        self._host = host
        self.name = host.name
        self.is_reset = False
        self._offered = tuple(each for each in config.overlays if each != FASTDP or host.kernel is not None)
        rng = random.Random(secrets.randbits(256))
        self._router = _new_router(config, host, self._offered, rng)
        self._transport = Transport(
            self._router,
            Identity(self._features, lambda: secrets.token_bytes(32), config.password, self._trusts),
            (config.host, config.port),
            self._on_mesh_event,
            self._on_refusal,
        )
        self._targets = Targets(store, self._router, config.port, host.local_ips, self._troubles)
        self._pump = Pump(
            self.name,
            config.port,
            self._host.tap_fd,
            self._host.sockets,
            self._on_pump_message,
            self._on_pump_death,
            loop=config.sleeve_loop,
        )
        self._announcements = Announcements(self.name, self._router.peers, self._on_announcement)
        self._router.register(MACS_CHANNEL, self._announcements)
        kernel = None
        if host.kernel is not None:
            kernel = FastdpControl(host.kernel, host.left, self._pump.send, _now())
        self._overlays = OverlayManager(
            self._pump,
            self,
            self._offered,
            udp.path_mtu,
            underlay.interface_mtus,
            self._troubles.warn,
            kernel=kernel,
            local_mtu=host.mtu,
            on_containers=self._announce,
        )
        bridge = BridgeSettings(config.bridge, str(self.name), self._host.mtu)
        self._bridge = BridgeKeeper(bridge)
        docker = DockerClient(config.docker_api) if config.docker_api else None
        self._attacher = Attacher(store, Bridge(config.bridge, host.mtu), docker, self._troubles.warn)
        self.names: Resolver | None = None
        if config.dns is not None:
            self.names = Resolver(self.name, self._router.peers, config.dns, self._tell_names, self._troubles.warn)
            self._router.register(NAMES_CHANNEL, self.names.service)
        self._container_names: ContainerNames | None = None
        if self.names is not None and docker is not None:
            self._container_names = ContainerNames(self.names, docker, self._troubles.warn)
        self.addresses = self._new_addresses(store)
        self._attaching = Attaching(self._attacher, self.addresses)
        self._upkeep = Upkeep(
            config,
            host,
            self._troubles,
            self._router,
            self._targets,
            self._transport,
            self._pump,
            self._overlays,
            self._bridge,
            self._attacher,
            self.addresses,
            self._release_names,
            lambda: self._is_ready,
        )
        self._asking = Asking(self._ask)
        self._router.register(QUESTIONS_CHANNEL, self._asking.channel)
        self._checkup = Checkup(self.report, self._overlays.handed, self._troubles)
        self._asking.answers(checkup.TOPIC, self._checkup.answer)
        self._engine_watch = EngineWatch(docker, self._upkeep.woken.set, self._troubles) if docker else None
        self._tracer = Tracer(self._router, self._overlays, self._pump, self._attacher, config.bridge, config.port)

    def _new_addresses(self, store: Store) -> AddressService | None:
        config, ourself = self._config, self._router.peers.ourself.summary
        if config.ipalloc_range is None:
            return None
        settings = Settings(
            Voter(self.name, ourself.uid),
            config.nickname,
            config.ipalloc_range,
            config.ipalloc_init.seed,
            config.ipalloc_init.is_observer,
        )
        view = MeshView(
            self._router, config.ipalloc_init, lambda: self._targets.unresolved_count, self._transport.flush
        )
        addresses = AddressService(
            settings,
            config.ipalloc_default_subnet or config.ipalloc_range,
            view,
            store,
            self._troubles.warn,
            lambda error: self._troubles.report("state", str(error)),
        )
        addresses.tracker = "" if config.masq_local else "no-masq-local"
        self._router.register(ADDRESSES_CHANNEL, addresses)
        return addresses

    async def run(self) -> None:
        """Serve until `stop`; raises PlaitError if the node cannot start, or a task's error if one dies."""
        self._transport.listen()
        api = await serve(self, self._config)
        try:
            # What can be refused comes before what is left behind.
            if self.names is not None:
                await self.names.start()
            await asyncio.to_thread(_prepare_loop, self._config.sleeve_loop)
            for repair in await asyncio.to_thread(self._bridge.ensure):
                _log.info("%s", repair)
            self._pump.set_local_mtu(self._host.mtu)
            self._watch_kernel()
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(coroutine, name=name) for name, coroutine in self._tasks()]
                await self._begin()
                await self._stopping.wait()
                for task in running:
                    task.cancel()
        finally:
            sdnotify.notify("STOPPING=1")
            if self.names is not None:
                await self.names.close()
            await api.close()
            await self._pump.close()

    def _tasks(self) -> list[tuple[str, Coroutine[Any, Any, None]]]:
        return [
            *([("addresses", self.addresses.run())] if self.addresses is not None else []),
            ("mesh", self._transport.run()),
            ("pump", self._pump.run()),
            ("overlay timers", self._overlays.run_timers()),
            ("interfaces", self._overlays.watch_interfaces()),
            ("datapath", self._overlays.keep_kernel()),
            ("reconcile", self._upkeep.keep_reconciled()),
            ("names", self._upkeep.keep_resolved()),
            ("watchdog", self._upkeep.feed_watchdog()),
            *([("docker", self._engine_watch.run())] if self._engine_watch is not None else []),
            ("checkup", self._checkup.keep_checking()),
            ("transmission", self._checkup.watch_transmission()),
            ("names of containers", self._name_containers()),
            *([("old names", self.names.service.keep_expiring())] if self.names is not None else []),
            *([("firewall for names", self.names.keep_reachable())] if self.names is not None else []),
        ]

    def _watch_kernel(self) -> None:
        if self._host.kernel is not None:
            asyncio.get_running_loop().add_reader(self._host.kernel.fileno(), self._overlays.kernel_readable)
        elif self._host.kernel_lack is not None:
            self._troubles.report(
                "fastdp",
                f"frames are carried in user space: {self._host.kernel_lack}",
                "put that right and launch again; --overlays plait1,sleeve says that it is meant so",
            )

    async def _begin(self) -> None:
        """Wait for the pump, call the peers, say that we are ready."""
        if self._store.damage is not None:
            self._troubles.report("store", str(self._store.damage))
        if self._host.overlap is not None:
            self._troubles.report("range", self._host.overlap, "choose another --ipalloc-range, on all peers")
        await self._pump.wait_ready()
        try:
            await self._troubles.keeping(self._attacher.reconcile())
        except StateError:
            pass  # it is among the troubles, and tried again
        await self._targets.restore(self._config.peers or self._store.targets)
        self._transport.flush()
        if self.addresses is not None:
            self.addresses.found(holdings.claims(self._store))
            self.addresses.open()
        self._release_names()
        self._is_ready = True
        sdnotify.notify("READY=1", f"STATUS=node {self.name} of {len(self._targets.texts)} targets")
        _log.info("node %s(%s) is ready on port %d", self.name, self._config.nickname, self._config.port)

    # What the overlays tell the mesh (overlay.manager.Mesh)

    def send_control(self, connection: ConnectionId, message: bytes) -> None:
        """Send an encoded overlay control message."""
        self._router.send_control(connection, message)
        self._transport.flush()

    def established(self, connection: ConnectionId) -> None:
        """Frames pass on a connection."""
        self._router.connection_established(connection, _now())
        self._transport.flush()
        link = self._router.links.get(connection)
        if link is not None:
            for trouble in ("pending", "lost"):
                self._troubles.clear(f"{trouble} {link.peer}")

    def failed(self, connection: ConnectionId, reason: str) -> None:
        """No overlay is left on a connection."""
        self._router.overlay_failed(connection, reason, _now())
        self._transport.flush()

    # What the mesh tells the others

    def _on_mesh_event(self, event: events.Event) -> None:
        match event:
            case events.ConnectionConfirmed(connection, peer):
                link = self._router.links.get(connection)
                if link is not None:
                    _log.info("connection to %s at %s added", self._router.peers.label(peer), link.address)
                    self._troubles.clear(f"refused {link.address.rpartition(':')[0]}")
                    self._overlays.confirmed(link)
            case events.ConnectionRemoved(connection):
                self._on_removal(event)
                self._overlays.removed(connection)
            case events.ControlReceived(connection, message):
                self._overlays.control_received(connection, message)
            case events.RoutesChanged():
                peers = self._router.peers
                self._overlays.routes_changed(self.name, peers.owned_short_ids(), peers, self._router.routes)
            case events.PeerForgotten(peer):
                _log.info("peer %s(%s) left the mesh", peer.name, peer.summary.nickname)
                self._announcements.forget(peer.name)
                if self.names is not None:
                    self.names.service.peer_gone(peer.name)
                if self.addresses is not None:
                    self.addresses.peer_gone(peer.name)
            case events.Notice(text, is_warning):
                if is_warning:
                    self._troubles.warn(text)
                else:
                    _log.info("%s", text)

    def _on_removal(self, removed: events.ConnectionRemoved) -> None:
        peer = removed.peer
        sentence = f"the connection with {removed.label} at {removed.address} ended: {removed.reason}"
        self._troubles.clear(f"pending {peer}")
        if removed.is_fault:
            self._troubles.report(f"lost {peer}", sentence, "", SHOWN_SECONDS, varies=True)
        else:
            _log.info("%s", sentence)

    def _on_refusal(self, remote_ip: str, sentence: str) -> None:
        what = f"no connection with {remote_ip}: {sentence}"
        cure = "put that right on one of the two; the connection is tried again by itself"
        self._troubles.report(f"refused {remote_ip}", what, cure, SHOWN_SECONDS, varies=True)

    def _announce(self, macs: Iterable[bytes]) -> None:
        """Tell the other peers which containers are here."""
        news = self._announcements.set_own(macs, time.time())
        if news is not None:
            self._router.broadcast(MACS_CHANNEL, news)
            self._transport.flush()

    def _tell_names(self, news: GossipData) -> None:
        """Broadcast; also from within a message of a peer, so that nothing is sent before that is dealt with."""
        self._router.broadcast(NAMES_CHANNEL, news)
        asyncio.get_running_loop().call_soon(self._transport.flush)

    def _ask(self, peer: PeerName, payload: bytes) -> bool:
        """Hand a question or an answer to the mesh."""
        is_sent = self._router.unicast(QUESTIONS_CHANNEL, peer, payload)
        asyncio.get_running_loop().call_soon(self._transport.flush)
        return is_sent

    async def _name_containers(self) -> None:
        """Give the containers of an earlier node their names again."""
        for attachment in list(self._store.attachments):
            if attachment.docker_id is not None:
                held = [cidr.partition("/")[0] for cidr in attachment.cidrs]
                await self.name_container(attachment.docker_id, held)

    def _release_names(self) -> None:
        """Delete names of containers for addresses that they have no longer."""
        if self.names is not None:
            self.names.containers_have(holdings.container_addresses(self._store))

    def _on_announcement(self) -> None:
        self._overlays.announced(self._announcements.owners())

    def _on_pump_message(self, message: Any) -> None:
        self._overlays.pump_said(message)

    def _on_pump_death(self, sentence: str) -> None:
        """A new pump has no replay windows: connections with keys must get new keys, with Weave by a reconnect."""
        self._troubles.report("pump", sentence, "it starts again by itself; report it if it dies again", SHOWN_SECONDS)
        for connection in self._overlays.pump_died():
            self._router.overlay_failed(connection, "the pump was restarted: keys are renewed", _now())
        self._transport.flush()

    # NodeService

    async def report(self) -> model.Report:
        """Give everything."""
        stats = await self._pump.stats() if self._is_ready else None
        kernel = await self._overlays.describe_kernel()
        return build_report(
            Sources(
                config=self._config,
                router=self._router,
                overlays=self._overlays,
                pump=self._pump.state,
                stats=stats,
                targets=self._targets.texts,
                problems=self._troubles.current(),
                attached=self._attacher.count,
                exposed=self._attacher.exposed,
                names=self.names,
                addresses=self.addresses,
                is_ready=self._is_ready,
                clock_offset=self._clock_offset,
                mtu=self._host.mtu,
                kernel=kernel,
                kernel_lack=self._host.kernel_lack,
            )
        )

    async def connect(self, peers: list[str], replace: bool) -> list[str]:
        """Resolve and add targets; the answer has one line per bad one."""
        try:
            return await self._targets.connect(peers, replace)
        finally:
            self._transport.flush()

    async def forget(self, peers: list[str]) -> None:
        """Drop targets."""
        try:
            self._targets.forget(peers)
        finally:
            self._transport.flush()

    async def attach(self, container: str, cidrs: list[str], multicast_route: bool) -> list[str]:
        """See NodeService."""
        try:
            return await self._troubles.keeping(self._attaching.attach(container, cidrs, multicast_route))
        finally:
            self._release_names()
            self._overlays.ask_kernel()

    async def name_container(self, container: str, addresses: list[str]) -> None:
        """See NodeService."""
        if self._container_names is not None:
            await self._container_names.attached(container, addresses)

    async def detach(self, container: str, cidrs: list[str]) -> list[str]:
        """See NodeService."""
        try:
            return await self._troubles.keeping(self._attaching.detach(container, cidrs))
        finally:
            self._release_names()
            self._overlays.ask_kernel()

    async def expose(self, cidrs: list[str], masquerade: bool) -> list[str]:
        """See NodeService."""
        return await self._troubles.keeping(self._attaching.expose(cidrs, masquerade))

    async def hide(self, cidrs: list[str]) -> list[str]:
        """See NodeService."""
        return await self._troubles.keeping(self._attaching.hide(cidrs))

    async def is_running(self, ident: str) -> bool:
        """See NodeService."""
        return await self._attacher.is_running(ident)

    async def check_addresses(self) -> list[model.Finding]:
        """See NodeService."""
        allocator = None if self.addresses is None else self.addresses.allocator
        overlap = await asyncio.to_thread(range_overlap, self._config)
        found = check(allocator, holdings.uses(self._store), self._router.peers, overlap)
        return [model.Finding(each.what, each.cure) for each in found]

    async def interfaces(self, idents: list[str]) -> list[model.Interface]:
        """See NodeService."""
        return await self._attacher.interfaces(idents)

    async def trace(self, source: str, destination: str) -> trace_model.Trace:
        """See NodeService."""
        return await self._tracer.trace(source, destination)

    async def doctor(self, peer: str) -> dict[str, Any]:
        """See NodeService."""
        name = self._router.peers.find(peer)
        if name is None:
            raise NotFound(f"there is no peer {peer} in the mesh: 'plait status peers' lists them")
        if name == self.name:
            return await self._checkup.described()
        found: dict[str, Any] = msgspec.json.decode(await self._asking.ask(name, checkup.TOPIC))
        return found

    async def stop(self, reset: bool) -> None:
        """End the node; the caller of `run` cleans up after a reset."""
        self.is_reset = reset
        if reset and self.addresses is not None:
            self.addresses.leave()
            await asyncio.sleep(HANDOVER_SECONDS)
        self.request_stop()

    def request_stop(self) -> None:
        """End the node soon."""
        self._stopping.set()

    # Helpers

    def _features(self, remote_ip: str) -> LocalFeatures:
        own = self._router.peers.ourself.summary
        return LocalFeatures(
            name=own.name,
            nickname=own.nickname,
            uid=own.uid,
            conn_id=secrets.randbits(64),
            short_id=own.short_id,
            trusted=self._trusts(remote_ip),
            overlays=self._offered,
            extra=our_features(),
        )

    def _trusts(self, remote_ip: str) -> bool:
        return self._config.trusts(remote_ip)


def _new_router(config: Config, host: Host, overlays: tuple[str, ...], rng: random.Random) -> Router:
    # Frames that are on their way carry the short id that an earlier node had here.
    short_id = host.left.our_id if host.left.our_id < SHORT_IDS else rng.randrange(SHORT_IDS)
    ourself = PeerSummary(host.name, config.nickname, rng.randrange(1, 1 << 64), 0, short_id)
    maker = ConnectionMaker(
        rng=rng,
        port=config.port,
        our_name=host.name,
        our_addresses=frozenset(join_address(ip, config.port) for ip in host.local_ips),
        discovery=config.discovery,
        connection_limit=config.conn_limit,
    )
    return Router(ourself, maker, config.conn_limit, overlays, rng, _now())


def _prepare_loop(wanted: str) -> None:
    """Compile what moves frames, if that is wanted, possible and not done yet. Raises PlaitError if it must be."""
    if wanted != "python":
        _log.debug("%s", build())
    if wanted == "compiled":
        load_engine("compiled")


def _now() -> float:
    return asyncio.get_running_loop().time()
