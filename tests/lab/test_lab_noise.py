"""A path of the lab loses, reorders and duplicates datagrams as it says, and nothing else."""

import pytest

from plait.testing.lab import Host, Lab, LabError, UdpResult, wait_until

COUNT = 4000


def pair(lab: Lab) -> tuple[Host, Host]:
    return lab.host("h1"), lab.host("h2")


def flow(one: Host, other: Host) -> UdpResult:
    return one.send_udp(other, COUNT, size=200, interval=0.0)


def test_loss_reordering_and_duplicates_are_about_as_asked(lab: Lab) -> None:
    one, other = pair(lab)
    made = lab.impair(one, other, loss=0.05, reorder=0.04, duplicate=0.03, seed=7)
    there, back = flow(one, other), flow(other, one)
    for seen in (there, back):  # six standard deviations
        assert 117 <= seen.sent - seen.received <= 283
        assert 85 <= seen.overtaken <= 350
        assert 50 <= seen.duplicates <= 185
    wait_until(lambda: made.counts().seen == 2 * COUNT, "all are counted")
    counts = made.counts()
    assert counts.lost == 2 * COUNT - there.received - back.received
    assert counts.duplicated == there.duplicates + back.duplicates
    lab.heal()
    healed = flow(one, other)
    assert (healed.received, healed.duplicates, healed.overtaken) == (COUNT, 0, 0)


def test_the_same_seed_harms_the_same_datagrams(lab: Lab) -> None:
    one, other = pair(lab)
    runs = []
    for seed in (1, 1, 2):
        lab.impair(one, other, loss=0.1, reorder=0.1, duplicate=0.1, seed=seed)
        runs.append(one.send_udp(other, 300).numbers)
    assert sorted(runs[0]) == sorted(runs[1]) != sorted(runs[2])


def test_only_udp_between_the_two_is_impaired(lab: Lab) -> None:
    one, other = pair(lab)
    third = lab.host("h3")
    lab.impair(one, other, loss=1.0)
    assert one.send_udp(other, 5).received == other.send_udp(one, 5).received == 0
    assert one.send_udp(third, 5).received == other.send_udp(third, 5).received == 5
    assert one.ping(other).ok
    assert one.transfer(other, 100_000).transferred_bytes == 100_000


def test_checksums_and_long_datagrams_survive(lab: Lab) -> None:
    one, other = pair(lab)
    lab.impair(one, other)
    assert one.send_udp(other, 50, size=1472, dont_fragment=True).numbers == tuple(range(50))
    assert one.send_udp(other, 50, size=5000).received == 50  # in fragments
    lab.set_mtu(other, 1400)
    assert one.send_udp(other, 2, size=1472, dont_fragment=True).received == 0


def test_the_way_to_a_router_can_be_impaired(lab: Lab) -> None:
    left, right = lab.switch(), lab.switch()
    router = lab.router("r", left, right)
    one, other = lab.host("h1", on=[left]), lab.host("h2", on=[right])
    with pytest.raises(LabError, match="no common switch"):
        lab.impair(one, other)
    lab.impair(one, router, loss=0.5)
    assert 20 <= one.send_udp(other, 100).received <= 80


def test_what_does_not_go_together_is_said(lab: Lab) -> None:
    one, other = pair(lab)
    with pytest.raises(LabError, match="loss is a share of the datagrams from 0 to 1, not 5"):
        lab.impair(one, other, loss=5)
    lab.impair(one, other)
    with pytest.raises(LabError, match="call `heal` before"):
        lab.super_wire(True)
    with pytest.raises(LabError, match="impaired already"):
        lab.cut(one, other, udp=[6783])
    lab.cut(one, other, tcp=[6783])
    lab.heal(one)
    lab.super_wire(True)
    assert one.send_udp(other, 5).received == 5
