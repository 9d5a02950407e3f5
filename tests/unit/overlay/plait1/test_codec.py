"""Sealer and Opener as two real ends of a connection: what one makes the other opens, and nothing else."""

import random
from collections.abc import Iterable
from struct import pack_into
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.overlay.sleeve.plait1 import wire
from plait.overlay.sleeve.plait1.codec import Frames, Opened, Opener, Probe, Sealer, SequencesSpent, relay_names
from plait.overlay.sleeve.plait1.engine import MAX_SLICES, PythonEngine
from plait.overlay.sleeve.plait1.keys import EPOCH_BITS, Cipher, KeySchedule
from plait.overlay.sleeve.plait1.replay import WINDOW
from plait.overlay.sleeve.plait1.superframe import layout
from unit.overlay.plait1 import frames as f

US = bytes.fromhex("020000000001")
RELAY = bytes.fromhex("0200000000aa0200000000bb")
SESSION_KEY = bytes(range(32))
UID = 0x1122334455667788
MAX_PAYLOAD = 1472
EPOCH = 1 << EPOCH_BITS
SEQUENCES_PER_PUMP = 1 << 48
HOW = pytest.mark.parametrize("cipher", [None, *Cipher], ids=["plain", "aes", "chacha"])
CIPHERS = pytest.mark.parametrize("cipher", list(Cipher), ids=["aes", "chacha"])
SMALL = f.finished("udp4", b"hello", df=False)
OTHER = f.unfinished("tcp4", b"world")


def schedule(cipher: Cipher | None, *, generation: int = 0, from_dialler: bool = True, key: bytes = SESSION_KEY) -> Any:
    return None if cipher is None else KeySchedule(key, cipher, from_dialler=from_dialler, generation=generation)


class Ends:
    """A sender and its receiver."""

    def __init__(self, cipher: Cipher | None, first_sequence: int = 0, *, generation: int = 0) -> None:
        self.cipher = cipher
        self.sealer = Sealer(US, PythonEngine(), schedule(cipher, generation=generation), first_sequence)
        self.opener = Opener(US, PythonEngine(), schedule(cipher, generation=generation))

    def records(self, *raws: bytes, relay: bytes = b"") -> bytes:
        return self.sealer.records(b"".join(len(raw).to_bytes(2, "big") + raw for raw in raws), relay)

    def segments(self, raw: bytes, max_payload: int = MAX_PAYLOAD, relay: bytes = b"") -> list[bytes]:
        where = layout(raw)
        assert where is not None
        made = self.sealer.segments(memoryview(raw), where, max_payload, relay)
        assert made is not None
        datagrams = []
        for each in made:
            whole = b"".join(each.buffers)
            datagrams += [whole[at : at + each.size] for at in range(0, len(whole), each.size)]
        return datagrams

    def open(self, datagrams: Iterable[bytes]) -> list[Opened]:
        """One by one."""
        return [opened for each in datagrams for opened in self.open_burst([each])]

    def open_burst(self, datagrams: list[bytes], step: int = 0) -> list[Opened]:
        """In one buffer, with remains of an earlier burst behind."""
        data = bytearray(b"".join(datagrams))
        size = len(data)
        opened = []
        for each in self.opener.open(data + b"\xaa" * 200, size, step or len(datagrams[0]) or 1):
            if isinstance(each, Frames):  # to be used at once
                each = Frames(each.relay, [[bytes(piece) for piece in pieces] for pieces in each.frames])
            opened.append(each)
        return opened

    def rejected(self) -> tuple[int, int, int]:
        """Malformed, forged, replayed since the last call."""
        rejected = self.opener.rejected
        counts = (rejected.malformed, rejected.forged, rejected.replayed)
        rejected.malformed = rejected.forged = rejected.replayed = 0
        return counts


def whole(opened: Iterable[Opened]) -> list[bytes]:
    """The frames in one piece each."""
    return [b"".join(map(bytes, pieces)) for each in opened if isinstance(each, Frames) for pieces in each.frames]


def kernel_packets(raws: Iterable[bytes]) -> list[bytes]:
    return [packet for raw in raws for packet in f.packets(raw)]


# What arrives


@HOW
@pytest.mark.parametrize("relay", [b"", RELAY], ids=["direct", "relayed"])
def test_records(cipher: Cipher | None, relay: bytes) -> None:
    ends = Ends(cipher)
    datagram = ends.records(SMALL, OTHER, relay=relay)
    tag = 0 if cipher is None else 16
    assert len(datagram) == 16 + len(relay) + 2 + len(SMALL) + 2 + len(OTHER) + tag
    assert datagram[:8] == US + bytes((0x11, (cipher is not None) | 2 * bool(relay)))
    assert (SMALL in datagram) is (cipher is None)
    (opened,) = ends.open([datagram])
    assert isinstance(opened, Frames)
    assert opened.relay == relay
    assert whole([opened]) == [SMALL, OTHER]
    assert ends.opener.data_datagrams == 1
    assert ends.rejected() == (0, 0, 0)
    if relay:
        assert relay_names(opened.relay) == (relay[:6], relay[6:])


@HOW
def test_room_for_records_is_what_fits(cipher: Cipher | None) -> None:
    ends = Ends(cipher)
    for relay in (b"", RELAY):
        room = ends.sealer.room_for_records(MAX_PAYLOAD, relay)
        raw = f.plain(0x88B5, bytes(room - 2 - 24))
        assert len(ends.records(raw, relay=relay)) == MAX_PAYLOAD


@HOW
def test_probes_and_acknowledgements(cipher: Cipher | None) -> None:
    ends = Ends(cipher, 41)
    least = 28 + 16 + 26 + (0 if cipher is None else 16)
    for number, (size, expected) in enumerate([(0, least), (least - 1, least), (least + 1, least + 1), (1500, 1500)]):
        sequence, payload = ends.sealer.probe(UID, size)
        assert (sequence, len(payload) + 28) == (41 + number, expected)
        assert ends.open([payload]) == [Probe(UID, sequence, expected)]
    ack = wire.Ack(UID, 41, 1500, 10**12)
    payload = ends.sealer.ack(ack)
    assert ends.open([payload]) == [ack]
    assert len(payload) + 28 == least, "never larger than a probe"
    assert ends.opener.data_datagrams == 0
    assert ends.rejected() == (0, 0, 0)


@HOW
@pytest.mark.parametrize("relay", [b"", RELAY], ids=["direct", "relayed"])
@pytest.mark.parametrize("kind", f.KINDS)
@pytest.mark.parametrize("vlans", [0, 1, 2])
def test_a_super_frame_comes_out_as_it_went_in(cipher: Cipher | None, relay: bytes, kind: str, vlans: int) -> None:
    ends = Ends(cipher)
    raw = f.super_frame(kind, f.noise(30_000), 1000, vlans=vlans)
    datagrams = ends.segments(raw, relay=relay)
    assert len(datagrams) == 30
    assert all(len(each) <= MAX_PAYLOAD for each in datagrams)
    opened = ends.open_burst(datagrams)
    assert whole(opened) == [raw]
    assert [each.relay for each in opened if isinstance(each, Frames)] == [relay]
    assert ends.opener.data_datagrams == 30
    again = ends.open_burst(datagrams)
    assert whole(again) == ([raw] if cipher is None else [])
    assert ends.rejected() == ((0, 0, 0) if cipher is None else (0, 0, 30))


@HOW
@pytest.mark.parametrize("kind", f.KINDS)
def test_what_is_lost_costs_its_own_bytes_only(cipher: Cipher | None, kind: str) -> None:
    """However the datagrams come: the receiving kernel sees the packets it would have seen."""
    rng = random.Random(f"{cipher} {kind}")
    for _ in range(20):
        ends = Ends(cipher)
        flags = f.ACK | rng.choice([0, f.PSH, f.FIN | f.PSH, f.CWR])
        raw = f.super_frame(kind, f.noise(rng.randrange(2000, 20_000)), 700, flags=flags, sequence=2**32 - 5000)
        expected = f.packets(raw)
        datagrams = ends.segments(raw)
        kept = [number for number in range(len(datagrams)) if rng.random() < 0.8]
        if rng.random() < 0.5:
            rng.shuffle(kept)
        out = []
        while kept:
            count = rng.randrange(1, 6)
            taken, kept = kept[:count], kept[count:]
            if len(datagrams) - 1 in taken[:-1]:  # the kernel merges a shorter one only as the last
                for number in taken:
                    out += whole(ends.open([datagrams[number]]))
            else:
                out += whole(ends.open_burst([datagrams[number] for number in taken]))
        assert len(out) <= len(expected)
        assert set(kernel_packets(out)) <= set(expected)
        assert ends.rejected() == (0, 0, 0)


@HOW
@pytest.mark.parametrize("kind", f.KINDS)
def test_every_packet_arrives_in_any_order(cipher: Cipher | None, kind: str) -> None:
    ends = Ends(cipher)
    raw = f.super_frame(kind, f.noise(20_001), 1111)
    datagrams = ends.segments(raw)
    random.Random(7).shuffle(datagrams)
    packets = kernel_packets(whole(ends.open(datagrams)))
    assert sorted(packets) == sorted(f.packets(raw))


@HOW
def test_slices_where_the_path_takes_less_or_more_than_a_segment(cipher: Cipher | None) -> None:
    for gso_size, max_payload in ((8948, 1472), (500, 1472), (1448, 8972), (1300, 1472)):
        ends = Ends(cipher)
        raw = f.super_frame("tcp4", f.noise(40_000), gso_size)
        datagrams = ends.segments(raw, max_payload)
        assert all(len(each) <= max_payload for each in datagrams)
        out = whole(ends.open_burst(datagrams))
        assert b"".join(packet[14 + 20 + 32 :] for packet in kernel_packets(out)) == f.noise(40_000)
        if gso_size <= 1400 or max_payload > gso_size:
            assert kernel_packets(out) == f.packets(raw)


@HOW
def test_more_slices_than_one_super_frame_has(cipher: Cipher | None) -> None:
    ends = Ends(cipher)
    payload = f.noise(60_000)
    raw = f.super_frame("tcp6", payload, 100, flags=f.ACK | f.PSH | f.FIN)
    datagrams = ends.segments(raw, 300)
    assert len(datagrams) > 2 * MAX_SLICES
    assert len({each[8:16] for each in datagrams}) == -(-len(datagrams) // MAX_SLICES)
    assert kernel_packets(whole(ends.open(datagrams))) == f.packets(raw)


@HOW
def test_what_cannot_be_carried_in_segments(cipher: Cipher | None) -> None:
    ends = Ends(cipher)
    for raw, max_payload in (
        (f.super_frame("udp4", bytes(5000), 1460), MAX_PAYLOAD),  # packets of UDP are not cut finer
        (f.super_frame("tcp4", bytes(5000), 1000), 96),  # no room for the headers
    ):
        where = layout(raw)
        assert where is not None
        assert ends.sealer.segments(memoryview(raw), where, max_payload, b"") is None
    assert ends.records(SMALL)[8:16] == bytes(8), "no sequence was spent"


def test_a_mixed_burst() -> None:
    """As UDP_GRO never makes it, but nothing says so."""
    ends = Ends(Cipher.AES_256_GCM)
    _, probe = ends.sealer.probe(UID, 100)
    padded = [ends.records(f.plain(0x88B5, bytes(size))) for size in (100, 100)]
    size = len(padded[0])
    sequence, same_size = ends.sealer.probe(UID, size + 28)
    opened = ends.open_burst([padded[0], same_size, padded[1], probe[:40]])
    assert [type(each) for each in opened] == [Frames, Probe, Frames]
    assert opened[1] == Probe(UID, sequence, size + 28)
    assert ends.rejected() == (0, 1, 0)


# What does not


@HOW
def test_the_clear_header_must_be_right(cipher: Cipher | None) -> None:
    ends = Ends(cipher)
    good = ends.records(SMALL)
    bad = [
        *(good[:size] for size in range(1, 16)),
        *(good[:6] + bytes([value]) + good[7:] for value in range(256) if value not in (0x11, 0x12, 0x13, 0x14)),
        *(good[:7] + bytes([value]) + good[8:] for value in range(256) if value & ~2 != (cipher is not None)),
        good[:7] + bytes([good[7] | 2]) + good[8:20],  # no room for the names
    ]
    assert ends.open(bad) == []
    assert ends.rejected() == (len(bad), 0, 0)
    assert whole(ends.open([good])) == [SMALL]


@CIPHERS
def test_plain_and_encrypted_do_not_mix(cipher: Cipher) -> None:
    plain, encrypted = Ends(None), Ends(cipher)
    for make in (
        lambda ends: [ends.records(SMALL)],
        lambda ends: [ends.sealer.probe(UID, 100)[1]],
        lambda ends: [ends.sealer.ack(wire.Ack(UID, 1, 100, 0))],
        lambda ends: ends.segments(f.super_frame("tcp4", bytes(5000), 1000)),
    ):
        count = len(make(plain))
        assert encrypted.open(make(plain)) == []
        assert encrypted.rejected() == (count, 0, 0)
        assert plain.open(make(encrypted)) == []
        assert plain.rejected() == (count, 0, 0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00",
        b"\x00\x00",
        b"\x00\x17" + bytes(23),
        b"\x00\x19" + bytes(24),
        b"\x00\x18" + bytes(23),
        b"\x00\x18" + b"\x02" + bytes(23),  # an unknown flag
        b"\x00\x18" + b"\x00\x01" + bytes(22),  # a super-frame without headers
        b"\x00\x18" + b"\x01\x00\x00\x00\x00\x00\x0e\x00\x00\x00" + bytes(14),  # the checksum is behind the end
        b"\x00\x18" + b"\x00\x00\x00\x00\x00\x00\x0e\x00\x00\x00" + bytes(14),  # a place and no checksum
    ],
)
@HOW
def test_records_that_break_the_rules(cipher: Cipher | None, body: bytes) -> None:
    ends = Ends(cipher)
    assert ends.open([ends.sealer.records(body, b"")]) == []
    assert ends.rejected() == (1, 0, 0)
    before = len(SMALL).to_bytes(2, "big") + SMALL
    assert whole(ends.open([ends.sealer.records(before + body, b"")])) == [SMALL]
    assert ends.rejected() == (bool(body), 0, 0)


@HOW
def test_probes_and_acknowledgements_of_a_wrong_length(cipher: Cipher | None) -> None:
    ends = Ends(cipher)
    tag = 0 if cipher is None else 16
    for kind, size in ((wire.Kind.PROBE, 25), (wire.Kind.PROBE, 0), (wire.Kind.ACK, 25), (wire.Kind.ACK, 27)):
        payload = ends.sealer._whole(kind, ends.sealer._take(), bytes(size), b"")
        assert len(payload) == 16 + size + tag
        assert ends.open([payload]) == []
        assert ends.rejected() == (1, 0, 0)


def test_segments_that_break_the_rules() -> None:
    ends = Ends(None)
    raw = f.super_frame("tcp4", f.noise(5000), 1000)
    good = ends.segments(raw)
    blob_at, index_at = 19, 19 + 10 + 14 + 20 + 32
    assert good[2][index_at] == 2
    bad = []
    for at, value in (
        (16, b"\x00\x00"),  # a slice of nothing
        (16, b"\x03\xe7"),  # not that of the segments
        (18, b"\x00"),
        (18, b"\xff"),
        (blob_at, b"\x00"),  # no checksum to finish
        (blob_at + 1, b"\x00"),  # no super-frame
        (blob_at + 1, b"\x03"),  # UFO, which is never asked for
        (blob_at + 1, b"\x04"),  # IPv6 with the headers of IPv4
        (blob_at + 4, b"\x00\x00"),
        (blob_at + 6, b"\x00\x00"),
        (blob_at + 8, b"\x06\x00"),
        (blob_at + 10 + 12, b"\x86\xdd"),
        (blob_at + 24, b"\x46"),
        (blob_at + 33, b"\x11"),
        (index_at - 20, b"\x40"),  # TCP headers that end before the blob
    ):
        changed = bytearray(good[1])
        changed[at : at + len(value)] = value
        bad.append(bytes(changed))
    bad += [good[1][:size] for size in (16, 18, 19, index_at, index_at + 1, len(good[1]) - 1)]
    bad += [good[1] + b"\x00", good[-1] + b"\x00" * 1000]
    assert ends.open(bad) == []
    assert ends.rejected() == (len(bad), 0, 0)
    assert whole(ends.open_burst(good)) == [raw]


@CIPHERS
def test_forged_bytes_at_every_position(cipher: Cipher) -> None:
    ends = Ends(cipher)
    _, probe = ends.sealer.probe(UID, 120)
    segments = ends.segments(f.super_frame("tcp6", f.noise(400), 150, options=0))
    samples = [
        ends.records(SMALL, OTHER),
        ends.records(SMALL, relay=RELAY),
        probe,
        ends.sealer.ack(wire.Ack(UID, 1, 100, 5)),
        *segments,
        ends.segments(f.super_frame("udp4", f.noise(300), 150), relay=RELAY)[1],
    ]
    count = 0
    for sample in samples:
        for at in range(6, len(sample)):  # the name is the pump's business, but see below
            for mask in (0x01, 0x80, 0xFF):
                changed = bytearray(sample)
                changed[at] ^= mask
                assert ends.open([bytes(changed)]) == []
                count += 1
        assert ends.open([b"\xff" + sample[1:]]) == [], "the name is authenticated too"
        count += 1
    malformed, forged, replayed = ends.rejected()
    assert malformed + forged == count
    assert replayed == 0
    assert forged > malformed
    assert ends.opener.data_datagrams == 0
    # After all that, what is genuine still counts as new.
    assert len(ends.open(samples)) == len(samples)
    assert ends.rejected() == (0, 0, 0)


@CIPHERS
def test_truncated_and_extended(cipher: Cipher) -> None:
    ends = Ends(cipher)
    for sample in (ends.records(SMALL), ends.segments(f.super_frame("tcp4", f.noise(900), 300))[0]):
        for size in range(len(sample)):
            assert ends.open([sample[:size]]) == []
        assert ends.open([sample + b"\x00"]) == []
        malformed, forged, _ = ends.rejected()
        assert malformed + forged == len(sample)


@CIPHERS
def test_pieces_of_different_super_frames_do_not_fit_together(cipher: Cipher) -> None:
    """Blob and payload are bound by the sequence, payloads to their index."""
    ends = Ends(cipher)
    one, other = (ends.segments(f.super_frame("tcp4", f.noise(3000, seed), 1000)) for seed in (1, 2))
    body_at = len(one[0]) - 1000 - 16 - 1
    mixed = [one[0][:body_at] + other[0][body_at:], one[0][:8] + other[0][8:16] + one[0][16:]]
    swapped = [one[0][: body_at + 1] + one[1][body_at + 1 :], one[1][:body_at] + b"\x81" + one[1][body_at + 1 :]]
    assert ends.open(mixed + swapped) == []
    assert ends.rejected() == (0, 4, 0)


@CIPHERS
def test_keys_of_another_connection_direction_cipher_or_generation(cipher: Cipher) -> None:
    ends = Ends(cipher, generation=1)
    other_cipher = next(each for each in Cipher if each is not cipher)
    for wrong in (
        schedule(cipher, generation=1, key=bytes(32)),
        schedule(cipher, generation=1, from_dialler=False),
        schedule(cipher, generation=0),
        schedule(cipher, generation=2),
        schedule(other_cipher, generation=1),
    ):
        sealer = Sealer(US, PythonEngine(), wrong, 0)
        assert ends.open([sealer.records(b"\x00\x18" + bytes(24), b"")]) == []
    assert ends.rejected() == (0, 5, 0)


# Replays


@CIPHERS
def test_a_replay_of_every_kind(cipher: Cipher) -> None:
    ends = Ends(cipher)
    samples = [
        ends.records(SMALL),
        ends.records(SMALL, relay=RELAY),
        ends.sealer.probe(UID, 0)[1],
        ends.sealer.ack(wire.Ack(UID, 1, 100, 5)),
        *ends.segments(f.super_frame("tcp4", f.noise(3000), 1000)),
    ]
    assert len(ends.open(samples)) == len(samples)
    assert ends.open(samples[::-1] + samples) == []
    assert ends.rejected() == (0, 0, 2 * len(samples))


@CIPHERS
def test_a_replayed_segment_in_a_burst_of_new_ones(cipher: Cipher) -> None:
    ends = Ends(cipher)
    raw = f.super_frame("tcp4", f.noise(5000), 1000)
    datagrams = ends.segments(raw)
    first = whole(ends.open([datagrams[2]]))
    rest = whole(ends.open_burst(datagrams))
    assert len(rest) == 2
    assert sorted(kernel_packets(first + rest)) == sorted(f.packets(raw))
    assert ends.rejected() == (0, 0, 1)


@CIPHERS
def test_a_forged_copy_does_not_keep_the_genuine_out(cipher: Cipher) -> None:
    ends = Ends(cipher)
    datagrams = ends.segments(f.super_frame("tcp4", f.noise(3000), 1000))
    for each in datagrams:
        assert ends.open([each[:-1] + bytes([each[-1] ^ 1])]) == []
        assert len(ends.open([each])) == 1
    assert ends.rejected() == (0, 3, 0)


@CIPHERS
def test_what_is_late_by_less_than_the_window_counts_and_no_more(cipher: Cipher) -> None:
    ends = Ends(cipher)
    samples = [ends.records(SMALL) for _ in range(WINDOW + 2)]
    assert len(ends.open([samples[-1]])) == 1
    assert ends.open(samples[:2]) == []
    assert ends.rejected() == (0, 0, 2)
    assert len(ends.open([samples[2]])) == 1
    assert ends.open([samples[2]]) == []


@CIPHERS
def test_nothing_old_fits_after_a_jump_of_a_new_pump(cipher: Cipher) -> None:
    """The sender's pump died; the next one goes on 2**48 further, the receiver needs to be told nothing."""
    ends = Ends(cipher)
    old = [ends.records(SMALL) for _ in range(10)]
    assert len(ends.open(old[:5])) == 5
    for pump in (1, 2, 1 << 15):
        ends.sealer = Sealer(US, PythonEngine(), schedule(cipher), pump * SEQUENCES_PER_PUMP)
        assert len(ends.open([ends.records(SMALL)])) == 1
    assert ends.open(old) == []
    assert ends.rejected() == (0, 0, 10)


@CIPHERS
def test_nothing_old_fits_a_receiver_that_forgot_once_the_generation_is_another(cipher: Cipher) -> None:
    ends = Ends(cipher)
    recorded = [ends.records(SMALL), *ends.segments(f.super_frame("udp6", f.noise(3000), 1000))]
    assert len(ends.open(recorded)) == len(recorded)
    ends.opener = Opener(US, PythonEngine(), schedule(cipher, generation=1))
    assert ends.open(recorded) == []
    in_flight = ends.records(SMALL)
    assert ends.open([in_flight]) == []
    ends.sealer.set_schedule(schedule(cipher, generation=1))
    new = ends.records(SMALL)
    assert new[8:16] == (3).to_bytes(8, "big"), "sequences go on"
    assert whole(ends.open([new])) == [SMALL]
    assert ends.rejected() == (0, len(recorded) + 1, 0)


# Epochs


@CIPHERS
def test_keys_change_with_the_epoch_and_late_datagrams_still_open(cipher: Cipher) -> None:
    ends = Ends(cipher, EPOCH - 3)
    samples = [ends.records(SMALL) for _ in range(6)]
    assert [int.from_bytes(each[8:16], "big") for each in samples] == list(range(EPOCH - 3, EPOCH + 3))
    order = [0, 3, 1, 4, 2, 5]
    assert len(ends.open([samples[number] for number in order])) == 6
    assert ends.open(samples) == []
    assert ends.rejected() == (0, 0, 6)
    # The same sequence in another epoch is sealed by another key.
    moved = bytearray(samples[0])
    pack_into(">Q", moved, 8, 2 * EPOCH - 3)
    assert ends.open([bytes(moved)]) == []
    assert ends.rejected() == (0, 1, 0)


@CIPHERS
def test_a_forged_sequence_far_ahead_moves_nothing(cipher: Cipher) -> None:
    ends = Ends(cipher)
    sample = ends.records(SMALL)
    for sequence in (EPOCH, SEQUENCES_PER_PUMP, 2**64 - 1):
        moved = bytearray(sample)
        pack_into(">Q", moved, 8, sequence)
        assert ends.open([bytes(moved)]) == []
    assert ends.rejected() == (0, 3, 0)
    assert len(ends.open([sample])) == 1


@HOW
def test_the_last_sequence_there_is(cipher: Cipher | None) -> None:
    ends = Ends(cipher, wire.SEQUENCE_LIMIT - 2)
    assert len(ends.open([ends.records(SMALL), ends.records(SMALL)])) == 2
    with pytest.raises(SequencesSpent):
        ends.records(SMALL)
    with pytest.raises(SequencesSpent):
        ends.sealer.probe(UID, 0)
    with pytest.raises(SequencesSpent):
        ends.segments(f.super_frame("tcp4", bytes(3000), 1000))


# Anything

faults = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), st.integers(0, 10**6), st.integers(1, 255)),
        st.tuples(st.just("cut"), st.integers(0, 10**6), st.just(0)),
        st.tuples(st.just("grow"), st.integers(1, 50), st.just(0)),
        st.tuples(st.just("insert"), st.integers(0, 10**6), st.integers(0, 255)),
    ),
    min_size=1,
    max_size=3,
)


def damaged(sample: bytes, script: list[tuple[str, int, int]]) -> bytes:
    data = bytearray(sample)
    for what, where, value in script:
        at = where % len(data) if data else 0
        if what == "flip" and data:
            data[at] ^= value
        elif what == "cut":
            del data[at:]
        elif what == "grow":
            data += bytes(where)
        elif what == "insert":
            data[at:at] = bytes([value])
    return bytes(data)


def samples_of(ends: Ends) -> list[bytes]:
    return [
        ends.records(SMALL, OTHER),
        ends.records(OTHER, relay=RELAY),
        ends.sealer.probe(UID, 90)[1],
        ends.sealer.ack(wire.Ack(UID, 1, 100, 5)),
        *ends.segments(f.super_frame("tcp4", f.noise(500), 200), 370),
        *ends.segments(f.super_frame("udp6", f.noise(500), 200), relay=RELAY),
    ]


@HOW
@given(script=st.lists(st.tuples(st.integers(0, 9), faults), max_size=12), step=st.integers(0, 300))
def test_damage_is_counted_and_never_raises(
    script: list[tuple[int, list[tuple[str, int, int]]]], step: int, cipher: Cipher | None
) -> None:
    ends = Ends(cipher)
    samples = samples_of(ends)
    sent = set(samples)
    broken = [damaged(samples[number % len(samples)], what) for number, what in script]
    broken = [each for each in broken if each not in sent]
    opened = ends.open(broken)
    if cipher is not None:
        # Bytes behind a clear header's name and before the seal are authentic or the datagram is nothing.
        assert opened == []
        malformed, forged, _ = ends.rejected()
        assert malformed + forged == sum(bool(each) for each in broken)
    if broken and step:
        ends.open_burst(broken, step)  # cut anywhere: datagrams that are none
    received = ends.open(samples)
    assert cipher is None or len(received) == len(samples)


@CIPHERS
@given(order=st.permutations(range(10)), repeats=st.lists(st.integers(0, 9), max_size=10))
def test_any_order_delivers_each_once(order: list[int], repeats: list[int], cipher: Cipher) -> None:
    ends = Ends(cipher, EPOCH - 4)
    samples = samples_of(ends)
    assert len(samples) == 10
    numbers = order + repeats
    opened = ends.open([samples[number] for number in numbers])
    assert len(opened) == 10
    assert ends.rejected() == (0, 0, len(repeats))
    expected = [SMALL, OTHER, OTHER]
    segments = [f.super_frame("tcp4", f.noise(500), 200), f.super_frame("udp6", f.noise(500), 200)]
    assert sorted(kernel_packets(whole(opened))) == sorted(kernel_packets(expected + segments))
