"""What the pump does with each frame and datagram, without a system call: the node's tables in, work for the shell out.

The shell feeds a burst, then takes `injections` (frames for the bridge), `drain()` (datagrams) and `messages`
(for the node). What cannot go on is counted (counters.py).
"""

import errno as e
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from plait.mesh.name import NAME_BYTES, PeerName
from plait.overlay.ethernet import HEADER_BYTES, FrameKind, classify
from plait.overlay.forwarding import Decision, Forwarder
from plait.overlay.macs import MacTable
from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.crypto import Rejection
from plait.overlay.sleeve.datagram import decode_records, heartbeat_uid, is_all_zero
from plait.overlay.sleeve.fragment import fragment_ipv4
from plait.overlay.sleeve.icmp import too_big_answer
from plait.overlay.sleeve.pump.counters import CORE_COUNTERS
from plait.overlay.sleeve.pump.link import Link
from plait.overlay.sleeve.sender import Path, Way, choose_way
from plait.overlay.sleeve.token_bucket import TokenBucket

MAX_REPORTED_MACS = 4096
"""Entries of the MAC table in one report: building and sending them takes 3 ms in which no frame moves."""

MAX_COMPLAINTS_PER_SWEEP = 5
"""Sentences about contended MAC addresses per minute."""

DEFAULT_LOCAL_MTU = 65535
_VLAN_TAGS = (b"\x81\x00", b"\x88\xa8")
_VLAN_TAG_BYTES = 4

_DF_SOCKET = Way.DF_SOCKET
_PLAIN_SOCKET = Way.PLAIN_SOCKET
_REJECTION_COUNTERS = {
    Rejection.TOO_SHORT: "malformed",
    Rejection.FORGED: "forged",
    Rejection.REPLAYED: "replayed",
}
_QUEUE_FULL = frozenset((e.EAGAIN, e.ENOBUFS, e.ENOMEM))


class Outgoing(NamedTuple):
    """UDP payloads for one neighbour and one socket, in order."""

    link: Link
    df: bool
    payloads: list[bytes]


class PumpCore:
    """The tables of one host's pump. Times are seconds of the monotonic clock."""

    def __init__(self, name: int) -> None:
        self.injections: list[bytes] = []
        self.messages: list[ipc.FromPump] = []
        self.counters = dict.fromkeys(CORE_COUNTERS, 0)
        self._us = name.to_bytes(NAME_BYTES, "big")
        self._macs = MacTable()
        self._forwarder = Forwarder(name, self._macs)
        self._links: dict[bytes, Link] = {}
        self._touched: dict[Link, None] = {}
        self._specials: list[Outgoing] = []
        self._answers = TokenBucket()
        self._set_local_mtu(DEFAULT_LOCAL_MTU)

    # From the node

    def apply(self, message: ipc.ToPump) -> None:
        """Take a message of the node, but for QueryStats."""
        match message:
            case ipc.SetConnection():
                link = Link(self._us, message)
                self._drop_link(link.name)
                self._links[link.name] = link
            case ipc.SetPath(peer, remote, mtu, max_payload, stack_frag):
                known = self._links.get(_name(peer))
                if known is not None:
                    known.set_path(Path(remote, mtu, max_payload, stack_frag))
            case ipc.RemoveConnection(peer):
                self._drop_link(_name(peer))
            case ipc.SetRoutes(known_peers, unicast, broadcast):
                self._forwarder.set_routes(known_peers, unicast, broadcast)
            case ipc.SetLocalMtu(mtu):
                self._set_local_mtu(mtu)
            case ipc.SendSpecial():
                self._send_special(message)
            case ipc.QueryStats():
                pass  # The shell answers: part of the answer is its own.

    # Frames

    def captured(self, frame: bytes, now: float) -> None:
        """Take a frame of a container of this host."""
        decision = self._forwarder.captured(frame, now)
        if decision.copies:
            self.counters["captured"] += 1
            self._transmit(frame, decision, now)

    def received(self, payload: bytes, source: ipc.Endpoint, now: float) -> None:
        """Take a datagram."""
        hop = payload[:NAME_BYTES]
        link = self._links.get(hop)
        if link is None:
            self.counters["unknown_hop"] += 1
            return
        records, at = payload, NAME_BYTES
        if link.opener is not None:
            opened = link.opener.open(payload)
            if isinstance(opened, Rejection):
                self._reject(link, _REJECTION_COUNTERS[opened])
                return
            records, at = opened, 0
        frames, error = decode_records(records, at)
        if error is not None:
            self._reject(link, "malformed")
        counters = link.counters
        counters["rx_datagrams"] += 1
        counters["rx_bytes"] += len(payload)
        counters["rx_frames"] += len(frames)
        decide = self._forwarder.received
        for src, dst, frame in frames:
            decision = decide(hop, src, dst, frame, now)
            if decision.inject:
                if len(frame) <= self._max_injected:
                    self.injections.append(frame)
                else:
                    self._fit(frame, src, dst, now)
            elif decision.is_special:
                self._note_special(link, frame, source, now)
            if decision.copies:
                self._transmit(frame, decision, now)

    def drain(self) -> Iterator[Outgoing]:
        """Give what is to be sent, and forget it."""
        specials, self._specials = self._specials, []
        yield from specials
        touched, self._touched = self._touched, {}
        for link in touched:
            for df, batcher in ((True, link.df), (False, link.plain)):
                payloads = batcher.flush()
                if payloads:
                    yield Outgoing(link, df, payloads)

    def take_injections(self) -> list[bytes]:
        """Give the frames for the bridge, and forget them."""
        injections, self.injections = self.injections, []
        self.counters["injected"] += len(injections)
        return injections

    def take_messages(self) -> list[ipc.FromPump]:
        """Give the messages for the node, and forget them."""
        messages, self.messages = self.messages, []
        return messages

    # What became of datagrams

    def sent(self, link: Link, df: bool, payloads: Iterable[bytes]) -> None:
        """Note that the kernel took datagrams."""
        sizes = [len(payload) for payload in payloads]
        link.errnos[df] = 0
        link.counters["tx_datagrams"] += len(sizes)
        link.counters["tx_bytes"] += sum(sizes)
        self.counters["sent"] += len(sizes)

    def send_failed(self, link: Link, df: bool, datagrams: int, errno: int, now: float) -> None:
        """Note that the kernel, or the shell for it, refused datagrams."""
        link.counters["tx_dropped"] += datagrams
        if errno == e.EMSGSIZE:
            self.counters["refused_too_big"] += datagrams
            if link.too_big.take(now):
                self.messages.append(ipc.PacketTooBig(link.peer))
        elif errno in _QUEUE_FULL:
            self.counters["queue_full"] += datagrams
        else:
            self.counters["send_failed"] += datagrams
            # An ICMP "port unreachable" of a peer that starts or restarts is no failure of the sending side.
            if errno not in (link.errnos[df], e.ECONNREFUSED):
                self.messages.append(ipc.SendFailed(link.peer, errno))
            link.errnos[df] = errno

    # Upkeep

    def sweep(self, now: float) -> None:
        """Forget MAC addresses that fell silent, and tell of contended ones; call once a minute."""
        self._macs.sweep(now)
        contended = self._macs.flapping(now)
        for mac in contended[:MAX_COMPLAINTS_PER_SWEEP]:
            self.messages.append(ipc.Complaint(self._contention(mac)))

    def stats(self) -> ipc.Stats:
        """Give the counters and the MAC table (its first MAX_REPORTED_MACS entries)."""
        macs = self._macs
        counters = self.counters | self._forwarder.dropped
        counters |= {"macs": len(macs), "mac_moves": macs.moves, "macs_evicted": macs.evicted}
        learned = [
            ipc.LearnedMac(mac.hex(":"), int.from_bytes(self._us if peer is None else peer, "big"), last_seen)
            for (mac, peer, last_seen), _ in zip(macs, range(MAX_REPORTED_MACS), strict=False)
        ]
        return ipc.Stats(counters, {link.peer: dict(link.counters) for link in self._links.values()}, learned)

    # Helpers

    def _set_local_mtu(self, mtu: int) -> None:
        self._local_mtu = mtu
        self._max_injected = mtu + HEADER_BYTES

    def _drop_link(self, name: bytes) -> None:
        link = self._links.pop(name, None)
        if link is not None:
            self._touched.pop(link, None)
            self._specials = [outgoing for outgoing in self._specials if outgoing.link is not link]

    def _send_special(self, message: ipc.SendSpecial) -> None:
        link = self._links.get(_name(message.peer))
        if link is None:
            self.counters["no_link"] += 1
        elif link.path.remote is None:
            self.counters["no_address"] += 1
        else:
            payload = link.special(message.length, message.uid, message.df)
            self._specials.append(Outgoing(link, message.df, [payload]))

    def _note_special(self, link: Link, frame: bytes, source: ipc.Endpoint, now: float) -> None:
        if not link.specials.take(now):
            self._reject(link, "special_flood")
            return
        uid = heartbeat_uid(frame)
        self.messages.append(ipc.SpecialReceived(link.peer, source, len(frame), uid, is_all_zero(frame)))

    def _reject(self, link: Link, reason: str) -> None:
        self.counters[reason] += 1
        link.counters["rx_rejected"] += 1

    def _transmit(self, frame: bytes, decision: Decision, now: float) -> None:
        is_broadcast = decision.is_broadcast
        for hop, src, dst in decision.copies:
            link = self._links.get(hop)
            if link is None:
                self.counters["no_link"] += 1
                continue
            way = choose_way(frame, link.path, is_broadcast)
            if way is _DF_SOCKET:
                fits = link.df.add(src, dst, frame)
            elif way is _PLAIN_SOCKET:
                fits = link.plain.add(src, dst, frame)
            else:
                self._transmit_unfit(frame, link, src, dst, way, now)
                continue
            if fits:
                link.counters["tx_frames"] += 1
                self._touched[link] = None
            else:
                self._unfit(link, "unfit")

    def _transmit_unfit(self, frame: bytes, link: Link, src: bytes, dst: bytes, way: Way, now: float) -> None:
        """Do what is left for a frame that no socket can take as it is."""
        match way:
            case Way.INNER_FRAGMENTS:
                pieces = fragment_ipv4(frame, link.path.mtu)
                if not pieces or not all(link.df.add(src, dst, piece) for piece in pieces):
                    self._unfit(link, "unfit")
                    return
                self.counters["fragmented"] += 1
                link.counters["tx_frames"] += len(pieces)
                self._touched[link] = None
            case Way.TOO_BIG:
                link.counters["tx_dropped"] += 1
                self._answer(frame, link.path.mtu, src, dst, now)
            case Way.DROP_NO_ADDRESS:
                self._unfit(link, "no_address")
            case _:
                self._unfit(link, "broadcast_too_big")

    def _unfit(self, link: Link, reason: str) -> None:
        self.counters[reason] += 1
        link.counters["tx_dropped"] += 1

    def _fit(self, frame: bytes, src: bytes, dst: bytes, now: float) -> None:
        """Make a frame of another host fit this host's overlay MTU, or tell its sender that it does not."""
        pieces = fragment_ipv4(frame, self._local_mtu) if classify(frame) is FrameKind.IPV4 else []
        if pieces:
            self.counters["fragmented"] += 1
            self.injections += pieces
        elif len(frame) <= self._max_injected + _VLAN_TAG_BYTES and frame[12:14] in _VLAN_TAGS:
            self.injections.append(frame)
        else:
            self.counters["too_big_here"] += 1
            self._answer(frame, self._local_mtu, src, dst, now)

    def _answer(self, frame: bytes, mtu: int, src: bytes, dst: bytes, now: float) -> None:
        """Tell the sender of a too big frame what fits, as if a router before its destination spoke."""
        answer = too_big_answer(frame, mtu) if self._answers.take(now) else None
        if answer is None:
            self.counters["too_big_unanswered"] += 1
            return
        self.counters["answered"] += 1
        decision = self._forwarder.answer(src, dst)
        if decision.inject:
            self.injections.append(answer)
        self._transmit(answer, decision, now)

    def _contention(self, mac: bytes) -> str:
        owners = [
            "this host" if peer is None else str(PeerName.from_bytes6(peer))
            for peer in {owner for move in self._macs.recent_moves if move.mac == mac for owner in (move.old, move.new)}
        ]
        return (
            f"the MAC address {mac.hex(':')} is claimed by {' and '.join(sorted(owners))} at once, "
            "so its frames go astray: give one of two containers another MAC address, or open the loop between bridges"
        )


def _name(peer: int) -> bytes:
    return peer.to_bytes(NAME_BYTES, "big")
