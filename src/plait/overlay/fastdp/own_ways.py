"""The ways by VXLAN straight to neighbours, which outlive their connections for a while; pure."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from plait.mesh.name import PeerName
from plait.overlay.fastdp.carrier import Carrier
from plait.overlay.fastdp.tables import NextHop, Via

HOLD = 30.0
"""Seconds that a way by VXLAN outlives its connection: a node comes back within some 2 s, under load later."""

GRACE = 3.0
"""Seconds in which all nodes learn that a connection ended. Only then do others' ways replace that of a connection that
ended while VXLAN worked, and only what stayed that long is held.
"""


@dataclass(slots=True)
class OwnWay:
    """The last way by VXLAN straight to a neighbour. `peer` None: an earlier node's, whose it was is not known.

    `lost`: when its connection ended or began anew, None while it carries; `sources`: short ids of those whose
    broadcasts it got before.
    """

    hop: NextHop
    peer: PeerName | None
    lost: float | None = None
    sources: frozenset[int] = frozenset()


class OwnWays:
    """Those of one node, by short id: that carry, or whose end is recent, none that is known to fail.

    `sources_of` says whose broadcasts a neighbour has got for a while. Times are seconds of any one clock.
    """

    def __init__(self, sources_of: Callable[[int, float], frozenset[int]]) -> None:
        self._sources_of = sources_of
        self._ways: dict[int, OwnWay] = {}

    def adopt(self, ways: Mapping[int, NextHop], now: float) -> None:
        """Begin with the ways that an earlier node had."""
        for short_id, hop in ways.items():
            self._ways[short_id] = OwnWay(hop, None, now, self._sources_of(short_id, now))

    def follow(self, ids: Mapping[PeerName, int], carriers: Mapping[PeerName, Carrier], now: float) -> None:
        """Take note of what carries now; `carriers` has one for each neighbour."""
        carrying = set()
        for peer, carrier in carriers.items():
            short_id = ids.get(peer)
            if short_id is None:
                continue
            way = self._ways.get(short_id)
            if carrier.is_vxlan:
                ends = carrier.remote, carrier.local
                hop = NextHop(Via.VXLAN, short_id, *ends, carrier.underlay, carrier.mtu, carrier.flags)
                self._ways[short_id] = OwnWay(hop, peer)
                carrying.add(short_id)
            elif way is not None and not (carrier.is_pending and way.hop.remote == carrier.remote):
                del self._ways[short_id]
        owners = {short_id: peer for peer, short_id in ids.items()}
        for short_id, way in list(self._ways.items()):
            if way.lost is None and short_id not in carrying:
                way.lost, way.sources = now, self._sources_of(short_id, now)
            is_another_s = way.peer is not None and owners.get(short_id, way.peer) != way.peer
            if is_another_s or (way.lost is not None and way.lost + HOLD <= now):
                del self._ways[short_id]

    def get(self, short_id: int) -> OwnWay | None:
        """Give the way to a neighbour."""
        return self._ways.get(short_id)

    def preferred(self, wanted: Mapping[int, NextHop], now: float) -> dict[int, tuple[NextHop, float]]:
        """Give the ways that stay in spite of others that are wanted, and until when."""
        return {
            short_id: (way.hop, way.lost + GRACE)
            for short_id, way in self._ways.items()
            if way.lost is not None and now < way.lost + GRACE and wanted.get(short_id, way.hop) != way.hop
        }

    def ends(self) -> Iterator[float]:
        """Say when ways that do not carry will be forgotten."""
        for way in self._ways.values():
            if way.lost is not None:
                yield way.lost + HOLD
