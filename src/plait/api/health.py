"""What `/health`, `/ready`, `status` and `/plait/events` say."""

import msgspec


class _Wire(msgspec.Struct, frozen=True, rename="pascal", kw_only=True):
    pass


class FaultFound(_Wire, frozen=True):
    """A part of the node that does not work. `fatal`: the node cannot serve its containers because of it."""

    what: str
    cure: str
    fatal: bool


class PeerHealth(_Wire, frozen=True):
    """Whether frames reach a peer now. `state`: ok, degraded or unreachable; `way`: direct, relayed or none.

    `name` is empty for an address that is called and has never answered; `label` is for people. `hop`: who relays.
    `overlay`: of the first hop. `since`: Unix time. `why` and `cure` are sentences, empty if all is well.
    """

    name: str
    label: str
    state: str
    way: str
    hop: str
    overlay: str
    since: float
    why: str
    cure: str


class Health(_Wire, frozen=True):
    """`state`: ok, degraded or failing; `since`: Unix time. `ready`: this node can serve its containers."""

    state: str = "ok"
    ready: bool = True
    since: float = 0.0
    faults: list[FaultFound] = []
    peers: list[PeerHealth] = []


class EventTold(_Wire, frozen=True):
    """Something that happened: history.Happening."""

    number: int
    at: float
    kind: str
    what: str
    peer: str
    nickname: str
    cure: str


class EventPage(_Wire, frozen=True):
    """`missed`: events that are gone before they were asked for; `last`: what to ask for next with `after`."""

    missed: int
    events: list[EventTold]
    last: int
