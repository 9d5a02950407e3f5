"""What a sleeve session asks its shell to do."""

from dataclasses import dataclass

from plait.overlay.sleeve.ipc import Endpoint


@dataclass(frozen=True, slots=True)
class SendControl:
    """Send an overlay control message to the neighbour, on the mesh connection."""

    tag: int
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class SendHeartbeat:
    """Send a special frame of HEARTBEAT_LENGTH with the connection UID, with DF."""


@dataclass(frozen=True, slots=True)
class SendFragmentationTest:
    """Send a special frame of FRAGMENTATION_TEST_LENGTH, without DF."""


@dataclass(frozen=True, slots=True)
class SendMtuTest:
    """Send a special frame of `length` bytes, with DF."""

    length: int


@dataclass(frozen=True, slots=True)
class QueryPathMtu:
    """Ask the kernel for the path MTU (IP_MTU of a connected datagram socket); answer with `path_mtu_known`."""


@dataclass(frozen=True, slots=True)
class SetPath:
    """Use this path for frames from now on; the fields are those of `sender.Path`."""

    remote: Endpoint | None
    mtu: int
    max_payload: int
    stack_frag: bool


@dataclass(frozen=True, slots=True)
class SendProbe:
    """Send a plait1 probe whose IP packet has `size` bytes, or the least a probe can have."""

    size: int


@dataclass(frozen=True, slots=True)
class QueryInterfaceMtu:
    """Ask for the MTU of the interface towards the neighbour; answer with `interface_mtu_known`."""


@dataclass(frozen=True, slots=True)
class SetGeneration:
    """Seal with keys of this generation from now on."""

    generation: int


@dataclass(frozen=True, slots=True)
class RenewKeys:
    """Tell the pump of the connection anew, with the session's generation."""


@dataclass(frozen=True, slots=True)
class Established:
    """The neighbour hears us."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The session is over; `reason` is a sentence for people."""

    reason: str


Action = (
    SendControl
    | SendHeartbeat
    | SendFragmentationTest
    | SendMtuTest
    | SendProbe
    | QueryPathMtu
    | QueryInterfaceMtu
    | SetPath
    | SetGeneration
    | RenewKeys
    | Established
    | Failed
)
