"""The report from real rooms: a router with neighbours and targets, overlays, problems."""

import asyncio
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest

from plait.api import model, status
from plait.config import Config
from plait.mesh.maker import Target
from plait.mesh.name import PeerName
from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.plait1.keys import CIPHER_FEATURE
from plait.overlay.sleeve.plait1.session import Plait1Session
from plait.overlay.sleeve.session import SleeveSession
from plait.overlay.sleeve.supervisor import PumpState
from plait.overlay.switch import OVERLAYS
from plait.problems import Problems
from plait.report import Sources, build_report
from unit.mesh.routers import Member, World
from unit.overlay.test_manager import UID, Side

OFFSET = 1_700_000_000.0
STATS = ipc.Stats(
    counters={"captured": 12, "malformed": 3},
    peers={2: {"tx_frames": 7}},
    macs=[ipc.LearnedMac("02:00:00:00:00:aa", 2, 50.0)],
)


def reported(prepare: Callable[[Member, World, Side], None] | None = None, **changes: Any) -> model.Report:
    """The report of node 1, which called node 2, after `prepare`."""

    async def build() -> model.Report:
        one, two = Member(1), Member(2)
        world, side = World(one, two), Side(1)
        world.connect(one, two)
        world.run(3)
        for link in one.router.links:
            side.manager.confirmed(link)
        if prepare is not None:
            prepare(one, world, side)
        values: dict[str, Any] = {
            "config": Config(nickname="n1"),
            "router": one.router,
            "overlays": side.manager,
            "pump": PumpState(77, 1, "the pump died", "Python loop"),
            "stats": STATS,
            "targets": one.router.maker.direct_targets(),
            "problems": [],
            "attached": 2,
            "exposed": ["10.32.0.1/12"],
            "is_ready": True,
            "clock_offset": OFFSET,
        }
        return build_report(Sources(**values | changes))

    return asyncio.run(build())


def test_a_neighbour_and_its_overlay() -> None:
    report = reported()
    assert report.ready
    assert [(peer.name, peer.nick_name, len(peer.connections or [])) for peer in report.router.peers] == [
        ("00:00:00:00:00:01", "n1", 1),
        ("00:00:00:00:00:02", "n2", 1),
    ]
    (connection,) = report.router.connections or []
    assert connection == model.Connection(
        address="192.0.2.2:6783",
        outbound=True,
        state="established",
        info="sleeve 00:00:00:00:00:02(n2)",
        attrs={"name": "sleeve"},
    )
    (detail,) = report.plait.connections
    assert (detail.peer, detail.nick_name, detail.remote) == ("00:00:00:00:00:02", "n2", "192.0.2.2:6783")
    assert detail.counters == {"tx_frames": 7}
    assert detail.established_since == OFFSET + 100
    assert "the peer has not heard one yet" in detail.reason
    assert report.router.capture_stats == {"PacketsReceived": 12, "PacketsDropped": 0, "PacketsIfDropped": 0}
    assert report.router.overlay_diagnostics == {"fastdp": None, "sleeve": STATS.counters}
    (mac,) = report.router.macs or []
    assert (mac.mac, mac.nick_name, mac.last_seen) == ("02:00:00:00:00:aa", "n2", "2023-11-14T22:14:10Z")
    assert (report.plait.attached, report.plait.exposed) == (2, ["10.32.0.1/12"])
    assert report.plait.pump == {
        "pid": 77,
        "restarts": 1,
        "last_death": "the pump died",
        "answers": "yes",
        "loop": "Python loop",
    }


def test_what_fits_is_shown_once_frames_pass() -> None:
    def prepare(one: Member, world: World, side: Side) -> None:
        side.manager.pump_said(ipc.SpecialReceived(2, ("192.0.2.2", 6783), 22, UID, False))
        for link in one.router.links:
            live = side.manager.get(link.id)
            assert live is not None
            assert isinstance(live.session, SleeveSession)
            live.session.control_received(1, b"", world.now)

    report = reported(prepare)
    (connection,) = report.router.connections or []
    assert connection.attrs is not None
    assert connection.attrs["mtu"] == 1438
    (detail,) = report.plait.connections
    assert (detail.mtu, detail.path_mtu, detail.mtu_source) == (1438, 1500, "what the kernel says of the path")
    # Weave's format measures nothing.
    assert (detail.rtt, detail.loss, detail.rate_sent, detail.rate_received) == (None, None, None, None)
    assert detail.cipher is None


def test_a_connection_in_plaits_own_format_says_what_the_path_is_like() -> None:
    def prepare(one: Member, world: World, side: Side) -> None:
        (link,) = one.router.links
        link.overlays = OVERLAYS
        side.manager.confirmed(link)
        live = side.manager.get(link.id)
        assert live is not None
        assert isinstance(live.session, Plait1Session)
        for now, sent in ((0.0, 0), (1.0, 1000)):
            acked = ipc.ProbeAcknowledged(2, 70, 0.02, sent, sent * 9 // 10, sent * 50, sent * 10)
            live.session.probe_acknowledged(acked, now)
        live.switch.established(live.overlay)

    (detail,) = reported(prepare).plait.connections
    assert (detail.overlay, detail.encrypted) == ("plait1", False)
    assert detail.reason == "plait1 is the first choice; established"
    assert (detail.mtu, detail.path_mtu) == (1200 - 72, 1200)
    assert detail.mtu_source == "assumed, no probe was acknowledged yet"
    assert detail.rtt == pytest.approx(0.02)
    assert detail.loss == pytest.approx(0.1)
    assert (detail.rate_sent, detail.rate_received) == (50_000.0, 10_000.0)


def test_an_encrypted_connection_names_its_cipher() -> None:
    def prepare(one: Member, world: World, side: Side) -> None:
        (link,) = one.router.links
        link.session_key = bytes(32)
        side.manager.confirmed(link)

    (detail,) = reported(prepare).plait.connections
    assert (detail.encrypted, detail.cipher) == (True, "XSalsa20-Poly1305")

    def prepare_plait1(one: Member, world: World, side: Side) -> None:
        (link,) = one.router.links
        link.session_key, link.overlays = bytes(32), OVERLAYS
        link.extra = {CIPHER_FEATURE: "chacha20poly1305"}
        side.manager.confirmed(link)

    (detail,) = reported(prepare_plait1).plait.connections
    assert (detail.encrypted, detail.cipher) == (True, "ChaCha20-Poly1305")


def test_a_pump_that_does_not_answer_leaves_gaps_and_no_errors() -> None:
    report = reported(stats=None, pump=PumpState(None, 0, None))
    assert report.router.capture_stats is None
    assert report.router.macs is None
    assert report.router.overlay_diagnostics == {"fastdp": None, "sleeve": None}
    assert report.plait.pump["answers"] == "no"
    assert report.plait.connections[0].counters == {}


def test_targets_without_a_connection_say_why_and_when_next() -> None:
    def prepare(one: Member, world: World, side: Side) -> None:
        router = one.router
        router.connect([Target("far", "192.0.2.8", None), Target("me", "192.0.2.1", None)], False, world.now)
        router.dial_failed("192.0.2.8:6783", "connection refused", world.now)
        router.connect([Target("new", "192.0.2.9", None)], False, world.now)

    report = reported(prepare, targets=["far", "me", "new", "unresolved.example"])
    assert report.router.targets == ["far", "me", "new", "unresolved.example"]
    lines = {connection.address: connection for connection in report.router.connections or []}
    assert lines["192.0.2.8:6783"].state == "failed"
    assert lines["192.0.2.8:6783"].info.startswith("connection refused, retry: 2023-11-14 22:15:0")
    assert lines["192.0.2.8:6783"].info.endswith(" +0000 UTC")
    assert lines["192.0.2.1:6783"].info.endswith(", retry: never")
    assert (lines["192.0.2.9:6783"].state, lines["192.0.2.9:6783"].info) == ("connecting", "")


def test_encryption_is_shown_of_the_node_and_of_each_connection() -> None:
    config = Config(nickname="n1", password=b"secret", trusted_subnets=(ip_network("192.0.2.0/24"),), discovery=False)
    report = reported(config=config)
    router = report.router
    assert (router.encryption, router.peer_discovery, router.trusted_subnets) == (True, False, ["192.0.2.0/24"])
    (connection,) = router.connections or []
    assert connection.info == "unencrypted sleeve 00:00:00:00:00:02(n2)"  # this one is in clear: both trust
    assert "secret" not in str(report)


def test_problems_carry_wall_time_and_come_last_in_the_status() -> None:
    problems = Problems()
    problems.report("pump", "the pump died", "see the log", 5.0)
    problems.report("odd", "it is odd", "", 6.0)
    report = reported(problems=problems.current(7.0))
    assert [problem.since for problem in report.plait.problems] == [OFFSET + 5, OFFSET + 6]
    assert status.summary(report).splitlines()[-4:] == [
        "        Service: problems",
        "        Problem: the pump died",
        "           Cure: see the log",
        "        Problem: it is odd",
    ]


def test_a_lone_node() -> None:
    def prepare(one: Member, world: World, side: Side) -> None:
        for link in list(one.router.links):
            one.router.connection_lost(link.id, "bye", world.now)

    report = reported(prepare, stats=ipc.Stats({}, {}, []))
    assert [peer.name for peer in report.router.peers] == [str(PeerName(1))]
    assert report.router.connections is None
    assert report.router.targets is None
    assert report.router.macs is None
    assert report.router.termination_count == 1
    assert report.plait.connections == []
