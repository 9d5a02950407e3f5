"""What the allocator asks its shell to do, in this order: first make durable, then answer and send."""

from dataclasses import dataclass

from plait.errors import PlaitError
from plait.ipam.records import Snapshot
from plait.mesh.name import PeerName

RequestId = int
"""Chosen by the caller, unlike all that still wait."""


class Cancelled(PlaitError):
    """A request ended without an answer: its client went, its container died, or the node leaves."""


class Refused(PlaitError):
    """A request cannot be granted. The texts are Weave's, which scripts read."""


@dataclass(frozen=True, slots=True)
class Persist:
    """Make this durable before any action after it: what is sent must survive a crash."""

    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class Reply:
    """The one answer to a request: an address, a count of addresses, None for success, or an error."""

    request: RequestId
    result: int | PlaitError | None


@dataclass(frozen=True, slots=True)
class SendUnicast:
    """Send to one peer."""

    peer: PeerName
    payload: bytes


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Send to all peers."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Refuse:
    """What was received cannot be taken: the connection that it came by must end, with this sentence in its status."""

    error: PlaitError


@dataclass(frozen=True, slots=True)
class Warn:
    """A sentence for the operator."""

    sentence: str


Action = Persist | Reply | SendUnicast | Broadcast | Refuse | Warn
