"""Ways to neighbours as connections have them: peer n is at 192.0.2.n."""

from plait.mesh.name import PeerName
from plait.overlay.fastdp.carrier import Carrier
from plait.overlay.fastdp.tables import HopFlag

FLAGS = HopFlag.DIRECT | HopFlag.KERNEL_ANSWERS


def ip(peer: PeerName) -> str:
    return f"192.0.2.{int(peer)}"


def by_vxlan(peer: PeerName, mtu: int = 1450) -> Carrier:
    return Carrier(True, ip(peer), "192.0.2.200", 3, mtu, FLAGS)


def by_pump(peer: PeerName, *, is_pending: bool = False) -> Carrier:
    return Carrier(False, ip(peer), "192.0.2.200", is_pending=is_pending)
