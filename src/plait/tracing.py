"""`trace`: finds out, from the rooms' state and by frames of its own, where a frame of a container goes."""

import asyncio
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from plait.api import trace_model
from plait.attach.container import NAMED_PREFIX
from plait.attach.inventory import ALL_CONTAINERS, EXPOSED, End
from plait.attach.service import Attacher
from plait.errors import NotFound, UsageError
from plait.host import asking, netns
from plait.host.asking import Answers
from plait.mesh.addresses import join_address
from plait.mesh.name import PeerName
from plait.mesh.router import Router
from plait.overlay.bridge import TAP
from plait.overlay.ethernet import octets
from plait.overlay.fastdp import tables
from plait.overlay.fastdp.description import KernelView
from plait.overlay.manager import OverlayManager
from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.pump.counters import COUNTERS
from plait.overlay.sleeve.supervisor import Pump
from plait.overlay.switch import FASTDP
from plait.overlay.trace import (
    Counted,
    Endpoint,
    Hop,
    Kernel,
    Measured,
    Owner,
    Scene,
    Target,
    Trace,
    Way,
    changes,
    grown,
    total,
    trace,
)

TRIES = 3
"""Frames that ask all for the address, and then frames that ask its owner."""

PATIENCE = 0.5
"""Seconds that an answer is waited for."""

_NO_LOSS = frozenset(
    ("captured", "injected", "sent", "received", "answered", "fragmented", "macs", "mac_moves", "macs_evicted", "local")
)
_PUMP_LOSSES = {key: words for key, words in COUNTERS.items() if key not in _NO_LOSS}

_MAC = re.compile("[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){5}")

IP = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class _State:
    """What kernel and pump know and have counted at one moment."""

    kernel: KernelView | None
    pump: ipc.Stats | None

    def counted(self) -> dict[PeerName, Counted]:
        kernel: dict[PeerName, Counted] = {}
        if self.kernel is not None:
            stats = self.kernel.description.stats
            for peer, short_id in self.kernel.ids.items():
                each = stats.get(short_id, tables.PeerStats())
                kernel[peer] = Counted(each.tx_packets, each.rx_packets)
        peers = {} if self.pump is None else self.pump.peers
        pump = {
            PeerName(peer): Counted(each.get("tx_frames", 0), each.get("rx_frames", 0)) for peer, each in peers.items()
        }
        return total((kernel, pump))

    def drops(self) -> Mapping[str, int]:
        return {} if self.kernel is None else self.kernel.description.drops


class Tracer:
    """Traces from the containers of one node. `port`: the node's, TCP and UDP."""

    def __init__(
        self, router: Router, overlays: OverlayManager, pump: Pump, attacher: Attacher, bridge: str, port: int
    ) -> None:
        self._router = router
        self._overlays = overlays
        self._pump = pump
        self._attacher = attacher
        self._bridge = bridge
        self._port = port

    async def trace(self, source: str, destination: str) -> trace_model.Trace:
        """Trace from a container (as `attach` takes it, or one of its addresses) to an IP or MAC address.

        Raises UsageError for words that are no such thing, NotFound if the container is not on the network here.
        """
        ip, mac = _parse(destination)
        everyone = await self._attacher.ends(ALL_CONTAINERS)
        end, own = await self._source(source, ip, everyone)
        if ip is not None and any(ip == cidr.ip for cidr in end.cidrs):
            raise UsageError(f"{ip} is {source}'s own address: nothing leaves the container; name another one")
        if mac is not None:
            ip = await asyncio.to_thread(_ip_of, end, mac, everyone)
            own = own if ip is not None and _is_reachable(end, ip) else None
        before = await self._state()
        asked = Answers(0, 0, ())
        if ip is not None and own is not None:
            if mac is None:
                asked = await asyncio.to_thread(_ask, end, own, ip, None)
                mac = asked.macs[0] if asked.macs else await asyncio.to_thread(_remembered, end, ip)
            if mac is not None:
                # What was learned meanwhile has its effect now; only these frames are counted.
                before = await self._state()
                asked = await asyncio.to_thread(_ask, end, own, ip, mac)
        after = await self._state()
        bridge = (await self._attacher.interfaces([EXPOSED]))[0].mac
        target = Target(destination, None if mac is None else mac.hex(":"))
        scene = self._scene(after, everyone, bridge)
        measured = Measured(
            asked.asked,
            asked.answered,
            changes(before.counted(), after.counted()),
            grown(before.drops(), after.drops(), tables.DROP_REASONS)
            | grown(_counters(before.pump), _counters(after.pump), _PUMP_LOSSES),
        )
        found = trace(scene, _endpoint(end), target, self._owner(scene, after, target), measured)
        return _to_model(source, target, measured, found, scene)

    async def _source(self, text: str, target: IP | None, everyone: list[End]) -> tuple[End, IP | None]:
        """Give the interface that the frame leaves by, and the address there that asks (None: for a MAC, none)."""
        named: IP | None = None
        with suppress(ValueError):
            named = ip_address(text)
        ends = everyone if named is not None else await self._attacher.ends(text)
        ends = [end for end in ends if named is None or any(named == cidr.ip for cidr in end.cidrs)]
        if not ends:
            raise NotFound(f"{text} has no interface on the network of this host; 'plait ps' lists those that have one")
        if target is None:
            return ends[0], next((cidr.ip for cidr in ends[0].cidrs), None)
        for end in ends:
            for cidr in end.cidrs:
                if named in (None, cidr.ip) and target in cidr.network:
                    return end, cidr.ip
        subnets = ", ".join(str(cidr) for end in ends for cidr in end.cidrs) or "no address at all"
        raise UsageError(
            f"{target} is not on the link of {text}, which has {subnets}: frames for it go to a router, or nowhere; "
            "trace to an address of the same subnet"
        )

    async def _state(self) -> _State:
        return _State(await self._overlays.describe_kernel(), await self._pump.stats())

    def _scene(self, state: _State, everyone: list[End], bridge_mac: str) -> Scene:
        peers = self._router.peers
        ways, fastdp = {}, {}
        for link in self._router.links:
            live = self._overlays.get(link.id)
            if live is None:
                continue
            why = live.switch.reason
            if live.switch.best == FASTDP:
                fastdp[link.peer] = why
            if live.user is not None:
                remote = live.user.remote
                ways[link.peer] = Way(
                    live.overlay,
                    f"{why}; {live.user.state}",
                    live.user.is_established,
                    device=TAP,
                    source=join_address(link.local_ip, self._port),
                    destination="an address not known yet" if remote is None else join_address(*remote),
                    mtu=live.user.mtu,
                )
        return Scene(
            us=self._router.our_name,
            bridge=self._bridge,
            bridge_mac=bridge_mac,
            endpoints=[_endpoint(end) for end in everyone],
            records={record.name: record for record in peers.records()},
            ways=ways,
            kernel=None if state.kernel is None else _kernel(state.kernel),
            fastdp=fastdp,
            departed={} if state.kernel is None else state.kernel.departed,
        )

    def _owner(self, scene: Scene, state: _State, target: Target) -> Owner | None:
        """Who has an address, by the tables in the order in which the datapath asks them."""
        mac = target.mac
        if mac is None:
            return None
        if mac == scene.bridge_mac or any(each.mac == mac for each in scene.endpoints):
            return Owner(scene.us, "it is attached here")
        if state.kernel is None:
            announced = self._overlays.host.announced_by(octets(mac))
        else:
            described, names = state.kernel.description, {each: peer for peer, each in state.kernel.ids.items()}
            announced = names.get(described.announced.get(mac, tables.NO_ID))
        if announced is not None:
            return Owner(announced, "that peer announced it")
        if state.kernel is not None:
            for known, _, short_id in described.learned:
                if known == mac and (short_id is None or short_id in names):
                    peer = scene.us if short_id is None else names[short_id]
                    return Owner(peer, "the kernel learned it from its frames")
        for learned in () if state.pump is None else state.pump.macs:
            if learned.mac == mac:
                return Owner(PeerName(learned.peer), "the pump learned it from its frames")
        return None


def _parse(destination: str) -> tuple[IP | None, bytes | None]:
    with suppress(ValueError):
        ip = ip_address(destination)
        if not (ip.is_multicast or ip.is_unspecified or ip.is_loopback):
            return ip, None
    if _MAC.fullmatch(destination):
        mac = octets(destination)
        if any(mac) and not mac[0] & 1:
            return None, mac
    raise UsageError(f"{destination!r} is neither an IP address nor a MAC address of one machine; write one of those")


def _ask(end: End, own: IP, target: IP, to: bytes | None) -> Answers:
    with netns.entered(end.netns):
        mac = octets(end.mac)
        return asking.ask(end.interface, mac, own, target, to=to, count=TRIES, patience=PATIENCE)


def _remembered(end: End, target: IP) -> bytes | None:
    with netns.entered(end.netns):
        return asking.remembered(end.interface, target)


def _ip_of(end: End, mac: bytes, everyone: list[End]) -> IP | None:
    """An address to ask the owner of a MAC for: of a container here, or one that the sender remembers."""
    text = mac.hex(":")
    for each in everyone:
        if each.mac == text:
            return next((cidr.ip for cidr in each.cidrs if _is_reachable(end, cidr.ip)), None)
    with netns.entered(end.netns):
        return next((ip for ip, known in asking.all_remembered(end.interface) if known == mac), None)


def _is_reachable(end: End, ip: IP) -> bool:
    return any(ip in cidr.network for cidr in end.cidrs)


def _endpoint(end: End) -> Endpoint:
    # Docker's ids are as long as `ps` shows them; process ids are shorter.
    name = end.ident if end.ident.startswith(NAMED_PREFIX) else end.ident[:12]
    return Endpoint(name, end.interface, end.mac, end.mtu, end.is_up, end.port, end.port_is_up)


def _kernel(view: KernelView) -> Kernel:
    described = view.description
    underlays = {remote: underlay.device for remote, underlay in described.underlays.items()}
    return Kernel(described.tables.nexthops, view.ids, described.port, described.device, underlays)


def _counters(stats: ipc.Stats | None) -> Mapping[str, int]:
    return {} if stats is None else stats.counters


def _to_model(source: str, target: Target, measured: Measured, found: Trace, scene: Scene) -> trace_model.Trace:
    return trace_model.Trace(
        source=source,
        destination=target.text,
        mac=target.mac,
        delivered=found.is_delivered,
        verdict=found.verdict,
        asked=measured.asked,
        answered=measured.answered,
        hops=[_to_model_hop(hop) for hop in found.hops],
        counted=[
            trace_model.TraceCount(peer=scene.label(peer), sent=each.sent, received=each.received)
            for peer, each in measured.counted.items()
            if each != Counted()
        ],
        drops=dict(measured.drops),
    )


def _to_model_hop(hop: Hop) -> trace_model.TraceHop:
    return trace_model.TraceHop(
        kind=hop.kind.value,
        place=hop.place,
        text=hop.text,
        computed=hop.is_computed,
        overlay=hop.overlay,
        device=hop.device,
        source=hop.source,
        destination=hop.destination,
        vni=hop.vni,
        mtu=hop.mtu,
        sent=None if hop.counted is None else hop.counted.sent,
        received=None if hop.counted is None else hop.counted.received,
        lost=hop.lost,
    )
