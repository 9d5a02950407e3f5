"""What the pump does with each frame and datagram, without a system call: the node's tables in, work for the shell out.

Generators give work that must be done before they go on: datagrams to send, frames for the bridge. What cannot go on
is counted (counters.py). `raw` is a frame behind its virtio-net header, as a tap has it.
"""

import errno as e
from collections.abc import Iterator
from typing import NamedTuple

from plait.mesh.name import NAME_BYTES, PeerName
from plait.overlay.ethernet import HEADER_BYTES, FrameKind, classify
from plait.overlay.forwarding import Decision, Forwarder
from plait.overlay.macs import MacTable
from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.cutting import Cutter
from plait.overlay.sleeve.datagram import heartbeat_uid, is_all_zero
from plait.overlay.sleeve.fragment import fragment_ipv4
from plait.overlay.sleeve.icmp import too_big_answer
from plait.overlay.sleeve.moved import Delivered, Sent
from plait.overlay.sleeve.plait1.engine import Buffer, Engine
from plait.overlay.sleeve.plait1.superframe import PLAIN_VNET, layout
from plait.overlay.sleeve.plait1.wire import VNET_BYTES
from plait.overlay.sleeve.pump.counters import CORE_COUNTERS
from plait.overlay.sleeve.pump.labels import labels, strip_labels, without_labels
from plait.overlay.sleeve.pump.link import (
    Acknowledged,
    Injection,
    Link,
    Outgoing,
    Payloads,
    ProbeSeen,
    Socket,
    Special,
    SuperFrame,
    Verdict,
)
from plait.overlay.sleeve.pump.merging import merge_udp
from plait.overlay.sleeve.pump.plait1_link import Plait1Link
from plait.overlay.sleeve.pump.weave_link import WeaveLink
from plait.overlay.sleeve.sender import Path
from plait.overlay.sleeve.token_bucket import TokenBucket
from plait.overlay.switch import PLAIT1

MAX_REPORTED_MACS = 4096
"""Entries of the MAC table in one report: building and sending them takes 3 ms in which no frame moves."""

MAX_COMPLAINTS_PER_SWEEP = 5
"""Sentences about contended MAC addresses per minute."""

DEFAULT_LOCAL_MTU = 65535
_VLAN_TAGS = (b"\x81\x00", b"\x88\xa8")
_VLAN_TAG_BYTES = 4
_HEAD_END = VNET_BYTES + HEADER_BYTES
_MACS_BYTES = 12
_MACS_END = VNET_BYTES + _MACS_BYTES
_LABELS_END = _MACS_END + 8
_LONGEST_HEAD = 256
"""More than a blob can have, so all headers of a super-frame are within it."""

_QUEUE_FULL = frozenset((e.EAGAIN, e.ENOBUFS, e.ENOMEM))


class ToBridge(NamedTuple):
    """Frames to be written into the tap, each in pieces."""

    frames: list[list[Buffer]]


Work = Outgoing | ToBridge


class PumpCore:
    """The tables of one host's pump. Times are seconds of the monotonic clock."""

    def __init__(self, name: int, engine: Engine, cutter: Cutter, *, udp_super_frames: bool = True) -> None:
        """`udp_super_frames`: the kernel here takes them from the pump (Linux 6.2)."""
        self.messages: list[ipc.FromPump] = []
        self.counters = dict.fromkeys(CORE_COUNTERS, 0)
        self._us = name.to_bytes(NAME_BYTES, "big")
        self._engine = engine
        self._cutter = cutter
        self._has_udp_super_frames = udp_super_frames
        self._macs = MacTable()
        self._forwarder = Forwarder(name, self._macs)
        self._links: dict[bytes, Link] = {}
        self._touched: dict[Link, None] = {}
        self._ready: list[Outgoing] = []
        self._injections: list[list[Buffer]] = []
        self._answers = TokenBucket()
        self._short_ids: dict[int, bytes] = {}
        self._kernel_mtus: dict[bytes, int] = {}
        self._is_labelled = False
        """The last frame of a container came with the kernel's labels."""
        self.last_injected = b""
        """The addresses of the last frame that went into the bridge."""
        self._set_local_mtu(DEFAULT_LOCAL_MTU)

    # From the node

    def apply(self, message: ipc.ToPump, now: float) -> None:
        """Take a message of the node, but for QueryStats."""
        match message:
            case ipc.SetConnection():
                link = self._new_link(message)
                self._drop_link(link.name)
                self._links[link.name] = link
            case ipc.SetPath(peer, remote, mtu, max_payload, stack_frag):
                known = self._links.get(_name(peer))
                if known is not None:
                    known.set_path(Path(remote, mtu, max_payload, stack_frag))
            case ipc.SetGeneration(peer, generation):
                known = self._links.get(_name(peer))
                if isinstance(known, Plait1Link):
                    known.set_generation(generation)
            case ipc.RemoveConnection(peer):
                self._drop_link(_name(peer))
            case ipc.SetRoutes(known_peers, unicast, broadcast):
                self._forwarder.set_routes(known_peers, unicast, broadcast)
            case ipc.SetKernel(short_ids, carried):
                self._short_ids = {short_id: _name(peer) for short_id, peer in short_ids.items()}
                self._kernel_mtus = {_name(peer): mtu for peer, mtu in carried.items()}
                self._forwarder.set_carried(self._kernel_mtus)
            case ipc.SetAnnounced(macs):
                self._macs.set_announced({mac: _name(peer) for peer, theirs in macs.items() for mac in theirs})
            case ipc.SetLocalMtu(mtu):
                self._set_local_mtu(mtu)
            case ipc.SendSpecial() | ipc.SendProbe():
                self._send_message(message, now)
            case ipc.QueryStats():
                pass  # The shell answers: part of the answer is its own.

    def link(self, peer: int) -> Link | None:
        """Give the link to a neighbour."""
        return self._links.get(_name(peer))

    def has_link(self, link: Link) -> bool:
        """Say whether a link is in use."""
        return self._links.get(link.name) is link

    # Frames

    def captured(self, raw: bytes, now: float) -> None:
        """Take a single frame of a container of this host; it goes with the next `drain`."""
        ids = labels(raw) if self._short_ids else None
        if ids is not None:
            raw = without_labels(raw)
        decision = self._decide(ids, raw[VNET_BYTES:_HEAD_END], now)
        if decision.copies:
            self.counters["captured"] += 1
            self._transmit(raw, decision, now)

    def captured_super(self, raw: memoryview, now: float) -> Iterator[Work]:
        """Take a super-frame of a container of this host; `drain` before."""
        ids = labels(raw) if self._short_ids else None
        if ids is not None:
            raw = strip_labels(raw)
        decision = self._decide(ids, bytes(raw[VNET_BYTES:_HEAD_END]), now)
        if decision.copies:
            self.counters["captured"] += 1
            yield from self._transmit_super(raw, decision, now)

    def received(self, data: bytearray, size: int, step: int, source: ipc.Endpoint, now: float) -> Iterator[Work]:
        """Take datagrams that came in one call: `step` bytes each, the last maybe fewer."""
        link = self._links.get(bytes(data[: min(size, NAME_BYTES)]))
        if link is None:
            self.counters["unknown_hop"] += max(-(-size // step), 1)
            return
        yield from self.received_from(link, data, size, step, source, now)

    def received_from(
        self, link: Link, data: bytearray, size: int, step: int, source: ipc.Endpoint, now: float
    ) -> Iterator[Work]:
        """The same for datagrams behind one that named the neighbour."""
        for opened in link.receive(data, size, step, source, now):
            match opened:
                case Injection(src, dst, frames):
                    yield from self._forward(link, src, dst, frames, now)
                case Payloads():
                    yield opened
                case Special(frame):
                    self._note_special(link, frame, source, now)
                case ProbeSeen():
                    if link.specials.take(now):
                        self.messages.append(ipc.ProbeReceived(link.peer, source))
                case Acknowledged(message):
                    self.messages.append(message)
        for reason, count in link.reject_counts().items():
            self._reject(link, reason, count)

    @property
    def is_held_back(self) -> bool:
        """Datagrams wait for their time: call `drain` again in a millisecond."""
        return bool(self._touched)

    def drain(self, now: float) -> Iterator[Work]:
        """Give what may be sent or injected now, and forget it."""
        ready, self._ready = self._ready, []
        yield from ready
        touched, self._touched = self._touched, {}
        for link in touched:
            yield from link.flush(now)
            if link.is_held_back:
                self._touched[link] = None
            dropped = link.take_dropped()
            if dropped:
                self.counters["queue_full"] += dropped
                link.counters["tx_dropped"] += dropped
        if self._injections:
            injections, self._injections = self._injections, []
            self.counters["injected"] += len(injections)
            yield ToBridge(injections)

    # Flows: what is decided for frames to come, to be moved without asking

    @property
    def version(self) -> int:
        """Goes up when what is said of flows may no longer hold; every message of the node may change it too."""
        return self._forwarder.version

    @property
    def max_injected(self) -> int:
        """Bytes of the longest frame that fits this host's overlay MTU."""
        return self._max_injected

    @property
    def takes_udp_super_frames(self) -> bool:
        """Whether the kernel here takes them from the pump."""
        return self._has_udp_super_frames

    @property
    def has_labels(self) -> bool:
        """Whether frames come with labels of the kernel's datapath."""
        return bool(self._short_ids)

    def outbound_flow(self, raw: bytes) -> tuple[Link, bytes] | None:
        """Give the link that carries all frames of the flow that a captured one was of, and what they begin with.

        None if the core must see each of them.
        """
        ids = labels(raw) if self._short_ids else None
        destination = None
        if ids is not None:
            source, destination = self._short_ids.get(ids[0]), self._short_ids.get(ids[1], b"")
            if source != self._us:
                return None
        copy = self._forwarder.known_way(raw[VNET_BYTES:_MACS_END], destination)
        if copy is None or copy != (copy[2], self._us, copy[2]):
            return None
        link = self._links.get(copy[2])
        if link is None or link.path.remote is None:
            return None
        return link, raw[VNET_BYTES : _MACS_END if ids is None else _LABELS_END]

    def is_inbound_flow(self, link: Link, macs: bytes) -> bool:
        """Say whether all frames of a neighbour for us between these addresses go into the bridge, and only there."""
        return len(macs) == _MACS_BYTES and self._forwarder.is_known_injection(link.name, macs)

    def forwarded(self, link: Link, socket: Socket, sent: Sent, now: float) -> None:
        """Note frames of flows that left, by which socket."""
        self.counters["captured"] += sent.captured
        self.counters["sent"] += sent.datagrams
        link.counters["tx_frames"] += sent.frames
        link.counters["tx_datagrams"] += sent.datagrams
        link.counters["tx_bytes"] += sent.bytes
        link.data_sent += sent.datagrams
        if sent.datagrams:
            link.errnos[socket] = 0
        if sent.failed:
            self.send_failed(Payloads(link, socket, []), sent.failed, sent.error, now)

    def delivered(self, link: Link, done: Delivered) -> None:
        """Note frames of flows that went into the bridge, and what was wrong with datagrams."""
        self.counters["received"] += done.datagrams
        self.counters["injected"] += done.injected
        link.counters["rx_frames"] += done.frames
        link.counters["rx_datagrams"] += done.data_datagrams
        link.counters["rx_bytes"] += done.bytes
        for reason, count in (("forged", done.forged), ("malformed", done.malformed), ("replayed", done.replayed)):
            if count:
                self._reject(link, reason, count)

    def take_messages(self) -> list[ipc.FromPump]:
        """Give the messages for the node, and forget them."""
        messages, self.messages = self.messages, []
        return messages

    # What became of datagrams

    def sent(self, outgoing: Outgoing, datagrams: int, size: int) -> None:
        """Note that the kernel took datagrams, `size` bytes in all."""
        link = outgoing.link
        counters = link.counters
        counters["tx_datagrams"] += datagrams
        counters["tx_bytes"] += size
        self.counters["sent"] += datagrams
        if isinstance(outgoing, SuperFrame):
            link.errnos[Socket.PEER] = 0
            link.data_sent += datagrams
        else:
            link.errnos[outgoing.socket] = 0
            if outgoing.is_data:
                link.data_sent += datagrams

    def send_failed(self, outgoing: Outgoing, datagrams: int, errno: int, now: float) -> None:
        """Note that the kernel, or the shell for it, refused datagrams."""
        link = outgoing.link
        socket = Socket.PEER if isinstance(outgoing, SuperFrame) else outgoing.socket
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
            if errno not in (link.errnos[socket], e.ECONNREFUSED):
                self.messages.append(ipc.SendFailed(link.peer, errno))
            link.errnos[socket] = errno

    def mtu_hint(self, link: Link, mtu: int, now: float) -> None:
        """Note what an ICMP message claims. Weave's search asks the kernel, which heard it too."""
        if isinstance(link, Plait1Link) and link.too_big.take(now):
            self.messages.append(ipc.MtuHint(link.peer, mtu))

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
        counters |= {"macs": len(macs), "macs_announced": macs.announced}
        counters |= {"mac_moves": macs.moves, "macs_evicted": macs.evicted}
        learned = [
            ipc.LearnedMac(mac.hex(":"), int.from_bytes(self._us if peer is None else peer, "big"), last_seen)
            for (mac, peer, last_seen), _ in zip(macs, range(MAX_REPORTED_MACS), strict=False)
        ]
        return ipc.Stats(counters, {link.peer: dict(link.counters) for link in self._links.values()}, learned)

    # Helpers

    def _decide(self, ids: tuple[int, int] | None, head: bytes, now: float) -> Decision:
        self._is_labelled = ids is not None
        if ids is None:
            return self._forwarder.captured(head, now)
        unknown = b""
        source, destination = (self._short_ids.get(each, unknown) for each in ids)
        return self._forwarder.labelled(source, destination, head, now)

    def _new_link(self, wanted: ipc.SetConnection) -> Link:
        if wanted.overlay == PLAIT1:
            return Plait1Link(self._us, wanted, self._engine, self._cutter)
        return WeaveLink(self._us, wanted, self._cutter)

    def _set_local_mtu(self, mtu: int) -> None:
        self._local_mtu = mtu
        self._max_injected = mtu + HEADER_BYTES

    def _drop_link(self, name: bytes) -> None:
        link = self._links.pop(name, None)
        if link is not None:
            self._touched.pop(link, None)
            self._ready = [outgoing for outgoing in self._ready if outgoing.link is not link]

    def _send_message(self, message: ipc.SendSpecial | ipc.SendProbe, now: float) -> None:
        link = self._links.get(_name(message.peer))
        if link is None:
            self.counters["no_link"] += 1
        elif link.path.remote is None:
            self.counters["no_address"] += 1
        elif isinstance(message, ipc.SendProbe) and isinstance(link, Plait1Link):
            self._ready.append(link.probe(message.size, now))
        elif isinstance(message, ipc.SendSpecial) and isinstance(link, WeaveLink):
            self._ready.append(link.special(message.length, message.uid, message.df))

    def _note_special(self, link: Link, frame: bytes, source: ipc.Endpoint, now: float) -> None:
        if not link.specials.take(now):
            self._reject(link, "special_flood")
            return
        uid = heartbeat_uid(frame)
        self.messages.append(ipc.SpecialReceived(link.peer, source, len(frame), uid, is_all_zero(frame)))

    def _reject(self, link: Link, reason: str, count: int = 1) -> None:
        self.counters[reason] += count
        link.counters["rx_rejected"] += count

    def _forward(self, link: Link, src: bytes, dst: bytes, frames: list[list[Buffer]], now: float) -> Iterator[Work]:
        """Inject frames of other hosts here, and pass them on."""
        decide, hop = self._forwarder.received, link.name
        ready: list[list[Buffer]] = []
        last_head, decision = b"", None
        for pieces in frames:
            head = bytes(pieces[0][VNET_BYTES:_HEAD_END])
            # Each frame that is dropped is to be counted.
            if decision is None or head != last_head or not (decision.inject or decision.copies):
                decision, last_head = decide(hop, src, dst, head, now), head
            if decision.inject:
                if len(pieces) == 1 and len(pieces[0]) - VNET_BYTES <= self._max_injected:
                    ready.append(pieces)
                else:
                    self._fit(pieces, ready, src, dst, now)
            if decision.copies:
                yield from self._relay(pieces, decision, now)
        if ready:
            self.last_injected = last_head[:_MACS_BYTES]
            self.counters["injected"] += len(ready)
            yield ToBridge(merge_udp(ready) if len(ready) > 1 and self._has_udp_super_frames else ready)

    def _relay(self, pieces: list[Buffer], decision: Decision, now: float) -> Iterator[Work]:
        raw = b"".join(pieces)
        if raw[1]:
            yield from self.drain(now)
            yield from self._transmit_super(memoryview(raw), decision, now)
        else:
            self._transmit(raw, decision, now)

    def _transmit(self, raw: bytes, decision: Decision, now: float) -> None:
        is_broadcast = decision.is_broadcast
        for hop, src, dst in decision.copies:
            link = self._links.get(hop)
            if link is None:
                self.counters["no_link"] += 1
                continue
            verdict = link.add(raw, src, dst, is_broadcast)
            if verdict is Verdict.TAKEN:
                self._touched[link] = None
            else:
                self._refuse(link, verdict, raw, src, dst, now)
            self._count_fragmented(link)

    def _transmit_super(self, raw: memoryview, decision: Decision, now: float) -> Iterator[Work]:
        where = layout(raw)
        if where is None:
            self.counters["unfit"] += 1
            return
        for hop, src, dst in decision.copies:
            link = self._links.get(hop)
            if link is None:
                self.counters["no_link"] += 1
                continue
            result = link.add_super(raw, where, src, dst, now)
            if isinstance(result, Verdict):
                self._refuse(link, result, bytes(raw), src, dst, now)
            else:
                yield from result
                if link.is_held_back:
                    self._touched[link] = None
            self._count_fragmented(link)

    def _count_fragmented(self, link: Link) -> None:
        self.counters["fragmented"] += link.fragmented
        link.fragmented = 0

    def _refuse(self, link: Link, verdict: Verdict, raw: bytes, src: bytes, dst: bytes, now: float) -> None:
        link.counters["tx_dropped"] += 1
        if verdict is Verdict.TOO_BIG:
            # What a bridge with connection tracking puts together it must be able to send again in its own MTU.
            mtu = link.mtu(src, dst)
            if src == self._us and self._is_labelled:  # the kernel has it as too long, and takes what fits it
                mtu = max(mtu, self._kernel_mtus.get(link.name, 0))
            self._answer(raw[VNET_BYTES:], min(mtu, self._local_mtu), src, dst, now)
        else:
            self.counters[verdict.value] += 1

    def _fit(self, pieces: list[Buffer], ready: list[list[Buffer]], src: bytes, dst: bytes, now: float) -> None:
        """Make a frame of another host fit this host's overlay MTU, or tell its sender that it does not."""
        if pieces[0][1]:
            self._fit_super(pieces, ready, src, dst, now)
            return
        frame = self._cutter.finish_checksum(b"".join(pieces))
        if len(frame) <= self._max_injected:
            ready.append([b"".join(pieces)])
            return
        fragments = fragment_ipv4(frame, self._local_mtu) if classify(frame) is FrameKind.IPV4 else []
        if fragments:
            self.counters["fragmented"] += 1
            ready += [[PLAIN_VNET, fragment] for fragment in fragments]
        elif len(frame) <= self._max_injected + _VLAN_TAG_BYTES and frame[12:14] in _VLAN_TAGS:
            ready.append([PLAIN_VNET, frame])
        else:
            self.counters["too_big_here"] += 1
            self._answer(frame, self._local_mtu, src, dst, now)

    def _fit_super(self, pieces: list[Buffer], ready: list[list[Buffer]], src: bytes, dst: bytes, now: float) -> None:
        """The same for a super-frame: TCP can be cut finer, UDP is cut where kernel or bridge cannot take it."""
        first = pieces[0]
        where = layout(bytes(first[:_LONGEST_HEAD]) + b"\x00")
        room = 0 if where is None else self._max_injected + VNET_BYTES - where.payload
        if where is None or (where.gso_size <= room and (where.is_tcp or self._has_udp_super_frames)):
            ready.append(pieces)
        elif where.is_tcp:
            finer = room.to_bytes(2, "little") if room > 0 else bytes(first[4:6])
            ready.append([bytes(first[:4]) + finer + bytes(first[6:]), *pieces[1:]])
        else:
            for frame in self._cutter.cut(b"".join(pieces), where):
                self._fit([PLAIN_VNET + frame], ready, src, dst, now)

    def _answer(self, frame: bytes, mtu: int, src: bytes, dst: bytes, now: float) -> None:
        """Tell the sender of a too big frame what fits, as if a router before its destination spoke."""
        answer = too_big_answer(frame, mtu) if self._answers.take(now) else None
        if answer is None:
            self.counters["too_big_unanswered"] += 1
            return
        self.counters["answered"] += 1
        decision = self._forwarder.answer(src, dst)
        if decision.inject:
            self._injections.append([PLAIN_VNET, answer])
        self._transmit(PLAIN_VNET + answer, decision, now)

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
