"""Three hosts in a row whose pump cores are wired to each other, A - B - C, in plaits' format or in Weave's."""

from plait.mesh.name import PeerName
from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.cutting import Cutter
from plait.overlay.sleeve.plait1.engine import Engine
from plait.overlay.sleeve.plait1.keys import Cipher
from plait.overlay.switch import PLAIT1, SLEEVE
from unit.overlay.plait1 import frames as f
from unit.overlay.pumps import PumpHost, Sent, carry

A, B, C = (PeerName(0x020000000000 + number) for number in range(10, 13))
UID = 0x1122334455667788
ADDRESSES = {A: ("192.0.2.10", 6783), B: ("192.0.2.11", 6783), C: ("192.0.2.12", 6783)}
MACS = {A: f.MAC_A, B: f.MAC_B, C: f.MAC_C}
KEY = bytes(range(32))
_ROUTES = {
    A: ipc.SetRoutes([A, B, C], {B: B, C: B}, {A: [B]}),
    B: ipc.SetRoutes([A, B, C], {A: A, C: C}, {A: [C], B: [A, C], C: [A]}),
    C: ipc.SetRoutes([A, B, C], {A: B, B: B}, {C: [B]}),
}
_OVERHEAD = {(PLAIT1, False): 72, (PLAIT1, True): 104, (SLEEVE, False): 62, (SLEEVE, True): 86}


class Row:
    """The hosts, and the network between neighbours."""

    def __init__(
        self,
        cipher: Cipher | None = None,
        *,
        ab: str = PLAIT1,
        bc: str = PLAIT1,
        path_mtu: int = 1500,
        bc_path_mtu: int | None = None,
        udp_super_frames: bool = True,
        merged: bool = True,
        engine: Engine | None = None,
        cutter: Cutter | None = None,
    ) -> None:
        self.cipher = cipher
        self.merged = merged
        self.hosts = {
            name: PumpHost(name, udp_super_frames=udp_super_frames, engine=engine, cutter=cutter) for name in (A, B, C)
        }
        self.a, self.b, self.c = self.hosts.values()
        for name, host in self.hosts.items():
            host.apply(_ROUTES[name])
        for one, other, overlay, mtu in ((A, B, ab, path_mtu), (B, C, bc, bc_path_mtu or path_mtu)):
            self.connect(one, other, overlay)
            self.set_path_mtu(one, other, overlay, mtu)
        self.seen: list[Sent] = []

    def connect(self, one: PeerName, other: PeerName, overlay: str) -> None:
        for name, peer in ((one, other), (other, one)):
            self.hosts[name].apply(self._connection(name, peer, overlay, 0))

    def connect_sender(self, name: PeerName, peer: PeerName, first_sequence: int) -> None:
        """As with a new pump, or one that counted much."""
        self.hosts[name].apply(self._connection(name, peer, PLAIT1, first_sequence))
        self.hosts[name].apply(ipc.SetPath(peer, ADDRESSES[peer], 1396, 1472, False))

    def _connection(self, name: PeerName, peer: PeerName, overlay: str, first_sequence: int) -> ipc.SetConnection:
        key = None if self.cipher is None else KEY
        cipher = self.cipher or Cipher.AES_256_GCM
        return ipc.SetConnection(peer, ADDRESSES[name][0], key, name < peer, first_sequence, UID, overlay, cipher, 0)

    def set_path_mtu(self, one: PeerName, other: PeerName, overlay: str, mtu: int) -> None:
        overhead = _OVERHEAD[overlay, self.cipher is not None]
        for name, peer in ((one, other), (other, one)):
            self.hosts[name].apply(ipc.SetPath(peer, ADDRESSES[peer], mtu - overhead, mtu - 28, False))

    def settle(self) -> list[Sent]:
        """Carry datagrams until nobody has any; gives what was sent."""
        seen: list[Sent] = []
        for _ in range(20):
            before = len(seen)
            for host in self.hosts.values():
                sent = carry(host, self.hosts, merged=self.merged)
                seen += sent
            if len(seen) == before:
                self.seen += seen
                return seen
        raise AssertionError("it does not end")

    def meet(self) -> None:
        """Everybody learns where everybody's container is; what it took is forgotten."""
        for name, host in self.hosts.items():
            host.captured_raw(f.plain(0x88B5, bytes(50), destination=f.BROADCAST, source=MACS[name]))
        self.settle()
        for host in self.hosts.values():
            host.take_raw()
            host.core.counters.update(dict.fromkeys(host.core.counters, 0))

    def sends(self, source: PeerName, *raws: bytes) -> list[Sent]:
        """Frames of a container, and what became of them on the way."""
        for raw in raws:
            self.hosts[source].captured_raw(raw)
        return self.settle()
