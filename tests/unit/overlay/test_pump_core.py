"""The pump's decisions about Weave's format: two or three cores whose datagrams are carried by hand."""

import errno as e
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.mesh.name import PeerName
from plait.overlay.ethernet import BROADCAST_MAC
from plait.overlay.macs import FLAPS, MAX_AGE
from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.datagram import HEARTBEAT_LENGTH, encode_plain, special_frame
from plait.overlay.sleeve.pump.core import MAX_REPORTED_MACS
from plait.overlay.sleeve.pump.counters import COUNTERS
from plait.overlay.sleeve.pump.link import SPECIALS_PER_SECOND, Payloads, Socket
from plait.overlay.sleeve.sender import UNKNOWN_MTU
from unit.overlay.pumps import SOURCE, PumpHost, Sent, carry, datagrams

A, B, C = (PeerName(0x020000000000 + number) for number in range(10, 13))
MAC_A, MAC_B, MAC_C = (bytes.fromhex(f"aa00000000{number:02x}") for number in range(10, 13))
KEY = bytes(range(32))
ROW = {
    A: ipc.SetRoutes([A, B, C], {B: B, C: B}, {A: [B]}),
    B: ipc.SetRoutes([A, B, C], {A: A, C: C}, {A: [C], B: [A, C], C: [A]}),
    C: ipc.SetRoutes([A, B, C], {A: B, B: B}, {C: [B]}),
}
NEIGHBOURS = {A: [B], B: [A, C], C: [B]}


def core_of(name: PeerName, key: bytes | None = None, mtu: int = 1438, stack_frag: bool = False) -> PumpHost:
    host = PumpHost(name)
    host.apply(ROW[name])
    for peer in NEIGHBOURS[name]:
        host.apply(ipc.SetConnection(peer, "192.0.2.9", key, name < peer, 0, overlay="sleeve"))
        host.apply(ipc.SetPath(peer, SOURCE, mtu, 1472, stack_frag))
    return host


def frame(destination: bytes, source: bytes, size: int = 100, df: bool = False) -> bytes:
    """An Ethernet frame with an IPv4 packet of `size` bytes between two hosts."""
    flags = b"\x40\x00" if df else b"\x00\x00"
    header = b"\x45\x00" + size.to_bytes(2, "big") + b"\x12\x34" + flags + b"\x40\x11\x00\x00"
    return destination + source + b"\x08\x00" + header + bytes((10, 32, 0, 1, 10, 32, 0, 2)) + bytes(size - 20)


def with_df(sent: Iterable[Sent]) -> list[bool]:
    """Whether each datagram left with DF."""
    return [each.df for each in sent for _ in each.payloads]


def count(host: PumpHost) -> dict[str, int]:
    return host.counters()


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
def test_a_frame_crosses_a_relay(key: bytes | None) -> None:
    a, b, c = core_of(A, key), core_of(B, key), core_of(C, key)
    cores = {A: a, B: b, C: c}
    hello = frame(BROADCAST_MAC, MAC_A)
    a.captured(hello, 0.0)
    carry(a, cores)
    assert b.take_injections() == [hello]
    carry(b, cores)
    assert c.take_injections() == [hello]
    answer = frame(MAC_A, MAC_C)
    c.captured(answer, 0.0)
    carry(c, cores)
    assert b.take_injections() == []
    carry(b, cores)
    assert a.take_injections() == [answer]
    assert {entry.mac: entry.peer for entry in a.core.stats().macs} == {MAC_A.hex(":"): A, MAC_C.hex(":"): C}


def test_frames_of_one_burst_share_datagrams() -> None:
    a, b = core_of(A), core_of(B)
    for _ in range(30):
        a.captured(frame(BROADCAST_MAC, MAC_A), 0.0)
    assert len(datagrams(carry(a, {B: b}))) == 3
    assert len(b.take_injections()) == 30
    assert a.of_peer(B)["tx_frames"] == 30
    assert b.of_peer(A)["rx_frames"] == 30


def test_df_of_the_packet_becomes_df_of_the_datagram() -> None:
    a, b = core_of(A, stack_frag=True), core_of(B)
    b.captured(frame(BROADCAST_MAC, MAC_B), 0.0)
    carry(b, {A: a, C: core_of(C)})
    for df in (True, False):
        a.captured(frame(MAC_B, MAC_A, df=df), 0.0)
        assert with_df(carry(a, {B: b})) == [df]


def test_a_too_big_packet_is_answered_at_its_source() -> None:
    a, b = core_of(A, mtu=1000), core_of(B)
    b.captured(frame(BROADCAST_MAC, MAC_B), 0.0)
    carry(b, {A: a, C: core_of(C)})
    a.take_injections()
    a.captured(frame(MAC_B, MAC_A, 1400, df=True), 0.0)
    assert carry(a, {B: b}) == []
    (answer,) = a.take_injections()
    assert answer[:12] == MAC_A + MAC_B
    assert int.from_bytes(answer[40:42], "big") == 1000
    assert count(a)["answered"] == 1


def test_a_relay_answers_through_the_overlay() -> None:
    a, b, c = core_of(A), core_of(B, mtu=1000), core_of(C)
    cores = {A: a, B: b, C: c}
    c.captured(frame(BROADCAST_MAC, MAC_C), 0.0)
    carry(c, cores)
    carry(b, cores)
    a.take_injections()
    a.captured(frame(MAC_C, MAC_A, 1400, df=True), 0.0)
    carry(a, cores)
    carry(b, cores)
    assert [answer[:12] for answer in a.take_injections()] == [MAC_A + MAC_C]


def test_answers_are_limited() -> None:
    a, b = core_of(A, mtu=1000), core_of(B)
    b.captured(frame(BROADCAST_MAC, MAC_B), 0.0)
    carry(b, {A: a, C: core_of(C)})
    a.take_injections()
    for _ in range(200):
        a.captured(frame(MAC_B, MAC_A, 1400, df=True), 0.0)
    assert len(a.take_injections()) < 200
    assert count(a)["too_big_unanswered"] + count(a)["answered"] == 200


def test_a_packet_without_df_is_cut_where_outer_fragments_are_lost() -> None:
    a, b = core_of(A, mtu=1000), core_of(B)
    a.captured(frame(MAC_B, MAC_A, 1400), 0.0)
    assert with_df(carry(a, {B: b})) == [True, True]
    assert [len(piece) for piece in b.take_injections()] == [14 + 20 + 976, 14 + 20 + 404]


@pytest.mark.parametrize(("df", "counter"), [(False, "fragmented"), (True, "too_big_here")])
def test_what_the_local_bridge_does_not_take(df: bool, counter: str) -> None:
    a, b = core_of(A), core_of(B)
    b.apply(ipc.SetLocalMtu(1000))
    b.captured(frame(BROADCAST_MAC, MAC_B), 0.0)
    carry(b, {A: a, C: core_of(C)})
    a.take_injections()
    a.captured(frame(MAC_B, MAC_A, 1400, df=df), 0.0)
    carry(a, {B: b})
    assert count(b)[counter] == 1
    assert len(b.take_injections()) == (0 if df else 2)
    carry(b, {A: a})
    assert [answer[:12] for answer in a.take_injections()] == ([MAC_A + MAC_B] if df else [])


def test_a_vlan_tag_does_not_count_as_packet() -> None:
    b = core_of(B)
    b.apply(ipc.SetLocalMtu(1000))
    tagged = BROADCAST_MAC + MAC_A + b"\x81\x00\x00\x05\x08\x00" + bytes(1000)
    b.received(encode_plain(A.to_bytes6(), [(A.to_bytes6(), B.to_bytes6(), tagged)]), SOURCE, 0.0)
    assert b.take_injections() == [tagged]


def test_specials_go_up_once_authentic() -> None:
    a, b = core_of(A, KEY), core_of(B, KEY)
    a.apply(ipc.SendSpecial(B, HEARTBEAT_LENGTH, 7, df=True))
    (sent,) = carry(a, {B: b})
    (payload,) = sent.payloads
    assert sent.df
    b.received(payload, SOURCE, 0.0)
    b.received(payload[:-1] + b"\x00\x00", SOURCE, 0.0)
    assert b.take_messages() == [ipc.SpecialReceived(A, SOURCE, HEARTBEAT_LENGTH, 7, all_zero=False)]
    assert (count(b)["replayed"], count(b)["forged"]) == (1, 1)
    assert b.of_peer(A)["rx_rejected"] == 2


def test_a_flood_of_specials_of_one_neighbour_leaves_the_other_alone() -> None:
    b = core_of(B)
    for hop, number in ((A, 2 * int(SPECIALS_PER_SECOND)), (C, 1)):
        name = hop.to_bytes6()
        for _ in range(number):
            b.received(encode_plain(name, [(name, B.to_bytes6(), special_frame(50))]), SOURCE, 0.0)
    heard = [message.peer for message in b.take_messages() if isinstance(message, ipc.SpecialReceived)]
    assert heard == [A] * int(SPECIALS_PER_SECOND) + [C]
    assert count(b)["special_flood"] == SPECIALS_PER_SECOND


def test_special_of_a_neighbour_without_address_or_connection() -> None:
    a = PumpHost(A)
    a.apply(ipc.SendSpecial(B, HEARTBEAT_LENGTH, 7, df=True))
    a.apply(ipc.SetConnection(B, "192.0.2.9", None, True, 0))
    a.apply(ipc.SendSpecial(B, HEARTBEAT_LENGTH, 7, df=True))
    assert a.drain() == []
    assert (count(a)["no_link"], count(a)["no_address"]) == (1, 1)


def test_a_removed_connection_gets_and_gives_nothing() -> None:
    a, b = core_of(A), core_of(B)
    a.captured(frame(BROADCAST_MAC, MAC_A), 0.0)
    a.apply(ipc.SendSpecial(B, HEARTBEAT_LENGTH, 7, df=True))
    a.apply(ipc.RemoveConnection(B))
    assert a.drain() == []
    a.captured(frame(BROADCAST_MAC, MAC_A), 0.0)
    assert count(a)["no_link"] == 1
    b.captured(frame(BROADCAST_MAC, MAC_B), 0.0)
    carry(b, {A: a, C: core_of(C)})
    assert a.take_injections() == []
    assert count(a)["unknown_hop"] == 1


def test_a_new_connection_forgets_keys_and_path_of_the_old() -> None:
    a, b = core_of(A, KEY), core_of(B)
    a.apply(ipc.SetConnection(B, "192.0.2.9", None, True, 0))
    a.captured(frame(BROADCAST_MAC, MAC_A), 0.0)
    assert count(a)["no_address"] == 1
    a.apply(ipc.SetPath(B, SOURCE, UNKNOWN_MTU, 1472, False))
    a.captured(frame(BROADCAST_MAC, MAC_A), 0.0)
    carry(a, {B: b})
    assert len(b.take_injections()) == 1


def test_refusals_of_the_kernel() -> None:
    a = core_of(A)
    a.apply(ipc.SendSpecial(B, HEARTBEAT_LENGTH, 7, df=True))
    (with_df,) = a.core.drain(0.0)
    assert isinstance(with_df, Payloads)
    assert with_df.socket is Socket.DF
    plain = with_df._replace(socket=Socket.PLAIN)
    for outgoing, errno in (
        (with_df, e.EMSGSIZE),
        (with_df, e.EMSGSIZE),  # Too soon for a second report.
        (with_df, e.ECONNREFUSED),
        (with_df, e.ENOBUFS),
        (with_df, e.ENETUNREACH),
        (with_df, e.ENETUNREACH),
        (plain, e.EPERM),
        (with_df, e.ENETUNREACH),
    ):
        a.core.send_failed(outgoing, 1, errno, 0.0)
    assert a.take_messages() == [ipc.PacketTooBig(B), ipc.SendFailed(B, e.ENETUNREACH), ipc.SendFailed(B, e.EPERM)]
    assert (count(a)["refused_too_big"], count(a)["queue_full"], count(a)["send_failed"]) == (2, 1, 5)
    assert a.of_peer(B)["tx_dropped"] == 8
    a.core.sent(with_df, 1, 100)
    a.core.send_failed(with_df, 1, e.ENETUNREACH, 0.0)
    assert a.take_messages() == [ipc.SendFailed(B, e.ENETUNREACH)]


def test_contended_addresses_are_told() -> None:
    b = core_of(B)
    for _ in range(FLAPS):
        for hop in (A, C):
            payload = encode_plain(hop.to_bytes6(), [(hop.to_bytes6(), B.to_bytes6(), frame(MAC_B, MAC_A))])
            b.received(payload, SOURCE, 1.0)
    b.core.sweep(2.0)
    (complaint,) = b.take_messages()
    assert isinstance(complaint, ipc.Complaint)
    assert all(word in complaint.text for word in (MAC_A.hex(":"), str(A), str(C)))
    b.core.sweep(2.0 + 2 * MAX_AGE)
    assert b.core.stats().macs == []
    assert b.take_messages() == []


def test_a_report_has_a_bound() -> None:
    a = core_of(A)
    for number in range(MAX_REPORTED_MACS + 5):
        a.captured(frame(BROADCAST_MAC, b"\x02" + number.to_bytes(5, "big")), 0.0)
    stats = a.core.stats()
    assert len(stats.macs) == MAX_REPORTED_MACS
    assert stats.counters["macs"] == MAX_REPORTED_MACS + 5


def test_every_counter_has_words() -> None:
    counters = core_of(A).core.stats().counters
    assert set(counters) <= set(COUNTERS)
    assert all(words.strip() for words in COUNTERS.values())


names = st.sampled_from([A.to_bytes6(), B.to_bytes6(), C.to_bytes6(), bytes(6)])
macs = st.sampled_from([MAC_A, MAC_B, BROADCAST_MAC, bytes(6), bytes.fromhex("0180c2000000")])
ethertypes = st.sampled_from([b"\x08\x00", b"\x86\xdd", b"\x81\x00", b"\x00\x00"])
frames = st.one_of(
    st.binary(max_size=80),
    st.builds(lambda *parts: b"".join(parts), macs, macs, ethertypes, st.binary(max_size=2000)),
    st.builds(
        lambda destination, source, rest, size: destination + source + b"\x08\x00\x45" + rest + bytes(size),
        macs,
        macs,
        st.binary(min_size=19, max_size=40),
        st.integers(0, 3000),
    ),
)


@given(st.lists(st.tuples(names, names, names, frames), max_size=8), st.binary(max_size=200))
def test_nothing_a_peer_or_a_container_sends_raises(
    records: Iterable[tuple[bytes, bytes, bytes, bytes]], garbage: bytes
) -> None:
    b = core_of(B, mtu=600)
    b.apply(ipc.SetLocalMtu(500))
    for hop, src, dst, body in records:
        b.received(encode_plain(hop, [(src, dst, body)]), SOURCE, 0.0)
        b.received(hop + garbage, SOURCE, 0.0)
        b.captured(body, 0.0)
    for sent in b.drain():
        assert not sent.df or all(len(payload) <= 1472 for payload in sent.payloads)
    assert all(len(raw) <= 10 + 500 + 14 + 4 for raw in b.take_raw())
    b.core.sweep(1000.0)
    b.core.stats()
