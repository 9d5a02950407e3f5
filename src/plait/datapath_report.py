"""The part of a report that is about the datapath in the kernel."""

from collections.abc import Iterator, Mapping

from plait.api import model
from plait.mesh.name import PeerName
from plait.mesh.peers import Peers
from plait.overlay.fastdp.description import KernelView
from plait.overlay.fastdp.tables import DROP_REASONS, HopFlag, NextHop, PeerStats, Via

CARRIES = "eBPF programs and a VXLAN device carry the frames"
NOT_WANTED = "fastdp is not among the overlays that this node was launched with"


def build_datapath(view: KernelView | None, lack: str | None, peers: Peers) -> model.Datapath:
    """Give the report of the datapath; without one, `lack` says why it is not there although it is wanted."""
    if view is None:
        return model.Datapath(carries=False, why=lack or NOT_WANTED)
    described = view.description
    names = {short_id: peer for peer, short_id in view.ids.items()}
    return model.Datapath(
        carries=True,
        why=CARRIES,
        programs=[
            model.DatapathProgram(
                name=each.name, id=each.id, interface=each.interface, direction=each.direction, way=each.way
            )
            for each in described.programs
        ],
        maps=[
            model.DatapathMap(name=each.name, kind=each.kind, used=each.used, max_entries=each.max_entries)
            for each in described.maps
        ],
        interfaces=list(_interfaces(view, names, peers)),
        hops=[
            _hop(short_id, view, names, peers)
            for short_id in [*map(view.ids.get, sorted(view.ids)), *sorted(view.held.keys() - names.keys())]
            if short_id is not None and short_id != described.tables.our_id
        ],
        neighbours=[
            _neighbour(_name(short_id, names), _nickname(short_id, view, names, peers), stats)
            for short_id, stats in sorted(described.stats.items())
        ],
        drops=[
            model.DatapathDrop(reason=reason, meaning=DROP_REASONS[reason], frames=frames)
            for reason, frames in described.drops.items()
        ],
        learned=len(described.learned),
    )


def diagnostics(view: KernelView | None) -> dict[str, int] | None:
    """Give the kernel's counters, flat, as Weave's report has a place for those of each overlay."""
    if view is None:
        return None
    described = view.description
    totals = {name: sum(getattr(each, name) for each in described.stats.values()) for name in PeerStats.__slots__}
    return {**totals, "learned": len(described.learned), **{f"dropped_{key}": n for key, n in described.drops.items()}}


def learned_macs(view: KernelView | None, us: PeerName) -> Iterator[tuple[str, PeerName, float]]:
    """Give the addresses that the kernel learned: MAC, its peer (us for this host), when last seen.

    Those behind a short id that nobody owns are left out.
    """
    if view is None:
        return
    names = {short_id: peer for peer, short_id in view.ids.items()}
    for mac, seen, short_id in view.description.learned:
        peer = us if short_id is None else names.get(short_id)
        if peer is not None:
            yield mac, peer, seen


def nickname(peers: Peers, name: PeerName) -> str:
    """Give the nickname of a peer, none of an unknown one."""
    record = peers.get(name)
    return record.summary.nickname if record else ""


def _interfaces(view: KernelView, names: Mapping[int, PeerName], peers: Peers) -> Iterator[model.DatapathInterface]:
    described = view.description
    yield model.DatapathInterface(name=described.device, kind="vxlan", mtu=None, direct=False, neighbours=[])
    behind: dict[tuple[str, int, bool], list[str]] = {}
    for remote, underlay in described.underlays.items():
        neighbour = described.tables.neighbours.get(remote)
        label = remote if neighbour is None else _label(neighbour.short_id, view, names, peers)
        behind.setdefault((underlay.device, underlay.mtu, underlay.is_direct), []).append(label)
    for (device, mtu, is_direct), labels in sorted(behind.items()):
        yield model.DatapathInterface(
            name=device, kind="underlay", mtu=mtu, direct=is_direct, neighbours=sorted(labels)
        )


def _hop(short_id: int, view: KernelView, names: Mapping[int, PeerName], peers: Peers) -> model.DatapathHop:
    found = view.description.tables.nexthops.get(short_id, NextHop(Via.NOTHING))
    is_vxlan, is_none = found.via is Via.VXLAN, found.via is Via.NOTHING
    return model.DatapathHop(
        peer=_name(short_id, names),
        nick_name=_nickname(short_id, view, names, peers),
        short_id=short_id,
        via=found.via.name.lower(),
        hop=None if is_none else _name(found.hop, names),
        hop_nick_name="" if is_none else _nickname(found.hop, view, names, peers),
        remote=found.remote if is_vxlan else None,
        mtu=found.mtu if is_vxlan else None,
        direct=HopFlag.DIRECT in found.flags,
        held=round(view.held[short_id], 1) if short_id in view.held else None,
    )


def _neighbour(name: str, nickname: str, stats: PeerStats) -> model.DatapathNeighbour:
    return model.DatapathNeighbour(
        peer=name,
        nick_name=nickname,
        tx_packets=stats.tx_packets,
        tx_bytes=stats.tx_bytes,
        rx_packets=stats.rx_packets,
        rx_bytes=stats.rx_bytes,
    )


def _name(short_id: int, names: Mapping[int, PeerName]) -> str:
    """A peer's name; of one that the topology does not know (any more) its short id."""
    return str(names[short_id]) if short_id in names else f"short id {short_id}"


def _nickname(short_id: int, view: KernelView, names: Mapping[int, PeerName], peers: Peers) -> str:
    name = names.get(short_id)
    return "" if name is None else nickname(peers, name) or view.departed.get(name, "")


def _label(short_id: int, view: KernelView, names: Mapping[int, PeerName], peers: Peers) -> str:
    found = _nickname(short_id, view, names, peers)
    return _name(short_id, names) + (f"({found})" if found else "")
