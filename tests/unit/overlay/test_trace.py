"""The way of a frame: from tables and topology, and what measuring adds."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from plait.mesh.name import PeerName
from plait.mesh.records import ConnectionSummary, PeerRecord, PeerSummary
from plait.overlay.fastdp.tables import HopFlag, NextHop, Via
from plait.overlay.trace import (
    Counted,
    Endpoint,
    Hop,
    Kernel,
    Kind,
    Measured,
    Owner,
    Scene,
    Target,
    Trace,
    Way,
    changes,
    grown,
    total,
    trace,
)

A, B, C, D = map(PeerName, (1, 2, 3, 4))
WEB = Endpoint("web", "ethwe", "02:00:00:00:00:a1", 1450, True, "vethweplweb", True)
OTHER = replace(WEB, name="other", mac="02:00:00:00:00:a2", port="vethweplother")
THERE = Target("10.32.0.3", "02:00:00:00:00:c1")
LEARNED = Owner(C, "the kernel learned it")
ANSWERED = Measured(3, 3, {B: Counted(3, 3)})
SILENT = Measured(3, 0)
WAY_TO_B = NextHop(Via.VXLAN, 12, "192.0.2.2", "192.0.2.1", 7, 1450, HopFlag.DIRECT)
IDS = {A: 11, B: 12, C: 13}


def mesh(*edges: tuple[PeerName, PeerName]) -> dict[PeerName, PeerRecord]:
    """Peers a to d with these connections, all of them established; a peer n is at 192.0.2.n."""
    ends: dict[PeerName, list[ConnectionSummary]] = {name: [] for name in (A, B, C, D)}
    for one, other in edges:
        ends[one].append(ConnectionSummary(other, f"192.0.2.{int(other)}:6783", True, True))
        ends[other].append(ConnectionSummary(one, f"192.0.2.{int(one)}:41000", False, True))
    return {
        name: PeerRecord(PeerSummary(name, "abcd"[name - 1], 1), tuple(connections))
        for name, connections in ends.items()
    }


CHAIN = mesh((A, B), (B, C))


def pump_way(is_established: bool = True) -> Way:
    return Way(
        "plait1",
        "plait1 is the first choice",
        is_established,
        device="vethwe-sleeve",
        source="192.0.2.1:6783",
        destination="192.0.2.2:6783",
        mtu=1428,
    )


def kernel(nexthops: dict[int, NextHop]) -> Kernel:
    return Kernel(nexthops, IDS, 6784, "vethwe-vxlan", {"192.0.2.2": "eth0"})


def scene(**changed: Any) -> Scene:
    known: dict[str, Any] = {
        "us": A,
        "bridge": "weave",
        "bridge_mac": "02:00:00:00:00:01",
        "endpoints": [WEB, OTHER],
        "records": CHAIN,
        "ways": {B: pump_way()},
        "kernel": kernel({12: WAY_TO_B, 13: WAY_TO_B}),
        "fastdp": {B: "fastdp is the first choice"},
    }
    return Scene(**known | changed)


def followed(
    at: Scene | None = None,
    target: Target = THERE,
    owner: Owner | None = LEARNED,
    measured: Measured = ANSWERED,
    source: Endpoint = WEB,
) -> Trace:
    return trace(at or scene(), source, target, owner, measured)


def kinds(hops: Sequence[Hop]) -> list[str]:
    return [hop.kind.value for hop in hops]


def link(found: Trace) -> Hop:
    (hop,) = (hop for hop in found.hops if hop.kind is Kind.LINK)
    return hop


def lost_at(found: Trace) -> list[str]:
    assert not found.is_delivered
    assert [hop.lost for hop in found.hops if hop.lost is not None] == [found.verdict]
    return [hop.kind.value for hop in found.hops if hop.lost is not None]


def test_a_frame_is_relayed_by_the_kernels_tables() -> None:
    found = followed()
    assert kinds(found.hops) == ["container", "port", "decision", "link", "relay", "delivery"]
    assert (found.is_delivered, found.verdict) == (True, "delivered: 3 of 3 questions were answered")
    way = link(found)
    assert (way.overlay, way.device, way.mtu) == ("fastdp", "eth0", 1450)
    assert (way.source, way.destination, way.vni) == ("192.0.2.1:*", "192.0.2.2:6784", 11 | 13 << 12)
    assert way.counted == Counted(3, 3)
    *_, decision, _, relay, delivery = found.hops
    assert "next hop 00:00:00:00:00:02(b); fastdp, direct: fastdp is the first choice" in decision.text
    assert relay.place == "00:00:00:00:00:02(b) -> 00:00:00:00:00:03(c)"
    # Addresses of the relay's own connection, as the two ends tell everybody.
    assert (relay.is_computed, relay.source, relay.destination) == (True, "192.0.2.2", "192.0.2.3")
    assert delivery.place == "00:00:00:00:00:03(c)"
    assert not delivery.is_computed  # it answered


def test_the_device_carries_what_the_programs_may_not_write_directly() -> None:
    by_device = replace(WAY_TO_B, flags=HopFlag.NONE)
    found = followed(scene(kernel=kernel({12: by_device, 13: by_device})))
    assert link(found).device == "vethwe-vxlan by eth0"
    assert "fastdp, by the device" in found.hops[2].text


def test_without_a_kernel_the_pump_carries_it() -> None:
    found = followed(scene(kernel=None, fastdp={}))
    way = link(found)
    assert (way.overlay, way.device, way.vni, way.mtu) == ("plait1", "vethwe-sleeve", None, 1428)
    assert "next hop 00:00:00:00:00:02(b); plait1: plait1 is the first choice" in found.hops[2].text
    assert kinds(found.hops)[-2:] == ["relay", "delivery"]


def test_the_kernel_hands_over_to_the_pump_where_vxlan_is_blocked() -> None:
    blocked = scene(kernel=kernel({12: NextHop(Via.PUMP, 12), 13: NextHop(Via.PUMP, 12)}), fastdp={})
    assert (link(followed(blocked)).overlay, link(followed(blocked)).destination) == ("plait1", "192.0.2.2:6783")


def test_what_an_earlier_connection_left_in_the_kernel_is_told_as_that() -> None:
    assert "fastdp, direct: kept for a moment from an earlier connection" in followed(scene(fastdp={})).hops[2].text


def test_a_peer_that_left_the_mesh_is_reached_by_the_way_that_is_held() -> None:
    alone = {A: mesh()[A]}
    at = scene(records=alone, ways={}, fastdp={}, departed={B: "b"})
    found = followed(at, owner=Owner(B, "that peer announced it"))
    assert found.is_delivered
    assert "00:00:00:00:00:02(b) has it" in found.hops[2].text
    assert kinds(found.hops)[-2:] == ["link", "delivery"]


def test_a_neighbour_needs_no_relay() -> None:
    found = followed(owner=Owner(B, "it announced it"))
    assert kinds(found.hops) == ["container", "port", "decision", "link", "delivery"]
    assert "it announced it; which is a neighbour" in found.hops[2].text


def test_a_container_of_this_host_gets_it_by_its_port() -> None:
    found = followed(target=Target("10.32.0.9", OTHER.mac), owner=Owner(A, "it is attached here"))
    assert kinds(found.hops) == ["container", "port", "decision", "delivery"]
    assert (found.hops[-1].device, "delivers to other" in found.hops[-1].text) == ("vethweplother", True)
    to_host = followed(target=Target("10.32.0.8", "02:00:00:00:00:01"), owner=Owner(A, "it is attached here"))
    assert (to_host.hops[-1].device, to_host.is_delivered) == ("weave", True)


def test_an_interface_that_is_down_ends_it_at_once() -> None:
    assert lost_at(followed(measured=SILENT, source=replace(WEB, is_up=False))) == ["container"]
    assert lost_at(followed(measured=SILENT, source=replace(WEB, port_is_up=False))) == ["port"]
    sleeping = scene(endpoints=[WEB, replace(OTHER, is_up=False)])
    found = followed(sleeping, Target("10.32.0.9", OTHER.mac), Owner(A, "it is attached here"), SILENT)
    assert lost_at(found) == ["delivery"]
    assert "other cannot take it: ethwe is down" in found.verdict


def test_an_address_that_nobody_has_is_flooded_and_lost() -> None:
    found = followed(target=Target("10.32.0.77", None), owner=None, measured=SILENT)
    assert lost_at(found) == ["decision"]
    assert "frames go to all: 00:00:00:00:00:02(b)" in found.hops[-1].text
    assert "nobody on the network answered for 10.32.0.77" in found.verdict
    # The owner may be behind a peer that nothing reaches.
    assert "No frame reaches 00:00:00:00:00:04(d)." in found.verdict


def test_a_host_without_connections_is_told_as_that() -> None:
    found = followed(scene(records=mesh((B, C))), Target("10.32.0.77", None), None, SILENT)
    assert lost_at(found) == ["decision"]
    assert "This host has no established connection to another one" in found.verdict


def test_a_peer_without_a_way_is_where_it_ends() -> None:
    apart = scene(records=mesh((A, B)), kernel=kernel({12: WAY_TO_B}))
    found = followed(apart, measured=SILENT)
    assert lost_at(found) == ["decision"]
    assert "there is no way to 00:00:00:00:00:03(c)" in found.verdict


def test_a_relay_without_a_way_is_where_it_ends() -> None:
    # The kernel still has a way, the topology has lost what is behind the relay.
    found = followed(scene(records=mesh((A, B))), measured=SILENT)
    assert lost_at(found) == ["relay"]
    assert found.verdict == "00:00:00:00:00:02(b) has no way to 00:00:00:00:00:03(c)"
    # That frames arrive all the same has the last word.
    passing = followed(scene(records=mesh((A, B))))
    assert passing.is_delivered
    assert passing.hops[-1].lost is None
    assert "and yet frames pass" in passing.hops[-1].text


def test_peers_that_would_send_it_in_circles_are_found_out() -> None:
    # We hold on to a way by B, which by the topology reaches C by us.
    records = mesh((A, B), (A, C))
    found = followed(scene(records=records), measured=SILENT)
    assert lost_at(found) == ["relay"]
    assert "would send it back to 00:00:00:00:00:01(a)" in found.verdict


def test_a_connection_on_which_nothing_passes_yet_loses_it() -> None:
    found = followed(scene(kernel=None, fastdp={}, ways={B: pump_way(is_established=False)}), measured=SILENT)
    assert lost_at(found) == ["link"]


def test_counters_tell_where_silence_begins() -> None:
    held_back = followed(measured=Measured(3, 0, {B: Counted(1, 0)}, {"frames for peers without a route": 2}))
    assert lost_at(held_back) == ["link"]
    assert "only 1 of 3 frames left this host" in held_back.verdict
    assert "meanwhile this host dropped 2 frames for peers without a route" in held_back.verdict
    gone = followed(measured=Measured(3, 0, {B: Counted(3, 0)}))
    assert lost_at(gone) == ["relay"]
    assert "3 frames left towards 192.0.2.2:6784 and none came back" in gone.verdict
    assert "look at 00:00:00:00:00:02(b) -> 00:00:00:00:00:03(c) and behind it" in gone.verdict
    left_over = followed(scene(fastdp={}), measured=Measured(3, 0, {B: Counted(3, 0)}))
    assert lost_at(left_over) == ["link"]
    assert "the connection that this way was for is gone" in left_over.verdict
    busy = followed(measured=Measured(3, 0, {B: Counted(30, 20)}))
    assert lost_at(busy) == ["delivery"]
    assert "did not answer any of 3 questions" in busy.verdict


def test_answers_may_come_another_way() -> None:
    found = followed(measured=Measured(3, 0, {B: Counted(3, 0), D: Counted(0, 4)}))
    assert lost_at(found) == ["delivery"]  # something comes in, so the way to the next hop is not what is suspected


def test_without_an_address_to_ask_for_the_tables_decide() -> None:
    found = followed(target=Target(str(THERE.mac), THERE.mac), measured=Measured())
    assert found.is_delivered
    assert "as far as the tables say" in found.verdict
    assert found.hops[-1].is_computed
    assert lost_at(followed(scene(records=mesh((A, B))), measured=Measured())) == ["relay"]


def test_counters_are_compared() -> None:
    before, after = {B: Counted(5, 6)}, {B: Counted(8, 6), C: Counted(1, 2)}
    assert changes(before, after) == {B: Counted(3, 0), C: Counted(1, 2)}
    assert changes({B: Counted(5, 6)}, {B: Counted(2, 1)}) == {B: Counted(2, 1)}  # of a pump that began anew
    assert total([before, after]) == {B: Counted(13, 12), C: Counted(1, 2)}
    words = {"x": "frames of x", "y": "frames of y"}
    assert grown({"x": 1, "z": 0}, {"x": 4, "y": 0, "z": 9}, words) == {"frames of x": 3}
