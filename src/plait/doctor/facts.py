"""What is known of a machine beyond its files, by question. Captured machines have one JSON file for each.

| question           | answer                                                                              |
|--------------------|-------------------------------------------------------------------------------------|
| `links`            | list of Link                                                                        |
| `routes`           | list of Route: unicast, main table                                                  |
| `ethtool/DEVICE`   | Ethtool                                                                             |
| `nft`              | what `nft -j list ruleset` lists (libnftables-json(5)), without `metainfo`           |
| `iptables-legacy`, `ip6tables-legacy` | text of iptables-legacy-save, if the legacy interface has tables |
| `iptables-nft`     | text of iptables-nft-save: `nft` does not show the contents of its extensions       |
| `bpf`              | Bpf                                                                                 |
| `clock`            | Clock                                                                               |
| `docker`           | Docker                                                                              |
| `modules`          | state (`present`, `loadable`, `absent`) by name, of MODULES; unknown ones are left out |
| `port/NUMBER`      | list of Holder: who waits at this TCP or UDP port                                   |
| `process/PID`      | Process; asked of the node's                                                        |
| `node`             | Node; absent if none runs                                                           |
"""

import msgspec

MODULES = ("bridge", "dummy", "esp4", "gcm", "nf_tables", "tun", "veth", "vxlan")


class Vxlan(msgspec.Struct, frozen=True, kw_only=True):
    """Of a VXLAN device: UDP port, network id, and whether eBPF or routes name the remote end for each packet."""

    port: int
    vni: int | None = None
    external: bool = False


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A network interface; `kind` is None for a real device, `master` the name of its bridge or bond."""

    name: str
    index: int
    mac: str = ""
    mtu: int = 1500
    kind: str | None = None
    up: bool = True
    master: str | None = None
    vxlan: Vxlan | None = None


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A route: destination as CIDR."""

    destination: str
    device: str
    gateway: str | None = None
    mtu: int | None = None


class Ethtool(msgspec.Struct, frozen=True, kw_only=True):
    """Driver and offloads (kernel's names, as in `ethtool -k` but for a few: tx-udp-fragmentation, rx-lro)."""

    driver: str = ""
    features: dict[str, bool] = {}


class Bpf(msgspec.Struct, frozen=True, kw_only=True):
    """A sentence for each thing that the kernel's eBPF lacks, and whether frames can be carried in the kernel."""

    lacks: list[str] = []
    carries: bool = True


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """Whether something keeps the clock right (adjtimex(2): no STA_UNSYNC), and the error it estimates, seconds."""

    synchronised: bool
    max_error: float = 0.0


class Docker(msgspec.Struct, frozen=True, kw_only=True):
    """The engine's version, or why there is no answer though its socket is there."""

    version: str = ""
    error: str = ""
    weave: list[str] = []
    """Names of Weave's containers, running or not."""


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """A socket that waits at a port; `pid` is None for the kernel's own. `parent` started the process."""

    protocol: str
    address: str
    pid: int | None = None
    process: str = ""
    parent: int | None = None


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """Open files, how many may be open, and whether net.core.rmem_max and wmem_max do not bind it."""

    descriptors: int
    descriptor_limit: int
    is_net_admin: bool = True


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """A peer that the node is connected to, or tries to be. `state` is Weave's word (established, pending, ...).

    `overlay` is what carries frames to it, `weave` whether it is a Weave router; MTUs are of IP packets, bytes, and
    `mtu_source` says why they are so. `fragments`: whether those of IP arrive at the peer; None if nobody tried.
    """

    name: str
    nickname: str = ""
    remote: str = ""
    state: str = "established"
    overlay: str = ""
    reason: str = ""
    weave: bool = False
    mtu: int | None = None
    path_mtu: int | None = None
    mtu_source: str = ""
    fragments: bool | None = None


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """The node that runs here. `pid` of its process; `mtu` of the bridge; `encrypted`: it has a password.

    `range`: the addresses that the mesh shares out, `exposed`: addresses of the host in the overlay; CIDR.
    """

    name: str
    version: str
    pid: int | None = None
    port: int = 6783
    bridge: str = "weave"
    mtu: int | None = None
    encrypted: bool = False
    range: str | None = None
    overlays: list[str] = []
    exposed: list[str] = []
    peers: list[Peer] = []
    problems: list[str] = []
