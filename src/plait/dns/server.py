"""The node's name server: UDP and TCP at one address, and the questions that it passes on; decides nothing.

Local names are answered in the event loop, as that is cheaper than handing them on. Questions for servers upstream
are tasks, of which there is a bounded number.
"""

import asyncio
import errno
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from plait.dns import upstream
from plait.dns.message import Rcode
from plait.dns.responder import MAX_TCP, Forward, Responder
from plait.errors import AddressInUse, PlaitError

MAX_IN_FLIGHT = 256
"""Questions upstream at a time, each with a socket: a quarter of the files that a process may have open by default."""

MAX_CONNECTIONS = 64
"""TCP clients at a time; one more is closed at once."""

FIRST_PATIENCE, NEXT_PATIENCE = 2.0, 8.0
"""Seconds that a TCP client has for its first and for each further question: Weave's."""

# Datagrams that are read before others in the event loop have their turn: at 20 us each some 1 ms.
_BATCH = 64
# For bursts: the kernel's default holds some 250 small datagrams.
_BUFFER_BYTES = 1 << 20
_log = logging.getLogger(__name__)
_Ask = Callable[[str, bytes], Awaitable[bytes]]


@dataclass(slots=True)
class Counts:
    """What became of questions: answered here, passed on, failed upstream, and not passed on as too many were.

    Of those answered here: `unknown` names, and those `refused` because they could not be read or served.
    """

    answered: int = 0
    unknown: int = 0
    refused: int = 0
    forwarded: int = 0
    failed: int = 0
    overload: int = 0

    def answer(self, reply: bytes) -> None:
        """Count an answer of our own, by its code."""
        self.answered += 1
        code = reply[3] & 15
        if code == Rcode.NXDOMAIN:
            self.unknown += 1
        elif code != Rcode.NOERROR:
            self.refused += 1


class ResolvConf:
    """The servers of a resolv.conf, read again when the file changed; without a path there are none."""

    def __init__(self, path: Path | None, own_address: str) -> None:
        self._path = path
        self._own_address = own_address
        self._servers: tuple[str, ...] = ()
        self._seen: tuple[int, int] | None = None
        self._next_look = float("-inf")

    def servers(self, now: float) -> tuple[str, ...]:
        """Give the servers; looks at the file at most every CHECK_INTERVAL. A file that is gone changes nothing."""
        if self._path is not None and now >= self._next_look:
            self._next_look = now + upstream.CHECK_INTERVAL
            try:
                stat = os.stat(self._path)
                if self._seen != (stat.st_mtime_ns, stat.st_ino):
                    text = self._path.read_bytes().decode(errors="replace")
                    self._servers = upstream.parse_resolv_conf(text, self._own_address)
                    self._seen = (stat.st_mtime_ns, stat.st_ino)
            except OSError as error:
                _log.debug("%s cannot be read (%s): the servers known so far are asked", self._path, error.strerror)
        return self._servers


class DnsServer:
    """Serves `responder` at `host` (an IP address) and `port`; `listen` before anything else.

    `timeout` is how long one server upstream may take, in seconds; `warn` tells people.
    """

    def __init__(
        self,
        responder: Responder,
        host: str,
        port: int,
        resolv_conf: Path | None,
        timeout: float = upstream.DEFAULT_TIMEOUT,
        upstream_port: int = upstream.PORT,
        warn: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self._responder = responder
        self._host = host
        self._port = port
        self._timeout = timeout
        self._upstream_port = upstream_port
        self._warn = warn
        self._resolv_conf = ResolvConf(resolv_conf, host)
        self._udp: socket.socket | None = None
        self._tcp: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_flight = 0
        self._connections = 0
        self._buffer = bytearray(MAX_TCP)
        self.counts = Counts()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens; the port is the real one, also if any was asked for."""
        return self._host, self._port

    @property
    def upstream(self) -> tuple[str, ...]:
        """The servers that are asked."""
        return self._resolv_conf.servers(asyncio.get_running_loop().time())

    async def listen(self) -> None:
        """Take the address, for UDP and TCP. Raises AddressInUse or PlaitError."""
        family = socket.AF_INET6 if ip_address(self._host).version == 6 else socket.AF_INET
        udp = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
            udp.bind((self._host, self._port))
            port = udp.getsockname()[1]
            self._tcp = await asyncio.start_server(self._serve_client, self._host, port)
        except OSError as error:
            udp.close()
            raise self._refused(error) from error
        self._port = port
        self._udp = udp
        asyncio.get_running_loop().add_reader(udp, self._read_datagrams, udp)

    async def close(self) -> None:
        """Give the address back; questions that are on their way get no answer."""
        if self._udp is not None:
            asyncio.get_running_loop().remove_reader(self._udp)
            self._udp.close()
            self._udp = None
        if self._tcp is not None:
            self._tcp.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._tcp is not None:
            await self._tcp.wait_closed()
            self._tcp = None

    def _refused(self, error: OSError) -> PlaitError:
        where = f"{self._host}:{self._port}"
        if error.errno == errno.EADDRINUSE:
            return AddressInUse(
                f"the name server cannot have {where}: another program has it; stop that, "
                "or give --dns-listen-address another address, or launch with --no-dns"
            )
        return PlaitError(
            f"the name server cannot have {where} ({os.strerror(error.errno or 0)}); "
            "give --dns-listen-address an address of this host, or launch with --no-dns"
        )

    # UDP

    def _read_datagrams(self, udp: socket.socket) -> None:
        buffer, answer_of = self._buffer, self._responder.answer
        view = memoryview(buffer)
        for _ in range(_BATCH):
            try:
                size, client = udp.recvfrom_into(buffer)
            except OSError:  # nothing more to read, or what the network says of an earlier answer
                return
            query = bytes(view[:size])
            reply = answer_of(query)
            if isinstance(reply, bytes):
                self.counts.answer(reply)
                _send(udp, reply, client)
            elif reply is not None:
                self._forward_datagram(udp, query, reply, client)

    def _forward_datagram(self, udp: socket.socket, query: bytes, forward: Forward, client: object) -> None:
        if self._in_flight >= MAX_IN_FLIGHT:
            self._overloaded()
            _send(udp, forward.refusal, client)
            return
        self._start(self._answer_datagram(udp, query, forward, client))

    async def _answer_datagram(self, udp: socket.socket, query: bytes, forward: Forward, client: object) -> None:
        answer = await self._ask(query, forward, self._ask_by_udp)
        if self._udp is udp:
            _send(udp, upstream.fitted(answer, forward.limit, forward.refusal), client)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # TCP

    async def _serve_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connections >= MAX_CONNECTIONS:
            self.counts.overload += 1
            writer.close()
            return
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._connections += 1
        try:
            await self._serve_queries(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # the client has gone, or has nothing more to ask
        except asyncio.CancelledError:
            pass  # the server ends; a cancelled handler would be told to the log as a defect
        finally:
            self._connections -= 1
            writer.close()

    async def _serve_queries(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        patience = FIRST_PATIENCE
        while True:
            async with asyncio.timeout(patience):
                query = await _read_message(reader)
            patience = NEXT_PATIENCE
            reply = self._responder.answer(query, is_tcp=True)
            if reply is None:
                return
            if isinstance(reply, bytes):
                self.counts.answer(reply)
            elif self._in_flight >= MAX_IN_FLIGHT:
                self._overloaded()
                reply = reply.refusal
            else:
                reply = await self._ask(query, reply, self._ask_by_tcp)
            async with asyncio.timeout(NEXT_PATIENCE):
                _write_message(writer, reply)
                await writer.drain()

    # Upstream

    def _overloaded(self) -> None:
        self.counts.overload += 1
        servers = ", ".join(self.upstream) or "nobody"
        self._warn(
            f"questions for other names are refused, as {MAX_IN_FLIGHT} wait for {servers}; "
            "see whether those servers answer"
        )

    async def _ask(self, query: bytes, forward: Forward, ask: _Ask) -> bytes:
        """Give the first answer of a server, with the client's ID; the refusal if none answers."""
        self._in_flight += 1
        self.counts.forwarded += 1
        try:
            sent = secrets.token_bytes(2) + query[2:]
            for server in self.upstream:
                try:
                    async with asyncio.timeout(self._timeout):
                        return query[:2] + (await ask(server, sent))[2:]
                except (OSError, TimeoutError, asyncio.IncompleteReadError):
                    continue
        finally:
            self._in_flight -= 1
        self.counts.failed += 1
        return forward.refusal

    async def _ask_by_udp(self, server: str, query: bytes) -> bytes:
        """Ask from a port that the kernel chose at random: who forges an answer must guess it, and the ID."""
        loop = asyncio.get_running_loop()
        transport, waiting = await loop.create_datagram_endpoint(
            lambda: _Waiting(query), remote_addr=(server, self._upstream_port)
        )
        try:
            transport.sendto(query)
            return await waiting.answer
        finally:
            transport.close()

    async def _ask_by_tcp(self, server: str, query: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(server, self._upstream_port)
        try:
            _write_message(writer, query)
            answer = await _read_message(reader)
        finally:
            writer.close()
        if not upstream.check_answer(query, answer):
            raise ConnectionError(f"{server} answered something else than it was asked")
        return answer


class _Waiting(asyncio.DatagramProtocol):
    """Waits for the answer to one question; what is no answer to it is passed over."""

    def __init__(self, query: bytes) -> None:
        self._query = query
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self.answer.done() and upstream.check_answer(self._query, data):
            self.answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


def _send(udp: socket.socket, answer: bytes, client: object) -> None:
    try:
        udp.sendto(answer, client)  # type: ignore[call-overload]
    except OSError:
        pass  # the client is gone, or the answer is lost as on any network; it asks again


async def _read_message(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))


def _write_message(writer: asyncio.StreamWriter, message: bytes) -> None:
    writer.write(len(message).to_bytes(2, "big") + message)
