"""Which addresses are in use on two hosts."""

from plait.duplicates import ADDRESS_BYTES, held, packed, shared
from plait.ipam.check import Use
from plait.mesh.name import PeerName

OTHER = PeerName(2)


def test_addresses_of_both_versions_have_one_length() -> None:
    assert len(packed("10.40.0.7")) == len(packed("fd00::7")) == ADDRESS_BYTES
    assert packed("10.40.0.7") != packed("::a28:7")


def test_what_two_hosts_have_is_found_with_its_holder_and_the_peer() -> None:
    ours = held([Use("web", "1", "10.40.0.7/24"), Use("db", "2", "fd00::1/64"), Use("idle", "3", "10.40.0.9/24")])
    theirs = {packed("10.40.0.7"): OTHER, packed("fd00::1"): OTHER, packed("10.40.0.8"): OTHER}
    assert shared(ours, theirs) == {"10.40.0.7": ("web", OTHER), "fd00::1": ("db", OTHER)}
    assert shared(ours, {}) == {}
