"""What a fastdp session asks its shell to do, beside what sessions of sleeve ask too."""

from dataclasses import dataclass

from plait.overlay.sleeve.actions import Established, Failed, QueryInterfaceMtu, SendControl


@dataclass(frozen=True, slots=True)
class SendFrame:
    """Send this frame as VXLAN from us to the peer, with DF: a heartbeat."""

    frame: bytes


@dataclass(frozen=True, slots=True)
class SetPath:
    """Send frames for the peer there: `mtu` is what fits an IP packet of a container, `path_mtu` one on the path."""

    remote_ip: str
    mtu: int
    path_mtu: int


@dataclass(frozen=True, slots=True)
class Healthy:
    """Frames may go by fastdp again."""


@dataclass(frozen=True, slots=True)
class Unhealthy:
    """No frames by fastdp for now; it may come back. `reason` is for people; it comes again when the reason changes."""

    reason: str


Action = SendFrame | SetPath | Healthy | Unhealthy | SendControl | QueryInterfaceMtu | Established | Failed
