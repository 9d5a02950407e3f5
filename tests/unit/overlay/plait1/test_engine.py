"""Both engines: what is cut is joined again, parts stand for the packets that came, nonsense is counted alike."""

import random
import subprocess
import sys
from pathlib import Path
from struct import unpack_from
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plait.overlay.sleeve.native import build
from plait.overlay.sleeve.native.engine import CompiledEngine
from plait.overlay.sleeve.plait1.engine import MAX_SLICES, Engine, PythonEngine, slice_size
from plait.overlay.sleeve.plait1.keys import Cipher, Key
from plait.overlay.sleeve.plait1.replay import TOO_OLD, ReplayWindow
from plait.overlay.sleeve.plait1.superframe import layout
from unit.overlay.plait1 import engines as e
from unit.overlay.plait1 import frames as f

HOW = pytest.mark.parametrize("how", list(e.KEYS))
SEALED = pytest.mark.parametrize("how", ["aes", "chacha"])
KIND = pytest.mark.parametrize("kind", f.KINDS)
FUZZ = Path(__file__).with_name("fuzz_engine.py")


@pytest.fixture(params=["python", "compiled"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return e.engine_named(request.param)


@pytest.fixture(scope="module")
def compiled() -> Engine:
    return e.engine_named("compiled")


def shape(raw: bytes) -> tuple[int, int, int]:
    """gso_type, hdr_len, gso_size."""
    fields = unpack_from("<BHH", raw, 1)
    return fields[0], fields[1], fields[2]


# Round trips


@HOW
@pytest.mark.parametrize(
    ("kind", "vlans", "option_words"),
    [(kind, vlans, 0) for kind in f.KINDS for vlans in (0, 1, 2)]
    + [(kind, vlans, words) for kind in ("tcp4", "udp4") for vlans, words in ((0, 1), (1, 10))],
)
def test_all_comes_out_as_it_went_in(engine: Engine, how: str, kind: str, vlans: int, option_words: int) -> None:
    raw = f.super_frame(kind, f.noise(20_001), 1000, vlans=vlans, flags=f.ACK | f.PSH | f.FIN | f.CWR)
    if option_words:
        raw = e.with_ip_options(raw, option_words)
    key = e.KEYS[how]
    for relay in (b"", e.RELAY):
        (sent,) = e.send(engine, raw, 1000, key, relay=relay)
        (run,) = e.open_all(engine, sent.datagrams, key, clear_bytes=sent.clear_bytes)
        assert run.frames == [raw]
        assert run.mask == (1 << 21) - 1
        assert run.counts == (0, 0, 0)


@HOW
@KIND
def test_one_slice(engine: Engine, how: str, kind: str) -> None:
    raw = f.super_frame(kind, b"y", 1000)
    key = e.KEYS[how]
    (sent,) = e.send(engine, raw, 1000, key)
    (run,) = e.open_all(engine, sent.datagrams, key)
    assert (run.frames, run.mask) == ([raw], 1)


@HOW
@KIND
@pytest.mark.parametrize("lost", [(0,), (9,), (4,), (0, 9), (1, 3, 5, 7), (0, 1, 2, 3, 4, 5, 6, 7, 8), (2, 3)])
def test_parts_stand_for_the_packets_that_came(engine: Engine, how: str, kind: str, lost: tuple[int, ...]) -> None:
    key = e.KEYS[how]
    raw = f.super_frame(kind, f.noise(9_500), 1000, flags=f.ACK | f.PSH | f.FIN | f.CWR, identification=0xFFFC)
    (sent,) = e.send(engine, raw, 1000, key)
    kept = [each for number, each in enumerate(sent.datagrams) if number not in lost]
    runs = [run for burst in e.as_received(kept) for run in e.open_all(engine, burst, key)]
    packets = f.packets(raw)
    assert e.packets_of(e.frames_of(runs)) == [each for number, each in enumerate(packets) if number not in lost]
    assert sum(run.mask for run in runs) == sum(1 << number for number in range(10) if number not in lost)
    for frame in e.frames_of(runs):
        payload = len(frame) - (len(raw) - 9_500)
        assert shape(frame) == ((0, 0, 0) if payload <= 1000 else shape(raw))


@HOW
@pytest.mark.parametrize("kind", ["tcp4", "tcp6"])
@pytest.mark.parametrize("room", [300, 999, 1000, 1001, 2000, 5999])
def test_slices_of_another_size_than_segments(engine: Engine, how: str, kind: str, room: int) -> None:
    key = e.KEYS[how]
    raw = f.super_frame(kind, f.noise(20_500), 1000, flags=f.ACK | f.PSH | f.CWR, sequence=0xFFFFFF00)
    where = layout(raw)
    assert where is not None
    slice_bytes = slice_size(where, room)
    assert slice_bytes == (room if room < 1000 else room // 1000 * 1000)
    (sent,) = e.send(engine, raw, slice_bytes, key)
    arrives = e.with_gso_size(raw, min(slice_bytes, 1000))
    (run,) = e.open_all(engine, sent.datagrams, key)
    assert run.frames == [arrives]
    each_apart = [run for each in reversed(sent.datagrams) for run in e.open_all(engine, [each], key)]
    assert sorted(e.packets_of(e.frames_of(each_apart))) == sorted(f.packets(arrives))


@HOW
@KIND
@pytest.mark.parametrize("slices", [MAX_SLICES, MAX_SLICES + 1, 2 * MAX_SLICES + 1])
def test_more_slices_than_a_super_frame_has(engine: Engine, how: str, kind: str, slices: int) -> None:
    key = e.KEYS[how]
    raw = f.super_frame(kind, f.noise(100 * slices - 1), 100, flags=f.ACK | f.PSH | f.FIN | f.CWR)
    all_sent = e.send(engine, raw, 100, key)
    assert len(all_sent) == -(-slices // MAX_SLICES)
    assert all(1 < len(sent.datagrams) <= MAX_SLICES for sent in all_sent)
    assert sum(len(sent.datagrams) for sent in all_sent) == slices
    runs = [run for sent in all_sent for run in e.open_all(engine, sent.datagrams, key)]
    assert len(e.frames_of(runs)) == len(all_sent)
    assert e.packets_of(e.frames_of(runs)) == f.packets(raw)


@HOW
def test_a_frame_from_one_call_lies_in_one_piece_until_the_next(compiled: Engine, how: str) -> None:
    key = e.KEYS[how]
    one, other = (f.super_frame("tcp4", f.noise(5_000, seed), 1000) for seed in (1, 2))
    (first,), (second,) = (e.send(compiled, raw, 1000, key) for raw in (one, other))
    burst = bytearray(b"".join(first.datagrams[:2] + first.datagrams[3:]))
    run = compiled.open_run(burst, 0, len(burst), first.size, e.CLEAR_BYTES, 0, key)
    burst.extend(bytes(10))  # not held
    assert [len(pieces) for pieces in run.frames] == [1]
    assert e.open_all(compiled, second.datagrams, key)[0].frames == [other]


@HOW
def test_what_the_compiled_loop_has_no_room_for_the_reference_does(compiled: Engine, how: str) -> None:
    payload = f.noise(70_000)
    blob = f.super_frame("tcp4", b"z", 1000)[:-1]
    clear = bytes(16)
    ours, reference = (
        each.segment(blob, memoryview(payload), clear, 5, 1000, e.KEYS[how]) for each in (compiled, PythonEngine())
    )
    assert e.cut_up(ours) == e.cut_up(reference)
    large = [bytes(each) for each in e.cut_up(reference)]
    assert e.open_all(compiled, large, e.KEYS[how]) == e.open_all(PythonEngine(), large, e.KEYS[how])


def test_a_call_beyond_the_data_is_refused(compiled: Engine) -> None:
    for at, end, step in ((0, 101, 10), (50, 50, 10), (-1, 10, 10), (0, 10, 0)):
        with pytest.raises(ValueError, match="no datagrams"):
            compiled.open_run(bytearray(100), at, end, step, 16, 0, None)


# What is wrong


@HOW
def test_what_came_before_is_replayed(engine: Engine, how: str) -> None:
    key = e.KEYS[how]
    raw = f.super_frame("tcp4", f.noise(100 * 127), 100)
    (sent,) = e.send(engine, raw, 100, key)
    seen = 1 << 0 | 1 << 64 | 1 << 126
    (run,) = e.open_all(engine, sent.datagrams, key, seen=seen)
    assert run.counts == (0, 0, 3)
    assert run.mask == ((1 << 127) - 1) & ~seen
    packets = f.packets(raw)
    assert e.packets_of(run.frames) == packets[1:64] + packets[65:126]
    (run,) = e.open_all(engine, sent.datagrams, key, seen=TOO_OLD)
    assert (run.frames, run.mask, run.counts) == ([], 0, (0, 0, 127))


@SEALED
def test_a_forged_payload_costs_itself_only(engine: Engine, how: str) -> None:
    key = e.KEYS[how]
    raw = f.super_frame("tcp4", f.noise(5_000), 1000)
    (sent,) = e.send(engine, raw, 1000, key)
    forged = bytearray(sent.datagrams[2])
    forged[-1] ^= 1
    (run,) = e.open_all(engine, [*sent.datagrams[:2], bytes(forged), *sent.datagrams[3:]], key)
    assert (run.mask, run.counts) == (0b11011, (0, 1, 0))
    packets = f.packets(raw)
    assert e.packets_of(run.frames) == packets[:2] + packets[3:]


@SEALED
def test_a_forged_blob_or_another_key_gives_nothing(engine: Engine, how: str) -> None:
    key = e.KEYS[how]
    assert key is not None
    raw = f.super_frame("udp6", f.noise(5_000), 1000)
    (sent,) = e.send(engine, raw, 1000, key)
    for at in (0, 7, e.CLEAR_BYTES, e.CLEAR_BYTES + 3, e.CLEAR_BYTES + 20):
        forged = [each[:at] + bytes((each[at] ^ 0x40,)) + each[at + 1 :] for each in sent.datagrams]
        assert [run.counts for run in e.open_all(engine, forged, key)] == [(0, 5, 0)], at
    for other in (Key(key.cipher, bytes(32)), Key(Cipher(3 - key.cipher), key.raw)):
        assert [run.counts for run in e.open_all(engine, sent.datagrams, other)] == [(0, 5, 0)]


def test_headers_that_no_kernel_may_see(engine: Engine) -> None:
    raw = f.super_frame("tcp4", f.noise(300), 100)
    (sent,) = e.send(engine, raw, 100, None)
    blob_at = e.CLEAR_BYTES + 3
    for at, value in (
        (0, 0),  # flags
        (0, 3),
        (1, 0),  # gso_type
        (1, 4),
        (1, 5),
        (1, 0x85),
        (4, 0),  # gso_size, which the slice must be a multiple of
        (4, 99),
        (6, 33),  # csum_start
        (6, 255),
        (7, 255),
        (8, 6),  # csum_offset
        (22, 0x86),  # EtherType
        (24, 0x46),  # IP
        (24, 0x65),
        (33, 17),
        (56, 0x40),  # data offset
        (56, 0xF0),
    ):
        where = blob_at + at
        changed = [each[:where] + bytes((value,)) + each[where + 1 :] for each in sent.datagrams]
        assert [run.counts for run in e.open_all(engine, changed, None)] == [(3, 0, 0)], (at, value)


def test_datagrams_too_short_or_without_payload(engine: Engine) -> None:
    raw = f.super_frame("tcp4", f.noise(300), 100)
    (sent,) = e.send(engine, raw, 100, None)
    head = len(sent.datagrams[0]) - 100
    for size in range(e.CLEAR_BYTES, head + 1):
        assert [run.counts for run in e.open_all(engine, [sent.datagrams[0][:size]], None)] == [(1, 0, 0)], size
    short = [sent.datagrams[0], sent.datagrams[1][:-1]]
    assert [run.counts for run in e.open_all(engine, short, None)] == [(1, 0, 0)], "shorter without being the last"


# In any order, with anything


class Receiver:
    """Opens receives as codec.Opener does."""

    def __init__(self, engine: Engine, key: Key | None) -> None:
        self.engine, self.key = engine, key
        self.window = ReplayWindow()
        self.packets: list[bytes] = []
        self.counts = [0, 0, 0]

    def take(self, burst: list[bytes]) -> None:
        sequence = int.from_bytes(burst[0][8:16], "big")
        seen = self.window.seen(sequence) if self.key else 0
        for run in e.open_all(self.engine, burst, self.key, seen=seen):
            self.packets += e.packets_of(run.frames)
            self.counts = [one + other for one, other in zip(self.counts, run.counts, strict=True)]
            if self.key:
                self.window.add(sequence, run.mask)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    kind=st.sampled_from(f.KINDS),
    how=st.sampled_from(list(e.KEYS)),
    vlans=st.integers(0, 2),
    slices=st.integers(1, 20),
    gso_size=st.sampled_from([1, 8, 333]),
    multiple=st.integers(1, 3),
)
def test_each_packet_once_whatever_the_path_does(
    engine: Engine, seed: int, kind: str, how: str, vlans: int, slices: int, gso_size: int, multiple: int
) -> None:
    rng, key = random.Random(seed), e.KEYS[how]
    slice_bytes = gso_size * (multiple if kind.startswith("tcp") else 1)
    payload = rng.randbytes(slice_bytes * slices - rng.randrange(min(gso_size, slice_bytes)))
    raw = f.super_frame(
        kind,
        payload,
        gso_size,
        vlans=vlans,
        flags=rng.getrandbits(8),
        identification=rng.getrandbits(16),
        sequence=rng.getrandbits(32),
    )
    (sent,) = e.send(engine, raw, slice_bytes, key)
    arriving = [each for each in sent.datagrams if rng.random() < 0.8]
    expected = sorted(_packets_in(raw, sent, arriving))
    if key:
        arriving += [each for each in arriving if rng.random() < 0.3]
    if rng.random() < 0.5:
        rng.shuffle(arriving)
    duplicates = len(arriving) - len(set(arriving))
    receiver = Receiver(engine, key)
    for burst in e.as_received(arriving):
        at = rng.randrange(len(burst))
        for part in (burst[:at], burst[at:]):
            if part:
                receiver.take(part)
    assert sorted(receiver.packets) == expected
    assert receiver.counts == [0, 0, duplicates]


def _packets_in(raw: bytes, sent: e.Sent, arriving: list[bytes]) -> list[bytes]:
    packets, each = f.packets(raw), max(1, sent.slice_bytes // int.from_bytes(raw[4:6], "little"))
    numbers = [sent.datagrams.index(datagram) for datagram in arriving]
    return [packet for number in numbers for packet in packets[number * each : (number + 1) * each]]


@settings(max_examples=400)
@given(rng=st.randoms(use_true_random=False))
def test_both_engines_judge_damage_alike(compiled: Engine, rng: random.Random) -> None:
    case = e.damaged_case(random.Random(rng.getrandbits(64)))
    assert case.run(compiled) == case.run(PythonEngine())


@settings(max_examples=200)
@given(data=st.binary(min_size=1, max_size=400), numbers=st.tuples(*[st.integers(0, 400)] * 3), how=st.data())
def test_both_engines_judge_noise_alike(compiled: Engine, data: bytes, numbers: tuple[int, int, int], how: Any) -> None:
    at, end, step = numbers[0] % len(data), len(data), max(1, numbers[2])
    key = e.KEYS[how.draw(st.sampled_from(list(e.KEYS)))]
    case = e.Case(data, at, end, step, how.draw(st.sampled_from([16, 28])), numbers[1], key)
    assert case.run(compiled) == case.run(PythonEngine())


@settings(max_examples=60)
@given(
    kind=st.sampled_from(f.KINDS),
    how=st.sampled_from(list(e.KEYS)),
    gso_size=st.integers(1, 1500),
    size=st.integers(1, 65000),
    relay=st.sampled_from([b"", e.RELAY]),
    sequence=st.integers(0, 2**64 - 200),
)
def test_both_engines_send_the_same_bytes(
    compiled: Engine, kind: str, how: str, gso_size: int, size: int, relay: bytes, sequence: int
) -> None:
    raw = f.super_frame(kind, f.noise(min(size, gso_size * 200)), gso_size)
    key = e.KEYS[how]
    assert e.send(compiled, raw, gso_size, key, sequence, relay) == e.send(
        PythonEngine(), raw, gso_size, key, sequence, relay
    )


# Memory


def test_keys_may_outlive_the_engine_and_engines_the_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    e.engine_named("compiled")
    monkeypatch.setenv(build.CACHE_DIR_VARIABLE, str(tmp_path))
    build.build()
    engine, key = CompiledEngine(str(build.built_library())), Key(Cipher.AES_256_GCM, e.RAW_KEY)
    raw = f.super_frame("tcp4", f.noise(2_000), 1000)
    (sent,) = e.send(engine, raw, 1000, key)
    assert key.native
    del engine
    assert e.open_all(PythonEngine(), sent.datagrams, key)[0].frames == [raw]
    del key
    other = CompiledEngine(str(build.built_library()))
    fresh = Key(Cipher.AES_256_GCM, e.RAW_KEY)
    assert e.open_all(other, sent.datagrams, fresh)[0].frames == [raw]


@pytest.mark.parametrize("seed", [1, 2])
def test_no_byte_outside_is_touched(tmp_path: Path, seed: int) -> None:
    library, environment = e.sanitized(tmp_path)
    command = [sys.executable, str(FUZZ), str(library), str(seed), "600"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (0, "alike\n"), done.stderr[-3000:]
