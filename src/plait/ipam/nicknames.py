"""Names that people know peers by: heard by gossip, and kept for peers that are gone but own addresses still."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from plait.mesh.name import InvalidPeerName, PeerName

MAX_NICKNAMES = 65536
"""Peers whose nicknames are kept: more than a mesh can have, so that no message fills the memory."""


class Nicknames:
    """A nickname for each peer that was ever heard of, until it is forgotten."""

    def __init__(self, us: PeerName, ours: str) -> None:
        self._names: dict[PeerName, str] = {us: ours}

    def __iter__(self) -> Iterator[PeerName]:
        return iter(self._names)

    def copy(self) -> dict[PeerName, str]:
        """Give all, to send or to show."""
        return dict(self._names)

    def learn(self, heard: Mapping[PeerName, str]) -> None:
        """Take in what another peer knows."""
        for peer, nickname in heard.items():
            if peer in self._names or len(self._names) < MAX_NICKNAMES:
                self._names[peer] = nickname

    def forget(self, peer: PeerName) -> None:
        """Drop one, if it is there."""
        self._names.pop(peer, None)

    def keep_only(self, is_wanted: Callable[[PeerName], bool]) -> None:
        """Drop all that are not wanted."""
        self._names = {peer: nickname for peer, nickname in self._names.items() if is_wanted(peer)}

    def find(self, given: str) -> PeerName | None:
        """Give the peer of this nickname, else the one of this name, which need not exist; None if it is neither."""
        for peer, nickname in self._names.items():
            if nickname == given:
                return peer
        try:
            return PeerName.parse(given)
        except InvalidPeerName:
            return None

    def suffix(self, peer: PeerName, before: str = "") -> str:
        """Give `(nickname)`, or nothing."""
        return f"{before}({self._names[peer]})" if peer in self._names else ""

    def annotated(self, peers: Iterable[PeerName]) -> str:
        """Write peers with their nicknames, in brackets."""
        return f"[{' '.join(f'{peer}{self.suffix(peer)}' for peer in peers)}]"
