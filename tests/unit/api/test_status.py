from typing import Any

import pytest
from msgspec.structs import replace

from golden import cases, document
from plait.api import status
from plait.api.model import Connection, ConnectionDetail, Peer, PlaitReport, Problem, Report
from unit.api.nodes import NOTHING_SPECIAL, report_of, sample_report

SAMPLES = "mesh/live/status_samples.json"


def sample(node: str) -> tuple[Report, dict[str, str]]:
    recorded = document(SAMPLES)["nodes"][node]
    return report_of(recorded["report"]), recorded["text"]


def blocks(text: str) -> list[list[str]]:
    return [block.splitlines() for block in text.split("\n\n")]


@pytest.mark.parametrize("node", ["node1", "node2", "node3"])
def test_the_summary_is_weaves_without_the_blocks_of_services_that_are_off(node: str) -> None:
    report, texts = sample(node)
    assert blocks(status.summary(report)) == blocks(texts["/status"])[:2]
    assert status.summary(report).endswith("\n")


@pytest.mark.parametrize("node", ["node1", "node2", "node3"])
def test_connections_and_targets_are_weaves_to_the_last_blank(node: str) -> None:
    report, texts = sample(node)
    # Both were asked for one after the other, and Weave gives them in no fixed order.
    assert sorted(status.connections(report).splitlines()) == sorted(texts["/status/connections"].splitlines())
    assert sorted(status.targets(report).splitlines()) == sorted(texts["/status/targets"].splitlines())


@pytest.mark.parametrize("node", ["node1", "node2", "node3"])
def test_peers_are_weaves_to_the_last_blank(node: str) -> None:
    report, texts = sample(node)
    assert peer_groups(status.peers(report)) == peer_groups(texts["/status/peers"])


def peer_groups(text: str) -> dict[str, set[str]]:
    groups: dict[str, set[str]] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith(" "):
            groups[name].add(line)
        else:
            name = line
            groups[name] = set()
    return groups


def test_every_node_of_the_samples_is_tested() -> None:
    assert [name for name, _ in cases(SAMPLES, "nodes")] == ["node1", "node2", "node3"]


@pytest.mark.parametrize("path", ["http/single_node.json", "http/disabled.json", "http/three_nodes.json"])
def test_recorded_summaries_of_other_nodes_come_out_of_their_numbers(path: str) -> None:
    for exchange in document(path)["exchanges"]:
        if exchange.get("path") != "/status" or "body" not in exchange.get("response", {}):
            continue
        expected = blocks(exchange["response"]["body"])[:2]
        fields = dict(line.strip().split(": ", 1) for line in expected[1])
        assert blocks(status.summary(report_with_counts(fields))) == expected


def report_with_counts(fields: dict[str, str]) -> Report:
    """A report that must give these lines, as far as they differ between the recordings."""
    base = sample_report()
    name, nick_name = fields["Name"].rstrip(")").split("(")
    ends = int(fields["Peers"].partition("with ")[2].split(" ")[0] or 0)
    peer = base.router.peers[0]
    assert peer.connections
    return replace(
        base,
        router=replace(
            base.router,
            name=name,
            nick_name=nick_name,
            encryption=False,
            trusted_subnets=[],
            targets=["x"] * int(fields["Targets"]) or None,
            connections=connections_of(fields["Connections"]) or None,
            peers=[replace(peer, connections=[peer.connections[0]] * ends or None)]
            + [replace(peer, connections=None)] * (int(fields["Peers"].split(" ")[0]) - 1),
        ),
    )


def connections_of(text: str) -> list[Connection]:
    counts = [part.split(" ") for part in text.partition("(")[2].rstrip(")").split(", ") if part]
    return [Connection("", True, state, "", None) for count, state in counts for _ in range(int(count))]


def a_connection(state: str, **changes: Any) -> Connection:
    return replace(Connection("10.0.0.1:6783", True, state, "", None), **changes)


def with_router(**changes: Any) -> Report:
    report = sample_report()
    return replace(report, router=replace(report.router, **changes))


def line(text: str, label: str) -> str:
    return next(line for line in text.splitlines() if line.lstrip().startswith(label + ":"))


def test_states_are_counted_in_weaves_order() -> None:
    states = ["connecting", "failed", "failed", "retrying", "pending", "established", "established"]
    text = status.summary(with_router(connections=[a_connection(state) for state in states]))
    expected = "7 (2 established, 1 pending, 1 retrying, 2 failed, 1 connecting)"
    assert line(text, "Connections") == f"    Connections: {expected}"


def test_nothing_is_a_plain_number() -> None:
    text = status.summary(with_router(connections=None, targets=None, trusted_subnets=[], peers=[]))
    assert line(text, "Connections") == "    Connections: 0"
    assert line(text, "Targets") == "        Targets: 0"
    assert line(text, "Peers") == "          Peers: 0"
    assert line(text, "TrustedSubnets") == " TrustedSubnets: none"


def test_ends_of_connections_are_counted_by_whether_they_are_up() -> None:
    peers: list[Peer] = sample_report().router.peers
    ends = list(peers[0].connections or [])
    peer = replace(peers[0], connections=[ends[0], replace(ends[0], established=False)])
    text = status.summary(with_router(peers=[peer]))
    assert line(text, "Peers").endswith("Peers: 1 (with 1 established, 1 pending connections)")
    pending = replace(peer, connections=[replace(ends[0], established=False)])
    assert line(status.summary(with_router(peers=[pending])), "Peers").endswith("1 (with 1 pending connections)")
    assert status.peers(with_router(peers=[pending])).splitlines()[1].endswith(" pending")


def test_one_protocol_version_is_one_number() -> None:
    text = status.summary(with_router(protocol_min_version=2, protocol_max_version=2))
    assert line(text, "Protocol") == "       Protocol: weave 2"


def test_the_version_line_says_that_nobody_is_asked() -> None:
    text = status.summary(replace(sample_report(), version="0.1.0"))
    assert text.splitlines()[0] == "        Version: 0.1.0 (version check update disabled)"


def test_a_line_without_attributes_ends_in_a_blank() -> None:
    text = status.connections(with_router(connections=[a_connection("connecting")]))
    assert text == "-> 10.0.0.1:6783         connecting   \n"


def test_problems_come_last_each_with_its_cure() -> None:
    problems = [Problem("the disk\n is full", "free it", 1.0), Problem("no cure known", "", 2.0)]
    plait: PlaitReport = replace(NOTHING_SPECIAL, problems=problems)
    report = replace(sample_report(), plait=plait)
    assert blocks(status.summary(report))[-1] == [
        "        Service: problems",
        "        Problem: the disk is full",
        "           Cure: free it",
        "        Problem: no cure known",
    ]


def test_a_peers_nickname_cannot_make_lines_or_reach_the_terminal() -> None:
    peer = replace(sample_report().router.peers[0], nick_name="a\nb\x1b[2J\x9b1m\x7f", connections=None)
    report = with_router(peers=[peer], connections=[a_connection("failed", info="x\ny")])
    assert status.peers(report) == f"{peer.name}(a?b?[2J?1m?)\n"
    assert len(status.connections(report).splitlines()) == 1


def detail(**changes: Any) -> ConnectionDetail:
    known = ConnectionDetail(
        peer="02:00:00:00:00:02",
        nick_name="two",
        overlay="plait1",
        reason="plait1 is the first choice; established",
        mtu=1396,
        path_mtu=1500,
        mtu_source="acknowledged by the peer",
        remote="192.0.2.2:6783",
        encrypted=True,
        cipher="AES-256-GCM",
        established_since=1.0,
        rtt=0.00123,
        loss=0.0125,
        rate_sent=125_000_000.0,
        rate_received=10.0,
        counters={},
    )
    return replace(known, **changes)


def path_of(report: Report, *details: ConnectionDetail) -> list[str]:
    line = Connection("192.0.2.2:6783", True, "established", "plait1 02:00:00:00:00:02(two)", {"mtu": 1396})
    router = replace(report.router, connections=[line] * max(len(details), 1))
    plait = replace(NOTHING_SPECIAL, connections=[*details])
    return [
        line.partition("mtu=1396")[2]
        for line in status.connections(replace(report, router=router, plait=plait)).splitlines()
    ]


def test_a_connection_ends_with_what_is_known_of_its_path() -> None:
    report = sample_report()
    assert path_of(report, detail()) == [
        ' cipher=AES-256-GCM path-mtu=1500 mtu-source="acknowledged by the peer" rtt=1.23ms loss=1.2%'
        ' sending=1Gbit/s receiving=80bit/s why="plait1 is the first choice; established"'
    ]
    unknown = detail(cipher=None, established_since=None, rtt=None, loss=None, rate_sent=None, reason="not started")
    assert path_of(report, unknown) == [' why="not started"']
    assert path_of(report) == [""]
