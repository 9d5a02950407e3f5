"""The texts of `status`, in Weave's format, from a report. Scripts parse them: every blank counts (docs/cli.md)."""

from collections import Counter
from collections.abc import Callable

from plait.api.model import Connection, Peer, Report

_LABEL_WIDTH = 15
_ADDRESS_WIDTH = 21
_STATE_WIDTH = 11
_PEER_WIDTH = 37
_STATE_ORDER = ("established", "pending", "retrying", "failed", "connecting")


def summary(report: Report) -> str:
    """Give the body of `GET /status`: the services, then what is wrong and how to cure it."""
    blocks = [
        [("Version", f"{report.version} (version check update disabled)")],
        _router(report),
    ]
    text = "\n\n".join("\n".join(_line(label, value) for label, value in block) for block in blocks) + "\n"
    return text + _problems(report)


def targets(report: Report) -> str:
    """Give one target per line, as the user gave it."""
    return "".join(f"{target}\n" for target in report.router.targets or [])


def connections(report: Report) -> str:
    """Give one connection (or target without one) per line."""
    return "".join(_connection(connection) + "\n" for connection in report.router.connections or [])


def peers(report: Report) -> str:
    """Give each known peer and its connections."""
    return "".join(_peer(peer) for peer in report.router.peers)


SUBS: dict[str, Callable[[Report], str]] = {"targets": targets, "connections": connections, "peers": peers}
"""What may follow `status`."""


def _line(label: str, value: str) -> str:
    return f"{label:>{_LABEL_WIDTH}}: {value}"


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


def _problems(report: Report) -> str:
    if not report.plait.problems:
        return ""
    lines = ["", _line("Service", "problems")]
    for problem in report.plait.problems:
        lines.append(_line("Problem", problem.what))
        if problem.cure:
            lines.append(_line("Cure", problem.cure))
    return "\n".join(lines) + "\n"


def _connection(connection: Connection) -> str:
    attributes = {} if connection.attrs is None else connection.attrs
    tail = "".join(f"{key}={_go(attributes[key])}" for key in sorted(attributes) if key != "name")
    return (
        f"{_arrow(connection.outbound)} {connection.address:<{_ADDRESS_WIDTH}} {connection.state:<{_STATE_WIDTH}} "
        f"{connection.info} {tail}"
    )


def _peer(peer: Peer) -> str:
    lines = [f"{peer.name}({peer.nick_name})"]
    for connection in peer.connections or []:
        far = f"{connection.name}({connection.nick_name})"
        state = "established" if connection.established else "pending"
        arrow = _arrow(connection.outbound)
        lines.append(f"   {arrow} {connection.address:<{_ADDRESS_WIDTH}} {far:<{_PEER_WIDTH}} {state}")
    return "\n".join(lines) + "\n"


def _arrow(outbound: bool) -> str:
    return "->" if outbound else "<-"


def _go(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
