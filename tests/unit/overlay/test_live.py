"""Which sessions a connection gets, and what they are told of the peer."""

from dataclasses import replace

import pytest

from plait.mesh.links import Link, Links
from plait.mesh.name import PeerName
from plait.overlay.fastdp import wire
from plait.overlay.live import WEAVE_MTU, begin, our_features, vxlan_lack, weave_lack
from plait.overlay.sleeve.actions import SetPath
from plait.overlay.sleeve.session import SleeveSession
from plait.overlay.switch import FASTDP, PLAIT1, SLEEVE, OverlaySwitch
from unit.mesh.routers import features, opened


def link_to(*overlays: str, extra: dict[str, str], address: str = "192.0.2.2:6783", outbound: bool = True) -> Link:
    remote = features(2, overlays=overlays, extra=extra)
    connection = replace(opened(remote, number=1, address=address, uid=7, outbound=outbound), session_key=None)
    return Links(PeerName(1), 0, frozenset({SLEEVE, FASTDP})).add(connection, 0.0)


def told_mtus(link: Link) -> set[tuple[int, bool]]:
    """What the pump is told of a path of 1500 bytes on which fragments pass."""
    user = begin(link, OverlaySwitch((FASTDP, SLEEVE), link.overlays), 1450).user
    assert isinstance(user, SleeveSession)
    actions = [*user.confirm(0.0), *user.path_mtu_known(1500, 0.0), *user.control_received(1, b"", 0.1)]
    actions += [*user.path_mtu_known(1500, 0.2), *user.control_received(2, b"", 0.3)]
    return {(action.mtu, action.stack_frag) for action in actions if isinstance(action, SetPath)}


def test_who_sends_a_weaver_with_fastdp_more_than_its_containers_take_is_told() -> None:
    told = told_mtus(link_to(FASTDP, SLEEVE, extra={}))
    assert max(mtu for mtu, _ in told) == WEAVE_MTU
    assert not any(stack_frag for _, stack_frag in told)


@pytest.mark.parametrize(("overlays", "extra"), [((SLEEVE,), {}), ((FASTDP, SLEEVE), our_features())])
def test_others_get_all_that_the_path_takes(overlays: tuple[str, ...], extra: dict[str, str]) -> None:
    told = told_mtus(link_to(*overlays, extra=extra))
    assert max(mtu for mtu, _ in told) > WEAVE_MTU
    assert any(stack_frag for _, stack_frag in told)


def test_vxlan_needs_a_kernel_that_carries_and_one_port_for_all() -> None:
    link = link_to(FASTDP, SLEEVE, extra={})
    assert vxlan_lack(link, 6784) is None
    assert vxlan_lack(link, None) == "this node's kernel does not carry frames"
    elsewhere = link_to(FASTDP, SLEEVE, extra={}, address="192.0.2.2:7000")
    assert "UDP port 7001 and this node's at 6784" in (vxlan_lack(elsewhere, 6784) or "")
    called = link_to(FASTDP, SLEEVE, extra={}, address="192.0.2.2:40000", outbound=False)
    assert vxlan_lack(called, 6784) is None, "who called us dialled our port"


def test_a_weave_peer_cannot_be_served_by_ipv6() -> None:
    for extra, is_lacking in (({}, True), (our_features(), False)):
        link = link_to(FASTDP, SLEEVE, extra=extra, address="[2001:db8::2]:6783")
        assert (weave_lack(replace(link, local_ip="2001:db8::1")) is not None) is is_lacking
    assert weave_lack(link_to(FASTDP, SLEEVE, extra={})) is None


def test_over_ipv6_both_sessions_know_where_the_peer_is() -> None:
    link = link_to(FASTDP, PLAIT1, SLEEVE, extra=our_features(), address="[2001:db8::2]:6783")
    ours = OverlaySwitch((FASTDP, PLAIT1, SLEEVE), link.overlays)
    live = begin(replace(link, local_ip="2001:db8::1"), ours, 1450)
    assert live.fastdp is not None
    assert live.fastdp.remote_ip == "2001:db8::2"
    assert live.user is not None
    assert live.user.remote == ("2001:db8::2", 6783)
    assert live.user.mtu == live.user.path_mtu - 92


def test_a_plait_peer_says_so() -> None:
    live = begin(link_to(FASTDP, SLEEVE, extra=our_features()), OverlaySwitch((FASTDP, SLEEVE), (FASTDP, SLEEVE)), 1450)
    assert wire.FEATURE in live.link.extra
    assert live.fastdp is not None
    assert live.fastdp.is_plait
