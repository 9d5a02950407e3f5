"""Three members of both kinds: all joined with all, and two that only a third one joins."""

import os
from functools import partial
from itertools import permutations

import pytest

from conformance.member import Member, wait_for_mesh
from conformance.mesh import PASSWORDS, Kind, Mesh
from conformance.traffic import copies, datagram_arrives, known_path_mtu, ping6
from plait.testing.lab import Container, wait_until

Kinds = tuple[Kind, Kind, Kind]
PLAIN, ENCRYPTED = PASSWORDS
MIXES: list[tuple[Kinds, str | None]] = [
    (("plait", "weaver", "plait"), PLAIN),
    (("weaver", "plait", "weaver"), ENCRYPTED),
]
LINES: list[tuple[Kinds, str | None]] = [
    (("weaver", "plait", "weaver"), ENCRYPTED),
    (("plait", "weaver", "plait"), ENCRYPTED),
    (("weaver", "plait", "plait"), PLAIN),
    (("weaver", "weaver", "plait"), PLAIN),
]
# What the last switch lets pass: the MTU of its port and, for a tag that is not there, 4 bytes.
SMALL_PATH = range(1300 - 62 - 4, 1300 - 62 + 4 + 1)


def _id(value: Kinds | str | None) -> str:
    return "-".join(value) if isinstance(value, tuple) else "encrypted" if value else "plain"


@pytest.mark.parametrize(("kinds", "password"), MIXES, ids=_id)
def test_full_mesh(mesh: Mesh, kinds: Kinds, password: str | None) -> None:
    """The third is told of the first only, and finds the second by itself."""
    mesh.password = password
    first, second, third = members = [mesh.member(kind) for kind in kinds]
    first.start()
    second.start(first)
    third.start(first)
    wait_for_mesh(*members)
    for one, other in permutations(members, 2):
        wait_until(partial(_is_neighbour, one, other), f"{one} is joined with {other}", 20.0)
    wait_until(lambda: first.peers() == second.peers() == third.peers(), "all know the same", 20.0)
    containers = [member.attach(number) for number, member in enumerate(members, 1)]
    _expect_pings(containers)
    _expect_single_copies(containers)
    for source, target in permutations(containers, 2):
        source.transfer(target, 1_000_000)


@pytest.mark.parametrize(("kinds", "password"), LINES, ids=_id)
def test_relay(mesh: Mesh, kinds: Kinds, password: str | None) -> None:
    """There is no way between the first and the last host but through the middle one."""
    mesh.password = password
    near, relay, far = members = [mesh.member(kind) for kind in kinds]
    mesh.lab.cut(near.host, far.host)
    relay.start()
    near.start(relay)
    far.start(relay)
    wait_for_mesh(*members)
    assert not _is_neighbour(near, far)
    containers = [member.attach(number) for number, member in enumerate(members, 1)]
    _expect_pings(containers)
    _expect_single_copies(containers)
    for source, target in permutations((containers[0], containers[2])):
        source.transfer(target, 2_000_000)
        assert datagram_arrives(source, target, os.urandom(3000), 4)
        assert datagram_arrives(source, target, os.urandom(3000), 6)


def test_relay_onto_a_smaller_path_says_what_fits(mesh: Mesh) -> None:
    near, relay, far = mesh.weaver(), mesh.plait(), mesh.weaver()
    mesh.lab.cut(near.host, far.host)
    mesh.lab.set_mtu(far.host, 1300)
    relay.start()
    near.start(relay)
    far.start(relay)
    wait_for_mesh(near, relay, far)
    source, target = near.attach(1), far.attach(3)
    assert source.ping(target).ok

    def is_told() -> bool:
        result = source.ping(target, size=1300, dont_fragment=True, timeout=0.3)
        return result.error == "Message too long" and known_path_mtu(source, target) in SMALL_PATH

    wait_until(is_told, "the sender knows what the path carries", 30.0)
    source.transfer(target, 2_000_000)


def _is_neighbour(one: Member, other: Member) -> bool:
    connection = one.connection(other)
    return connection is not None and connection["State"] == "established"


def _expect_pings(containers: list[Container]) -> None:
    for source, target in permutations(containers, 2):
        assert source.ping(target, timeout=3.0).ok, f"{source} to {target}"
        assert ping6(source, target), f"{source} to {target}"


def _expect_single_copies(containers: list[Container]) -> None:
    for source in containers:
        others = [each for each in containers if each is not source]
        assert copies(source, others, "10.47.255.255") == [1, 1], f"from {source}"
        assert copies(source, others, "ff02::1") == [1, 1], f"from {source}"
