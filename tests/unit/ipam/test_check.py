"""What a check of addresses finds, each with a cure."""

import random

from plait.ipam.address import Cidr
from plait.ipam.allocator import Allocator
from plait.ipam.check import Use, check
from plait.ipam.paxos import Voter
from plait.ipam.settings import Settings
from plait.mesh.name import PeerName

US, OTHER = PeerName(0x020000000001), PeerName(0x020000000002)
RANGE = Cidr.parse("10.32.0.0/24")


class Alone:
    """A mesh without others."""

    def is_known(self, peer: PeerName) -> bool:
        return peer == US

    def why_unreachable(self, peer: PeerName) -> str | None:
        return "it is gone"

    def quorum(self) -> int:
        return 1


def allocator() -> Allocator:
    made = Allocator(Settings(Voter(US, 1), "us", RANGE, seed=(US, OTHER)), Alone(), random.Random(1))
    made.start(0.0)
    made.allocate(0.0, 1, "c1", RANGE)
    return made


def test_nothing_is_wrong() -> None:
    uses = [Use("c1", "p1", "10.32.0.1/24"), Use("c2", "p2", "10.2.0.1/24"), Use("c2", "p2", "fd00::1/64")]
    assert not list(check(allocator(), uses, {US, OTHER}, None))
    assert not list(check(None, uses, {US}, None))


def test_everything_is_wrong() -> None:
    uses = [
        Use("c2", "p2", "10.32.0.1/24"),
        Use("c3", "p3", "10.32.0.1/16"),
        Use("c4", "p4", "10.32.0.9/24"),
        Use("c5", "p5", "10.32.0.200/24"),
        Use("same", "p5", "10.32.0.200/24"),
    ]
    found = list(check(allocator(), uses, {US}, "Network A overlaps with existing route B on host (device lan)"))
    expected = [
        "Network A overlaps with existing route B on host (device lan)",
        "the address 10.32.0.1 is that of c2 and of c3",
        "c2 has the address 10.32.0.1, which was given to c1",
        "c3 has the address 10.32.0.1, which was given to c1",
        "c4 has the address 10.32.0.9, which this node has not given to anybody, and may give to others",
        "c5 has the address 10.32.0.200, which peer 02:00:00:00:00:02 owns and may give to others",
        "same has the address 10.32.0.200, which peer 02:00:00:00:00:02 owns and may give to others",
        "128 addresses are owned by peer 02:00:00:00:00:02, which is not in the network",
    ]
    assert [each.what for each in found] == expected
    assert all(each.cure for each in found)
