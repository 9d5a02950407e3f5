"""What a person may want to know of the datapath, as plain data: what runs where, how full maps are, what passed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from plait.host.bpf.maps import Map
from plait.host.bpf.spec import MapKind
from plait.mesh.name import PeerName
from plait.overlay.fastdp.carrier import Underlay
from plait.overlay.fastdp.plan import Tables
from plait.overlay.fastdp.tables import PeerStats


@dataclass(frozen=True, slots=True)
class ProgramPlace:
    """A program and where it is attached. `direction`: ingress or egress, `way`: tcx or clsact."""

    name: str
    id: int
    interface: str
    direction: str
    way: str


@dataclass(frozen=True, slots=True)
class MapUse:
    """A map and how full it is: entries, for a ring buffer bytes. `used` None: it cannot be counted."""

    name: str
    kind: str
    used: int | None
    max_entries: int


@dataclass(frozen=True, slots=True)
class Description:
    """All of a datapath at one moment. `underlays` by address of the neighbour, `stats` by short id of the neighbour.

    `learned`: MAC, when last seen (CLOCK_MONOTONIC), short id of the peer or None for this host.
    """

    programs: Sequence[ProgramPlace] = ()
    maps: Sequence[MapUse] = ()
    device: str = ""
    underlays: Mapping[str, Underlay] = field(default_factory=dict)
    tables: Tables = field(default_factory=Tables)
    stats: Mapping[int, PeerStats] = field(default_factory=dict)
    drops: Mapping[str, int] = field(default_factory=dict)
    learned: Sequence[tuple[str, float, int | None]] = ()
    announced: Mapping[str, int] = field(default_factory=dict)
    """MAC -> short id of the peer that says it has it."""
    port: int = 0
    """UDP port of VXLAN."""


@dataclass(frozen=True, slots=True)
class KernelView:
    """What a datapath is, and the short ids that peers own as it knows them; also those that left, while it has ways.

    `held`: short id -> seconds for which a way without a connection stays. `departed`: nicknames of peers that left.
    """

    description: Description
    ids: Mapping[PeerName, int]
    held: Mapping[int, float] = field(default_factory=dict)
    departed: Mapping[PeerName, str] = field(default_factory=dict)


def entries_used(of: Map) -> int | None:
    """Count what a map holds: its entries, of an array those that are not zero. Raise PlaitError."""
    if of.kind is MapKind.RINGBUF:
        return None
    if of.is_per_cpu:
        return sum(any(map(any, values)) for _, values in of.items_per_cpu())
    is_array = of.kind is MapKind.ARRAY
    return sum(any(value) or not is_array for _, value in of.items())
