"""One neighbour as the pump knows it: where it is, its keys, what waits to be sent to it, what was counted."""

from plait.mesh.name import NAME_BYTES
from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.crypto import Opener, Sealer
from plait.overlay.sleeve.datagram import encode_plain, encode_records, special_frame
from plait.overlay.sleeve.sender import Batcher, Path
from plait.overlay.sleeve.token_bucket import TokenBucket

LINK_COUNTERS = (
    "rx_datagrams",
    "rx_frames",
    "rx_bytes",
    "rx_rejected",
    "tx_datagrams",
    "tx_frames",
    "tx_bytes",
    "tx_dropped",
)
"""What `Stats.peers` tells of each neighbour; bytes are those of UDP payloads."""

SPECIALS_PER_SECOND = 200.0
"""Special frames of one neighbour passed to the node: an MTU search needs some 20, and anybody can forge plain ones."""

TOO_BIG_PER_SECOND = 5.0
"""Reports of one neighbour's refused datagrams: the session asks the kernel at most once a second."""


class Link:
    """A connection to a neighbour, from SetConnection to RemoveConnection."""

    __slots__ = (
        "_sealer",
        "_us",
        "counters",
        "df",
        "errnos",
        "local_ip",
        "name",
        "opener",
        "path",
        "peer",
        "plain",
        "specials",
        "too_big",
    )

    def __init__(self, us: bytes, wanted: ipc.SetConnection) -> None:
        """`us` is our own name."""
        key, outbound = wanted.key, wanted.outbound
        self.peer = wanted.peer
        self.name = wanted.peer.to_bytes(NAME_BYTES, "big")
        self.local_ip = wanted.local_ip
        self.opener = None if key is None else Opener(key, is_outbound=outbound)
        self.path = Path()
        self.errnos = {True: 0, False: 0}
        """By DF: why the last datagram was refused; 0 after one that was not."""
        self.counters = dict.fromkeys(LINK_COUNTERS, 0)
        self.specials = TokenBucket(SPECIALS_PER_SECOND, SPECIALS_PER_SECOND)
        self.too_big = TokenBucket(TOO_BIG_PER_SECOND, 1.0)
        self._us = us
        self._sealer = (
            None if key is None else Sealer(us, key, is_outbound=outbound, first_sequence=wanted.first_sequence)
        )
        self.df = Batcher(us, self._sealer, df=True, max_payload=self.path.max_payload)
        self.plain = Batcher(us, self._sealer, df=False, max_payload=self.path.max_payload)

    def set_path(self, path: Path) -> None:
        """Use another path for frames from now on."""
        self.path = path
        self.df.max_payload = self.plain.max_payload = path.max_payload

    def special(self, length: int, uid: int | None, df: bool) -> bytes:
        """Give the UDP payload of a special frame. Raises ValueError for a length no frame can have."""
        records = [(self._us, self.name, special_frame(length, uid))]
        if self._sealer is None:
            return encode_plain(self._us, records)
        return self._sealer.seal(encode_records(records), df)
