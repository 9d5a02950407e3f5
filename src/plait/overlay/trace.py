"""The way of a frame from a container of this host to an address, hop by hop, and where it is lost; pure.

What this node decides is read from its tables; what other peers do with the frame follows from the topology, by which
they compute their routes as we would in their place. What was measured has the last word.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from plait.mesh.addresses import ip_of, join_address
from plait.mesh.name import UNKNOWN_PEER, PeerName
from plait.mesh.records import PeerRecord
from plait.mesh.routes import Routes
from plait.overlay.fastdp.tables import NO_WAY, HopFlag, NextHop, Via
from plait.overlay.fastdp.wire import pack_vni
from plait.overlay.switch import FASTDP


class Kind(Enum):
    """What a hop is."""

    CONTAINER = "container"
    """The interface of the sender."""
    PORT = "port"
    """The other end of it, on the bridge."""
    DECISION = "decision"
    """Where this node sends the frame."""
    LINK = "link"
    """From this host to a neighbour."""
    RELAY = "relay"
    """From a neighbour onwards."""
    DELIVERY = "delivery"
    """At the host of the receiver."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A container of this host on the bridge. `name` is for people; `mtu` is of its interface, bytes."""

    name: str
    interface: str
    mac: str
    mtu: int
    is_up: bool
    port: str
    port_is_up: bool


@dataclass(frozen=True, slots=True)
class Target:
    """Where the frame is to go: what the user wrote, and the MAC address, if anything told it."""

    text: str
    mac: str | None


@dataclass(frozen=True, slots=True)
class Owner:
    """The peer behind a MAC address, and who says so, for people."""

    peer: PeerName
    known_by: str


@dataclass(frozen=True, slots=True)
class Way:
    """How frames go to one neighbour: what `why` says of the overlay is for people, `mtu` of inner IP packets.

    `source` and `destination` are the outer `IP:port`; the port is `*` where it differs from flow to flow.
    """

    overlay: str
    why: str
    is_established: bool
    device: str
    source: str
    destination: str
    mtu: int
    vni: int | None = None
    is_direct: bool = False


@dataclass(frozen=True, slots=True)
class Kernel:
    """What the kernel's tables say: next hops by short id, the ids that peers own, the devices towards neighbours."""

    nexthops: Mapping[int, NextHop]
    ids: Mapping[PeerName, int]
    port: int
    device: str
    underlays: Mapping[str, str] = field(default_factory=dict)
    """Address of a neighbour -> interface."""


@dataclass(frozen=True, slots=True)
class Scene:
    """All that this node knows. `records` are those of the topology, `ways` the neighbours' overlays in user space.

    `fastdp` has the neighbours whose connection uses the kernel's overlay, and why; `departed` the nicknames of peers
    that left the mesh while their ways are held.
    """

    us: PeerName
    bridge: str
    bridge_mac: str
    endpoints: Sequence[Endpoint]
    records: Mapping[PeerName, PeerRecord]
    ways: Mapping[PeerName, Way]
    kernel: Kernel | None = None
    fastdp: Mapping[PeerName, str] = field(default_factory=dict)
    departed: Mapping[PeerName, str] = field(default_factory=dict)

    def label(self, peer: PeerName) -> str:
        """Give `name(nickname)`."""
        record = self.records.get(peer)
        nickname = self.departed.get(peer) if record is None else record.summary.nickname
        return str(peer) if nickname is None else f"{peer}({nickname})"

    def next_hop(self, at: PeerName, destination: PeerName) -> PeerName | None:
        """Give where a peer sends frames for another, by the topology as this node knows it; None without a way."""
        hop = Routes.compute(at, self.records.values()).unicast(destination) if at in self.records else None
        return None if hop == UNKNOWN_PEER else hop


@dataclass(frozen=True, slots=True)
class Counted:
    """Frames that a neighbour got from this host and that came from it, while the trace ran."""

    sent: int = 0
    received: int = 0


@dataclass(frozen=True, slots=True)
class Measured:
    """What the frames of the trace met: so many asked, so many were answered. Counters also count other traffic.

    `counted` is by neighbour; `drops` are frames that this host dropped meanwhile, by reason, in words.
    """

    asked: int = 0
    answered: int = 0
    counted: Mapping[PeerName, Counted] = field(default_factory=dict)
    drops: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hop:
    """One step. `text` says for people what happens there; `lost` why the frame gets no further.

    `is_computed`: this node sees none of it, it follows from the topology. Addresses as in Way; what is not known is
    None. `counted` is what passed while the trace ran.
    """

    kind: Kind
    place: str
    text: str
    is_computed: bool = False
    peer: PeerName | None = None
    overlay: str | None = None
    device: str | None = None
    source: str | None = None
    destination: str | None = None
    vni: int | None = None
    mtu: int | None = None
    counted: Counted | None = None
    lost: str | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """The whole way. `verdict` is one sentence, and the reason if the frame is lost."""

    hops: tuple[Hop, ...]
    is_delivered: bool
    verdict: str


def trace(scene: Scene, source: Endpoint, target: Target, owner: Owner | None, measured: Measured) -> Trace:
    """Give the way of a frame. `owner` None: nobody here knows behind which peer the target is.

    Without an asked frame (`measured`) the verdict is that of the tables alone.
    """
    hops = _from_container(scene, source)
    if hops[-1].lost is None:
        hops += _onwards(scene, source, target, owner, measured)
    return _judged(scene, target, hops, measured)


def _from_container(scene: Scene, source: Endpoint) -> list[Hop]:
    down = f"the interface {source.interface} of {source.name} is down: set it up there"
    port_down = f"the port {source.port} is down: 'ip link set {source.port} up' puts that right"
    return [
        Hop(
            Kind.CONTAINER,
            source.name,
            f"sends by {source.interface} ({source.mac})",
            device=source.interface,
            mtu=source.mtu,
            lost=None if source.is_up else down,
        ),
        Hop(
            Kind.PORT,
            source.port,
            f"port of the bridge {scene.bridge}",
            device=source.port,
            lost=None if source.port_is_up else port_down,
        ),
    ]


def _onwards(scene: Scene, source: Endpoint, target: Target, owner: Owner | None, measured: Measured) -> list[Hop]:
    us = scene.label(scene.us)
    if target.mac is None or owner is None:
        return [_flooded(scene, us, target, measured)]
    if owner.peer == scene.us:
        return _local(scene, us, source, target, owner)
    decision, hop, way = _decide(scene, us, owner)
    hops = [decision]
    if way is None or hop is None or decision.lost is not None:
        return hops
    hops.append(_link(scene, us, hop, way))
    if hops[-1].lost is None:
        hops += _relays(scene, hop, owner.peer, target)
    return hops


def _flooded(scene: Scene, us: str, target: Target, measured: Measured) -> Hop:
    neighbours = sorted(Routes.compute(scene.us, scene.records.values()).broadcast(scene.us))
    to = ", ".join(map(scene.label, neighbours)) or "no other host, for there is no established connection"
    what = (
        f"the MAC address of {target.text} is not known" if target.mac is None else f"nobody told who has {target.mac}"
    )
    silence = (
        f"nobody on the network answered for {target.text}: is a container attached with it, and does it run? "
        f"{_unreachable(scene)}"
    )
    is_lost = measured.answered == 0
    return Hop(Kind.DECISION, us, f"{what}, so frames go to all: {to}", lost=silence.strip() if is_lost else None)


def _unreachable(scene: Scene) -> str:
    """Peers that no frame reaches are where the address may be."""
    routes = Routes.compute(scene.us, scene.records.values())
    if not routes.broadcast(scene.us):
        return "This host has no established connection to another one: 'plait status connections' says why."
    cut = [scene.label(peer) for peer in sorted(scene.records) if routes.unicast(peer) is None]
    return f"No frame reaches {', '.join(cut)}." if cut else ""


def _local(scene: Scene, us: str, source: Endpoint, target: Target, owner: Owner) -> list[Hop]:
    decision = Hop(Kind.DECISION, us, f"{target.mac} is on this host: {owner.known_by}")
    if target.mac == scene.bridge_mac:
        end = Hop(Kind.DELIVERY, us, f"delivers to the host itself, by the bridge {scene.bridge}", device=scene.bridge)
        return [decision, end]
    found = next((each for each in scene.endpoints if each.mac == target.mac), None)
    if found is None:
        end = Hop(Kind.DELIVERY, us, f"the bridge {scene.bridge} delivers it to whatever port has shown the address")
        return [decision, end]
    lost = None
    if not (found.is_up and found.port_is_up):
        lost = f"{found.name} cannot take it: {found.interface if not found.is_up else found.port} is down"
    end = Hop(Kind.DELIVERY, us, f"delivers to {found.name}", device=found.port, mtu=found.mtu, lost=lost)
    return [decision, end]


def _decide(scene: Scene, us: str, owner: Owner) -> tuple[Hop, PeerName | None, Way | None]:
    """Give the decision, the neighbour and how frames go there; without a way the decision says so."""
    peer = scene.label(owner.peer)
    begin = f"{peer} has it: {owner.known_by}"
    kernel, short_id = scene.kernel, None if scene.kernel is None else scene.kernel.ids.get(owner.peer)
    hop, way = scene.next_hop(scene.us, owner.peer), None
    if kernel is not None and short_id is not None:
        entry = kernel.nexthops.get(short_id, NO_WAY)
        names = {each: name for name, each in kernel.ids.items()}
        if entry.via is Via.VXLAN:
            hop = names.get(entry.hop)
            way = _kernel_way(scene, kernel, entry, short_id)
    if hop is not None and way is None:
        way = scene.ways.get(hop)
    if hop is None or way is None:
        lost = f"there is no way to {peer}: no chain of established connections leads there; 'plait status connections'"
        return Hop(Kind.DECISION, us, begin, lost=lost), None, None
    kind = f"{way.overlay}, {'direct' if way.is_direct else 'by the device'}" if way.overlay == FASTDP else way.overlay
    to = "which is a neighbour" if hop == owner.peer else f"next hop {scene.label(hop)}"
    return Hop(Kind.DECISION, us, f"{begin}; {to}; {kind}: {way.why}"), hop, way


def _kernel_way(scene: Scene, kernel: Kernel, entry: NextHop, destination: int) -> Way:
    is_direct = HopFlag.DIRECT in entry.flags
    underlay = kernel.underlays.get(entry.remote, f"interface number {entry.underlay}")
    known = next((name for name, each in kernel.ids.items() if each == entry.hop), None)
    # Without a connection in favour of it, what an earlier one left goes on for a while (fastdp/plan.py).
    why = "kept for a moment from an earlier connection"
    return Way(
        FASTDP,
        why if known is None else scene.fastdp.get(known, why),
        is_established=True,
        device=underlay if is_direct else f"{kernel.device} by {underlay}",
        source=join_address(entry.local, "*"),
        destination=join_address(entry.remote, kernel.port),
        mtu=entry.mtu,
        vni=pack_vni(kernel.ids.get(scene.us, 0), destination),
        is_direct=is_direct,
    )


def _link(scene: Scene, us: str, hop: PeerName, way: Way) -> Hop:
    split = ""
    if way.is_direct and scene.kernel is not None:
        split = f"; IP packets go directly, ARP by {scene.kernel.device}"
    lost = None if way.is_established else f"no frames pass to {scene.label(hop)} yet: {way.why}"
    return Hop(
        Kind.LINK,
        f"{us} -> {scene.label(hop)}",
        f"our connection{split}",
        peer=hop,
        overlay=way.overlay,
        device=way.device,
        source=way.source,
        destination=way.destination,
        vni=way.vni,
        mtu=way.mtu,
        lost=lost,
    )


def _relays(scene: Scene, first: PeerName, destination: PeerName, target: Target) -> list[Hop]:
    hops: list[Hop] = []
    at, passed = first, {scene.us}
    while at != destination:
        passed.add(at)
        onwards = scene.next_hop(at, destination)
        if onwards is None or onwards in passed:
            lost = f"{scene.label(at)} has no way to {scene.label(destination)}"
            if onwards is not None:
                lost = f"{scene.label(at)} would send it back to {scene.label(onwards)}: the topology is in motion"
            hops.append(Hop(Kind.RELAY, scene.label(at), "relays", is_computed=True, peer=at, lost=lost))
            return hops
        hops.append(
            Hop(
                Kind.RELAY,
                f"{scene.label(at)} -> {scene.label(onwards)}",
                "relays",
                is_computed=True,
                peer=at,
                source=_address(scene.records, onwards, at),
                destination=_address(scene.records, at, onwards),
            )
        )
        at = onwards
    text = f"delivers to the container with {target.mac}"
    hops.append(Hop(Kind.DELIVERY, scene.label(at), text, is_computed=True, peer=at))
    return hops


def _address(records: Mapping[PeerName, PeerRecord], reporting: PeerName, remote: PeerName) -> str | None:
    """Where one peer says that another one is, without the port, which is not that of the overlay."""
    record = records.get(reporting)
    for connection in record.connections if record else ():
        if connection.remote == remote:
            return ip_of(connection.address)
    return None


def _judged(scene: Scene, target: Target, hops: list[Hop], measured: Measured) -> Trace:
    if measured.asked:
        hops = [_counted(hop, measured) for hop in hops]
    foretold = next((hop.lost for hop in hops if hop.lost is not None), None)
    if measured.answered:
        # What the tables say may be a moment old.
        seen = tuple(_confirmed(hop, measured) for hop in hops)
        return Trace(seen, True, f"delivered: {measured.answered} of {measured.asked} questions were answered")
    if foretold is not None:
        return Trace(tuple(hops), False, foretold)
    if not measured.asked:
        verdict = f"delivered as far as the tables say; {target.text} cannot be asked, as no IP address of it is known"
        return Trace(tuple(hops), True, verdict)
    place, reason = _silence(scene, target, hops, measured)
    hops[place] = replace(hops[place], lost=reason)
    return Trace(tuple(hops), False, reason)


def _counted(hop: Hop, measured: Measured) -> Hop:
    if hop.kind is not Kind.LINK or hop.peer is None:
        return hop
    return replace(hop, counted=measured.counted.get(hop.peer, Counted()))


def _confirmed(hop: Hop, measured: Measured) -> Hop:
    if hop.lost is not None:
        # The kernel goes on with what it has for a while; and the topology may be a moment old.
        return replace(hop, text=f"{hop.text}; {hop.lost}, and yet frames pass", lost=None)
    if hop.kind is not Kind.DELIVERY:
        return hop
    return replace(hop, text=f"{hop.text}, which answered {measured.answered} of {measured.asked}", is_computed=False)


def _silence(scene: Scene, target: Target, hops: Sequence[Hop], measured: Measured) -> tuple[int, str]:
    """Say which hop it is likeliest that loses the frames, which the tables would have delivered, and why."""
    dropped = f"; meanwhile this host dropped {_in_words(measured.drops)}" if measured.drops else ""
    last = len(hops) - 1
    for number, hop in enumerate(hops):
        if hop.kind is not Kind.LINK or hop.counted is None:
            continue
        sent, received = hop.counted.sent, sum(each.received for each in measured.counted.values())
        if sent < measured.asked:
            return number, f"only {sent} of {measured.asked} frames left this host towards {hop.place}{dropped}"
        if received == 0:
            gone = f"{sent} frames left towards {hop.destination} and none came back"
            if hop.overlay == FASTDP and hop.peer not in scene.fastdp:
                return number, f"{gone}: the connection that this way was for is gone{dropped}"
            return number + 1, (
                f"{gone}; that connection has not been given up so far, so look at {hops[number + 1].place} and behind "
                f"it first: 'plait trace' there shows more{dropped}"
            )
    what = f"{target.text} did not answer any of {measured.asked} questions"
    return last, f"{what}: it does not run any more, or does not take frames{dropped}"


def _in_words(drops: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {words}" for words, count in drops.items())


def changes(before: Mapping[PeerName, Counted], after: Mapping[PeerName, Counted]) -> dict[PeerName, Counted]:
    """Give what was counted between two moments; a counter that began anew counts from zero."""
    grown_by = {}
    for peer, now in after.items():
        then = before.get(peer, Counted())
        grown_by[peer] = Counted(_grown(then.sent, now.sent), _grown(then.received, now.received))
    return grown_by


def grown(before: Mapping[str, int], after: Mapping[str, int], words: Mapping[str, str]) -> dict[str, int]:
    """Give the counters that have words and grew, by these words."""
    found = {words[key]: _grown(before.get(key, 0), count) for key, count in after.items() if key in words}
    return {key: count for key, count in found.items() if count}


def total(counts: Iterable[Mapping[PeerName, Counted]]) -> dict[PeerName, Counted]:
    """Add what kernel and pump counted."""
    sums: dict[PeerName, Counted] = {}
    for each in counts:
        for peer, counted in each.items():
            so_far = sums.get(peer, Counted())
            sums[peer] = Counted(so_far.sent + counted.sent, so_far.received + counted.received)
    return sums


def _grown(before: int, after: int) -> int:
    return after - before if after >= before else after
