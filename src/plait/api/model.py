"""What the API shows and takes: the report of a node in Weave's shape, plait's own additions, and the node's verbs.

Field names on the wire are Weave's (CamelCase); `null` lists stand where Weave has them.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

from plait.api.figures import Figures, NameFigures
from plait.api.health import EventPage, Health
from plait.api.trace_model import Trace
from plait.doctor.show import Examined
from plait.ipam.address import Cidr


class _Wire(msgspec.Struct, frozen=True, rename="pascal", kw_only=True):
    pass


class PeerConnection(_Wire, frozen=True):
    """A connection as a peer reports it."""

    name: str
    nick_name: str
    address: str
    outbound: bool
    established: bool


class Peer(_Wire, frozen=True):
    """A peer of the mesh."""

    name: str
    nick_name: str
    uid: int = msgspec.field(name="UID")
    short_id: int = msgspec.field(name="ShortID")
    version: int
    connections: list[PeerConnection] | None


class UnicastRoute(_Wire, frozen=True):
    """Next hop to a destination; our own has via 00:00:00:00:00:00."""

    dest: str
    via: str


class BroadcastRoute(_Wire, frozen=True):
    """Neighbours that get the broadcasts of a source from us."""

    source: str
    via: list[str] | None


class Connection(_Wire, frozen=True):
    """A live connection, or a target that has none (then `attrs` is null). States: established, pending, retrying,
    failed, connecting, waiting."""

    address: str
    outbound: bool
    state: str
    info: str
    attrs: dict[str, str | int | bool] | None


class Mac(_Wire, frozen=True):
    """A learned MAC address."""

    mac: str
    name: str
    nick_name: str
    last_seen: str


class Router(_Wire, frozen=True):
    """The mesh as this node sees it."""

    protocol: str
    protocol_min_version: int
    protocol_max_version: int
    encryption: bool
    peer_discovery: bool
    name: str
    nick_name: str
    port: int
    peers: list[Peer]
    unicast_routes: list[UnicastRoute]
    broadcast_routes: list[BroadcastRoute]
    connections: list[Connection] | None
    termination_count: int
    targets: list[str] | None
    overlay_diagnostics: dict[str, object]
    trusted_subnets: list[str]
    interface: str
    capture_stats: dict[str, int] | None
    macs: list[Mac] | None = msgspec.field(name="MACs")


class Paxos(_Wire, frozen=True):
    """The agreement on the first division of the range, while it is under way."""

    elector: bool
    known_nodes: int
    quorum: int


class IpamEntry(_Wire, frozen=True):
    """A piece of the range and its owner; the first address, and how many there are."""

    token: str
    size: int
    peer: str
    nickname: str
    is_known_peer: bool
    version: int


class PendingCidr(_Wire, frozen=True):
    """An address somebody waits for."""

    addr: str
    prefix_len: int


class PendingClaim(_Wire, frozen=True):
    """Who waits for which address."""

    ident: str
    cidr: PendingCidr = msgspec.field(name="CIDR")


class Ipam(_Wire, frozen=True):
    """Address allocation. `active_ips` are handed out here, inside the range."""

    paxos: Paxos | None
    range: str
    range_num_ips: int = msgspec.field(name="RangeNumIPs")
    active_ips: int = msgspec.field(name="ActiveIPs")
    default_subnet: str
    entries: list[IpamEntry] | None
    pending_claims: list[PendingClaim] | None
    pending_allocates: list[str] | None


class VersionCheck(_Wire, frozen=True):
    """Weave's version check; plait never calls home."""

    enabled: bool = False
    success: bool = False
    new_version: str = ""
    next_check_at: str = "0001-01-01T00:00:00Z"


class Problem(_Wire, frozen=True):
    """Something that is wrong now: what, and what to do. `since` is seconds since the epoch."""

    what: str
    cure: str
    since: float


class ConnectionDetail(_Wire, frozen=True):
    """plait's view of one live connection: its overlay, why this one, and what it does.

    `weave`: the peer is a Weave router. `mtu` is what containers can send, `path_mtu` the IP packet between the hosts
    that it needs. `fragments`: whether those of IP arrive there. Seconds, bytes a second, `loss` from 0 to 1; None
    where it is not known (yet, or ever: Weave's format does not measure).
    """

    peer: str
    nick_name: str
    overlay: str
    reason: str
    mtu: int
    path_mtu: int
    mtu_source: str
    remote: str | None
    encrypted: bool
    cipher: str | None
    established_since: float | None
    rtt: float | None
    loss: float | None
    rate_sent: float | None
    rate_received: float | None
    counters: dict[str, int]
    jitter: float | None = None
    address: str = ""
    weave: bool = False
    fragments: bool | None = None


class DatapathProgram(_Wire, frozen=True):
    """A program in the kernel and where it is attached: `direction` ingress or egress, `way` tcx or clsact."""

    name: str
    id: int = msgspec.field(name="ID")
    interface: str
    direction: str
    way: str


class DatapathMap(_Wire, frozen=True):
    """A table of the programs. Entries, for a ring buffer bytes, of which nobody knows how many are used."""

    name: str
    kind: str
    used: int | None
    max_entries: int


class DatapathInterface(_Wire, frozen=True):
    """An interface that carries encapsulated frames: `vxlan` is the device, `underlay` one towards neighbours.

    `direct`: outer headers are written and stripped there, past the device and the host's IP stack.
    """

    name: str
    kind: str
    mtu: int | None
    direct: bool
    neighbours: list[str]


class DatapathHop(_Wire, frozen=True):
    """How frames for a peer leave: `via` vxlan, pump (user space) or nothing; `hop` is the neighbour they go to.

    `remote` and `mtu` (of inner IP packets) are known of frames that leave by VXLAN. `held`: of a peer without a
    connection, the seconds for which its way stays, as its kernel goes on and its node may be started again.
    """

    peer: str
    nick_name: str
    short_id: int = msgspec.field(name="ShortID")
    via: str
    hop: str | None
    hop_nick_name: str
    remote: str | None
    mtu: int | None
    direct: bool
    held: float | None = None


class DatapathNeighbour(_Wire, frozen=True):
    """Frames and bytes exchanged with a neighbour in the kernel; heartbeats do not count."""

    peer: str
    nick_name: str
    tx_packets: int
    tx_bytes: int
    rx_packets: int
    rx_bytes: int


class DatapathDrop(_Wire, frozen=True):
    """Frames that the kernel's programs dropped for one reason."""

    reason: str
    meaning: str
    frames: int


class Datapath(_Wire, frozen=True):
    """Whether the kernel carries frames, or why not, and how. `learned`: how many MAC addresses it has learned."""

    carries: bool = False
    why: str = ""
    programs: list[DatapathProgram] = []
    maps: list[DatapathMap] = []
    interfaces: list[DatapathInterface] = []
    hops: list[DatapathHop] = []
    neighbours: list[DatapathNeighbour] = []
    drops: list[DatapathDrop] = []
    learned: int = 0


class PlaitReport(_Wire, frozen=True):
    """What Weave's report has no place for."""

    problems: list[Problem]
    connections: list[ConnectionDetail]
    pump: dict[str, str | int | None]
    attached: int
    exposed: list[str]
    datapath: Datapath = Datapath()
    pid: int = 0
    bridge: str = "weave"
    mtu: int = 0
    overlays: list[str] = []
    figures: Figures = Figures()
    health: Health | None = None
    """None: nobody judged it."""


class DnsEntry(_Wire, frozen=True):
    """Says that a container has a name and an address; `tombstone` is 0, or when it was deleted (Unix seconds)."""

    hostname: str
    origin: str
    container_id: str = msgspec.field(name="ContainerID")
    address: str
    version: int
    tombstone: int


class Dns(_Wire, frozen=True):
    """The names of the mesh. `address` is where this node answers, empty if it does not; `ttl` in seconds."""

    domain: str
    upstream: list[str]
    address: str
    ttl: int = msgspec.field(name="TTL")
    entries: list[DnsEntry] | None


class Report(_Wire, frozen=True, kw_only=True):
    """`GET /report`."""

    ready: bool
    version: str
    version_check: VersionCheck
    router: Router
    dns: Dns | msgspec.UnsetType = msgspec.field(name="DNS", default=msgspec.UNSET)
    """Absent without names."""
    plait: PlaitReport
    ipam: Ipam | msgspec.UnsetType = msgspec.field(name="IPAM", default=msgspec.UNSET)
    """Absent without an allocator."""


class Interface(msgspec.Struct, frozen=True):
    """One line of `ps`: an identifier, a MAC, and CIDRs in kernel order."""

    ident: str
    mac: str
    cidrs: list[str]


class Holding(Protocol):
    """Addresses of one holder."""

    @property
    def cidrs(self) -> Iterable[Cidr]:
        """In order of recording."""


class Addresses(Protocol):
    """Address allocation as the API sees it. Requests may wait long, and raise PlaitError (ipam.service)."""

    @property
    def tracker(self) -> str:
        """Who follows the ranges of this peer, in Weave's words: nobody (empty), or `no-masq-local`."""

    @property
    def default_subnet(self) -> Cidr:
        """Where addresses come from if no subnet is named."""

    async def allocate(self, ident: str, subnet: Cidr, *, is_container: bool = True) -> Cidr:
        """Give an address of the subnet."""

    async def claim(
        self, ident: str, cidr: Cidr, *, is_container: bool = True, no_error_on_unknown: bool = False
    ) -> None:
        """Take this address."""

    async def prime(self) -> None:
        """Wait until the range is divided."""

    async def free(self, ident: str, address: int) -> None:
        """Release one address."""

    async def delete(self, ident: str) -> None:
        """Release all addresses of a holder."""

    async def takeover(self, peer: str, *, force: bool = False) -> int:
        """Take over the ranges of a dead peer; gives how many free addresses that brought."""

    def lookup(self, ident: str, subnet: Cidr) -> Iterable[Cidr]:
        """Give a holder's addresses in a subnet."""

    def owned(self) -> Mapping[str, Holding]:
        """Give all that is recorded."""

    def leave(self) -> None:
        """Hand all ranges over."""


class Names(Protocol):
    """The names of the mesh as the API sees them. Addresses are IPv4, as numbers."""

    @property
    def domain(self) -> str:
        """The domain, with its trailing dot."""

    @property
    def address(self) -> tuple[str, int] | None:
        """Where questions are answered; None if they are not."""

    def add(self, container_id: str, address: int, hostname: str) -> bool:
        """Name an address of a container; False for a name outside of the domain. Raises BadName."""

    def remove(self, container_id: str | None, address: int | None, hostname: str | None) -> int:
        """Delete this node's names that match all that is given; the answer is how many."""

    def lookup(self, hostname: str) -> list[int]:
        """Give the addresses of a name in any spelling."""

    def reverse(self, address: int) -> str | None:
        """Give a name of an address."""

    def report(self) -> Dns:
        """Everything."""

    def figures(self) -> NameFigures:
        """What became of questions."""


class Finding(msgspec.Struct, frozen=True):
    """Something that is wrong, and what to do."""

    what: str
    cure: str


class Reclaimed(msgspec.Struct, frozen=True):
    """What became of the ranges of a peer: how many `addresses` they are, how many this node `reclaimed`, in words."""

    peer: str
    addresses: int
    reclaimed: int
    what: str


class NodeService(Protocol):
    """A running node as the API sees it. Every method may raise PlaitError."""

    @property
    def names(self) -> Names | None:
        """The names; None if they are off."""

    @property
    def addresses(self) -> Addresses | None:
        """Address allocation; None if it is off."""

    async def is_running(self, ident: str) -> bool:
        """Tell whether a container runs; True where nobody knows."""

    async def report(self) -> Report:
        """Everything."""

    async def health(self) -> Health:
        """Look now whether frames reach each peer."""

    async def events(self, after: int, wait: float, since: float, peer: str) -> EventPage:
        """Give the events after a number, from a Unix time on, of a peer (name or nickname; "" for all).

        Waits for one, at most so many seconds.
        """

    async def connect(self, peers: list[str], replace: bool) -> list[str]:
        """Add (or replace all) targets; the answer is one line per target that was refused, the others are taken."""

    async def forget(self, peers: list[str]) -> None:
        """Drop targets; connections stay until they break."""

    async def attach(self, container: str, cidrs: list[str], multicast_route: bool) -> list[str]:
        """Give the container `ethwe` with these addresses; the answer is the addresses without prefix length.

        `net:default` and `net:SUBNET` stand for an address that the node chooses, which may have to wait for one; no
        address at all for `net:default`.
        """

    async def name_container(self, container: str, addresses: list[str]) -> None:
        """Give an attached container the name that it brings with it, for these addresses; none is no failure."""

    async def detach(self, container: str, cidrs: list[str]) -> list[str]:
        """Take these addresses (all, if none is named) away, and `ethwe` with the last."""

    async def expose(self, cidrs: list[str], masquerade: bool) -> list[str]:
        """Give the host these addresses on the bridge; the answer is the addresses without prefix length."""

    async def hide(self, cidrs: list[str]) -> list[str]:
        """Take them (all, if none is named) away; only addresses that were there are named in the answer."""

    async def check_addresses(self, is_everywhere: bool) -> list[Finding]:
        """Find what is wrong with the addresses of this host, or of all that are in the mesh."""

    async def reclaim(self, peers: list[str], is_dry_run: bool, is_forced: bool) -> list[Reclaimed]:
        """Take over the ranges of these peers, or of all that are gone; forced without asking others."""

    async def interfaces(self, idents: list[str]) -> list[Interface]:
        """Interfaces of the named containers; `weave:expose` is the bridge, `weave:allids` all containers."""

    async def trace(self, source: str, destination: str) -> Trace:
        """Find the way of a frame from a container of this host to an IP or MAC address, and try it."""

    async def doctor(self, peer: str) -> Examined:
        """Find what is wrong with the machine of a peer (name or nickname)."""

    async def stop(self, reset: bool) -> None:
        """End the node soon; with `reset` also remove every link, rule and file it made."""
