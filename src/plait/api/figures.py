"""Numbers of a report that no status page shows: what `/metrics` tells besides, and `Plait.Figures` of `/report`."""

import msgspec


class _Wire(msgspec.Struct, frozen=True, rename="pascal", kw_only=True):
    pass


class PathFigures(_Wire, frozen=True):
    """Of a live connection. `choice`: why its overlay carries it, `mtu_source`: why its MTU is what it is, each one of
    a few words (overlay.switch.Choice, figures_report.MTU_SOURCES).

    `user_overlay` is the one in user space, whose counters are the connection's `Counters`, None without one. `jitter`:
    variation of the round-trip time, seconds, None while it is not measured. `black_holes` were seen on this path.
    """

    peer: str
    user_overlay: str | None
    choice: str
    mtu_source: str
    jitter: float | None
    black_holes: int


class AddressFigures(_Wire, frozen=True):
    """Addresses that this peer `owned`, those of them that are `free`; `agreed`: the range is divided.

    `suspended`: none may be given out; `reclaimed`: how many were taken over from peers that are gone;
    `electors`: how many peers, this one included, decide whether others may take over ours, 0 without such a choice.
    """

    owned: int
    free: int
    agreed: bool
    suspended: bool
    reclaimed: int
    electors: int


class NameFigures(_Wire, frozen=True):
    """Questions by what became of them (dns.server.Counts), and how many of those passed on nobody answered."""

    served: bool
    queries: dict[str, int]
    upstream_failures: int


class Figures(_Wire, frozen=True):
    """`problems`: how many of each kind there are now. `falls`: how often a connection left a better overlay that had
    worked. `channels`: gossip channels, those of others that are passed on too. None: the service is off.
    """

    problems: dict[str, int] = {}
    paths: list[PathFigures] = []
    falls: int = 0
    channels: int = 0
    addresses: AddressFigures | None = None
    names: NameFigures | None = None
