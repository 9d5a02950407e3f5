"""What the API tells of a trace."""

import msgspec


class TraceHop(msgspec.Struct, frozen=True, kw_only=True):
    """A step of a frame. `kind`: container, port, decision, link (ours), relay (of another peer) or delivery.

    `computed`: this node sees nothing of it and concludes it from the topology. `source` and `destination` are the
    outer addresses, `mtu` that of inner IP packets where an overlay is named. `sent` and `received`: frames that passed
    while the trace ran. None is for what is not known or not so; `lost` says why the frame gets no further.
    """

    kind: str
    place: str
    text: str
    computed: bool
    overlay: str | None
    device: str | None
    source: str | None
    destination: str | None
    vni: int | None
    mtu: int | None
    sent: int | None
    received: int | None
    lost: str | None


class TraceCount(msgspec.Struct, frozen=True, kw_only=True):
    """Frames that went to a neighbour, and came from it, while a trace ran."""

    peer: str
    sent: int
    received: int


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """The way of a frame. `verdict` is one sentence; `asked` frames went out, `answered` of them were answered.

    `drops`: frames that this host dropped meanwhile, by reason in words.
    """

    source: str
    destination: str
    mac: str | None
    delivered: bool
    verdict: str
    asked: int
    answered: int
    hops: list[TraceHop]
    counted: list[TraceCount]
    drops: dict[str, int]
