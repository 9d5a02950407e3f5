"""Which peer has which containers' MAC addresses, as the peers tell each other; pure. Weave peers pass it on unread.

Without it a frame for a container that has not spoken yet is flooded to all peers. Each peer alone says what it has, so
the newest word of a peer replaces its older ones. Channel and format: docs/protocol/fastdp.md.
"""

from collections.abc import Callable, Container, Iterable

import msgspec

from plait.mesh.gossip import GossipData, GossipRefused
from plait.mesh.name import PeerName

CHANNEL = "plait-macs"

MAX_MACS = 1024
"""Addresses of one peer: a Linux bridge has at most so many ports. What is above is found by flooding, as in Weave."""

WORDS_PER_MESSAGE = 256
"""Peers in one payload: with 64 containers each, some 130 kB."""

MAC_BYTES = 6
_MAX_NAME = (1 << 48) - 1


class Word(msgspec.Struct, frozen=True, array_like=True):
    """What a peer has; a greater `version` is newer. `macs` are the addresses' bytes, one behind the other."""

    peer: int
    version: int
    macs: bytes


_decoder = msgspec.msgpack.Decoder(list[Word])
_encoder = msgspec.msgpack.Encoder()


class MacNews:
    """Words that wait to be sent, the newest of each peer."""

    def __init__(self, words: Iterable[Word]) -> None:
        self._words = {word.peer: word for word in words}

    def merged(self, newer: GossipData) -> GossipData:
        """Give the newer word of each peer."""
        if not isinstance(newer, MacNews):
            raise TypeError("announced addresses merge only with their like")
        words = dict(self._words)
        for peer, word in newer._words.items():
            if peer not in words or words[peer].version < word.version:
                words[peer] = word
        return MacNews(words.values())

    def encode(self) -> Iterable[bytes]:
        """Give the payloads."""
        words = [self._words[peer] for peer in sorted(self._words)]
        for start in range(0, len(words), WORDS_PER_MESSAGE):
            yield _encoder.encode(words[start : start + WORDS_PER_MESSAGE])


class Announcements:
    """The owner of the channel. `known` are the peers of the mesh: words of others are not kept."""

    def __init__(
        self,
        us: PeerName,
        known: Container[PeerName],
        on_change: Callable[[], None],
        *,
        item_bytes: int = MAC_BYTES,
    ) -> None:
        """`item_bytes`: length of an address; other channels tell other addresses in the same way."""
        self._us = us
        self._item_bytes = item_bytes
        self._known = known
        self._on_change = on_change
        self._words: dict[PeerName, Word] = {}

    def owners(self) -> dict[bytes, PeerName]:
        """Give the peer behind each address of others; of two that claim one, the one that spoke last."""
        owners: dict[bytes, PeerName] = {}
        for peer, word in sorted(self._words.items(), key=lambda item: item[1].version):
            if peer != self._us:
                owners.update(dict.fromkeys(_split(word.macs, self._item_bytes), peer))
        return owners

    def set_own(self, macs: Iterable[bytes], wall_time: float) -> GossipData | None:
        """Take our containers' addresses; the answer is what the others must hear, None if they know.

        `wall_time`: seconds since the epoch, so that a node that is started again is heard.
        """
        joined = b"".join(sorted(set(macs))[:MAX_MACS])
        before = self._words.get(self._us)
        if (before.macs if before else b"") == joined:
            return None
        version = max(int(wall_time * 1000), before.version + 1 if before else 0)
        self._words[self._us] = Word(int(self._us), version, joined)
        return MacNews([self._words[self._us]])

    def forget(self, peer: PeerName) -> None:
        """Forget a peer that left the mesh."""
        if self._words.pop(peer, None) is not None:
            self._on_change()

    # Gossiper

    def everything(self) -> GossipData | None:
        """All words."""
        return MacNews(self._words.values()) if self._words else None

    def receive(self, payload: bytes, now: float) -> GossipData | None:
        """Merge; what was newer is news. Raises GossipRefused for what cannot be read."""
        accepted = [PeerName(word.peer) for word in _decode(payload, self._item_bytes) if self._accept(word)]
        if not accepted:
            return None
        self._on_change()
        return MacNews(self._words[peer] for peer in accepted)

    def receive_broadcast(self, source: PeerName, payload: bytes, now: float) -> GossipData | None:
        """Merge what a peer told all, and pass it on along its tree."""
        words = _decode(payload, self._item_bytes)
        accepted = [word for word in words if self._accept(word)]
        if accepted:
            self._on_change()
        return MacNews(words)

    def receive_unicast(self, source: PeerName, payload: bytes, now: float) -> None:
        """Refuse: nobody is told alone."""
        raise GossipRefused(f"peer {source} sent addresses of containers as a unicast, which is not agreed")

    def _accept(self, word: Word) -> bool:
        peer = PeerName(word.peer)
        before = self._words.get(peer)
        if peer == self._us:
            if before is None or before.version < word.version:  # of our earlier life: speak up with a newer version
                self._words[peer] = Word(word.peer, word.version + 1, before.macs if before else b"")
                return True
            return False
        if peer not in self._known or (before is not None and before.version >= word.version):
            return False
        self._words[peer] = word
        return True


def _decode(payload: bytes, item_bytes: int) -> list[Word]:
    try:
        words = _decoder.decode(payload)
    except msgspec.DecodeError as error:
        raise GossipRefused(f"addresses of containers that cannot be read ({error})") from error
    for word in words:
        if not 0 < word.peer <= _MAX_NAME or word.version < 0:
            raise GossipRefused(
                f"addresses of containers of a peer {word.peer:x} in version {word.version}: no such peer"
            )
        if len(word.macs) % item_bytes or len(word.macs) > MAX_MACS * item_bytes:
            raise GossipRefused(
                f"{len(word.macs)} bytes of container addresses: not up to {MAX_MACS} addresses of {item_bytes} bytes"
            )
    return words


def _split(macs: bytes, item_bytes: int) -> list[bytes]:
    return [macs[start : start + item_bytes] for start in range(0, len(macs), item_bytes)]
