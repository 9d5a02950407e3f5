"""The bridge and the tap in it: made, repaired, and taken over from Weave."""

import os
from collections.abc import Iterator

import pytest

from plait.host.netlink import Link, Netlink
from plait.host.tap import MAX_MTU, open_tap
from plait.overlay.bridge import TAP, WEAVE_PORT, BridgeKeeper, BridgeSettings
from plait.testing.lab import Lab

MAC = "02:00:00:00:00:01"


@pytest.fixture
def keeper(lab: Lab) -> Iterator[BridgeKeeper]:
    """A keeper in a namespace of its own, with the pump's tap there."""
    with lab.host("h1").entered():
        tap = open_tap(TAP)
        try:
            yield BridgeKeeper(BridgeSettings("weave", MAC, 1438))
        finally:
            os.close(tap)


def link(name: str) -> Link:
    with Netlink() as netlink:
        found = netlink.link(name)
    assert found is not None
    return found


def test_made_once(keeper: BridgeKeeper) -> None:
    assert keeper.ensure()
    assert not keeper.ensure()
    bridge = link("weave")
    assert (bridge.kind, bridge.mac, bridge.mtu, bridge.is_up) == ("bridge", MAC, 1438, True)
    assert (link(TAP).master_index, link(TAP).is_up) == (bridge.index, True)


def test_the_tap_takes_whatever_a_container_sends(keeper: BridgeKeeper) -> None:
    keeper.ensure()
    assert link(TAP).mtu == MAX_MTU
    with Netlink() as netlink:
        netlink.set_link(TAP, mtu=1438)
    assert keeper.ensure() == [f"tap {TAP} had MTU 1438: set it to {MAX_MTU}"]


def test_no_frame_goes_to_the_port_of_a_router_that_is_gone(keeper: BridgeKeeper) -> None:
    with Netlink() as netlink:
        netlink.create_bridge("weave", "02:00:00:00:00:09", 65535)
        netlink.create_veth(WEAVE_PORT, "vethwe-pcap", 65535)
        netlink.set_link(WEAVE_PORT, master="weave", up=True)
    assert any(WEAVE_PORT in repair for repair in keeper.ensure())
    with Netlink() as netlink:
        assert netlink.link(WEAVE_PORT) is None
    assert (link("weave").mac, link("weave").mtu) == ("02:00:00:00:00:09", 1438)


def test_a_link_of_that_name_elsewhere_is_left_alone(keeper: BridgeKeeper) -> None:
    keeper.ensure()
    with Netlink() as netlink:
        netlink.create_veth(WEAVE_PORT, "other", 1500)
    assert not keeper.ensure()
    assert link(WEAVE_PORT)
