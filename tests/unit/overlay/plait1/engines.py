"""All engines that this machine can run, what a run looks like to a test, and damage that both must judge alike."""

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from struct import pack_into, unpack_from
from unittest import mock

import pytest

from plait.overlay.sleeve.native import build as build_module
from plait.overlay.sleeve.native.build import CACHE_DIR_VARIABLE, NotBuilt, build, built_library
from plait.overlay.sleeve.native.engine import CompiledEngine
from plait.overlay.sleeve.plait1 import wire
from plait.overlay.sleeve.plait1.engine import LAST, Engine, PythonEngine, Run, Segments, prepared
from plait.overlay.sleeve.plait1.keys import Cipher, Key
from plait.overlay.sleeve.plait1.superframe import layout
from unit.overlay.plait1 import frames as f

US = bytes.fromhex("020000000001")
RELAY = bytes.fromhex("0200000000aa0200000000bb")
RAW_KEY = bytes(range(32))
SANITIZED = ("-g", "-O1", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
LIBRARY_VARIABLE = "PLAIT_TEST_ENGINE"
"""Names the shared object that is tested, in programs that a test starts."""

CLEAR_BYTES = wire.HEADER_BYTES
KEYS = {"plain": None, "aes": Key(Cipher.AES_256_GCM, RAW_KEY), "chacha": Key(Cipher.CHACHA20_POLY1305, RAW_KEY)}


def sanitized(directory: Path) -> tuple[Path, dict[str, str]]:
    """The C with checks of every access, and the environment of a program that loads it; skips where that cannot be."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("gcc is not there")
    runtime = subprocess.run(
        [compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not os.path.isabs(runtime):
        pytest.skip("libasan is not there (it comes with gcc: libgcc-*-dev)")
    library = directory / "sanitized.so"
    sources = sorted(Path(build_module.__file__).parent.glob("*.c"))
    command = [compiler, *SANITIZED, *build_module.FLAGS, "-Wall", "-Wextra", "-Wconversion", "-Werror"]
    subprocess.run([*command, "-o", library, *sources, *build_module.LIBRARIES], check=True)
    environment = {
        **os.environ,
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": os.pathsep.join(sys.path),
        LIBRARY_VARIABLE: str(library),
    }
    return library, environment


@lru_cache
def compiled() -> CompiledEngine | str:
    """The compiled engine, or why there is none."""
    if library := os.environ.get(LIBRARY_VARIABLE):
        return CompiledEngine(library)
    with tempfile.TemporaryDirectory() as directory, mock.patch.dict(os.environ, {CACHE_DIR_VARIABLE: directory}):
        sentence = build()
        try:
            return CompiledEngine(str(built_library()))
        except NotBuilt:
            return sentence


def engine_named(name: str) -> Engine:
    if name == "python":
        return PythonEngine()
    found = compiled()
    if isinstance(found, str):
        pytest.skip(found)
    return found


@dataclass
class Sent:
    """The datagrams of one super-frame, and their slices."""

    datagrams: list[bytes]
    size: int
    slice_bytes: int
    sequence: int
    clear_bytes: int


def send(
    engine: Engine, raw: bytes, slice_bytes: int, key: Key | None, sequence: int = 7, relay: bytes = b""
) -> list[Sent]:
    """Cut a super-frame; several are given if it has too many slices."""
    where = layout(raw)
    assert where is not None
    sent = []
    for blob, payload in prepared(memoryview(raw), where, slice_bytes):
        clear = wire.clear_header(US, wire.Kind.SEGMENT, sequence, encrypted=key is not None, relay=relay)
        segments = engine.segment(blob, payload, clear, sequence, slice_bytes, key)
        sent.append(Sent(cut_up(segments), segments.size, slice_bytes, sequence, len(clear)))
        sequence += 1
    return sent


def cut_up(segments: Segments) -> list[bytes]:
    whole = b"".join(segments.buffers)
    assert len(whole) == segments.total
    datagrams = [whole[at : at + segments.size] for at in range(0, len(whole), segments.size)]
    assert len(datagrams) == segments.count
    assert b"".join(b"".join(buffers) for buffers, _ in segments.sends()) == whole
    assert sum(count for _, count in segments.sends()) == segments.count
    return datagrams


@dataclass
class Received:
    """A run, copied out of the engine's buffers."""

    next_at: int
    frames: list[bytes]
    mask: int
    counts: tuple[int, int, int]
    """Malformed, forged, replayed."""


def copied(run: Run) -> Received:
    frames = [b"".join(map(bytes, pieces)) for pieces in run.frames]
    return Received(run.next_at, frames, run.mask, (run.malformed, run.forged, run.replayed))


def open_all(
    engine: Engine, datagrams: Sequence[bytes], key: Key | None, *, clear_bytes: int = CLEAR_BYTES, seen: int = 0
) -> list[Received]:
    """Open datagrams that came in one receive, of one sequence; all but the last are equally long."""
    data, step, at = bytearray(b"".join(datagrams)), len(datagrams[0]), 0
    received = []
    while at < len(data):
        run = copied(engine.open_run(data, at, len(data), step, clear_bytes, seen, key))
        assert run.next_at > at
        seen |= run.mask
        at = run.next_at
        received.append(run)
    return received


def as_received(datagrams: Iterable[bytes]) -> list[list[bytes]]:
    """Put datagrams into receives as GRO would: equally long ones together, a shorter one ends a receive."""
    receives: list[list[bytes]] = []
    for each in datagrams:
        last = receives[-1] if receives else None
        if last and len(last[-1]) == len(last[0]) and len(each) <= len(last[0]):
            last.append(each)
        else:
            receives.append([each])
    return receives


def frames_of(runs: Iterable[Received]) -> list[bytes]:
    return [frame for run in runs for frame in run.frames]


def packets_of(raws: Iterable[bytes]) -> list[bytes]:
    return [packet for raw in raws for packet in f.packets(raw)]


def with_ip_options(raw: bytes, words: int) -> bytes:
    """The same IPv4 super-frame with `words` * 4 bytes of options; VLAN tags are allowed for."""
    ip = 10 + 14
    while raw[ip - 2 : ip] == b"\x81\x00":
        ip += 4
    size = 4 * words
    head = bytearray(raw[: ip + 20] + b"\x01" * size)
    head[ip] += words
    pack_into("<H", head, 2, unpack_from("<H", head, 2)[0] + size)
    pack_into("<H", head, 6, unpack_from("<H", head, 6)[0] + size)
    pack_into(">H", head, ip + 2, unpack_from(">H", head, ip + 2)[0] + size)
    pack_into(">H", head, ip + 10, 0)
    pack_into(">H", head, ip + 10, f.word_sum(bytes(head[ip:])) ^ 0xFFFF)
    return bytes(head) + raw[ip + 20 :]


def with_gso_size(raw: bytes, size: int) -> bytes:
    return raw[:4] + size.to_bytes(2, "little") + raw[6:]


# Damage


@dataclass
class Case:
    """What a call of `open_run` gets."""

    data: bytes
    at: int
    end: int
    step: int
    clear_bytes: int
    seen: int
    key: Key | None

    def run(self, engine: Engine) -> Received:
        return copied(
            engine.open_run(bytearray(self.data), self.at, self.end, self.step, self.clear_bytes, self.seen, self.key)
        )


def damaged_case(rng: random.Random) -> Case:
    """A burst of segments in which anything may be wrong; the same for the same random numbers."""
    key = KEYS[rng.choice(("plain", "plain", "aes", "chacha"))]
    relay = rng.choice((b"", b"", RELAY))
    datagrams, size, clear_bytes = _genuine(rng, key, relay)
    damage = rng.choice((_nothing, _flip, _fields, _blob_bytes, _indices, _drop, _shuffle, _cut, _resealed))
    data = bytearray(b"".join(damage(rng, datagrams, clear_bytes, key)) or b"\x00")
    if rng.random() < 0.2:
        size = max(1, size + rng.choice((-1, 1, 7, 1000, -size + 1)))
    if rng.random() < 0.2:
        del data[rng.randrange(len(data)) + 1 :]
    at = rng.choice((0, 0, 0, min(size, len(data) - 1), rng.randrange(len(data))))
    end = rng.choice((len(data), len(data), rng.randrange(at + 1, len(data) + 1)))
    seen = rng.choice((0, 0, 0, rng.getrandbits(128), 1 << rng.randrange(8), (1 << 256) - 1))
    return Case(bytes(data), at, end, size, clear_bytes, seen, key)


def _genuine(rng: random.Random, key: Key | None, relay: bytes) -> tuple[list[bytes], int, int]:
    kind = rng.choice(f.KINDS)
    gso_size = rng.choice((1, 7, 100, 536))
    count = rng.choice((1, 2, 3, 10, 127, 128) if gso_size < 100 else (1, 2, 3, 10))
    payload = rng.randbytes(max(1, gso_size * count - rng.choice((0, 1, gso_size // 2))))
    flags = rng.getrandbits(8)
    raw = f.super_frame(kind, payload, gso_size, flags=flags, vlans=rng.randrange(3), ecn=kind[0] == "t" and flags > 99)
    if kind.endswith("4") and rng.random() < 0.3:
        raw = with_ip_options(raw, rng.randrange(1, 11))
    slice_bytes = gso_size * rng.choice((1, 1, 1, 2)) if kind[0] == "t" else gso_size
    (sent, *_) = send(PythonEngine(), raw, slice_bytes, key, rng.choice((7, 1 << 33)), relay)
    return sent.datagrams, sent.size, sent.clear_bytes


def _nothing(rng: random.Random, datagrams: list[bytes], clear_bytes: int, key: Key | None) -> list[bytes]:
    return datagrams


def _flip(rng: random.Random, datagrams: list[bytes], clear_bytes: int, key: Key | None) -> list[bytes]:
    which = rng.randrange(len(datagrams))
    changed = bytearray(datagrams[which])
    for _ in range(rng.choice((1, 1, 3, 20))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return [*datagrams[:which], bytes(changed), *datagrams[which + 1 :]]


def _fields(rng: random.Random, datagrams: list[bytes], clear_bytes: int, key: Key | None) -> list[bytes]:
    """The same slice, blob length and byte of the blob everywhere: a sender that lies."""
    at = rng.randrange(clear_bytes, clear_bytes + 3 + 80)
    value = rng.choice((0, 1, 0xFF, rng.randrange(256)))
    return [each[:at] + bytes((value,)) + each[at + 1 :] if at < len(each) else each for each in datagrams]


def _blob_bytes(rng: random.Random, datagrams: list[bytes], clear_bytes: int, key: Key | None) -> list[bytes]:
    at = clear_bytes + 2
    value = (datagrams[0][at] + rng.choice((-1, 1, 16, -16, 100))) & 0xFF
    return [each[:at] + bytes((value,)) + each[at + 1 :] for each in datagrams]


def _indices(rng: random.Random, datagrams: list[bytes], clear_bytes: int, key: Key | None) -> list[bytes]:
    at = clear_bytes + 3 + datagrams[0][clear_bytes + 2]
    shift, last = rng.randrange(128), rng.choice((0, LAST))
    changed = [each[:at] + bytes((((each[at] + shift) & 0x7F) | last,)) + each[at + 1 :] for each in datagrams]
    return rng.choice((changed, [*datagrams[:-1], changed[-1]]))


def _drop(rng: random.Random, datagrams: list[bytes], clear_bytes: int, key: Key | None) -> list[bytes]:
    return [each for each in datagrams if rng.random() < 0.7] or datagrams


def _shuffle(rng: random.Random, datagrams: list[bytes], clear_bytes: int, key: Key | None) -> list[bytes]:
    return rng.sample(datagrams, len(datagrams)) + datagrams[: rng.randrange(3)]


def _cut(rng: random.Random, datagrams: list[bytes], clear_bytes: int, key: Key | None) -> list[bytes]:
    last, head = datagrams[-1], clear_bytes + 3 + datagrams[-1][clear_bytes + 2]
    size = rng.choice((rng.randrange(len(last)), clear_bytes + rng.randrange(4), head + rng.randrange(3), head + 16))
    return [*datagrams[: rng.choice((0, -1))], last[:size]]


def _resealed(rng: random.Random, datagrams: list[bytes], clear_bytes: int, key: Key | None) -> list[bytes]:
    """A neighbour with the right key that seals nonsense: any blob, slices of any length."""
    sequence = int.from_bytes(datagrams[0][8:16], "big")
    blob = bytearray(f.super_frame(rng.choice(f.KINDS), b"x", rng.choice((1, 50)), vlans=rng.randrange(3))[:-1])
    for _ in range(rng.randrange(3)):
        # csum_start half of the time, to have headers of TCP or UDP where there are none
        blob[rng.choice((6, rng.randrange(len(blob))))] = (
            rng.choice((0, 1, 4, 5, 0x45, 0x4F, 0x60, 0xFF, len(blob) - rng.randrange(40), rng.randrange(256))) & 0xFF
        )
    blob = blob[: rng.choice((len(blob), len(blob), rng.randrange(len(blob) + 1)))] or blob
    made, slice_bytes = [], rng.choice((1, 50, 100, 0, 0xFFFF))
    fields = wire.SEGMENT_FIELDS.pack(slice_bytes, len(blob) + (0 if key is None else 16))
    associated = datagrams[0][:clear_bytes] + fields
    sealed = bytes(blob) if key is None else key.seal(5, 0, sequence, blob, associated)
    for index in range(rng.choice((1, 2, 5))):
        payload = rng.randbytes(rng.choice((slice_bytes % 1000, slice_bytes % 1000, 0, 1, 60)))
        piece = payload if key is None else key.seal(2, index, sequence, payload, associated)
        made.append(associated + sealed + bytes((index,)) + piece)
    return made
