"""The node's half of fastdp: feeds the planner, puts what it says into the kernel, tells the pump, knows who left."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from plait.mesh.name import PeerName
from plait.overlay.fastdp.carrier import Carrier
from plait.overlay.fastdp.datapath import KernelDatapath
from plait.overlay.fastdp.description import Description, KernelView
from plait.overlay.fastdp.echoes import Traffic
from plait.overlay.fastdp.plan import Planner, Tables, Topology
from plait.overlay.sleeve import ipc


@dataclass(frozen=True, slots=True)
class _Departed:
    """A peer that left the mesh while the kernel has a way to it: it may be started again in a moment."""

    short_id: int
    nickname: str
    macs: frozenset[bytes]


class FastdpControl:
    """Of one node whose kernel carries frames. Times are seconds of one clock."""

    def __init__(
        self, kernel: KernelDatapath, left: Tables, tell_pump: Callable[[ipc.ToPump], None], now: float
    ) -> None:
        """`left`: what an earlier node left in the kernel."""
        self.kernel = kernel
        self.topology = Topology(PeerName(0))
        self._planner = Planner()
        self._planner.adopt(left, now)
        self._tell_pump = tell_pump
        self._owners: dict[int, PeerName] = {}
        self._departed: dict[PeerName, _Departed] = {}
        self._told: ipc.SetKernel | None = None
        self._announced: Mapping[bytes, PeerName] = {}
        self._is_announced = False

    def set_topology(self, topology: Topology) -> None:
        """Take what the mesh says; `plan` puts it into effect."""
        known, self.topology = self.topology, topology
        self._owners = {short_id: peer for peer, short_id in topology.ids.items()}
        self._departed = {
            peer: left
            for peer, left in self._departed.items()
            if peer not in topology.ids and left.short_id not in self._owners
        }
        self._is_announced = self._is_announced and known.ids == topology.ids
        renamed = {short_id for peer, short_id in known.ids.items() if self._owners.get(short_id, peer) != peer}
        if renamed:
            self.kernel.forget(renamed)

    def set_announced(self, owners: Mapping[bytes, PeerName]) -> None:
        """Take what the peers say they have: MAC address -> peer. `plan` puts it into effect."""
        self._announced, self._is_announced = owners, False

    def peer_gone(self, peer: PeerName, short_id: int, nickname: str) -> None:
        """Keep what is known of a peer that left the mesh as long as its way is held."""
        macs = frozenset(mac for mac, owner in self._announced.items() if owner == peer)
        if short_id in self._planner.tables.nexthops and self._owners.get(short_id, peer) == peer:
            self._departed[peer] = _Departed(short_id, nickname, macs)

    def plan(self, carriers: Mapping[PeerName, Carrier], now: float) -> None:
        """Put topology and connections into effect. Raises PlaitError if the kernel refuses.

        Nothing happens while the mesh has said nothing: what an earlier node left goes on.
        """
        if not self.topology.ids:
            return
        before = self._planner.tables.nexthops.keys()
        tables = self._planner.update(self.topology, carriers, now)
        held = {peer: left for peer, left in self._departed.items() if left.short_id in tables.nexthops}
        if held != self._departed:
            # An announced address without a way is lost; one that nobody announces is looked for.
            self._departed, self._is_announced = held, False
        self.kernel.write(tables)
        if gone := before - tables.nexthops.keys():
            self.kernel.forget(gone)
        ids = self.topology.ids
        carried = {int(peer): mtu for peer, mtu in self._planner.carried(ids).items()}
        wanted = ipc.SetKernel({short_id: int(peer) for peer, short_id in ids.items()}, carried)
        if wanted != self._told:
            self._told = wanted
            self._tell_pump(wanted)
        if not self._is_announced:
            owners = {mac: left.short_id for left in self._departed.values() for mac in left.macs}
            owners |= {mac: ids[peer] for mac, peer in self._announced.items() if peer in ids}
            self.kernel.write_announced(owners)
            self._is_announced = True

    def view(self, description: Description, now: float) -> KernelView:
        """Give what the kernel has, with the names that belong to it."""
        return KernelView(
            description,
            {peer: left.short_id for peer, left in self._departed.items()} | dict(self.topology.ids),
            self._planner.held(now),
            {peer: left.nickname for peer, left in self._departed.items()},
        )

    def next_deadline(self) -> float | None:
        """When to plan again at the latest."""
        return self._planner.next_deadline()

    def peer(self, short_id: int) -> PeerName | None:
        """Give the peer that owns a short id."""
        return self._owners.get(short_id)

    def traffic(self, short_id: int) -> Traffic:
        """Give what the kernel counted of a neighbour."""
        stats = self.kernel.stats(short_id)
        return Traffic(stats.tx_packets, stats.rx_packets, stats.tx_bytes, stats.rx_bytes)
