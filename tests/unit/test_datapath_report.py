"""The datapath in the report and in `status datapath`, from plain data."""

from dataclasses import replace
from typing import Any

from msgspec.structs import replace as replace_struct

from plait.api import model, status
from plait.mesh.name import PeerName
from plait.overlay.fastdp.carrier import Underlay
from plait.overlay.fastdp.description import Description, KernelView, MapUse, ProgramPlace
from plait.overlay.fastdp.plan import Tables
from plait.overlay.fastdp.tables import DROP_REASONS, DROPS, HopFlag, Neighbour, NextHop, PeerStats, Via
from unit.api.nodes import NOTHING_SPECIAL, sample_report
from unit.test_report import OFFSET, reported

ONE, TWO, THREE, FOUR = map(PeerName, (1, 2, 3, 4))
VIEW = KernelView(
    Description(
        programs=[ProgramPlace("from_vxlan", 41, "vethwe-vxlan", "ingress", "tcx")],
        maps=[MapUse("events", "ringbuf", None, 262144), MapUse("learned", "lru_hash", 3, 65536)],
        device="vethwe-vxlan",
        underlays={"192.0.2.2": Underlay(7, "eth0", 1500, True), "192.0.2.9": Underlay(8, "wg0", 1420, False)},
        tables=Tables(
            11,
            {
                12: NextHop(Via.VXLAN, 12, "192.0.2.2", "192.0.2.1", 7, 1450, HopFlag.DIRECT),
                13: NextHop(Via.VXLAN, 12, "192.0.2.2", "192.0.2.1", 7, 1450, HopFlag.DIRECT),
            },
            {},
            {"192.0.2.2": Neighbour("192.0.2.1", 12)},
        ),
        stats={12: PeerStats(5, 500, 4, 400), 99: PeerStats(1, 60, 0, 0)},
        drops={**dict.fromkeys(DROPS, 0), "no_route": 6},
        learned=[("02:00:00:00:00:aa", 60.0, 12), ("02:00:00:00:00:bb", 70.0, None), ("02:00:00:00:00:cc", 80.0, 99)],
    ),
    {ONE: 11, TWO: 12, THREE: 13, FOUR: 14},
)


def found(**changes: Any) -> model.Report:
    return reported(**({"kernel": VIEW} | changes))


def test_a_next_hop_names_peer_and_neighbour() -> None:
    hops = {hop.peer: hop for hop in found().plait.datapath.hops}
    assert (hops[str(TWO)].nick_name, hops[str(TWO)].hop, hops[str(TWO)].short_id) == ("n2", str(TWO), 12)
    assert (hops[str(TWO)].remote, hops[str(TWO)].mtu, hops[str(TWO)].direct) == ("192.0.2.2", 1450, True)
    assert (hops[str(THREE)].via, hops[str(THREE)].hop, hops[str(THREE)].hop_nick_name) == ("vxlan", str(TWO), "n2")
    assert (hops[str(FOUR)].via, hops[str(FOUR)].hop, hops[str(FOUR)].mtu) == ("nothing", None, None)
    assert str(ONE) not in hops  # ourselves


def test_ways_without_a_connection_are_shown_and_for_how_long() -> None:
    left = PeerName(5)
    ways = {
        15: NextHop(Via.VXLAN, 15, "192.0.2.5", "192.0.2.1", 7, 1450, HopFlag.DIRECT),
        16: NextHop(Via.VXLAN, 16, "192.0.2.6", "192.0.2.1", 7, 1450, HopFlag.DIRECT),
    }
    tables = replace(VIEW.description.tables, nexthops={**VIEW.description.tables.nexthops, **ways})
    view = replace(
        VIEW,
        description=replace(VIEW.description, tables=tables),
        ids={**VIEW.ids, left: 15},
        held={15: 27.96, 16: 12.0},
        departed={left: "n5"},
    )
    report = found(kernel=view)
    hops = {hop.peer: hop for hop in report.plait.datapath.hops}
    assert (hops[str(left)].nick_name, hops[str(left)].held, hops[str(left)].remote) == ("n5", 28.0, "192.0.2.5")
    of_earlier_life = hops["short id 16"]
    assert (of_earlier_life.held, of_earlier_life.hop) == (12.0, "short id 16")
    assert hops[str(TWO)].held is None
    lines = {line.split("  ")[1]: line for line in status.datapath(report).splitlines() if "via vxlan" in line}
    assert lines[f"{left}(n5)"].endswith("remote 192.0.2.5  mtu 1450  direct yes  held 28 s more without a connection")
    assert lines["short id 16"].endswith("held 12 s more without a connection")


def test_interfaces_say_whether_headers_are_written_directly() -> None:
    device, *underlays = found().plait.datapath.interfaces
    assert (device.name, device.kind) == ("vethwe-vxlan", "vxlan")
    assert [(each.name, each.direct, each.neighbours) for each in underlays] == [
        ("eth0", True, ["00:00:00:00:00:02(n2)"]),
        ("wg0", False, ["192.0.2.9"]),
    ]


def test_counters_and_drops_come_in_words_and_as_overlay_diagnostics() -> None:
    report = found()
    datapath = report.plait.datapath
    assert [(each.peer, each.tx_packets, each.rx_bytes) for each in datapath.neighbours] == [
        (str(TWO), 5, 400),
        ("short id 99", 1, 0),
    ]
    assert {each.reason: each.meaning for each in datapath.drops} == DROP_REASONS
    diagnostics: Any = report.router.overlay_diagnostics["fastdp"]
    assert (diagnostics["tx_packets"], diagnostics["rx_bytes"], diagnostics["dropped_no_route"]) == (6, 400, 6)
    assert diagnostics["learned"] == datapath.learned == 3


def test_the_mac_table_has_what_the_kernel_learned() -> None:
    macs = {mac.mac: mac for mac in found().router.macs or []}
    # Both pump and kernel know the first; the kernel saw it later. Nobody owns the short id of the third.
    assert sorted(macs) == ["02:00:00:00:00:aa", "02:00:00:00:00:bb"]
    assert macs["02:00:00:00:00:aa"].last_seen == "2023-11-14T22:14:20Z"
    assert (macs["02:00:00:00:00:bb"].name, macs["02:00:00:00:00:bb"].nick_name) == (str(ONE), "n1")
    assert OFFSET == 1_700_000_000.0  # which the time above comes from


def test_without_a_kernel_that_carries_there_is_a_reason() -> None:
    lacking = found(kernel=None, kernel_lack="this kernel cannot carry frames by itself: no ring buffer").plait.datapath
    assert (lacking.carries, lacking.why) == (False, "this kernel cannot carry frames by itself: no ring buffer")
    unwanted = found(kernel=None).plait.datapath
    assert not unwanted.carries
    assert "not among the overlays" in unwanted.why
    assert status.datapath(found(kernel=None)) == f"carries no frames: {unwanted.why}\n"


def test_the_text_has_a_block_for_each_part() -> None:
    text = status.datapath(found())
    titles = [line for line in text.splitlines() if line.endswith(":")]
    assert titles == ["programs:", "maps:", "interfaces:", "next hops:", "counters:", "drops:"]
    assert "  from_vxlan  id 41  ingress of vethwe-vxlan  tcx\n" in text
    assert "  learned  lru_hash  3/65536\n" in text
    assert "  events   ringbuf   262144 bytes\n" in text
    assert "  no_route  6  frames for peers without a route\n" in text
    assert "hop 00:00:00:00:00:02(n2)  remote 192.0.2.2  mtu 1450  direct yes\n" in text
    assert text.endswith("learned addresses: 3\n")


def test_a_nickname_cannot_break_a_line() -> None:
    hop = model.DatapathHop(
        peer="p",
        nick_name="x\ny",
        short_id=1,
        via="pump",
        hop="p",
        hop_nick_name="",
        remote=None,
        mtu=None,
        direct=False,
    )
    datapath = model.Datapath(carries=True, why="so", hops=[hop])
    report = replace_struct(sample_report(), plait=replace_struct(NOTHING_SPECIAL, datapath=datapath))
    assert "  p(x?y)  via pump  hop itself\n" in status.datapath(report)
