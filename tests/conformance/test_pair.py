"""One node of plait and one weaver: what passes between their containers, and what each says of the other."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from conformance.member import Member, wait_for_mesh
from conformance.mesh import KINDS, PASSWORDS, Kind, Mesh
from conformance.traffic import Version, copies, datagram_arrives, interface_mtu, known_path_mtu, ping6
from plait.testing.lab import Container, Lab, missing_features

UNDERLAY_MTU = 1500
OVERHEAD = {None: 62, "s3cret": 86}
"""Bytes that sleeve adds, plain and encrypted."""


@dataclass
class Pair:
    mesh: Mesh
    plait: Member
    weaver: Member
    containers: dict[Kind, Container]
    caller: Kind

    def ways(self) -> list[tuple[Container, Container]]:
        ours, theirs = self.containers["plait"], self.containers["weaver"]
        return [(ours, theirs), (theirs, ours)]

    @property
    def mtu(self) -> int:
        return UNDERLAY_MTU - OVERHEAD[self.mesh.password]


PING_HEADERS = 28
"""IPv4 and ICMP."""


@pytest.fixture(
    scope="module",
    params=[(caller, password) for caller in KINDS for password in PASSWORDS],
    ids=lambda param: f"{param[0]}-calls{'-encrypted' if param[1] else ''}",
)
def joined(request: pytest.FixtureRequest, binary: str) -> Iterator[Pair]:
    caller, password = request.param
    if missing := missing_features():
        pytest.skip("; ".join(missing))
    with Lab() as lab:
        mesh = Mesh(lab, password)
        plait, weaver = mesh.plait(), mesh.weaver()
        first, second = (plait, weaver) if caller == "weaver" else (weaver, plait)
        first.start()
        second.start(first)
        wait_for_mesh(plait, weaver)
        yield Pair(mesh, plait, weaver, {"plait": plait.attach(1), "weaver": weaver.attach(2)}, caller)
        mesh.show_logs()


@pytest.fixture
def pair(joined: Pair) -> Iterator[Pair]:
    yield joined
    joined.mesh.check()


def test_both_show_the_connection(pair: Pair) -> None:
    wanted = {"name": "sleeve", "mtu": pair.mtu} | ({"encrypted": True} if pair.mesh.password else {})
    for one, other in ((pair.plait, pair.weaver), (pair.weaver, pair.plait)):
        connection = one.connection(other)
        assert connection is not None
        assert connection["State"] == "established"
        assert connection["Outbound"] == (pair.caller == one.kind)
        assert connection["Attrs"] == wanted


def test_both_know_the_same_peers(pair: Pair) -> None:
    assert pair.plait.peers() == pair.weaver.peers()
    assert [peer["NickName"] for peer in pair.plait.peers()] == ["h1", "h2"]


def test_pings(pair: Pair) -> None:
    for source, target in pair.ways():
        assert source.ping(target).ok
        assert source.ping(target, size=1000, dont_fragment=True).ok
        assert source.ping(target, size=20_000).ok
        assert ping6(source, target)


def test_tcp_transfers(pair: Pair) -> None:
    for source, target in pair.ways():
        source.transfer(target, 5_000_000)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("size", [3000, 40_000])
def test_large_datagrams(pair: Pair, size: int, version: Version) -> None:
    for source, target in pair.ways():
        assert datagram_arrives(source, target, os.urandom(size), version), f"{source} to {target}"


def test_too_large_without_fragmentation_is_refused_with_the_size_that_fits(pair: Pair) -> None:
    for source, target in pair.ways():
        if interface_mtu(source) > pair.mtu:  # what fits the interface and not the path is answered by a node
            size = interface_mtu(source) - PING_HEADERS
            assert not source.ping(target, size=size, dont_fragment=True, timeout=0.3).received
        result = source.ping(target, size=2000, dont_fragment=True, timeout=0.3)
        assert not result.received
        assert result.error == "Message too long"
        # An interface of plait's takes what fits between plait nodes, which is less.
        assert known_path_mtu(source, target) == min(pair.mtu, interface_mtu(source))


@pytest.mark.parametrize("group", ["10.47.255.255", "224.0.0.251", "239.1.2.3", "ff02::1"])
def test_one_copy_for_a_group(pair: Pair, group: str) -> None:
    for source, target in pair.ways():
        assert copies(source, [target], group) == [1]
