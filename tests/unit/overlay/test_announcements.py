"""Which peer has which container: every order of words leads all to the same table, and nobody can fill it."""

from itertools import permutations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.mesh.gossip import GossipRefused
from plait.mesh.name import PeerName
from plait.overlay.announcements import MAX_MACS, WORDS_PER_MESSAGE, Announcements, MacNews, Word

US, ONE, TWO, STRANGER = (PeerName(number) for number in (1, 2, 3, 9))
KNOWN = frozenset((US, ONE, TWO))


def mac(number: int) -> bytes:
    return number.to_bytes(6, "big")


def encode(*words: Word) -> bytes:
    return msgspec.msgpack.encode([(int(word.peer), word.version, word.macs) for word in words])


class Node:
    """One peer's table, which counts its changes."""

    def __init__(self, name: PeerName = US) -> None:
        self.changes = 0
        self.table = Announcements(name, KNOWN, self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def hear(self, *words: Word) -> MacNews | None:
        news = self.table.receive(encode(*words), 0.0)
        assert news is None or isinstance(news, MacNews)
        return news


def payloads(news: object) -> list[bytes]:
    assert isinstance(news, MacNews)
    return list(news.encode())


def test_what_one_has_the_others_know() -> None:
    one, us = Node(ONE), Node()
    news = one.table.set_own([mac(7), mac(8)], 1000.0)
    (payload,) = payloads(news)
    assert us.table.receive(payload, 0.0) is not None
    assert us.table.owners() == {mac(7): ONE, mac(8): ONE}
    assert us.table.receive(payload, 0.0) is None, "it is no news twice"
    assert us.changes == 1
    assert one.table.set_own([mac(8), mac(7)], 2000.0) is None, "nothing changed"


def test_a_container_that_moved_belongs_to_whom_spoke_last() -> None:
    words = [Word(ONE, 5, mac(7)), Word(TWO, 6, mac(7)), Word(ONE, 7, b""), Word(TWO, 4, mac(8))]
    for order in permutations(words):
        us = Node()
        for word in order:
            us.hear(word)
        assert us.table.owners() == {mac(7): TWO}


def test_a_peer_that_left_is_forgotten() -> None:
    us = Node()
    us.hear(Word(ONE, 5, mac(7)))
    us.table.forget(ONE)
    assert us.table.owners() == {}
    us.table.forget(ONE)
    assert us.changes == 2


def test_an_earlier_life_of_ours_is_outdone() -> None:
    us = Node()
    us.table.set_own([mac(1)], 10.0)
    news = us.hear(Word(US, 99_000, mac(2)))
    assert payloads(news) == [encode(Word(US, 99_001, mac(1)))]
    assert us.table.owners() == {}


def test_peers_that_nobody_knows_take_no_memory() -> None:
    us = Node()
    assert us.hear(Word(STRANGER, 5, mac(7))) is None
    assert us.table.everything() is None


def test_broadcasts_are_passed_on_and_many_words_are_cut_into_messages() -> None:
    us = Node()
    words = [Word(number, 1, mac(number)) for number in range(2, 2 + WORDS_PER_MESSAGE + 1)]
    news = us.table.receive_broadcast(ONE, encode(*words), 0.0)
    assert [len(msgspec.msgpack.decode(payload)) for payload in payloads(news)] == [WORDS_PER_MESSAGE, 1]
    assert us.table.owners() == {mac(2): ONE, mac(3): TWO}


def test_news_that_wait_are_merged() -> None:
    older, newer = MacNews([Word(2, 1, b""), Word(3, 5, b"")]), MacNews([Word(2, 2, mac(1)), Word(3, 4, mac(2))])
    assert (
        payloads(older.merged(newer))
        == payloads(newer.merged(older))
        == payloads(MacNews([Word(2, 2, mac(1)), Word(3, 5, b"")]))
    )


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode([[2, 1]]),
        msgspec.msgpack.encode([Word(0, 1, b"")]),
        msgspec.msgpack.encode([Word(1 << 48, 1, b"")]),
        msgspec.msgpack.encode([Word(2, -1, b"")]),
        msgspec.msgpack.encode([Word(2, 1, b"12345")]),
        msgspec.msgpack.encode([Word(2, 1, bytes(6 * (MAX_MACS + 1)))]),
    ],
)
def test_what_cannot_be_read_is_refused(payload: bytes) -> None:
    us = Node()
    for receive in (us.table.receive, lambda data, now: us.table.receive_broadcast(ONE, data, now)):
        with pytest.raises(GossipRefused):
            receive(payload, 0.0)
    with pytest.raises(GossipRefused):
        us.table.receive_unicast(ONE, payload, 0.0)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(payload: bytes) -> None:
    us = Node()
    try:
        us.table.receive(payload, 0.0)
    except GossipRefused:
        assert us.table.owners() == {}
