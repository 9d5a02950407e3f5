"""Composition root: a Config becomes a running node. The only module that knows all rooms; it decides nothing else."""

import asyncio
import logging
import random
import secrets
import signal
import socket
import time
from collections.abc import Coroutine, Iterator
from typing import Any

from plait import logs, sdnotify
from plait.api import model
from plait.api.server import serve
from plait.attach.interface import Bridge
from plait.attach.service import Attacher
from plait.config import Config
from plait.docker.client import DockerClient
from plait.errors import PlaitError
from plait.host import udp
from plait.mesh import events
from plait.mesh.addresses import join_address, parse_target
from plait.mesh.events import ConnectionId
from plait.mesh.features import LocalFeatures
from plait.mesh.maker import ConnectionMaker, Target
from plait.mesh.records import PeerSummary
from plait.mesh.router import Router
from plait.mesh.shortids import SHORT_IDS
from plait.mesh.transport import Identity, Transport
from plait.overlay.bridge import BridgeKeeper, BridgeSettings
from plait.overlay.manager import OUR_FEATURES, OUR_OVERLAYS, OverlayManager
from plait.overlay.sleeve.supervisor import Pump
from plait.problems import Problems
from plait.report import Sources, build_report
from plait.startup import Host, open_host, pid_file, reset_host
from plait.state import Store

_log = logging.getLogger("plait")

# How often the bridge, the tap and the attached interfaces are compared with what they should be, seconds.
RECONCILE_INTERVAL = 5.0
# How long a refused stranger stays in `status`, seconds: a peer that still tries does so at least every 9 minutes.
REFUSAL_SHOWN_SECONDS = 600.0


class Node:
    """A running node; implements `plait.api.model.NodeService`."""

    def __init__(self, config: Config, store: Store, host: Host) -> None:
        self._config = config
        self._store = store
        self._problems = Problems()
        self._stopping = asyncio.Event()
        self._is_ready = False
        self._clock_offset = time.time() - asyncio.get_running_loop().time()
        self._host = host
        self.name = host.name
        self.is_reset = False
        rng = random.Random(secrets.randbits(256))
        self._router = _new_router(config, host, rng)
        self._transport = Transport(
            self._router,
            Identity(self._features, lambda: secrets.token_bytes(32), config.password, self._trusts),
            (config.host, config.port),
            self._on_mesh_event,
            self._on_refusal,
        )
        self._pump = Pump(
            self.name, config.port, self._host.tap_fd, self._host.sockets, self._on_pump_message, self._on_pump_death
        )
        self._overlays = OverlayManager(self._pump, self, udp.path_mtu, self._warn)
        bridge = BridgeSettings(config.bridge, str(self.name), self._host.mtu)
        self._bridge = BridgeKeeper(bridge)
        docker = DockerClient(config.docker_api) if config.docker_api else None
        self._attacher = Attacher(store, Bridge(config.bridge, host.mtu), docker, self._warn)

    async def run(self) -> None:
        """Serve until `stop`; raises PlaitError if the node cannot start, or a task's error if one dies."""
        self._transport.listen()
        for repair in await asyncio.to_thread(self._bridge.ensure):
            _log.info("%s", repair)
        self._pump.set_local_mtu(self._host.mtu)
        api = await serve(self, self._config)
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(coroutine, name=name) for name, coroutine in self._tasks()]
                await self._begin()
                await self._stopping.wait()
                for task in running:
                    task.cancel()
        finally:
            sdnotify.notify("STOPPING=1")
            await api.close()
            await self._pump.close()

    def _tasks(self) -> list[tuple[str, Coroutine[Any, Any, None]]]:
        return [
            ("mesh", self._transport.run()),
            ("pump", self._pump.run()),
            ("overlay timers", self._overlays.run_timers()),
            ("reconcile", self._keep_reconciled()),
            ("watchdog", self._feed_watchdog()),
        ]

    async def _begin(self) -> None:
        """Wait for the pump, call the peers, say that we are ready."""
        if self._store.damage is not None:
            self._problem("store", str(self._store.damage), "attach containers anew; connect to peers again")
        await self._pump.wait_ready()
        await self._attacher.reconcile()
        texts = list(self._config.peers) or self._store.targets
        for refusal in await self.connect(texts, replace=True):
            self._problem(f"target {refusal}", refusal, "correct the name, then 'plait connect' it again")
        self._is_ready = True
        sdnotify.notify("READY=1", f"STATUS=node {self.name} of {len(texts)} targets")
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
                    self._problems.clear(f"refused {link.address.rpartition(':')[0]}")
                    self._overlays.confirmed(link)
            case events.ConnectionRemoved(connection, peer):
                _log.info("connection to %s removed", self._router.peers.label(peer))
                self._overlays.removed(connection)
            case events.ControlReceived(connection, message):
                self._overlays.control_received(connection, message)
            case events.RoutesChanged():
                self._overlays.routes_changed(self._router.peers, self._router.routes)
            case events.PeerForgotten(peer):
                _log.info("peer %s(%s) left the mesh", peer.name, peer.summary.nickname)
            case events.Notice(text, is_warning):
                if is_warning:
                    self._warn(text)
                else:
                    _log.info("%s", text)

    def _on_refusal(self, remote_ip: str, sentence: str) -> None:
        what = f"the connection with {remote_ip} was refused: {sentence}"
        self._problem(
            f"refused {remote_ip}", what, "see the sentence; it is tried again by itself", REFUSAL_SHOWN_SECONDS
        )

    def _on_pump_message(self, message: Any) -> None:
        self._overlays.pump_said(message)

    def _on_pump_death(self, sentence: str) -> None:
        """A new pump has no replay windows: connections with keys must get new keys, which a reconnect brings."""
        self._problem("pump", sentence, "it was started again by itself; report this with the log", 60.0)
        for link in list(self._router.links):
            if link.session_key is not None:
                self._router.overlay_failed(link.id, "the pump was restarted: keys are renewed", _now())
        self._transport.flush()

    # NodeService

    async def report(self) -> model.Report:
        """Give everything."""
        stats = await self._pump.stats()
        return build_report(
            Sources(
                config=self._config,
                router=self._router,
                overlays=self._overlays,
                pump=self._pump.state,
                stats=stats,
                problems=self._problems.current(_now()),
                attached=self._attacher.count,
                exposed=self._attacher.exposed,
                is_ready=self._is_ready,
                clock_offset=self._clock_offset,
            )
        )

    async def connect(self, peers: list[str], replace: bool) -> list[str]:
        """Resolve and add targets; the answer has one line per bad one."""
        targets, refusals = [], []
        for text in peers:
            try:
                targets.append(await _resolve(text))
            except PlaitError as error:
                refusals.append(str(error))
        self._router.connect(targets, replace, _now())
        self._transport.flush()
        self._keep_targets()
        return refusals

    async def forget(self, peers: list[str]) -> None:
        """Drop targets."""
        self._router.forget(peers, _now())
        self._transport.flush()
        self._keep_targets()

    def _keep_targets(self) -> None:
        try:
            self._store.set_targets(self._router.maker.direct_targets())
            self._problems.clear("state")
        except PlaitError as error:
            self._problem("state", f"targets are not kept over a restart: {error}", "free the disk, then connect again")

    async def attach(self, container: str, cidrs: list[str], multicast_route: bool) -> list[str]:
        """See NodeService."""
        return await self._attacher.attach(container, cidrs, multicast_route)

    async def detach(self, container: str, cidrs: list[str]) -> list[str]:
        """See NodeService."""
        return await self._attacher.detach(container, cidrs)

    async def expose(self, cidrs: list[str], masquerade: bool) -> list[str]:
        """See NodeService."""
        return await self._attacher.expose(cidrs, masquerade)

    async def hide(self, cidrs: list[str]) -> list[str]:
        """See NodeService."""
        return await self._attacher.hide(cidrs)

    async def interfaces(self, idents: list[str]) -> list[model.Interface]:
        """See NodeService."""
        return await self._attacher.interfaces(idents)

    async def stop(self, reset: bool) -> None:
        """End the node; the caller of `run` cleans up after a reset."""
        self.is_reset = reset
        self.request_stop()

    def request_stop(self) -> None:
        """End the node soon."""
        self._stopping.set()

    # Upkeep

    async def _keep_reconciled(self) -> None:
        while True:
            await asyncio.sleep(RECONCILE_INTERVAL)
            try:
                repairs = await asyncio.to_thread(self._bridge.ensure)
                await self._attacher.reconcile()
            except PlaitError as error:
                self._problem("bridge", str(error), "put it right, or 'plait stop' and 'plait launch'")
                continue
            self._problems.clear("bridge")
            for repair in repairs:
                self._warn(repair)

    async def _feed_watchdog(self) -> None:
        """Tell systemd that frames can move: this loop runs, and the pump answers."""
        interval = sdnotify.watchdog_interval()
        while True:
            await asyncio.sleep(interval or RECONCILE_INTERVAL)
            if await self._pump.stats() is not None:
                sdnotify.notify("WATCHDOG=1")

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
            overlays=OUR_OVERLAYS,
            extra=OUR_FEATURES,
        )

    def _trusts(self, remote_ip: str) -> bool:
        return self._config.trusts(remote_ip)

    def _warn(self, text: str) -> None:
        self._problem(text, text, "", REFUSAL_SHOWN_SECONDS)

    def _problem(self, key: str, what: str, cure: str, lasts: float | None = None) -> None:
        if self._problems.report(key, what, cure, _now(), lasts):
            _log.warning("%s", what)


def run(config: Config) -> int:
    """Be a node until SIGTERM, SIGINT or `plait stop`; gives the exit code. Errors end as one sentence in the log."""
    logs.set_up(config.log_level)
    try:
        with Store(config.state_dir) as store, open_host(config, store) as host, pid_file(config.run_dir):
            is_reset = asyncio.run(_live(config, store, host))
        if is_reset:
            for trouble in reset_host(config):
                _log.warning("%s", trouble)
    except PlaitError as error:
        _log.error("%s", error)
        return error.exit_code
    except BaseExceptionGroup as errors:
        return _explain(errors)
    return 0


async def _live(config: Config, store: Store, host: Host) -> bool:
    """Run a node; True if it was asked to reset the host."""
    node = Node(config, store, host)
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, node.request_stop)
    await node.run()
    return node.is_reset


def _explain(errors: BaseExceptionGroup[BaseException]) -> int:
    """Log why the node's tasks ended; a defect comes with its traceback, for the report to the developers."""
    explained, defects = errors.split(PlaitError)
    for error in _leaves(explained):
        _log.error("%s", error)
    if defects is not None:
        _log.critical("the node ends because of a defect; please report it with this", exc_info=defects)
        return 1
    return max((error.exit_code for error in _leaves(explained) if isinstance(error, PlaitError)), default=1)


def _leaves(group: BaseExceptionGroup[BaseException] | None) -> Iterator[BaseException]:
    for error in group.exceptions if group else ():
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


async def _resolve(text: str) -> Target:
    """Resolve a target as the operator wrote it; raises PlaitError with the sentence for it."""
    host, port = parse_target(text)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, family=socket.AF_INET, type=socket.SOCK_STREAM)
    except OSError as error:
        raise PlaitError(f"lookup {text}: {error.strerror or error}") from error
    return Target(text, str(found[0][4][0]), port)


def _new_router(config: Config, host: Host, rng: random.Random) -> Router:
    ourself = PeerSummary(host.name, config.nickname, rng.randrange(1, 1 << 64), 0, rng.randrange(SHORT_IDS))
    maker = ConnectionMaker(
        rng=rng,
        port=config.port,
        our_name=host.name,
        our_addresses=frozenset(join_address(ip, config.port) for ip in host.local_ips),
        discovery=config.discovery,
        connection_limit=config.conn_limit,
    )
    return Router(ourself, maker, config.conn_limit, OUR_OVERLAYS, rng, _now())


def _now() -> float:
    return asyncio.get_running_loop().time()
