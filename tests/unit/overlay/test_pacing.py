"""Pacing towards Weave peers: order, rate, bounds."""

from plait.overlay.sleeve.pump.link import Socket
from plait.overlay.sleeve.pump.pacing import BURST, DATAGRAMS_PER_SECOND, INTERVAL, MAX_WAITING, Pacer


def numbered(count: int) -> list[bytes]:
    return [number.to_bytes(2, "big") for number in range(count)]


def test_a_burst_leaves_at_once_and_the_rest_at_the_rate() -> None:
    pacer = Pacer()
    pacer.put(Socket.DF, numbered(300))
    now, taken = 0.0, [each.payload for each in pacer.take(0.0)]
    assert len(taken) == BURST
    while pacer.is_waiting:
        now += INTERVAL
        taken += [each.payload for each in pacer.take(now)]
        assert len(taken) <= BURST + now * DATAGRAMS_PER_SECOND + 1
    assert taken == numbered(300)
    assert pacer.dropped == 0


def test_sockets_keep_their_order() -> None:
    pacer = Pacer()
    pacer.put(Socket.DF, [b"1", b"2"])
    pacer.put(Socket.PLAIN, [b"3"])
    pacer.put(Socket.DF, [b"4"])
    assert [(each.socket, each.payload) for each in pacer.take(0.0)] == [
        (Socket.DF, b"1"),
        (Socket.DF, b"2"),
        (Socket.PLAIN, b"3"),
        (Socket.DF, b"4"),
    ]


def test_what_finds_no_room_is_counted() -> None:
    pacer = Pacer()
    pacer.put(Socket.DF, numbered(MAX_WAITING + 7))
    pacer.put(Socket.DF, [b"one more"])
    assert pacer.dropped == 8
    assert [each.payload for each in pacer.take(0.0)] == numbered(MAX_WAITING)[: int(BURST)]
