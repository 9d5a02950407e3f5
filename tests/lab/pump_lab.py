"""Hosts with a pump and one container each, neighbours in the overlay in a row. The test is their node.

Built by blocking calls outside an event loop (`sites`), then driven inside one (`pumping`).
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from plait.host import tap, udp
from plait.host.netlink import Netlink
from plait.mesh.name import PeerName
from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.datagram import IP_UDP_BYTES, mtu_overhead
from plait.overlay.sleeve.icmp import IPV6_MIN_MTU
from plait.overlay.sleeve.supervisor import Pump
from plait.testing.lab import Container, Host, Lab

PORT = 6783
TAP = "tap0"
PATIENCE = 20.0
"""Seconds within which a busy machine does anything small."""

Result = TypeVar("Result")
MessageT = TypeVar("MessageT", bound=ipc.FromPump)


def name_of(number: int) -> PeerName:
    return PeerName(0x7A_00_00_00_00_00 + number)


def key_between(one: int, other: int) -> bytes:
    """The session key of a connection in an encrypted row."""
    return bytes([one + other]) * 32


async def blocking(call: Callable[..., Result], *args: object, **options: object) -> Result:
    """Do something that waits, while the loop goes on."""
    return await asyncio.to_thread(call, *args, **options)


@dataclass
class Site:
    """One host; `number` counts from 1 and is its place in the row."""

    number: int
    host: Host
    container: Container
    mtu: int
    tap_fd: int
    sockets: udp.SleeveSockets
    messages: list[ipc.FromPump] = field(default_factory=list)
    deaths: list[str] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    _pump: Pump | None = None

    @property
    def pump(self) -> Pump:
        assert self._pump is not None, "outside of `pumping`"
        return self._pump

    @property
    def name(self) -> PeerName:
        return name_of(self.number)

    @property
    def ip(self) -> str:
        return f"10.32.0.{self.number}"

    @property
    def ip6(self) -> str:
        return f"fd00::{self.number}"

    def new_pump(self, wrapper: Sequence[str]) -> Pump:
        self._pump = Pump(
            self.name,
            PORT,
            self.tap_fd,
            [self.sockets],
            self._on_message,
            self._on_death,
            wrapper=("ip", "netns", "exec", self.host.netns, *wrapper),
        )
        return self._pump

    async def wait_message(self, kind: type[MessageT], **fields: object) -> MessageT:
        """Give the first message like this, also one that came before."""
        async with asyncio.timeout(PATIENCE):
            while True:
                self.heard.clear()
                for message in self.messages:
                    if isinstance(message, kind) and all(getattr(message, key) == fields[key] for key in fields):
                        return message
                await self.heard.wait()

    async def wait_death(self) -> str:
        async with asyncio.timeout(PATIENCE):
            while not self.deaths:
                self.heard.clear()
                await self.heard.wait()
        return self.deaths[-1]

    async def stats(self) -> ipc.Stats:
        stats = await self.pump.stats()
        assert stats is not None, "the pump does not answer"
        return stats

    async def wait_counter(self, name: str, at_least: int = 1) -> int:
        async with asyncio.timeout(PATIENCE):
            while True:
                count = (await self.stats()).counters[name]
                if count >= at_least:
                    return count
                await asyncio.sleep(0.05)

    async def reaches(self, other: "Site", size: int = 56) -> bool:
        """Whether IPv4 pings to another site's container are answered."""
        return (await blocking(self.container.ping, other.container, count=2, size=size, timeout=5.0)).ok

    async def reaches6(self, other: "Site", *options: str) -> bool:
        """The same over IPv6."""
        done = await blocking(
            self.container.run, ["ping", "-6", "-n", "-c2", "-i0.2", "-W5", *options, other.ip6], check=False
        )
        return bool(done.status == 0)

    def _on_message(self, message: ipc.FromPump) -> None:
        self.messages.append(message)
        self.heard.set()

    def _on_death(self, sentence: str) -> None:
        self.deaths.append(sentence)
        self.heard.set()


@contextmanager
def sites(lab: Lab, count: int = 2, mtus: Sequence[int] = (), *, cable: bool = False) -> Iterator[list[Site]]:
    """Build hosts with open tap and sockets; `mtus` are those of their bridges. `cable` joins two without a switch."""
    with ExitStack() as stack:
        hosts = [lab.host(f"h{number}", on=() if cable else None) for number in range(1, count + 1)]
        if cable:
            lab.cable(hosts[0], hosts[1])
        mtus = mtus or [lab.mtu - mtu_overhead(encrypted=False)] * count
        yield [_build(stack, number, host, mtus[number - 1]) for number, host in enumerate(hosts, 1)]


@asynccontextmanager
async def pumping(
    row: Sequence[Site], *, is_encrypted: bool = False, stack_frag: bool = True, wrapper: Sequence[str] = ()
) -> AsyncIterator[None]:
    """Run the pumps, connected and routed; `wrapper` is for the first one."""
    async with asyncio.TaskGroup() as tasks:
        running = []
        for site in row:
            pump = site.new_pump(wrapper if site is row[0] else ())
            pump.set_local_mtu(site.mtu)
            connect(site, row, is_encrypted=is_encrypted, stack_frag=stack_frag)
            running.append(tasks.create_task(pump.run()))
        for site in row:
            await site.pump.wait_ready()
            await site.stats()  # It has heard everything that was said before.
        yield
        for task in running:
            task.cancel()


def connect(site: Site, row: Sequence[Site], *, is_encrypted: bool = False, stack_frag: bool = True) -> None:
    """Tell a pump of its neighbours and of the row."""
    me = site.number
    overhead = mtu_overhead(is_encrypted)
    for other in row:
        if abs(other.number - me) == 1:
            key = key_between(me, other.number) if is_encrypted else None
            site.pump.send(ipc.SetConnection(int(other.name), site.host.ip, key, me < other.number, 0))
            path_mtu = site.host.ports[0].segment.mtu
            remote = (other.host.ip, PORT)
            site.pump.set_path(other.name, remote, path_mtu - overhead, path_mtu - IP_UDP_BYTES, stack_frag)
    others = [other for other in row if other is not site]
    unicast = {int(other.name): int(name_of(me + (1 if other.number > me else -1))) for other in others}
    broadcast = {int(other.name): [hop for hop in _tree(other.number, me) if hop in unicast] for other in row}
    site.pump.set_routes([other.name for other in row], unicast, broadcast)


def _tree(source: int, me: int) -> list[int]:
    steps = (-1, 1) if source == me else (1,) if source < me else (-1,)
    return [int(name_of(me + step)) for step in steps if me + step > 0]


def _build(stack: ExitStack, number: int, host: Host, mtu: int) -> Site:
    with host.entered():
        sockets = stack.enter_context(udp.open_sleeve_sockets("", PORT))
        tap_fd = tap.open_tap(TAP)
    stack.callback(os.close, tap_fd)
    container = host.container("c")
    with Netlink(host.path) as netlink:
        netlink.create_bridge("br0", mtu=mtu)
        netlink.create_veth("vc", "eth0", mtu, container.path)
        netlink.set_link(TAP, mtu=mtu)
        for port in (TAP, "vc"):
            netlink.set_link(port, master="br0", up=True)
        netlink.set_link("br0", up=True)
    has_ipv6 = mtu >= IPV6_MIN_MTU
    if has_ipv6:
        container.run(["sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=0"])
    with Netlink(container.path) as netlink:
        netlink.set_link("eth0", up=True)
        netlink.add_address("eth0", f"10.32.0.{number}/16")
        if has_ipv6:
            netlink.add_address("eth0", f"fd00::{number}/64")
    return Site(number, host, container, mtu, tap_fd, sockets)
