"""Pump cores wired to each other in plait's own format: what containers send, the far kernels see."""

import errno as e
from struct import unpack_from

import pytest

from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.plait1.keys import Cipher
from plait.overlay.sleeve.pump.link import SPECIALS_PER_SECOND, Socket
from plait.overlay.sleeve.pump.plait1_link import MAX_OUTSTANDING, Plait1Link
from plait.overlay.switch import PLAIT1, SLEEVE
from unit.overlay.plait1 import frames as f
from unit.overlay.plait1.hosts import ADDRESSES, KEY, UID, A, B, C, Row
from unit.overlay.pumps import PumpHost, datagrams

HOW = pytest.mark.parametrize("cipher", [None, *Cipher], ids=["plain", "aes", "chacha"])
MERGED = pytest.mark.parametrize("merged", [True, False], ids=["merged", "single"])
KINDS = pytest.mark.parametrize("kind", f.KINDS)
FAULTS = ("malformed", "forged", "replayed", "unknown_hop", "unfit", "no_link", "too_big_here", "unknown_peer")


def row(cipher: Cipher | None = None, **settings: object) -> Row:
    made = Row(cipher, **settings)  # type: ignore[arg-type]
    made.meet()
    return made


def kernel_packets(host: PumpHost) -> list[bytes]:
    return [packet for raw in host.take_raw() for packet in f.packets(raw)]


def faults(host: PumpHost) -> dict[str, int]:
    return {name: count for name, count in host.counters().items() if name in FAULTS}


def overlay_mtu(cipher: Cipher | None) -> int:
    return 1428 if cipher is None else 1396


def icmp_of(frame: bytes) -> tuple[bytes, bytes, int]:
    """Destination and source MAC of an answer, and the MTU it names."""
    if frame[12:14] == b"\x08\x00":
        assert frame[34:36] == b"\x03\x04"
        return frame[:6], frame[6:12], int(unpack_from(">H", frame, 40)[0])
    assert frame[54:56] == b"\x02\x00"
    return frame[:6], frame[6:12], int(unpack_from(">I", frame, 58)[0])


# Small frames


@HOW
def test_small_frames_share_datagrams(cipher: Cipher | None) -> None:
    net = row(cipher)
    raws = [f.finished("udp4", bytes([number]) * 100) for number in range(30)]
    before = net.b.of_peer(A)
    sent = net.sends(A, *raws)
    assert {each.socket for each in sent} == {Socket.PEER}
    assert len(datagrams(sent)) == 4
    assert all(len(each) <= 1472 for each in datagrams(sent))
    assert kernel_packets(net.b) == [raw[10:] for raw in raws]
    heard = {name: count - before[name] for name, count in net.b.of_peer(A).items()}
    assert (heard["rx_frames"], heard["rx_datagrams"], heard["rx_rejected"]) == (30, 4, 0)
    assert heard["rx_bytes"] == sum(map(len, datagrams(sent)))
    assert net.a.counters()["captured"] == 30
    assert net.b.counters()["injected"] == 30
    assert not faults(net.a) | faults(net.b)


@HOW
@KINDS
def test_unfinished_checksums_are_left_to_the_far_kernel(cipher: Cipher | None, kind: str) -> None:
    net = row(cipher)
    raw = f.unfinished(kind, f.noise(500))
    net.sends(A, raw)
    assert net.b.take_raw() == [raw]


@HOW
def test_broadcasts_go_along_the_tree(cipher: Cipher | None) -> None:
    net = row(cipher)
    raw = f.plain(0x0806, bytes(46), destination=f.BROADCAST)
    sent = net.sends(A, raw)
    assert [each.peer for each in sent] == [B, C]
    assert net.b.take_raw() == net.c.take_raw() == [raw]
    assert net.a.take_raw() == []


# Super-frames


@HOW
@KINDS
@MERGED
@pytest.mark.parametrize("size", [1, 999, 1000, 1001, 2000, 60_000])
def test_super_frames(cipher: Cipher | None, kind: str, merged: bool, size: int) -> None:
    net = row(cipher, merged=merged)
    raw = f.super_frame(kind, f.noise(size), 1000, ecn=kind == "tcp4")
    sent = net.sends(A, raw)
    assert all(each.is_super and each.peer == B for each in sent)
    assert all(len(each) <= 1472 for each in datagrams(sent))
    if merged and size > 1000:
        (arrived,) = net.b.take_raw()
        assert arrived == raw
    else:
        assert kernel_packets(net.b) == f.packets(raw)
    assert not faults(net.a) | faults(net.b)
    assert net.a.counters()["captured"] == 1


@HOW
@KINDS
@MERGED
def test_super_frames_over_a_relay(cipher: Cipher | None, kind: str, merged: bool) -> None:
    net = row(cipher, merged=merged)
    raw = f.super_frame(kind, f.noise(50_000), 1300, destination=f.MAC_C)
    sent = net.sends(A, raw)
    assert {each.peer for each in sent} == {B, C}
    assert all(len(each) <= 1472 for each in datagrams(sent))
    assert kernel_packets(net.c) == f.packets(raw)
    assert net.b.take_raw() == []
    for host in (net.a, net.b, net.c):
        assert not faults(host)


@HOW
def test_small_frames_over_a_relay_keep_their_ends(cipher: Cipher | None) -> None:
    net = row(cipher)
    raws = [f.finished("udp6", bytes([number]) * 50, destination=f.MAC_C) for number in range(20)]
    net.sends(A, *raws)
    assert net.c.take_raw() == raws
    back = f.finished("udp6", b"back", destination=f.MAC_A, source=f.MAC_C)
    net.sends(C, back)
    assert net.a.take_raw() == [back]
    assert {entry.mac: entry.peer for entry in net.c.core.stats().macs}[f.MAC_A.hex(":")] == A


@HOW
@KINDS
def test_from_plait_over_a_relay_to_weave(cipher: Cipher | None, kind: str) -> None:
    """The relay cuts: a Weave peer knows frames with finished checksums only."""
    net = row(cipher, bc=SLEEVE)
    raw = f.super_frame(kind, f.noise(40_000), 1200, destination=f.MAC_C)
    sent = net.sends(A, raw)
    to_weave = [each for each in sent if each.peer == C]
    assert {each.socket for each in to_weave} <= {Socket.DF, Socket.PLAIN}
    assert all(len(each) <= 1472 for each in datagrams(to_weave))
    assert kernel_packets(net.c) == f.packets(raw)
    single = f.unfinished(kind, b"x", destination=f.MAC_C)
    net.sends(A, single)
    assert kernel_packets(net.c) == [f.complete(single)]


@HOW
@KINDS
def test_from_weave_over_a_relay_to_plait(cipher: Cipher | None, kind: str) -> None:
    net = row(cipher, ab=SLEEVE)
    raw = f.super_frame(kind, f.noise(40_000), 1200, destination=f.MAC_C)
    sent = net.sends(A, raw)
    assert {each.socket for each in sent if each.peer == C} == {Socket.PEER}
    assert all(len(each) <= 1472 for each in datagrams(sent))
    assert kernel_packets(net.c) == f.packets(raw)
    for host in (net.a, net.b, net.c):
        assert not faults(host)


@HOW
def test_a_super_frame_that_is_none_goes_nowhere(cipher: Cipher | None) -> None:
    net = row(cipher)
    broken = bytearray(f.super_frame("tcp4", bytes(5000), 1000))
    broken[10 + 14 + 9] = 17
    assert net.sends(A, bytes(broken)) == []
    assert net.a.counters()["unfit"] == 1


@HOW
def test_super_frames_and_small_ones_keep_their_order(cipher: Cipher | None) -> None:
    net = row(cipher)
    small = [f.finished("tcp4", bytes([number])) for number in range(3)]
    large = [f.super_frame("tcp4", f.noise(5000, number), 1000) for number in range(3)]
    net.sends(A, *(raw for pair in zip(small, large, strict=True) for raw in pair))
    assert net.b.take_raw() == [raw for pair in zip(small, large, strict=True) for raw in pair]


# Frames that do not fit


@HOW
def test_a_large_packet_of_tcp_is_sliced(cipher: Cipher | None) -> None:
    """Of a container whose MTU is larger than the path's, with segmentation off."""
    net = row(cipher)
    for kind in ("tcp4", "tcp6"):
        raw = f.unfinished(kind, f.noise(8000))
        sent = net.sends(A, raw)
        assert all(each.socket is Socket.PEER and len(each.payloads) > 5 for each in sent)
        assert all(len(each) <= 1472 for each in datagrams(sent))
        options = 12
        head = 14 + (20 if kind == "tcp4" else 40) + 20 + options
        out = kernel_packets(net.b)
        assert b"".join(packet[head:] for packet in out) == f.noise(8000)
        assert all(len(packet) - 14 <= overlay_mtu(cipher) for packet in out)
    assert not faults(net.a) | faults(net.b)


@HOW
@pytest.mark.parametrize("kind", ["udp4", "tcp4"])
def test_a_packet_without_df_is_fragmented(cipher: Cipher | None, kind: str) -> None:
    net = row(cipher)
    payload = f.noise(3000)
    raw = f.finished(kind, payload, df=False)
    sent = net.sends(A, raw)
    assert {each.socket for each in sent} == {Socket.PEER}
    assert all(len(each) <= 1472 for each in datagrams(sent))
    pieces = [raw[10:] for raw in net.b.take_raw()]
    assert all(len(piece) - 14 <= overlay_mtu(cipher) for piece in pieces)
    assert b"".join(piece[34:] for piece in pieces) == raw[10 + 34 :]
    assert net.a.counters()["fragmented"] == 1


@HOW
@pytest.mark.parametrize("kind", ["udp4", "udp6", "tcp4"])
def test_a_packet_with_df_is_answered_with_what_fits(cipher: Cipher | None, kind: str) -> None:
    net = row(cipher)
    raw = f.finished(kind, bytes(1441))
    assert net.sends(A, raw) == []
    (answer,) = net.a.take_injections()
    assert icmp_of(answer) == (f.MAC_A, f.MAC_B, overlay_mtu(cipher))
    assert (net.a.counters()["answered"], net.a.of_peer(B)["tx_dropped"]) == (1, 1)


@HOW
def test_a_super_frame_of_udp_whose_packets_do_not_fit_is_answered(cipher: Cipher | None) -> None:
    net = row(cipher)
    assert net.sends(A, f.super_frame("udp4", bytes(14_410), 1441)) == []
    (answer,) = net.a.take_injections()
    assert icmp_of(answer) == (f.MAC_A, f.MAC_B, overlay_mtu(cipher))


@HOW
@pytest.mark.parametrize("kind", ["udp4", "udp6"])
def test_a_packet_that_just_fits_passes_and_the_next_larger_is_answered_even_over_a_relay(
    cipher: Cipher | None, kind: str
) -> None:
    """An answer names less than the packet has, or its sender would try the same again."""
    headers = 28 if kind == "udp4" else 48
    for destination, target in ((f.MAC_B, "b"), (f.MAC_C, "c")):
        net = row(cipher)
        for size in range(1360, 1450):
            raw = f.finished(kind, bytes(size - headers), destination=destination)
            net.sends(A, raw)
            arrived = getattr(net, target).take_raw()
            answers = net.a.take_injections()
            assert (arrived == [raw]) is not bool(answers)
            if answers:
                told = icmp_of(answers[0])[2]
                assert told < size
                assert told >= size - 12 or size > overlay_mtu(cipher)


@HOW
def test_a_super_frame_of_udp_without_df_whose_packets_do_not_fit_is_fragmented(cipher: Cipher | None) -> None:
    net = row(cipher)
    raw = bytearray(f.super_frame("udp4", f.noise(4400), 2200))
    raw[10 + 14 + 6 : 10 + 14 + 8] = bytes(2)
    net.sends(A, bytes(raw))
    pieces = net.b.take_injections()
    assert b"".join(piece[34:] for piece in pieces) == b"".join(packet[34:] for packet in f.packets(bytes(raw)))
    assert net.a.counters()["fragmented"] == 2


@HOW
def test_what_is_not_ip_may_be_fragmented_by_the_network(cipher: Cipher | None) -> None:
    net = row(cipher)
    for destination in (f.MAC_B, f.MAC_C, f.BROADCAST):
        raw = f.plain(0x88B5, f.noise(4000), destination=destination)
        sent = net.sends(A, raw)
        assert {each.socket for each in sent} == {Socket.PLAIN}
        assert net.b.take_raw() == ([] if destination == f.MAC_C else [raw])
        assert net.c.take_raw() == ([] if destination == f.MAC_B else [raw])


def test_what_no_datagram_can_hold_is_counted() -> None:
    net = row()
    assert net.sends(A, f.plain(0x88B5, bytes(65_490))) == []
    assert net.a.counters()["unfit"] == 1


@HOW
@pytest.mark.parametrize(("df", "counter"), [(True, "broadcast_too_big"), (False, "fragmented")])
def test_broadcasts_that_do_not_fit_are_never_answered(cipher: Cipher | None, df: bool, counter: str) -> None:
    net = row(cipher)
    raw = f.finished("udp4", f.noise(2000), destination=f.BROADCAST, df=df)
    net.sends(A, raw)
    assert net.a.take_raw() == []
    assert net.a.counters()[counter] == 1
    # The relay may have to cut what fits its neighbour and not, with the names of both ends, the next.
    assert len(net.b.take_raw()) == (0 if df else 2)
    assert len(net.c.take_raw()) in ((0,) if df else (2, 3))


def test_a_relay_with_a_narrower_path_answers_through_the_overlay() -> None:
    net = row(bc_path_mtu=1300)
    raw = f.finished("udp4", bytes(1300), destination=f.MAC_C)
    net.sends(A, raw)
    (answer,) = net.a.take_injections()
    assert icmp_of(answer) == (f.MAC_A, f.MAC_C, 1300 - 72 - 12)
    # TCP whose checksum is not finished is sliced by the relay, nobody need be told.
    whole = f.super_frame("tcp4", f.noise(30_000), 1300, destination=f.MAC_C)
    sent = net.sends(A, whole)
    assert all(
        len(each) <= 1272 for each in datagrams(sent) if each in [p for s in sent if s.peer == C for p in s.payloads]
    )
    assert b"".join(packet[14 + 20 + 32 :] for packet in kernel_packets(net.c)) == f.noise(30_000)


# This host's MTU is smaller than the frame


@HOW
def test_tcp_for_a_bridge_with_less_is_cut_finer(cipher: Cipher | None) -> None:
    net = row(cipher)
    net.b.apply(ipc.SetLocalMtu(900))
    for kind in ("tcp4", "tcp6"):
        raw = f.super_frame(kind, f.noise(20_000), 1300)
        net.sends(A, raw)
        out = kernel_packets(net.b)
        assert all(len(packet) - 14 <= 900 for packet in out)
        head = 14 + (20 if kind == "tcp4" else 40) + 32
        assert b"".join(packet[head:] for packet in out) == f.noise(20_000)


@HOW
@pytest.mark.parametrize("is_super", [False, True], ids=["packet", "super-frame"])
@pytest.mark.parametrize("has_udp", [False, True], ids=["old kernel", "new kernel"])
def test_udp_for_a_bridge_with_less_is_answered(cipher: Cipher | None, is_super: bool, has_udp: bool) -> None:
    net = row(cipher, udp_super_frames=has_udp)
    net.b.apply(ipc.SetLocalMtu(900))
    raw = f.super_frame("udp4", bytes(6000), 1200) if is_super else f.unfinished("udp4", bytes(1200))
    net.sends(A, raw)
    assert net.b.take_raw() == []
    answers = net.a.take_injections()
    assert icmp_of(answers[0]) == (f.MAC_A, f.MAC_B, 900)
    assert net.b.counters()["too_big_here"] == (5 if is_super else 1)


@HOW
@pytest.mark.parametrize("is_super", [False, True], ids=["packet", "super-frame"])
def test_udp_without_df_for_a_bridge_with_less_is_fragmented(cipher: Cipher | None, is_super: bool) -> None:
    net = row(cipher)
    net.b.apply(ipc.SetLocalMtu(900))
    if is_super:
        raw = bytearray(f.super_frame("udp4", f.noise(3600), 1200))
        raw[10 + 14 + 6 : 10 + 14 + 8] = bytes(2)
        net.sends(A, bytes(raw))
    else:
        net.sends(A, f.unfinished("udp4", f.noise(1200), df=False))
    pieces = net.b.take_injections()
    assert len(pieces) == (6 if is_super else 2)
    assert all(len(piece) - 14 <= 900 for piece in pieces)
    assert net.b.counters()["fragmented"] == (3 if is_super else 1)


def test_udp_super_frames_for_a_kernel_that_does_not_know_them_are_cut() -> None:
    net = row(udp_super_frames=False)
    for kind in ("udp4", "udp6"):
        raw = f.super_frame(kind, f.noise(5000), 1000)
        net.sends(A, raw)
        assert net.b.take_injections() == f.packets(raw)


def test_a_vlan_tag_does_not_count_as_packet() -> None:
    net = row()
    net.b.apply(ipc.SetLocalMtu(1000))
    raw = f.finished("udp4", bytes(972), vlans=1)
    net.sends(A, raw)
    assert net.b.take_raw() == [raw]


# Addresses, connections, keys


def test_datagrams_of_nobody_we_know() -> None:
    net = row()
    for payload in (b"", b"\x00", A.to_bytes6()[:5], C.to_bytes6() + bytes(50), bytes(100)):
        net.a.received(payload)
    assert net.a.counters()["unknown_hop"] == 5
    net.a.received_burst([C.to_bytes6() + bytes(50)] * 7)
    assert net.a.counters()["unknown_hop"] == 12
    assert net.a.of_peer(B)["rx_rejected"] == 0


def test_what_an_earlier_datagram_left_in_the_buffer_is_not_read() -> None:
    net = row()
    data = bytearray(B.to_bytes6() + bytes(100))
    for size in range(6):
        assert list(net.a.core.received(data, size, max(size, 1), ADDRESSES[B], 0.0)) == []
    assert net.a.counters()["unknown_hop"] == 6
    assert net.a.of_peer(B)["rx_rejected"] == 0


def test_a_neighbour_without_an_address_and_one_without_a_connection() -> None:
    net = row()
    net.a.apply(ipc.SetPath(B, None, 1428, 1472, False))
    small, large = f.finished("udp4", b"x"), f.super_frame("tcp4", bytes(5000), 1000)
    assert net.sends(A, small, large) == []
    assert net.a.counters()["no_address"] == 2
    net.a.apply(ipc.RemoveConnection(B))
    assert net.sends(A, small, large) == []
    assert net.a.counters()["no_link"] == 2
    net.a.apply(ipc.SendProbe(B, 0))
    assert net.a.counters()["no_link"] == 3


def test_what_waits_for_a_connection_that_ends_is_not_sent() -> None:
    net = row()
    net.a.captured_raw(f.finished("udp4", b"x"))
    net.a.apply(ipc.SendProbe(B, 0), ipc.RemoveConnection(B))
    assert net.a.drain() == []


def test_frames_of_peers_that_the_topology_does_not_know_are_counted_one_by_one() -> None:
    net = row()
    net.a.captured_raw(f.finished("udp4", b"x", destination=f.MAC_C))
    for _ in range(4):
        net.a.captured_raw(f.finished("udp4", b"x", destination=f.MAC_C))
    net.b.apply(ipc.SetRoutes([A, B], {A: A}, {A: []}))
    net.settle()
    assert net.b.counters()["unknown_peer"] == 5


@pytest.mark.parametrize("cipher", list(Cipher), ids=["aes", "chacha"])
def test_nothing_recorded_is_delivered_again(cipher: Cipher) -> None:
    net = row(cipher)
    net.a.captured_raw(f.finished("udp4", b"secret"))
    net.a.captured_raw(f.super_frame("tcp4", f.noise(10_000), 1000))
    recorded = [payload for sent in net.a.drain() for payload in sent.payloads]
    assert not any(b"secret" in payload for payload in recorded)
    for payload in recorded:
        net.b.received(payload)
    assert len(kernel_packets(net.b)) == 11
    for payload in recorded:
        net.b.received(payload)
    assert net.b.take_raw() == []
    assert net.b.counters()["replayed"] == len(recorded)
    assert net.b.of_peer(A)["rx_rejected"] == len(recorded)
    # B's pump dies: its next one has an empty window, but another generation.
    net.b.apply(ipc.SetConnection(A, "192.0.2.11", KEY, False, 1 << 48, UID, PLAIT1, cipher, 1))
    for payload in recorded:
        net.b.received(payload)
    assert net.b.take_raw() == []
    assert net.b.counters()["forged"] == len(recorded)
    net.a.apply(ipc.SetGeneration(B, 1))
    raw = f.finished("udp4", b"new keys")
    net.sends(A, raw)
    assert net.b.take_raw() == [raw]


@pytest.mark.parametrize("cipher", list(Cipher), ids=["aes", "chacha"])
def test_what_waits_when_the_generation_changes_is_sealed_as_it_was(cipher: Cipher) -> None:
    net = row(cipher)
    old = f.finished("udp4", b"old keys")
    net.a.captured_raw(old)
    net.a.apply(ipc.SetGeneration(B, 1))
    net.a.captured_raw(f.finished("udp4", b"new keys"))
    first, second = [payload for sent in net.a.drain() for payload in sent.payloads]
    net.b.received(first)
    net.b.received(second)
    assert net.b.take_raw() == [old]
    assert net.b.counters()["forged"] == 1


def test_a_generation_for_weaves_format_or_without_a_connection_means_nothing() -> None:
    net = row(bc=SLEEVE)
    net.b.apply(ipc.SetGeneration(C, 3), ipc.SetGeneration(77, 3))
    raw = f.finished("udp4", b"x", source=f.MAC_B, destination=f.MAC_C)
    net.sends(B, raw)
    assert net.c.take_raw() == [raw]


# Probes


@HOW
@pytest.mark.parametrize("size", [0, 1200, 1500])
def test_a_probe_is_acknowledged_at_once(cipher: Cipher | None, size: int) -> None:
    net = row(cipher)
    net.sends(A, *[f.finished("udp4", bytes(1000)) for _ in range(10)])
    stats = net.a.of_peer(B)
    net.a.apply(ipc.SendProbe(B, size), now=5.0)
    (probe,) = net.a.drain(5.0)
    (payload,) = probe.payloads
    assert (probe.socket, probe.is_data) == (Socket.PEER, False)
    least = 70 if cipher is None else 86
    assert len(payload) + 28 == max(size, least)
    net.b.received(payload, ADDRESSES[A], 5.1)
    assert net.b.take_messages() == [ipc.ProbeReceived(A, ADDRESSES[A])]
    (ack,) = net.b.drain(5.1)
    (answer,) = ack.payloads
    assert (ack.socket, ack.address, ack.is_data) == (Socket.PEER, None, False)
    assert len(answer) <= len(payload)
    net.a.received(answer, ADDRESSES[B], 5.25)
    (message,) = net.a.take_messages()
    assert isinstance(message, ipc.ProbeAcknowledged)
    assert (message.peer, message.size, message.rtt) == (B, max(size, least), 0.25)
    assert message.sent == message.received == stats["tx_datagrams"]
    assert message.tx_bytes == stats["tx_bytes"] + len(payload)
    net.a.received(answer, ADDRESSES[B], 5.3)
    assert net.a.take_messages() == []
    assert net.a.counters()["malformed" if cipher is None else "replayed"] == 1


@HOW
def test_a_probe_from_another_address_is_answered_there(cipher: Cipher | None) -> None:
    net = row(cipher)
    elsewhere = ("203.0.113.9", 40000)
    net.a.apply(ipc.SendProbe(B, 0))
    (probe,) = net.a.drain()
    net.b.received(probe.payloads[0], elsewhere)
    (ack,) = net.b.drain()
    assert (ack.socket, ack.address) == (Socket.DF, elsewhere)
    assert net.b.take_messages() == [ipc.ProbeReceived(A, elsewhere)]


def test_the_accepting_side_answers_before_it_has_a_path() -> None:
    net = Row()
    net.b.apply(ipc.SetConnection(A, "192.0.2.11", None, False, 0, UID, PLAIT1))
    net.a.apply(ipc.SendProbe(B, 0))
    (probe,) = net.a.drain()
    net.b.received(probe.payloads[0], ADDRESSES[A])
    (ack,) = net.b.drain()
    assert ack.address == ADDRESSES[A]
    net.a.received(ack.payloads[0], ADDRESSES[B])
    assert [type(message) for message in net.a.take_messages()] == [ipc.ProbeAcknowledged]


def test_probes_of_another_connection_are_not_answered() -> None:
    net = row()
    net.b.apply(ipc.SetConnection(A, "192.0.2.11", None, False, 0, UID + 1, PLAIT1))
    net.b.apply(ipc.SetPath(A, ADDRESSES[A], 1428, 1472, False))
    net.a.apply(ipc.SendProbe(B, 0))
    net.settle()
    assert net.b.take_messages() == net.a.take_messages() == []
    assert net.b.counters()["malformed"] == 1


def test_acknowledgements_for_probes_that_nobody_sent_are_not_believed() -> None:
    net = row()
    net.a.apply(ipc.SendProbe(B, 0))
    (probe,) = net.a.drain()
    sequence = probe.payloads[0][8:16]
    head = B.to_bytes6() + b"\x14\x00" + bytes(8)
    uid = UID.to_bytes(8, "big")

    def ack(uid: bytes = uid, sequence: bytes = sequence, size: int = 70) -> bytes:
        return head + uid + sequence + size.to_bytes(2, "big") + bytes(8)

    lies = [ack(uid=bytes(8)), ack(sequence=b"\xff" * 8)]
    for lie in lies:
        net.a.received(lie)
    assert net.a.take_messages() == []
    assert net.a.counters()["malformed"] == len(lies)
    net.a.received(ack())
    assert len(net.a.take_messages()) == 1, "lies did not make it forget its probe"
    net.a.apply(ipc.SendProbe(B, 1500))
    (probe,) = net.a.drain()
    net.a.received(ack(sequence=probe.payloads[0][8:16], size=1400))
    assert net.a.take_messages() == []


def test_what_another_path_carried_says_nothing_about_this_one() -> None:
    net = row()
    net.a.apply(ipc.SendProbe(B, 1500))
    (probe,) = net.a.drain()
    net.b.received(probe.payloads[0], ADDRESSES[A])
    (ack,) = net.b.drain()
    net.a.apply(ipc.SetPath(B, ("203.0.113.9", 6783), 1428, 1472, False))
    net.a.received(ack.payloads[0], ADDRESSES[B])
    assert net.a.take_messages() == []


def test_probes_that_nobody_answers_are_forgotten_in_the_end() -> None:
    net = row()
    link = net.a.core.link(B)
    assert isinstance(link, Plait1Link)
    net.a.apply(*[ipc.SendProbe(B, 0)] * (2 * MAX_OUTSTANDING))
    sent = net.a.drain()
    assert len(sent) == 2 * MAX_OUTSTANDING
    assert len(link._outstanding) == MAX_OUTSTANDING
    for each in sent:
        net.b.received(each.payloads[0], ADDRESSES[A])
    for each in net.b.drain():
        net.a.received(each.payloads[0], ADDRESSES[B])
    assert len(net.a.take_messages()) == MAX_OUTSTANDING


def test_a_flood_of_probes_is_answered_and_does_not_flood_the_node() -> None:
    net = row()
    net.a.apply(*[ipc.SendProbe(B, 0)] * 1000)
    for each in net.a.drain():
        net.b.received(each.payloads[0], ADDRESSES[A])
    assert len(net.b.take_messages()) == SPECIALS_PER_SECOND
    assert len(net.b.drain()) == 1000


def test_a_router_that_claims_much_is_passed_on_little() -> None:
    net = row()
    link = net.a.core.link(B)
    assert link is not None
    for _ in range(100):
        net.a.core.mtu_hint(link, 1400, 0.0)
    assert net.a.take_messages() == [ipc.MtuHint(B, 1400)]


def test_refusals_of_a_super_frame() -> None:
    net = row()
    work = list(net.a.core.captured_super(memoryview(f.super_frame("tcp4", bytes(5000), 1000)), 0.0))
    (outgoing,) = work
    for errno in (e.EMSGSIZE, e.ENOBUFS, e.ENETUNREACH, e.ENETUNREACH, e.ECONNREFUSED):
        net.a.core.send_failed(outgoing, 5, errno, 0.0)  # type: ignore[arg-type]
    assert net.a.take_messages() == [ipc.PacketTooBig(B), ipc.SendFailed(B, e.ENETUNREACH)]
    counters = net.a.counters()
    assert (counters["refused_too_big"], counters["queue_full"], counters["send_failed"]) == (5, 5, 15)
