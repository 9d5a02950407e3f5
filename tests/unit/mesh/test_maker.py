import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden import cases, document
from plait.mesh import maker as maker_module
from plait.mesh.maker import (
    ATTEMPT_TIMEOUT,
    MAX_YOUNG_ATTEMPTS,
    YOUNG,
    ConnectionMaker,
    Dial,
    Target,
    TargetStatus,
)
from plait.mesh.name import PeerName
from plait.mesh.peers import Peers
from plait.mesh.records import ConnectionSummary, PeerRecord, PeerSummary

US, OTHER, THIRD = PeerName(1), PeerName(2), PeerName(3)
HERE = "192.0.2.1:6783"


class FixedDraws(random.Random):
    """Draws one number for ever."""

    def __init__(self, value: float) -> None:
        super().__init__(1)
        self._value = value

    def random(self) -> float:
        return self._value


class Node:
    """A connection maker with the peer table that a router keeps for it."""

    def __init__(self, *, discovery: bool = True, limit: int = 0, rng: random.Random | None = None) -> None:
        self.peers = Peers(PeerSummary(US, "us", 7), random.Random(1))
        self.maker = ConnectionMaker(
            rng=rng or random.Random(1),
            port=6783,
            our_name=US,
            our_addresses=frozenset({HERE}),
            discovery=discovery,
            connection_limit=limit,
        )
        self.now = 100.0

    def check(self, after: float = 0.0) -> list[Dial]:
        self.now += after
        return self.maker.check(self.now, self.peers.records())

    def dials(self, after: float = 0.0) -> list[str]:
        return [dial.address for dial in self.check(after)]

    def connect(self, *texts: str, replace: bool = False) -> None:
        """Name targets as IP addresses, with or without port."""
        split = [text.partition(":") for text in texts]
        targets = [Target(colon.join((ip, port)), ip, int(port) if port else None) for ip, colon, port in split]
        self.maker.connect(targets, replace, self.now)

    def fail(self, address: str, error: str = "no route to host") -> None:
        self.maker.attempt_failed(address, error, self.now)

    def add(self, remote: PeerName, address: str, *, outbound: bool) -> None:
        self.peers.enter_remote(PeerSummary(remote))
        self.peers.add_connection(ConnectionSummary(remote, address, outbound, False))
        self.maker.connection_added(address, outbound, self.now)

    def remove(self, remote: PeerName, reason: str = "reset") -> None:
        connection = next(c for c in self.peers.ourself.connections if c.remote == remote)
        self.peers.remove_connection(remote)
        self.maker.connection_terminated(connection.address, connection.outbound, reason, self.now)

    def hear(self, name: PeerName, *connections: tuple[PeerName, str, bool], version: int = 1) -> None:
        """Take a record from gossip."""
        summaries = tuple(ConnectionSummary(remote, where, out, True) for remote, where, out in connections)
        self.peers.merge([PeerRecord(PeerSummary(name, "", 9, version), summaries)])

    def status(self, address: str) -> TargetStatus | None:
        return next((target for target in self.maker.targets() if target.address == address), None)

    def due(self, address: str) -> float:
        status = self.status(address)
        assert status is not None
        assert status.next_try is not None
        return status.next_try


# Direct targets


def test_a_target_is_dialled_at_once_on_our_own_port_unless_it_has_one() -> None:
    node = Node()
    node.connect("192.0.2.2", "192.0.2.3:7000")
    assert node.maker.next_deadline() == node.now
    assert set(node.check()) == {Dial("192.0.2.2:6783", True), Dial("192.0.2.3:7000", True)}


def test_an_ipv6_target_is_written_in_brackets() -> None:
    node = Node()
    node.maker.connect([Target("six", "2001:db8::2", None)], False, node.now)
    assert node.dials() == ["[2001:db8::2]:6783"]


def test_a_running_attempt_is_not_doubled() -> None:
    node = Node()
    node.connect("192.0.2.2")
    assert node.dials() == ["192.0.2.2:6783"]
    assert node.dials() == []
    assert node.status("192.0.2.2:6783") == TargetStatus("192.0.2.2:6783", "connecting", "", None, 2.0)


def test_a_failed_attempt_is_repeated_when_the_deadline_comes() -> None:
    node = Node(rng=FixedDraws(0.5))
    node.connect("192.0.2.2")
    node.check()
    node.fail("192.0.2.2:6783", "no route to host")
    assert node.dials() == []
    assert node.status("192.0.2.2:6783") == TargetStatus("192.0.2.2:6783", "failed", "no route to host", 102.0, 3.0)
    assert node.maker.next_deadline() == 102.0
    assert node.dials(after=2.0) == ["192.0.2.2:6783"]
    retrying = node.status("192.0.2.2:6783")
    assert retrying == TargetStatus("192.0.2.2:6783", "retrying", "no route to host", None, 3.0)


def test_the_same_text_may_resolve_anew() -> None:
    node = Node()
    node.maker.connect([Target("host", "192.0.2.2", None)], False, node.now)
    node.check()
    node.fail("192.0.2.2:6783")
    node.maker.connect([Target("host", "192.0.2.9", None)], False, node.now)
    assert node.dials() == ["192.0.2.9:6783"]
    assert node.maker.direct_targets() == ["host"]
    assert node.status("192.0.2.2:6783") is None


def test_connect_makes_a_waiting_target_due_with_the_first_interval() -> None:
    node = Node()
    node.connect("192.0.2.2")
    for _ in range(5):
        node.check(after=400)
        node.fail("192.0.2.2:6783")
    node.check()
    assert node.due("192.0.2.2:6783") > node.now
    node.connect("192.0.2.2")
    assert node.dials() == ["192.0.2.2:6783"]
    status = node.status("192.0.2.2:6783")
    assert status is not None
    assert status.interval == 2.0


def test_forget_takes_the_exact_text_and_leaves_connections() -> None:
    node = Node()
    node.connect("192.0.2.2", "192.0.2.3")
    node.check()
    node.add(OTHER, "192.0.2.2:6783", outbound=True)
    node.fail("192.0.2.3:6783")
    node.maker.forget(["192.0.2.2", "192.0.2.3:6783", "unknown"], node.now)
    node.check()
    assert node.maker.direct_targets() == ["192.0.2.3"]
    assert node.status("192.0.2.3:6783") is not None
    node.remove(OTHER)
    assert node.dials(after=100) == ["192.0.2.3:6783"]
    assert node.status("192.0.2.2:6783") is None


def test_replace_forgets_all_others() -> None:
    node = Node()
    node.connect("192.0.2.2", "192.0.2.3")
    node.check()
    node.fail("192.0.2.2:6783")
    node.fail("192.0.2.3:6783")
    node.connect("192.0.2.3", "192.0.2.4", replace=True)
    assert set(node.dials()) == {"192.0.2.3:6783", "192.0.2.4:6783"}
    assert node.maker.direct_targets() == ["192.0.2.3", "192.0.2.4"]


def test_our_own_address_is_an_error_not_a_dial() -> None:
    node = Node()
    node.connect("192.0.2.1", "192.0.2.2")
    assert node.dials() == ["192.0.2.2:6783"]
    status = node.status(HERE)
    assert status is not None
    assert (status.state, status.next_try) == ("failed", None)
    assert status.error.startswith("cannot connect to ourself")
    assert node.dials(after=1000) == []
    node.connect("192.0.2.1")
    assert node.dials() == []


# Inbound connections from a target


def test_a_target_without_port_is_not_dialled_while_it_is_connected_to_us() -> None:
    node = Node()
    node.add(OTHER, "192.0.2.2:40000", outbound=False)
    node.connect("192.0.2.2")
    assert node.dials() == []
    assert node.maker.targets() == []
    node.remove(OTHER)
    assert node.dials() == ["192.0.2.2:6783"]


def test_it_waits_suspended_and_keeps_its_history() -> None:
    node = Node()
    node.connect("192.0.2.2")
    node.check()
    node.add(OTHER, "192.0.2.2:40000", outbound=False)
    node.fail("192.0.2.2:6783", "duplicate")
    assert node.dials(after=10) == []
    assert node.maker.targets() == []
    assert node.maker.next_deadline() is None
    node.remove(OTHER)
    assert node.dials() == ["192.0.2.2:6783"]
    status = node.status("192.0.2.2:6783")
    assert status is not None
    assert status.error == "duplicate"


def test_a_target_with_port_is_dialled_all_the_same() -> None:
    node = Node()
    node.add(OTHER, "192.0.2.2:40000", outbound=False)
    node.connect("192.0.2.2:6783")
    assert node.dials() == ["192.0.2.2:6783"]


# Connections


def test_a_connected_target_is_neither_listed_nor_dialled() -> None:
    node = Node()
    node.connect("192.0.2.2")
    node.check()
    node.add(OTHER, "192.0.2.2:6783", outbound=True)
    assert node.dials(after=500) == []
    assert node.maker.targets() == []
    assert node.maker.next_deadline() is None


def test_a_connection_that_ended_early_is_made_anew_later() -> None:
    node = Node(rng=FixedDraws(0.0))
    node.connect("192.0.2.2")
    node.check()
    node.add(OTHER, "192.0.2.2:6783", outbound=True)
    node.now += 60.0
    node.remove(OTHER, "reset by peer")
    assert node.dials() == []
    assert node.status("192.0.2.2:6783") == TargetStatus("192.0.2.2:6783", "failed", "reset by peer", 161.0, 3.0)


def test_a_connection_that_lasted_is_made_anew_at_once() -> None:
    node = Node()
    node.connect("192.0.2.2")
    node.check()
    node.fail("192.0.2.2:6783")
    node.check(after=10)
    node.add(OTHER, "192.0.2.2:6783", outbound=True)
    node.now += 60.1
    node.remove(OTHER, "reset by peer")
    assert node.dials() == ["192.0.2.2:6783"]
    assert node.status("192.0.2.2:6783") == TargetStatus("192.0.2.2:6783", "retrying", "reset by peer", None, 2.0)


def test_a_final_refusal_is_never_retried_until_connect_names_the_target() -> None:
    node = Node()
    node.connect("192.0.2.2")
    node.check()
    node.maker.attempt_refused("192.0.2.2:6783", "peer names collision", is_final=True, now=node.now)
    assert node.dials(after=1000) == []
    assert node.status("192.0.2.2:6783") == TargetStatus("192.0.2.2:6783", "failed", "peer names collision", None, 2.0)
    assert node.maker.next_deadline() is None
    node.fail("192.0.2.2:6783", "connection lost")
    assert node.dials(after=1000) == []
    node.connect("192.0.2.2")
    assert node.dials() == ["192.0.2.2:6783"]


def test_news_of_addresses_that_are_no_targets_are_harmless() -> None:
    node = Node()
    node.fail("192.0.2.7:6783")
    node.add(OTHER, "192.0.2.2:6783", outbound=True)
    node.remove(OTHER)
    assert node.dials() == []
    assert node.maker.targets() == []


def test_the_connection_limit_is_looked_at_before_dialling() -> None:
    node = Node(limit=1)
    node.add(OTHER, "192.0.2.2:40000", outbound=False)
    node.connect("192.0.2.3")
    assert node.dials() == []
    status = node.status("192.0.2.3:6783")
    assert status is not None
    assert status.state == "failed"
    assert status.error.startswith("connection limit reached (1)")
    node.remove(OTHER)
    assert node.dials(after=3) == ["192.0.2.3:6783"]


# Discovery


def test_discovered_peers_are_dialled_where_gossip_places_them() -> None:
    node = Node()
    node.add(OTHER, "192.0.2.2:40000", outbound=False)
    node.hear(OTHER, (THIRD, "192.0.2.3:7000", True), (PeerName(4), "192.0.2.4:50000", False))
    assert set(node.check()) == {Dial("192.0.2.3:7000", False), Dial("192.0.2.4:6783", False)}


def test_without_discovery_they_are_not() -> None:
    node = Node(discovery=False)
    node.add(OTHER, "192.0.2.2:40000", outbound=False)
    node.hear(OTHER, (THIRD, "192.0.2.3:7000", True))
    assert node.dials() == []


def test_neighbours_and_ourselves_are_not_looked_for() -> None:
    node = Node()
    node.add(OTHER, "192.0.2.2:40000", outbound=False)
    node.add(THIRD, "192.0.2.3:40000", outbound=False)
    node.hear(OTHER, (THIRD, "192.0.2.3:6783", True), (US, "192.0.2.1:6783", True))
    assert node.dials() == []


def test_our_own_addresses_and_those_of_live_connections_are_left_out() -> None:
    node = Node()
    node.add(OTHER, "192.0.2.2:7000", outbound=True)
    node.hear(OTHER, (THIRD, HERE, True), (PeerName(4), "192.0.2.2:7000", True))
    assert node.dials() == []
    assert node.maker.targets() == []


def test_an_address_that_is_discovered_and_direct_accepts_unknown_peers() -> None:
    node = Node()
    node.add(OTHER, "192.0.2.2:40000", outbound=False)
    node.hear(OTHER, (THIRD, "192.0.2.3:6783", True))
    node.connect("192.0.2.3")
    assert node.check() == [Dial("192.0.2.3:6783", True)]


def test_a_discovered_target_goes_with_the_gossip_of_it() -> None:
    node = Node()
    node.add(OTHER, "192.0.2.2:40000", outbound=False)
    node.hear(OTHER, (THIRD, "192.0.2.3:6783", True))
    node.check()
    node.fail("192.0.2.3:6783")
    node.check()
    assert node.status("192.0.2.3:6783") is not None
    node.hear(OTHER, version=2)
    assert node.dials(after=10) == []
    assert node.maker.targets() == []


def test_too_many_discovered_addresses_are_left_out_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maker_module, "MAX_DISCOVERED", 3)
    node = Node()
    node.add(OTHER, "192.0.2.2:40000", outbound=False)
    node.hear(OTHER, *((PeerName(100 + number), f"192.0.2.{100 + number}:6783", True) for number in range(5)))
    assert len(node.dials()) == 3
    assert node.maker.left_out == 2
    node.connect("192.0.2.50")
    assert node.dials() == ["192.0.2.50:6783"]


# Retry intervals

BACKOFF = cases("mesh/constants.json", key="backoff")


def test_all_golden_intervals_are_there() -> None:
    assert len(BACKOFF) == 20


@pytest.mark.parametrize(
    ("draw", "key"), [(0.0, "min_delay_ms"), (1.0, "max_delay_ms_exclusive")], ids=["shortest", "longest"]
)
def test_golden_intervals(draw: float, key: str) -> None:
    node = Node(rng=FixedDraws(draw))
    node.connect("192.0.2.2")
    node.check()
    for expected in BACKOFF:
        status = node.status("192.0.2.2:6783")
        assert status is not None
        assert math.floor(status.interval * 1000) == expected["interval_ms"]
        node.fail("192.0.2.2:6783")
        delay = node.due("192.0.2.2:6783") - node.now
        assert math.floor(delay * 1000 + 1e-6) == expected[key]
        node.check(after=delay)


# How many at a time


def _crowd(node: Node, count: int) -> None:
    node.connect(*(f"198.51.100.{number}" for number in range(count)))


def test_only_so_many_attempts_start_at_a_time() -> None:
    node = Node()
    _crowd(node, 40)
    first = node.dials()
    assert len(first) == MAX_YOUNG_ATTEMPTS
    assert node.dials() == []
    for address in first[:3]:
        node.fail(address)
    assert len(node.dials()) == 3


def test_attempts_into_silence_do_not_keep_others_waiting() -> None:
    node = Node()
    _crowd(node, 40)
    first = node.dials()
    assert node.maker.next_deadline() == node.now + YOUNG
    second = node.dials(after=YOUNG)
    assert len(second) == MAX_YOUNG_ATTEMPTS
    assert not set(first) & set(second)


def test_nodes_begin_with_different_targets() -> None:
    nodes = [Node(rng=random.Random(seed)) for seed in range(2)]
    for node in nodes:
        _crowd(node, 200)
    one, other = (node.dials() for node in nodes)
    assert set(one) != set(other)


def test_direct_targets_go_before_discovered_ones() -> None:
    node = Node()
    node.add(OTHER, "192.0.2.2:40000", outbound=False)
    node.hear(OTHER, *((PeerName(100 + number), f"192.0.2.{100 + number}:6783", True) for number in range(40)))
    node.connect("192.0.2.50")
    assert node.dials()[0] == "192.0.2.50:6783"


def test_an_attempt_without_outcome_ends_as_failed() -> None:
    node = Node(rng=FixedDraws(0.0))
    node.connect("192.0.2.2")
    node.check()
    node.check(after=YOUNG)
    assert node.maker.next_deadline() == 100.0 + ATTEMPT_TIMEOUT
    assert node.dials(after=ATTEMPT_TIMEOUT - YOUNG) == []
    status = node.status("192.0.2.2:6783")
    assert status is not None
    assert (status.state, status.next_try) == ("failed", 100.0 + ATTEMPT_TIMEOUT + 1.0)
    assert "no outcome" in status.error


# Against the real thing


def test_targets_look_like_those_of_a_real_node() -> None:
    """A node was given a peer, an address without host, and itself."""
    report: dict[str, Any] = document("mesh/live/status_samples.json")["nodes"]["node2"]["report"]["Router"]
    maker = ConnectionMaker(
        rng=random.Random(1),
        port=report["Port"],
        our_name=PeerName.parse(report["Name"]),
        our_addresses=frozenset({"192.0.2.2:6783"}),
        discovery=report["PeerDiscovery"],
    )
    maker.connect([Target(text, text, None) for text in report["Targets"]], False, 0.0)
    peers = Peers(PeerSummary(PeerName.parse(report["Name"])), random.Random(1))
    live = [entry for entry in report["Connections"] if entry["Attrs"]]
    dead = {entry["Address"]: entry for entry in report["Connections"] if not entry["Attrs"]}
    assert {dial.address for dial in maker.check(0.0, peers.records())} == {"192.0.2.1:6783", "192.0.2.99:6783"}
    for entry in live:
        peers.add_connection(
            ConnectionSummary(PeerName(int(entry["Address"][8])), entry["Address"], entry["Outbound"], True)
        )
        maker.connection_added(entry["Address"], entry["Outbound"], 0.1)
    maker.attempt_failed("192.0.2.99:6783", "connect: no route to host", 3.0)
    assert maker.check(3.0, peers.records()) == []
    assert maker.direct_targets() == report["Targets"]
    assert {target.address: target.state for target in maker.targets()} == {
        address: entry["State"] for address, entry in dead.items()
    }
    for target in maker.targets():
        assert dead[target.address]["Info"].endswith("retry: never") == (target.next_try is None)


# Whatever happens

_steps = st.lists(
    st.tuples(
        st.sampled_from(["connect", "forget", "hear", "fail", "refuse", "add", "remove", "inbound", "wait"]),
        st.integers(0, 29),
        st.floats(0, 100),
    ),
    max_size=60,
)


def _do(node: Node, running: dict[str, float], verb: str, number: int) -> None:
    address, remote = f"192.0.2.{number + 10}:6783", PeerName(number + 10)
    neighbours = {connection.remote for connection in node.peers.ourself.connections}
    match verb:
        case "connect":
            node.connect(*(f"192.0.2.{each + 10}" for each in range(number)))
        case "forget":
            node.maker.forget([address, address.partition(":")[0]], node.now)
        case "hear":
            others = ((PeerName(each + 10), f"192.0.2.{each + 10}:40000", False) for each in range(number))
            node.hear(PeerName(99), *others, version=int(node.now * 1000))
        case "inbound" if remote not in neighbours:
            node.add(remote, address.replace("6783", "40000"), outbound=False)
        case "remove" if remote in neighbours:
            node.remove(remote)
        case "add" if address in running and remote not in neighbours:
            node.add(remote, address, outbound=True)
            running.pop(address)
        case "fail" | "refuse" if address in running:
            node.maker.attempt_refused(address, verb, is_final=verb == "refuse", now=node.now)
            running.pop(address)


@given(_steps)
def test_whatever_happens_dials_are_few_new_and_the_deadline_lies_ahead(steps: list[tuple[str, int, float]]) -> None:
    node = Node()
    running: dict[str, float] = {}
    for verb, number, seconds in steps:
        node.now += seconds
        _do(node, running, verb, number)
        dials = node.dials()
        live = {connection.address for connection in node.peers.ourself.connections}
        assert len(dials) == len(set(dials)) <= MAX_YOUNG_ATTEMPTS
        assert not set(dials) & (live | {HERE})
        assert all(node.now >= running.get(address, -math.inf) + ATTEMPT_TIMEOUT for address in dials)
        running |= dict.fromkeys(dials, node.now)
        deadline = node.maker.next_deadline()
        assert deadline is None or deadline > node.now
        waiting = [target for target in node.maker.targets() if target.state in ("failed", "waiting")]
        if any(target.next_try is not None for target in waiting):
            assert deadline is not None
