"""The texts of `status`, in Weave's format, from a report. Scripts parse them: every blank counts.

Blocks of services that are off are left out. What peers say of themselves cannot break a line or reach the terminal.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import zip_longest

from plait.api.health import Health, PeerHealth
from plait.api.model import (
    Connection,
    ConnectionDetail,
    DatapathDrop,
    DatapathHop,
    DatapathInterface,
    DatapathMap,
    DatapathNeighbour,
    DatapathProgram,
    Dns,
    Ipam,
    IpamEntry,
    Peer,
    Report,
)
from plait.printable import printable

_LABEL_WIDTH = 15
_ADDRESS_WIDTH = 21
_STATE_WIDTH = 11
_PEER_WIDTH = 37
_STATE_ORDER = ("established", "pending", "retrying", "failed", "connecting")


def summary(report: Report) -> str:
    """Give the body of `GET /status`: the services, health, then what is wrong and how to cure it."""
    blocks = [
        [("Version", f"{report.version} (version check update disabled)")],
        _router(report),
    ]
    blocks += [_ipam(report.ipam)] if report.ipam else []
    blocks += [_dns(report.dns)] if report.dns else []
    blocks += [_health(report.plait.health)] if report.plait.health is not None else []
    blocks += [block] if (block := _problems(report)) else []
    return "\n".join(_lines(f"{label:>{_LABEL_WIDTH}}: {value}" for label, value in block) for block in blocks)


def targets(report: Report) -> str:
    """Give one target per line, as the user gave it."""
    return _lines(report.router.targets or [])


def connections(report: Report) -> str:
    """Give one connection (or target without one) per line: as Weave does, then what plait knows of the path."""
    details: list[ConnectionDetail | None] = [*report.plait.connections]
    lines = zip_longest(report.router.connections or [], details)
    return _lines(_connection(connection, detail) for connection, detail in lines if connection)


def peers(report: Report) -> str:
    """Give each known peer and its connections."""
    return _lines(line for peer in report.router.peers for line in _peer(peer))


def datapath(report: Report) -> str:
    """Give what the kernel carries and how, block by block, or why it carries nothing."""
    found = report.plait.datapath
    blocks = [[f"{'carries frames' if found.carries else 'carries no frames'}: {_one_line(found.why)}"]]
    if found.carries:
        blocks += [
            _table("programs", [_program(each) for each in found.programs]),
            _table("maps", [_map(each) for each in found.maps]),
            _table("interfaces", [_interface(each) for each in found.interfaces]),
            _table("next hops", [_hop(each) for each in found.hops]),
            _table("counters", [_counters(each) for each in found.neighbours]),
            _table("drops", [_drop(each) for each in found.drops if each.frames] or [("none",)]),
            [f"learned addresses: {found.learned}"],
        ]
    return "\n".join(_lines(block) for block in blocks)


def dns(report: Report) -> str:
    """Give each living name: without the domain, its address, the container, and the peer that it is of."""
    if not report.dns:
        return ""
    suffix = f".{report.dns.domain}"
    return _lines(
        f"{entry.hostname.removesuffix(suffix):<12} {entry.address:<15} {entry.container_id[:12]:>12} {entry.origin}"
        for entry in report.dns.entries or []
        if not entry.tombstone
    )


def ipam(report: Report) -> str:
    """Give each owner of addresses and how many it has, this node first; nothing until the range is divided."""
    if not report.ipam:
        return ""
    sizes: Counter[str] = Counter()
    first: dict[str, IpamEntry] = {}
    for entry in report.ipam.entries or []:
        sizes[entry.peer] += entry.size
        first.setdefault(entry.peer, entry)
    us = report.router.name
    owners = sorted(first, key=lambda peer: peer != us)
    return _lines(_owner(first[peer], sizes[peer], report.ipam, is_us=peer == us) for peer in owners)


SUBS: dict[str, Callable[[Report], str]] = {
    "targets": targets,
    "connections": connections,
    "peers": peers,
    "datapath": datapath,
    "dns": dns,
    "ipam": ipam,
}
"""What may follow `status`."""


def _table(title: str, rows: list[tuple[str, ...]]) -> list[str]:
    """Give a title and rows below it, with columns as wide as they must be; `none` for no rows."""
    rows = rows or [("none",)]
    columns = range(max(map(len, rows)))
    widths = [max(len(row[column]) for row in rows if column < len(row)) for column in columns]
    padded = ("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)) for row in rows)
    return [f"{title}:", *(f"  {row}".rstrip() for row in padded)]


def _program(each: DatapathProgram) -> tuple[str, ...]:
    return each.name, f"id {each.id}", f"{each.direction} of {each.interface}", each.way


def _map(each: DatapathMap) -> tuple[str, ...]:
    if each.used is None:
        return each.name, each.kind, f"{each.max_entries} bytes"
    return each.name, each.kind, f"{each.used}/{each.max_entries}"


def _interface(each: DatapathInterface) -> tuple[str, ...]:
    direct = "" if each.kind == "vxlan" else f"direct {'yes' if each.direct else 'no'}"
    to = f"to {', '.join(each.neighbours)}" if each.neighbours else ""
    return each.name, each.kind, "" if each.mtu is None else f"mtu {each.mtu}", direct, to


def _named(peer: str, nickname: str) -> str:
    return f"{peer}({nickname})" if nickname else peer


def _hop(each: DatapathHop) -> tuple[str, ...]:
    columns = [_named(each.peer, each.nick_name), f"via {each.via}"]
    if each.hop is not None:
        columns.append("hop itself" if each.hop == each.peer else f"hop {_named(each.hop, each.hop_nick_name)}")
    if each.via == "vxlan":
        columns += [f"remote {each.remote}", f"mtu {each.mtu}", f"direct {'yes' if each.direct else 'no'}"]
    if each.held is not None:
        columns.append(f"held {each.held:.0f} s more without a connection")
    return tuple(columns)


def _counters(each: DatapathNeighbour) -> tuple[str, ...]:
    sent = f"sent {each.tx_packets} packets, {each.tx_bytes} bytes"
    return _named(each.peer, each.nick_name), sent, f"received {each.rx_packets} packets, {each.rx_bytes} bytes"


def _drop(each: DatapathDrop) -> tuple[str, ...]:
    return each.reason, str(each.frames), each.meaning


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{printable(line)}\n" for line in lines)


def _router(report: Report) -> list[tuple[str, str]]:
    router = report.router
    low, high = router.protocol_min_version, router.protocol_max_version
    versions = str(low) if low == high else f"{low}..{high}"
    return [
        ("Service", "router"),
        ("Protocol", f"{router.protocol} {versions}"),
        ("Name", f"{router.name}({router.nick_name})"),
        ("Encryption", "enabled" if router.encryption else "disabled"),
        ("PeerDiscovery", "enabled" if router.peer_discovery else "disabled"),
        ("Targets", str(len(router.targets or []))),
        ("Connections", _connection_counts(router.connections or [])),
        ("Peers", _peer_counts(router.peers)),
        ("TrustedSubnets", ", ".join(router.trusted_subnets) or "none"),
    ]


def _ipam(ipam: Ipam) -> list[tuple[str, str]]:
    return [
        ("Service", "ipam"),
        ("Status", _ipam_state(ipam)),
        ("Range", ipam.range),
        ("DefaultSubnet", ipam.default_subnet),
    ]


def _ipam_state(ipam: Ipam) -> str:
    if ipam.entries:
        if not any(entry.size and entry.is_known_peer for entry in ipam.entries):
            return "all IP ranges owned by unreachable peers - use 'rmpeer' if they are dead"
        return "waiting for IP(s) to become available" if ipam.pending_allocates else "ready"
    if ipam.paxos is None:
        return "idle"
    if not ipam.paxos.elector:
        return "priming"
    return f"awaiting consensus (quorum: {ipam.paxos.quorum}, known: {ipam.paxos.known_nodes})"


def _owner(entry: IpamEntry, size: int, ipam: Ipam, *, is_us: bool) -> str:
    of_others = "" if entry.is_known_peer else "- unreachable!"
    note = f"({ipam.active_ips} active)" if is_us else of_others
    share = 100 * size / ipam.range_num_ips
    return f"{f'{entry.peer}({entry.nickname})':<{_PEER_WIDTH}} {size:>8} IPs ({share:04.1f}% of total) {note}"


def _dns(dns: Dns) -> list[tuple[str, str]]:
    return [
        ("Service", "dns"),
        ("Domain", dns.domain),
        ("Upstream", ", ".join(dns.upstream) or "none"),
        ("TTL", str(dns.ttl)),
        ("Entries", str(sum(not entry.tombstone for entry in dns.entries or []))),
        *([] if dns.address else [("Address", "none; --dns-listen-address gives one")]),
    ]


def _connection_counts(connections: list[Connection]) -> str:
    counts = Counter(connection.state for connection in connections)
    parts = [f"{counts[state]} {state}" for state in _STATE_ORDER if counts[state]]
    return f"{len(connections)} ({', '.join(parts)})" if parts else str(len(connections))


def _peer_counts(peers: list[Peer]) -> str:
    ends = [connection.established for peer in peers for connection in peer.connections or []]
    established, pending = sum(ends), len(ends) - sum(ends)
    parts = [f"{established} established"] if established else []
    parts += [f"{pending} pending"] if pending else []
    return f"{len(peers)} (with {', '.join(parts)} connections)" if parts else str(len(peers))


def _health(health: Health) -> list[tuple[str, str]]:
    """The state, then what is not well: of this node, of the way to each peer."""
    lines = [("Service", "health"), ("Health", health.state if health.state == "ok" else _since(health))]
    for fault in health.faults:
        lines += [("Fault", _one_line(fault.what)), ("Cure", _one_line(fault.cure))]
    for peer in health.peers:
        if peer.state != "ok":
            lines.append(("Peer", f"{peer.label} {_reached(peer)} since {_utc(peer.since)}: {_one_line(peer.why)}"))
            lines += [("Cure", _one_line(peer.cure))] if peer.cure else []
    return lines


def _since(health: Health) -> str:
    return f"{health.state} since {_utc(health.since)}{'' if health.ready else ', not ready'}"


def _reached(peer: PeerHealth) -> str:
    if peer.state == "unreachable":
        return "is not reached"
    way = f"relayed through {peer.hop}" if peer.way == "relayed" else "direct"
    return f"is degraded ({way} by {peer.overlay})"


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _problems(report: Report) -> list[tuple[str, str]]:
    lines = [("Service", "problems")] if report.plait.problems else []
    for problem in report.plait.problems:
        lines.append(("Problem", _one_line(problem.what)))
        lines += [("Cure", _one_line(problem.cure))] if problem.cure else []
    return lines


def _one_line(sentence: str) -> str:
    return " ".join(sentence.split())


def _connection(connection: Connection, detail: ConnectionDetail | None) -> str:
    attributes = {} if connection.attrs is None else connection.attrs
    tail = "".join(f"{key}={_go(attributes[key])}" for key in sorted(attributes) if key != "name")
    return (
        f"{_arrow(connection.outbound)} {connection.address:<{_ADDRESS_WIDTH}} {connection.state:<{_STATE_WIDTH}} "
        f"{connection.info} {tail}{'' if detail is None else ''.join(_of_path(detail))}"
    )


def _of_path(detail: ConnectionDetail) -> Iterator[str]:
    """Give what is known of a live connection's path, each with a blank before it, the reason for the overlay last."""
    if detail.cipher is not None:
        yield f" cipher={detail.cipher}"
    if detail.established_since is not None:
        yield f' path-mtu={detail.path_mtu} mtu-source="{detail.mtu_source}"'
    if detail.rtt is not None:
        yield f" rtt={detail.rtt * 1000:.2f}ms"
    if detail.jitter is not None:
        yield f" jitter={detail.jitter * 1000:.2f}ms"
    if detail.loss is not None:
        yield f" loss={detail.loss * 100:.1f}%"
    if detail.rate_sent is not None and detail.rate_received is not None:
        yield f" sending={_rate(detail.rate_sent)} receiving={_rate(detail.rate_received)}"
    yield f' why="{detail.reason}"'


def _rate(bytes_a_second: float) -> str:
    bits = bytes_a_second * 8
    for unit in ("bit/s", "kbit/s", "Mbit/s"):
        if bits < 1000:
            return f"{bits:.3g}{unit}"
        bits /= 1000
    return f"{bits:.3g}Gbit/s"


def _peer(peer: Peer) -> Iterator[str]:
    yield f"{peer.name}({peer.nick_name})"
    for connection in peer.connections or []:
        far = f"{connection.name}({connection.nick_name})"
        state = "established" if connection.established else "pending"
        arrow = _arrow(connection.outbound)
        yield f"   {arrow} {connection.address:<{_ADDRESS_WIDTH}} {far:<{_PEER_WIDTH}} {state}"


def _arrow(outbound: bool) -> str:
    return "->" if outbound else "<-"


def _go(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
