"""How frames go to one neighbour, as its session and the way to it say; pure."""

from dataclasses import dataclass

from plait.overlay.fastdp.session import FastdpSession
from plait.overlay.fastdp.tables import HopFlag


@dataclass(frozen=True, slots=True)
class Carrier:
    """How frames go to one neighbour: by VXLAN between these addresses, or by the pump.

    `is_pending`: VXLAN is neither established on this connection nor given up yet.
    """

    is_vxlan: bool
    remote: str = ""
    local: str = ""
    underlay: int = 0
    mtu: int = 0
    flags: HopFlag = HopFlag.NONE
    is_pending: bool = False


@dataclass(frozen=True, slots=True)
class Underlay:
    """The way to a neighbour: interface number and MTU, and whether outer headers may be written for it directly."""

    index: int
    device: str
    mtu: int
    is_direct: bool


def carrier_of(session: FastdpSession | None, underlay: Underlay | None, local_ip: str, *, is_best: bool) -> Carrier:
    """Say how frames go to the neighbour of a session; `underlay` None: not looked at yet. `is_best`: of its switch."""
    if session is None or session.failure is not None:
        return Carrier(is_vxlan=False)
    if underlay is None or not (is_best and session.is_established):
        is_pending = session.illness is None and (underlay is None or session.established_since is None)
        return Carrier(is_vxlan=False, remote=session.remote_ip, local=local_ip, is_pending=is_pending)
    flags = HopFlag.DIRECT if underlay.is_direct else HopFlag.NONE
    if session.path_mtu >= underlay.mtu:
        flags |= HopFlag.KERNEL_ANSWERS
    return Carrier(True, session.remote_ip, local_ip, underlay.index, session.mtu, flags)
