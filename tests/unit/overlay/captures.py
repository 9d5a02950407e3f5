"""Reads the live captures: pcap files, reassembled UDP datagrams, and the narrative beside each capture."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Any

VECTORS = Path(__file__).parents[2] / "vectors"
FOLDER = VECTORS / "sleeve" / "captures"
SLEEVE_PORT = 6783

PEERS = {
    "A(h1)": bytes.fromhex("02000000000a"),
    "B(h2)": bytes.fromhex("02000000000b"),
    "C(h3)": bytes.fromhex("02000000000c"),
}

_RECORD = Struct("<IIII")
_NANOSECOND_MAGIC = 0xA1B23C4D


@dataclass(frozen=True, slots=True)
class Datagram:
    """One UDP datagram, whole; `number` is the packet that completed it, counted from 1."""

    number: int
    time: float
    source: tuple[str, int]
    destination: tuple[str, int]
    df: bool
    payload: bytes


@dataclass(frozen=True, slots=True)
class Capture:
    """A capture and its narrative."""

    name: str
    datagrams: tuple[Datagram, ...]
    packets: tuple[dict[str, Any], ...]
    session_key: bytes | None


def load(name: str, folder: Path = FOLDER, port: int = SLEEVE_PORT) -> Capture:
    """Read NAME.pcap and NAME.json, or both gzipped, and the datagrams from or to the port."""
    narrative = json.loads(_read(folder / f"{name}.json"))
    keys = narrative["session_keys_hex"]
    frames = list(_read_pcap(_read(folder / f"{name}.pcap")))
    return Capture(
        name,
        tuple(_datagrams(frames, port)),
        tuple(narrative["packets"]),
        bytes.fromhex(keys[0]) if keys else None,
    )


def scenario_log(scenario: str, host: str) -> list[str]:
    """Give the lines of a router's log."""
    lines: list[str] = json.loads((FOLDER / f"scenario-{scenario}.json").read_text())["router_log_excerpt"][host]
    return lines


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else gzip.decompress(path.with_name(f"{path.name}.gz").read_bytes())


def _read_pcap(data: bytes) -> Iterator[tuple[float, bytes]]:
    fraction = 1e-9 if int.from_bytes(data[:4], "little") == _NANOSECOND_MAGIC else 1e-6
    at = 24
    start = None
    while at < len(data):
        seconds, ticks, length, original = _RECORD.unpack_from(data, at)
        assert length == original, "a capture cut packets short"
        at += _RECORD.size
        time = seconds + ticks * fraction
        start = time if start is None else start
        yield time - start, data[at : at + length]
        at += length


def _datagrams(frames: list[tuple[float, bytes]], port: int) -> Iterator[Datagram]:
    pending: dict[bytes, dict[int, bytes]] = {}
    totals: dict[bytes, int] = {}
    for number, (time, frame) in enumerate(frames, 1):
        if frame[12:14] != b"\x08\x00" or frame[23] != 17:
            continue
        packet = frame[14 : 14 + int.from_bytes(frame[16:18], "big")]
        body = packet[(packet[0] & 15) * 4 :]
        flags_offset = int.from_bytes(packet[6:8], "big")
        offset, more = (flags_offset & 0x1FFF) * 8, bool(flags_offset & 0x2000)
        if offset or more:
            key = packet[12:20] + packet[4:6]
            pieces = pending.setdefault(key, {})
            pieces[offset] = body
            if not more:
                totals[key] = offset + len(body)
            if sum(map(len, pieces.values())) != totals.get(key):
                continue
            body = b"".join(pieces[at] for at in sorted(pieces))
            del pending[key], totals[key]
        source_port, destination_port, length = (int.from_bytes(body[at : at + 2], "big") for at in (0, 2, 4))
        if port in (source_port, destination_port):
            assert length == len(body)
            yield Datagram(
                number,
                time,
                (".".join(map(str, packet[12:16])), source_port),
                (".".join(map(str, packet[16:20])), destination_port),
                bool(flags_offset & 0x4000),
                body[8:],
            )
    assert not pending, "a capture has fragments of an incomplete datagram"
