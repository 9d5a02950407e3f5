"""Composition root: a Config becomes a running node. The only module that knows all rooms; it decides nothing else."""

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Iterable
from typing import Any, TypeVar

from plait import checkup, holdings, sdnotify
from plait.address_care import AddressCare
from plait.api import model
from plait.api.health import EventPage, Health
from plait.api.server import serve
from plait.api.trace_model import Trace
from plait.asking import Asking
from plait.attach.interface import Bridge
from plait.attach.service import Attacher
from plait.checkup import Checkup
from plait.chronicle import Chronicle
from plait.config import Config
from plait.container_life import ContainerLife
from plait.dns.codec import CHANNEL as NAMES_CHANNEL
from plait.dns.containers import ContainerNames
from plait.dns.resolver import Resolver
from plait.docker.client import DockerClient
from plait.docker.events import EngineWatch
from plait.doctor.show import Examined
from plait.duplicates import Duplicates
from plait.errors import NotFound, StateError
from plait.health_report import events_model, health_model
from plait.history import Kind
from plait.host import udp, underlay
from plait.ipam.attaching import Attaching
from plait.liaison import Liaison
from plait.mesh.gossip import GossipData
from plait.mesh.name import PeerName
from plait.mesh.questions import CHANNEL as QUESTIONS_CHANNEL
from plait.mesh.transport import Transport
from plait.overlay.announcements import CHANNEL as MACS_CHANNEL
from plait.overlay.announcements import Announcements
from plait.overlay.bridge import BridgeKeeper, BridgeSettings
from plait.overlay.fastdp.control import FastdpControl
from plait.overlay.manager import OverlayManager
from plait.overlay.sleeve.supervisor import Pump
from plait.overlay.switch import FASTDP
from plait.parts import new_addresses, new_identity, new_router, prepare_loop
from plait.pulse import Pulse
from plait.report import Sources, build_report
from plait.startup import Host
from plait.state import Store
from plait.supervisor import Supervisor, Task
from plait.targets import Targets
from plait.tracing import Tracer
from plait.troubles import SHOWN_SECONDS, Troubles
from plait.upkeep import Upkeep
from plait.watching import Watching

_T = TypeVar("_T")
_log = logging.getLogger("plait")

# How long a node that leaves lets the news of who owns its addresses go out, seconds: as Weave's reset does.
HANDOVER_SECONDS = 0.5


class Node:
    """A running node; implements `plait.api.model.NodeService`."""

    def __init__(self, config: Config, store: Store, host: Host) -> None:
        self._config = config
        self._store = store
        self._chronicle = Chronicle()
        self._troubles = Troubles(self._chronicle)
        self._supervisor = Supervisor(self._troubles, self._chronicle)
        self._stopping = asyncio.Event()
        self._is_ready = False
        self._clock_offset = time.time() - asyncio.get_running_loop().time()
        self._host = host
        self.name = host.name
        self.is_reset = False
        self._offered = tuple(each for each in config.overlays if each != FASTDP or host.kernel is not None)
        rng = random.Random(secrets.randbits(256))
        self._router = new_router(config, host, self._offered, rng)
        self._liaison = Liaison(self._router, self._troubles, self._chronicle)
        self._liaison.on_peer_gone.append(self._on_peer_gone)
        self._transport = Transport(
            self._router,
            new_identity(config, self._router, self._offered),
            (config.host, config.port),
            self._liaison.on_event,
            self._liaison.on_refusal,
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
        self._bridge = BridgeKeeper(BridgeSettings(config.bridge, str(self.name), self._host.mtu))
        kernel = None
        if host.kernel is not None:
            kernel = FastdpControl(host.kernel, host.left, self._pump.send, _now())
        self._overlays = OverlayManager(
            self._pump,
            self._liaison,
            self._offered,
            udp.path_mtu,
            underlay.interface_mtus,
            self._troubles.warn,
            kernel=kernel,
            local_mtu=host.mtu,
            containers=self._bridge.container_macs,
            on_containers=self._announce,
        )
        self._liaison.transport, self._liaison.overlays = self._transport, self._overlays
        docker = DockerClient(config.docker_api) if config.docker_api else None
        self._attacher = Attacher(store, Bridge(config.bridge, host.mtu), docker, self._troubles.warn)
        self.names: Resolver | None = None
        if config.dns is not None:
            self.names = Resolver(self.name, self._router.peers, config.dns, self._tell_names, self._troubles.warn)
            self._router.register(NAMES_CHANNEL, self.names.service)
        self._container_names: ContainerNames | None = None
        if self.names is not None and docker is not None:
            self._container_names = ContainerNames(self.names, docker, self._troubles.warn)
        self.addresses = new_addresses(
            config,
            self._router,
            store,
            self._troubles,
            lambda: self._targets.unresolved_count,
            self._transport.flush,
        )
        self._duplicates = Duplicates(self._router, store, self._transport, self._troubles)
        self._attaching = Attaching(self._attacher, self.addresses)
        life = ContainerLife(
            self.names.service if self.names is not None else None, self.addresses, self._attacher.living
        )
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
            life,
            self._follow_addresses,
        )
        self._pulse = Pulse(
            self._pump,
            self._bridge,
            host.kernel,
            self._troubles,
            lambda: self._overlays.needs_user_space,
            lambda: self._is_ready,
        )
        self._watching = Watching(
            config,
            self._router,
            self._overlays,
            self._liaison,
            self.addresses,
            self._supervisor,
            self._pulse,
            self._chronicle,
        )
        self._asking = Asking(self._ask)
        self._router.register(QUESTIONS_CHANNEL, self._asking.channel)
        self._checkup = Checkup(self.report, self._overlays.handed, self._troubles)
        self._asking.answers(checkup.TOPIC, self._checkup.answer)
        self._care = AddressCare(config, store, self._router, self.addresses, self._asking, self._troubles)
        self._engine_watch = EngineWatch(docker, life, self._troubles) if docker else None
        self._tracer = Tracer(self._router, self._overlays, self._pump, self._attacher, config.bridge, config.port)

    async def run(self) -> None:
        """Serve until `stop`; raises PlaitError if the node cannot start, or a task's error if one dies."""
        self._transport.listen()
        api = await serve(self, self._config)
        try:
            # What can be refused comes before what is left behind.
            if self.names is not None:
                await self.names.start()
            await asyncio.to_thread(prepare_loop, self._config.sleeve_loop)
            for repair in await asyncio.to_thread(self._bridge.ensure):
                _log.info("%s", repair)
            self._pump.set_local_mtu(self._host.mtu)
            self._watch_kernel()
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(self._supervisor.keep(each), name=each.name) for each in self._tasks()]
                running.append(tasks.create_task(self._supervisor.watch(), name="supervisor"))
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

    def _tasks(self) -> list[Task]:
        return [
            *([Task("addresses", self.addresses.run)] if self.addresses is not None else []),
            Task("leases", self._care.keep_leases),
            Task("troubles of addresses", self._care.keep_telling),
            # Without it the connections of the mesh are gone, and what others know of them is wrong.
            Task("mesh", self._transport.run, is_vital=True),
            Task("pump", self._pump.run),
            Task("overlay timers", self._overlays.run_timers),
            Task("interfaces", self._overlays.watch_interfaces),
            Task("datapath", self._overlays.host.keep),
            Task("reconcile", self._upkeep.keep_reconciled),
            Task("names", self._upkeep.keep_resolved),
            Task("pulse", self._pulse.keep_looking),
            Task("health", self._watching.keep_watching),
            *([Task("docker", self._engine_watch.run)] if self._engine_watch is not None else []),
            Task("checkup", self._checkup.keep_checking),
            Task("transmission", self._checkup.watch_transmission),
            Task("names of containers", self._name_containers),
            *([Task("old names", self.names.service.keep_expiring)] if self.names is not None else []),
            *([Task("firewall for names", self.names.keep_reachable)] if self.names is not None else []),
        ]

    def _watch_kernel(self) -> None:
        if self._host.kernel is not None:
            reader = self._supervisor.guarded("heartbeats of the kernel", self._overlays.kernel_readable)
            asyncio.get_running_loop().add_reader(self._host.kernel.fileno(), reader)
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
        self._follow_addresses()
        self._is_ready = True
        await self._pulse.look()
        sdnotify.notify("READY=1", f"STATUS=node {self.name} of {len(self._targets.texts)} targets")
        what = f"node {self.name}({self._config.nickname}) is ready on port {self._config.port}"
        self._chronicle.note(Kind.NODE_STARTED, what)

    def _on_peer_gone(self, peer: PeerName) -> None:
        self._announcements.forget(peer)
        self._duplicates.forget(peer)
        if self.names is not None:
            self.names.service.peer_gone(peer)
        if self.addresses is not None:
            self.addresses.peer_gone(peer)

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

    def _follow_addresses(self) -> None:
        """Tell who has which addresses now, and delete names of containers for those that they have no longer."""
        self._duplicates.look()
        if self.names is not None:
            self.names.containers_have(holdings.container_addresses(self._store))

    def _on_announcement(self) -> None:
        self._overlays.host.announced(self._announcements.owners())

    def _on_pump_message(self, message: Any) -> None:
        self._overlays.pump_said(message)

    def _on_pump_death(self, sentence: str) -> None:
        """A new pump has no replay windows: connections with keys must get new keys, with Weave by a reconnect."""
        cure = "it starts again by itself; report it if it dies again"
        self._troubles.report("pump", sentence, cure, SHOWN_SECONDS, kind=Kind.PUMP_RESTARTED)
        for connection in self._overlays.pump_died():
            self._router.overlay_failed(connection, "the pump was restarted: keys are renewed", _now())
        self._transport.flush()

    # NodeService

    async def report(self) -> model.Report:
        """Give everything."""
        await self._pulse.look()
        kernel = await self._overlays.describe_kernel()
        return build_report(
            Sources(
                config=self._config,
                router=self._router,
                overlays=self._overlays,
                pump=self._pump.state,
                stats=self._pulse.stats,
                health=self._watching.health(),
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

    async def health(self) -> Health:
        """See NodeService."""
        await self._pulse.look()
        return health_model(self._watching.health(), self._clock_offset)

    async def events(self, after: int, wait: float, since: float, peer: str) -> EventPage:
        """See NodeService."""
        return events_model(
            await self._chronicle.after(
                after, wait, lambda event: event.at >= since and peer in ("", event.peer, event.nickname)
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
            self._follow_addresses()
            self._overlays.host.ask()

    async def name_container(self, container: str, addresses: list[str]) -> None:
        """See NodeService."""
        if self._container_names is not None:
            await self._container_names.attached(container, addresses)

    async def detach(self, container: str, cidrs: list[str]) -> list[str]:
        """See NodeService."""
        try:
            return await self._troubles.keeping(self._attaching.detach(container, cidrs))
        finally:
            self._follow_addresses()
            self._overlays.host.ask()

    async def expose(self, cidrs: list[str], masquerade: bool) -> list[str]:
        """See NodeService."""
        try:
            return await self._troubles.keeping(self._attaching.expose(cidrs, masquerade))
        finally:
            self._follow_addresses()

    async def hide(self, cidrs: list[str]) -> list[str]:
        """See NodeService."""
        try:
            return await self._troubles.keeping(self._attaching.hide(cidrs))
        finally:
            self._follow_addresses()

    async def is_running(self, ident: str) -> bool:
        """See NodeService."""
        return await self._attacher.is_running(ident)

    async def check_addresses(self, is_everywhere: bool) -> list[model.Finding]:
        """See NodeService."""
        found = await (self._care.check_all() if is_everywhere else self._care.check())
        return [model.Finding(each.what, each.cure) for each in found]

    async def reclaim(self, peers: list[str], is_dry_run: bool, is_forced: bool) -> list[model.Reclaimed]:
        """See NodeService."""
        return await self._care.reclaim(peers, is_dry_run=is_dry_run, is_forced=is_forced)

    async def interfaces(self, idents: list[str]) -> list[model.Interface]:
        """See NodeService."""
        return await self._attacher.interfaces(idents)

    async def trace(self, source: str, destination: str) -> Trace:
        """See NodeService."""
        return await self._tracer.trace(source, destination)

    async def doctor(self, peer: str) -> Examined:
        """See NodeService."""
        name = self._router.peers.find(peer)
        if name is None:
            raise NotFound(f"there is no peer {peer} in the mesh: 'plait status peers' lists them")
        if name == self.name:
            return await self._checkup.examined()
        return checkup.read_answer(peer, await self._asking.ask(name, checkup.TOPIC))

    async def stop(self, reset: bool) -> None:
        """End the node; the caller of `run` cleans up after a reset."""
        self.is_reset = reset
        if reset and self.addresses is not None:
            await self._care.leave()
            await asyncio.sleep(HANDOVER_SECONDS)
        self.request_stop()

    def request_stop(self) -> None:
        """End the node soon."""
        self._stopping.set()


def _now() -> float:
    return asyncio.get_running_loop().time()
