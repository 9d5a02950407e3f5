"""The mesh's TCP sockets: feeds bytes and time to `Connection` and `Router`, writes what they give, dials.

Decides nothing: which connection may live, and why one ended, is the router's business.
"""

import asyncio
import errno
import itertools
import logging
import os
import socket
import struct
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from plait.errors import AddressInUse, PlaitError
from plait.mesh import events
from plait.mesh.addresses import ip_of, join_address
from plait.mesh.connection import Connection
from plait.mesh.events import ConnectionId
from plait.mesh.features import LocalFeatures
from plait.mesh.handshake import Handshake, HandshakeResult
from plait.mesh.links import OpenedConnection
from plait.mesh.router import Router

# Weave accepts a burst of 20 connections, then one per 50 ms (spec mesh, section 2).
ACCEPT_BURST = 20
ACCEPT_INTERVAL = 0.05
# Inbound connections that have not proved to be peers; a handshake takes milliseconds, strangers may take a minute each
# and would use up the process's file descriptors. The oldest makes room, so they keep no peer out.
MAX_UNPROVEN = 256
# After the kernel refused to accept (no descriptors, no memory), seconds.
ACCEPT_PAUSE = 0.5
# A dial that the network swallows is given up before the kernel would (about 130 s), so that status can say so.
DIAL_TIMEOUT = 20.0
_log = logging.getLogger(__name__)

_READ_BYTES = 1 << 18
# After closing, give up unsent data at once, as Weave does: the far end sees a reset, which both treat as an end.
_NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a handshake needs of this node; `features` and `trusts` are asked with the remote IP."""

    features: Callable[[str], LocalFeatures]
    new_private_key: Callable[[], bytes]
    password: bytes | None
    trusts: Callable[[str], bool]


class _NothingSaid(ConnectionResetError):
    """It was closed before its first byte."""


@dataclass(slots=True, eq=False)
class _Wire:
    """A TCP connection."""

    core: Connection
    writer: asyncio.StreamWriter
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    close_reason: str | None = None


class Transport:
    """Listens, dials, and carries the messages of one router."""

    def __init__(
        self,
        router: Router,
        identity: Identity,
        bind: tuple[str, int],
        on_event: Callable[[events.Event], None],
        on_refusal: Callable[[str, str], None],
    ) -> None:
        """`on_event` gets events that are not the transport's own; `on_refusal` (remote IP, sentence) of handshakes."""
        self.router = router
        self._identity = identity
        self._bind = bind
        self._on_event = on_event
        self._on_refusal = on_refusal
        self._ids = itertools.count(1)
        self._wires: dict[ConnectionId, _Wire] = {}
        self._unproven: dict[_Wire, None] = {}
        self._timer_moved = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._listeners: list[socket.socket] = []

    def listen(self) -> None:
        """Bind the control port, without a host at all addresses of IPv4 and of IPv6; raises AddressInUse."""
        host, port = self._bind
        self._listeners = [_listener(host or "0.0.0.0", port)]
        if not host:
            try:
                self._listeners.append(_listener("::", port))
            except _NoIPv6:
                _log.info("this kernel has no IPv6: peers are met by IPv4 alone")
            except AddressInUse:
                self._close_listeners()
                raise

    async def run(self) -> None:
        """Serve until cancelled; call `listen` first."""
        if not self._listeners:
            raise PlaitError("the transport was started before its port was bound")
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                for listener in self._listeners:
                    tasks.create_task(self._accept(listener), name="mesh accept")
                tasks.create_task(self._run_timers(), name="mesh timers")
        finally:
            self._tasks = None
            self._close_listeners()

    def flush(self) -> None:
        """Act on what the router has to say; call it after every call of a router's method."""
        for event in self.router.take_events():
            match event:
                case events.Transmit(connection):
                    if connection in self._wires:
                        self._wires[connection].wake.set()
                case events.CloseConnection(connection, reason):
                    self._abort(connection, reason)
                case events.DialPeer():
                    self._start_dial(event)
                case _:
                    self._on_event(event)
        self._timer_moved.set()

    # Timers

    async def _run_timers(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._timer_moved.clear()
            deadline = self.router.next_deadline()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._timer_moved.wait()
            except TimeoutError:
                self.router.handle_timer(loop.time())
                self.flush()

    # Opening

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        tokens, filled_at = float(ACCEPT_BURST), loop.time()
        while True:
            try:
                wire_socket, address = await loop.sock_accept(listener)
            except OSError as error:
                text = f"no connection can be accepted ({error.strerror}): free memory or file descriptors on this host"
                self._on_event(events.Notice(text, is_warning=True))
                await asyncio.sleep(ACCEPT_PAUSE)
                continue
            tokens = min(ACCEPT_BURST, tokens + (loop.time() - filled_at) / ACCEPT_INTERVAL) - 1
            filled_at = loop.time()
            if tokens < 0:
                await asyncio.sleep(-tokens * ACCEPT_INTERVAL)
            text = join_address(address[0], address[1])
            self._spawn(self._serve_inbound(wire_socket, text), f"mesh from {address[0]}")

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners = []

    def _spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        if self._tasks is None:
            coroutine.close()
            return
        self._tasks.create_task(self._guarded(coroutine, name), name=name)

    async def _guarded(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        """A defect of ours that one peer can trigger costs that connection, not the node; and it is reported."""
        try:
            await coroutine
        except Exception as error:
            _log.exception("defect in the connection %s", name)
            self._on_event(events.Notice(f"internal error on the connection {name}: {error!r}", is_warning=True))

    def _start_dial(self, dial: events.DialPeer) -> None:
        self._spawn(self._dial(dial), f"mesh to {dial.address}")

    async def _serve_inbound(self, wire_socket: socket.socket, address: str) -> None:
        reader, writer = await asyncio.open_connection(sock=wire_socket)
        try:
            await self._serve(reader, writer, address, outbound=False, accepts_unknown=True)
        except _NothingSaid:
            return  # somebody looked whether the port is open
        except (PlaitError, OSError) as error:
            self._on_refusal(ip_of(address), _sentence(error))
        finally:
            writer.transport.abort()

    async def _dial(self, dial: events.DialPeer) -> None:
        host, port = ip_of(dial.address), dial.address.rpartition(":")[2]
        loop = asyncio.get_running_loop()
        try:
            local = (self._bind[0], 0) if self._bind[0] else None
            if local is not None and (":" in local[0]) is not (":" in host):
                raise OSError(f"--host binds this node to {local[0]}, and from there no address like {host} is reached")
            async with asyncio.timeout(DIAL_TIMEOUT):
                reader, writer = await asyncio.open_connection(host, int(port), local_addr=local)
        except (OSError, TimeoutError) as error:
            self.router.dial_failed(dial.address, f"dial tcp {dial.address}: connect: {_sentence(error)}", loop.time())
            self.flush()
            return
        try:
            await self._serve(reader, writer, dial.address, outbound=True, accepts_unknown=dial.accepts_unknown)
        except (PlaitError, OSError) as error:
            self.router.dial_failed(dial.address, _sentence(error), loop.time())
            self._on_refusal(host, _sentence(error))
            self.flush()
        finally:
            writer.transport.abort()

    # Serving

    async def _serve(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        address: str,
        outbound: bool,
        accepts_unknown: bool,
    ) -> None:
        """Carry one connection from its first byte to its end; an error before it joined the mesh is raised."""
        loop = asyncio.get_running_loop()
        wire_socket = writer.get_extra_info("socket")
        wire_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        wire_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        remote_ip, local_ip = ip_of(address), wire_socket.getsockname()[0]
        handshake = Handshake(
            features=self._identity.features(remote_ip),
            password=self._identity.password,
            private_key=self._identity.new_private_key(),
            is_initiator=outbound,
        )
        core = Connection(handshake, loop.time())
        wire = _Wire(core, writer)
        result = await self._prove(reader, wire, outbound)
        connection = next(self._ids)
        self._wires[connection] = wire
        opened = OpenedConnection(
            id=connection,
            address=address,
            local_ip=local_ip,
            outbound=outbound,
            accepts_unknown=accepts_unknown,
            uid=result.connection_uid,
            features=result.features,
            session_key=self._overlay_key(result, remote_ip),
        )
        try:
            core.start_heartbeats(loop.time())
            self.router.connection_opened(opened, loop.time())
            self.flush()
            await self._carry(connection, reader, wire)
        finally:
            del self._wires[connection]

    async def _prove(self, reader: asyncio.StreamReader, wire: _Wire, outbound: bool) -> HandshakeResult:
        """Shake hands. Inbound connections are counted meanwhile."""
        if outbound:
            return await _finish_handshake(reader, wire)
        if len(self._unproven) >= MAX_UNPROVEN:
            next(iter(self._unproven)).writer.transport.abort()
        self._unproven[wire] = None
        try:
            return await _finish_handshake(reader, wire)
        finally:
            del self._unproven[wire]

    def _overlay_key(self, result: HandshakeResult, remote_ip: str) -> bytes | None:
        """Overlays run in clear only if both ends trust each other (spec mesh, section 10)."""
        both_trust = result.features.trusted and self._identity.trusts(remote_ip)
        return None if both_trust else result.session_key

    async def _carry(self, connection: ConnectionId, reader: asyncio.StreamReader, wire: _Wire) -> None:
        writing = asyncio.create_task(self._write(connection, wire), name=f"mesh write {connection}")
        try:
            await self._read(connection, reader, wire)
        except (PlaitError, OSError) as error:
            reason = wire.close_reason or _sentence(error)
            is_fault = not isinstance(error, ConnectionError)
            self.router.connection_lost(connection, reason, asyncio.get_running_loop().time(), is_fault=is_fault)
            self.flush()
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _read(self, connection: ConnectionId, reader: asyncio.StreamReader, wire: _Wire) -> None:
        loop = asyncio.get_running_loop()
        while wire.close_reason is None:
            while (message := wire.core.next_message()) is not None:
                self.router.message_received(connection, message, loop.time())
            self.flush()
            await _receive(reader, wire)

    async def _write(self, connection: ConnectionId, wire: _Wire) -> None:
        """Write what waits, no faster than the socket takes it, so that news merge meanwhile."""
        while True:
            wire.wake.clear()
            while (message := self.router.next_message(connection)) is not None:
                wire.core.send(message)
                wire.writer.write(wire.core.data_to_send())
                await wire.writer.drain()
            await wire.wake.wait()

    def _abort(self, connection: ConnectionId, reason: str) -> None:
        wire = self._wires.get(connection)
        if wire is not None:
            wire.close_reason = reason
            wire.writer.transport.abort()


class _NoIPv6(Exception):
    """The kernel has none."""


def _listener(host: str, port: int) -> socket.socket:
    """Listen at an address, or at all of its version of IP."""
    is_ipv6 = ":" in host
    try:
        listener = socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        raise _NoIPv6 from error
    try:
        if is_ipv6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        if host == "::" and error.errno == errno.EADDRNOTAVAIL:
            raise _NoIPv6 from error
        raise AddressInUse(
            f"cannot listen on TCP {join_address(host, port)} ({error.strerror}): another Weave or plait node may "
            f"run here (see 'ss -ltnp sport = :{port}'); stop it, or choose another port with --port on all nodes"
        ) from error
    return listener


async def _finish_handshake(reader: asyncio.StreamReader, wire: _Wire) -> HandshakeResult:
    """Also after an error what the core has ready is written: it lets the other end see the reason as we do."""
    try:
        while (result := wire.core.result) is None:
            await _receive(reader, wire)
    except ConnectionError as error:
        if wire.core.has_heard:
            raise wire.core.ended() from error
        raise _NothingSaid("the other end closed the connection without a word") from error
    finally:
        _flush(wire)
    return result


async def _receive(reader: asyncio.StreamReader, wire: _Wire) -> None:
    """Write what the core has ready, then feed it the next bytes or let it handle its timer."""
    loop = asyncio.get_running_loop()
    _flush(wire)
    try:
        async with asyncio.timeout_at(wire.core.next_deadline()):
            data = await reader.read(_READ_BYTES)
    except TimeoutError:
        wire.core.handle_timer(loop.time())
        _flush(wire)
        return
    if not data:
        raise ConnectionResetError("the peer closed the connection")
    wire.core.receive(data, loop.time())


def _flush(wire: _Wire) -> None:
    data = wire.core.data_to_send()
    if data:
        wire.writer.write(data)


def _sentence(error: BaseException) -> str:
    """Give the kernel's words in Go's lower case, which scripts for Weave expect, or plait's own sentence."""
    if isinstance(error, TimeoutError):
        return "connection timed out"
    if isinstance(error, OSError):
        # asyncio puts words of its own, with the address, into `strerror`.
        number = error.errno or 0
        return (os.strerror(number) if number in errno.errorcode else str(error) or type(error).__name__).lower()
    return str(error)
