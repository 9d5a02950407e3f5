"""The watch over interfaces that take packets and send none."""

from plait.overlay.transmission import PATIENCE, Reading, TransmissionWatch


def watched(*steps: tuple[float, int, int]) -> list[dict[str, bool]]:
    """What is said at each step: time, packets handed over, packets sent."""
    watch = TransmissionWatch()
    return [watch.look({"eth0": Reading(handed, sent)}, now) for now, handed, sent in steps]


def test_an_interface_that_sends() -> None:
    assert watched(*((now, now * 2, now * 2 + 7) for now in range(20))) == [{}] * 20


def test_a_frozen_ring_and_its_thaw() -> None:
    steps = [(0, 0, 100), (1, 2, 102), (2, 4, 102), (3, 6, 102), (1 + PATIENCE, 8, 102), (5, 10, 102), (6, 12, 103)]
    assert watched(*steps) == [{}, {}, {}, {}, {"eth0": True}, {}, {"eth0": False}]


def test_nothing_to_send_is_not_frozen() -> None:
    assert watched((0, 5, 100), (10, 5, 100), (20, 7, 100)) == [{}] * 3


def test_a_silent_peer_is_not_a_frozen_ring() -> None:
    """What the node hands over for it is sent, and the counter says so."""
    assert watched(*((now, now * 2, 50 + now) for now in range(10))) == [{}] * 10


def test_an_interface_that_is_gone_is_forgotten() -> None:
    watch = TransmissionWatch()
    watch.look({"eth0": Reading(0, 1)}, 0)
    assert watch.look({"eth0": Reading(9, 1)}, 9) == {"eth0": True}
    assert watch.frozen == ["eth0"]
    assert watch.look({}, 10) == {}
    assert watch.frozen == []


def test_counts_that_begin_anew() -> None:
    assert watched((0, 100, 5), (9, 0, 5), (11, 9, 5)) == [{}] * 3
