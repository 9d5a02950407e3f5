"""Questions from one plait node to another, through the mesh; pure. A Weave peer passes them on and answers none.

A question has a topic, which says who answers it, and a number that comes back with the answer. The payload is msgpack:
`[number, is_answer, topic, body]`. Neither questions nor answers are kept: who gets no answer asks again.
"""

from collections import Counter
from collections.abc import Callable

import msgspec

from plait.mesh.gossip import GossipData, GossipRefused
from plait.mesh.name import PeerName

CHANNEL = "plait-ask"

MAX_BODY_BYTES = 1 << 20
"""Of a question or an answer; a mesh message has at most ten times that."""

MAX_WAITING = 256
"""Questions of ours without an answer, and questions of others that are being answered."""

MAX_WAITING_OF_PEER = 4
"""Of the latter, those of one peer."""

_MAX_TOPIC = 64


class _Message(msgspec.Struct, frozen=True, array_like=True):
    number: int
    is_answer: bool
    topic: str
    body: bytes


_decoder = msgspec.msgpack.Decoder(_Message)


class Questions:
    """The owner of the channel. Callbacks: `on_question(source, number, topic, body)`, `on_answer(number, body)`."""

    def __init__(
        self, on_question: Callable[[PeerName, int, str, bytes], None], on_answer: Callable[[int, bytes], None]
    ) -> None:
        self._on_question = on_question
        self._on_answer = on_answer
        self._asked: dict[int, tuple[PeerName, str]] = {}
        self._answering: Counter[PeerName] = Counter()

    def ask(self, number: int, peer: PeerName, topic: str, body: bytes) -> bytes | None:
        """Give the payload for a peer; None if too many questions wait. `number` must not be guessable by others."""
        if len(self._asked) >= MAX_WAITING:
            return None
        self._asked[number] = (peer, topic)
        return msgspec.msgpack.encode(_Message(number, False, topic, body))

    def give_up(self, number: int) -> None:
        """Expect no answer any more."""
        self._asked.pop(number, None)

    def answer(self, source: PeerName, number: int, topic: str, body: bytes) -> bytes:
        """Give the payload that answers a question."""
        self.refuse(source)
        return msgspec.msgpack.encode(_Message(number, True, topic, body[:MAX_BODY_BYTES]))

    def refuse(self, source: PeerName) -> None:
        """Leave a question of a peer without an answer."""
        self._answering -= Counter({source: 1})

    # Gossiper

    def everything(self) -> GossipData | None:
        """Nothing: questions concern two peers."""
        return None

    def receive(self, payload: bytes, now: float) -> GossipData | None:
        """Refuse."""
        raise GossipRefused("a question was gossiped to a neighbour, which is not agreed")

    def receive_broadcast(self, source: PeerName, payload: bytes, now: float) -> GossipData | None:
        """Refuse."""
        raise GossipRefused(f"peer {source} asked everybody at once, which is not agreed")

    def receive_unicast(self, source: PeerName, payload: bytes, now: float) -> None:
        """Take a question or an answer. What cannot be read, or nobody waits for, is dropped."""
        try:
            message = _decoder.decode(payload)
        except msgspec.DecodeError:
            return  # it may have come through a neighbour that is not to blame
        if len(message.body) > MAX_BODY_BYTES or len(message.topic) > _MAX_TOPIC:
            return
        if not message.is_answer:
            if self._answering[source] < MAX_WAITING_OF_PEER and self._answering.total() < MAX_WAITING:
                self._answering[source] += 1
                self._on_question(source, message.number, message.topic, message.body)
        elif self._asked.get(message.number) == (source, message.topic):
            del self._asked[message.number]
            self._on_answer(message.number, message.body)
