"""What waits on a connection: news merge, messages keep their order, memory is bounded."""

from collections.abc import Iterable

from plait.mesh import messages
from plait.mesh.gossip import MAX_PENDING_MESSAGES, GossipData, Outbox
from plait.mesh.name import PeerName
from plait.mesh.surrogate import MAX_WAITING_PAYLOADS, Surrogate

OURS, OTHER, THIRD = PeerName(1), PeerName(2), PeerName(3)


class Words:
    """News that merge into one payload."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def merged(self, newer: GossipData) -> GossipData:
        assert isinstance(newer, Words)
        return Words(*self.words, *newer.words)

    def encode(self) -> Iterable[bytes]:
        return [" ".join(self.words).encode()]


def drain(outbox: Outbox) -> list[messages.Message]:
    taken = []
    while (message := outbox.next_message()) is not None:
        taken.append(messages.decode(message))
    return taken


def test_gossip_of_one_channel_merges_while_it_waits() -> None:
    outbox = Outbox(OURS)
    outbox.gossip("a", Words("one"))
    outbox.gossip("a", Words("two"))
    assert drain(outbox) == [messages.Gossip("a", OURS, b"one two")]
    assert not outbox


def test_broadcasts_merge_per_origin_and_come_after_gossip() -> None:
    outbox = Outbox(OURS)
    outbox.broadcast("a", OTHER, Words("one"))
    outbox.broadcast("a", THIRD, Words("three"))
    outbox.broadcast("a", OTHER, Words("two"))
    outbox.gossip("a", Words("all"))
    assert drain(outbox) == [
        messages.Gossip("a", OURS, b"all"),
        messages.GossipBroadcast("a", OTHER, b"one two"),
        messages.GossipBroadcast("a", THIRD, b"three"),
    ]


def test_channels_take_turns() -> None:
    outbox = Outbox(OURS)
    for origin in (OTHER, THIRD):
        outbox.broadcast("a", origin, Words("x"))
    outbox.gossip("b", Words("y"))
    channels = [message.channel for message in drain(outbox) if not isinstance(message, messages.Heartbeat)]  # type: ignore[union-attr]
    assert channels == ["a", "b", "a"]


def test_ready_messages_overtake_gossip_and_are_bounded() -> None:
    outbox = Outbox(OURS)
    outbox.gossip("a", Words("x"))
    heartbeat = messages.encode(messages.Heartbeat())
    for _ in range(MAX_PENDING_MESSAGES):
        assert outbox.put(heartbeat)
    assert not outbox.put(heartbeat)
    assert outbox.dropped == 1
    taken = drain(outbox)
    assert len(taken) == MAX_PENDING_MESSAGES + 1
    assert taken[-1] == messages.Gossip("a", OURS, b"x")


def test_surrogate_passes_gossip_on_once_per_interval_and_broadcasts_always() -> None:
    surrogate = Surrogate(interval=30.0)
    first = surrogate.receive(b"news", now=0.0)
    assert first is not None
    assert list(first.encode()) == [b"news"]
    assert surrogate.receive(b"news", now=29.0) is None
    assert surrogate.receive(b"news", now=31.0) is not None
    for _ in range(2):
        relayed = surrogate.receive_broadcast(OTHER, b"cast", now=0.0)
        assert relayed is not None
        assert list(relayed.encode()) == [b"cast"]
    assert surrogate.everything() is None


def test_surrogate_news_merge_to_a_bounded_list() -> None:
    surrogate = Surrogate(interval=30.0)
    news = surrogate.receive_broadcast(OTHER, b"0", now=0.0)
    assert news is not None
    for number in range(1, MAX_WAITING_PAYLOADS + 10):
        newer = surrogate.receive_broadcast(OTHER, str(number).encode(), now=0.0)
        assert newer is not None
        news = news.merged(newer)
    payloads = list(news.encode())
    assert len(payloads) == MAX_WAITING_PAYLOADS
    assert payloads[-1] == str(MAX_WAITING_PAYLOADS + 9).encode()
