"""Bridges and paths that carry less, or more, than the other side thinks: nothing is lost for long, nothing hangs."""

import os

import pytest

from conformance.member import Member, wait_for_mesh
from conformance.mesh import PASSWORDS, Mesh
from conformance.traffic import VERSIONS, datagram_arrives, known_path_mtu, ping6
from plait.testing.lab import Container, wait_until

PATH_MTU = 1400
PLAIN, ENCRYPTED = PASSWORDS
OVERHEAD = {PLAIN: 62, ENCRYPTED: 86}
# Weave doubles its wait from 10 ms for each of 8 tests of a size, and halves the range 10 times, from 552 upwards.
BLACK_HOLE_SECONDS = 30.0


def test_bridge_of_plait_wider_than_the_path(mesh: Mesh) -> None:
    mesh.password = ENCRYPTED
    plait, weaver = mesh.plait(extra=["--mtu", "65535"]), mesh.weaver()
    ours, theirs = _join(plait, weaver)
    for source, target in ((ours, theirs), (theirs, ours)):
        _expect_too_long(source, target, 1500 - OVERHEAD[ENCRYPTED])
        _expect_traffic(source, target)


def test_bridge_of_plait_narrower_than_the_path(mesh: Mesh) -> None:
    plait, weaver = mesh.plait(extra=["--mtu", "1300"]), mesh.weaver()
    ours, theirs = _join(plait, weaver)
    _expect_too_long(theirs, ours, 1300, size=1350)
    for source, target in ((ours, theirs), (theirs, ours)):
        _expect_traffic(source, target)


def test_bridge_of_weaver_narrower_than_the_path(mesh: Mesh) -> None:
    plait, weaver = mesh.plait(), mesh.weaver(extra=["--mtu", "1376"])
    ours, theirs = _join(plait, weaver)
    for source, target in ((ours, theirs), (theirs, ours)):
        assert source.ping(target, size=1376 - 28, dont_fragment=True).ok
        source.transfer(target, 2_000_000)


@pytest.mark.parametrize(("icmp", "password"), [(True, ENCRYPTED), (False, PLAIN)], ids=["told", "black-hole"])
def test_router_with_a_smaller_mtu(mesh: Mesh, icmp: bool, password: str | None) -> None:
    mesh.password = password
    near = mesh.lab.switch()
    middle = mesh.lab.switch(mtu=PATH_MTU)
    far = mesh.lab.switch()
    mesh.lab.router("r1", near, middle, icmp=icmp)
    mesh.lab.router("r2", middle, far, icmp=icmp)
    plait, weaver = mesh.plait(on=[near]), mesh.weaver(on=[far])
    ours, theirs = _join(plait, weaver)
    wanted = PATH_MTU - OVERHEAD[password]
    for one, other in ((plait, weaver), (weaver, plait)):
        _wait_for_mtu(one, other, wanted)
    _expect_too_long(theirs, ours, wanted)
    for source, target in ((ours, theirs), (theirs, ours)):
        _expect_traffic(source, target)


def _join(plait: Member, weaver: Member) -> tuple[Container, Container]:
    weaver.start()
    plait.start(weaver)
    wait_for_mesh(plait, weaver)
    return plait.attach(1), weaver.attach(2)


def _wait_for_mtu(one: Member, other: Member, wanted: int) -> None:
    def is_found() -> bool:
        connection = one.connection(other)
        assert connection is not None
        # A search may end a little below if a test was lost.
        return bool(wanted - 8 <= connection["Attrs"].get("mtu", 0) <= wanted)

    wait_until(is_found, f"{one} finds the MTU {wanted}", BLACK_HOLE_SECONDS)


def _expect_too_long(source: Container, target: Container, fits: int, size: int = 3000) -> None:
    result = source.ping(target, size=size, dont_fragment=True, timeout=0.3)
    assert not result.received
    assert result.error == "Message too long"
    assert fits - 8 <= known_path_mtu(source, target) <= fits


def _expect_traffic(source: Container, target: Container) -> None:
    for version in VERSIONS:
        for size in (100, 3000, 40_000):
            assert datagram_arrives(source, target, os.urandom(size), version), (
                f"{size} bytes, IPv{version}, {source} to {target}"
            )
    assert source.ping(target, size=5000).ok
    assert ping6(source, target)
    source.transfer(target, 2_000_000)
