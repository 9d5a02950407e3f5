"""Damaged, replayed, reordered and forged datagrams against a pump core: nothing raises, nothing false is delivered.

PLAIT_FUZZ is the number of datagrams (100,000 without): `PLAIT_FUZZ=10000000 make test TESTS=<this file>`.
"""

import os
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from plait.overlay.macs import MAX_REMOTE
from plait.overlay.sleeve.plait1.keys import Cipher
from plait.overlay.sleeve.plait1.replay import WINDOW
from plait.overlay.sleeve.pump.plait1_link import Plait1Link
from plait.overlay.switch import PLAIT1
from unit.overlay.plait1 import frames as f
from unit.overlay.plait1.faults import CHUNK, FORMATS, Broken, Format, run_chunk
from unit.overlay.plait1.hosts import ADDRESSES, A, B, Row
from unit.overlay.pumps import datagrams

DATAGRAMS = int(os.environ.get("PLAIT_FUZZ", "100000"))
IN_PROCESSES = 400_000
"""Of one format: below, starting processes costs more than it brings."""

SECONDS_PER_MILLION = 600
"""For pytest's own watchdog only, on a slow machine."""


def chunks_of(format: Format, count: int) -> Iterator[Counter[str]]:
    """Results of seeds 0, 1, 2 and so on."""
    seeds = range(max(count // CHUNK, 1))
    if count < IN_PROCESSES:
        yield from (run_chunk(format, seed) for seed in seeds)
        return
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        yield from pool.map(run_chunk, [format] * len(seeds), seeds, chunksize=10)


@pytest.mark.timeout(120 + SECONDS_PER_MILLION * DATAGRAMS // 1_000_000)
@pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.name.replace(" ", "-"))
def test_whatever_comes_is_counted_and_nothing_false_is_delivered(format: Format) -> None:
    done: Counter[str] = Counter()
    for result in chunks_of(format, DATAGRAMS // len(FORMATS)):
        done += result
    print(f"{format.name}: " + ", ".join(f"{kind} {count}" for kind, count in sorted(done.items())))
    injected = {kind for kind in done if not kind.startswith("counted")}
    assert injected >= {"genuine", "replayed", "flipped", "truncated", "extended", "garbage", "stranger", "burst"}
    expected = {"malformed", "unknown_hop"} | ({"forged", "replayed"} if format.cipher else set())
    for counter in expected:
        assert done[f"counted {counter}"] > 0, counter
    if format.cipher is not None:
        assert done["counted replayed"] >= done["replayed"] * 0.9


def test_a_seed_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the watch itself sees: a link that takes every datagram for new."""
    monkeypatch.setattr("plait.overlay.sleeve.plait1.replay.ReplayWindow.seen", lambda self, sequence: 0)
    with pytest.raises(Broken, match=r"AES_256_GCM, seed 7, datagram \d+, [a-z ]+, 02"):
        run_chunk(Format(PLAIT1, Cipher.AES_256_GCM), 7)


def test_a_forged_delivery_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "plait.overlay.sleeve.plait1.keys.Key.open",
        lambda self, kind, index, sequence, data, associated: bytes(data[:-16]),
    )
    with pytest.raises(Broken, match="seed 3"):
        run_chunk(Format(PLAIT1, Cipher.CHACHA20_POLY1305), 3)


@pytest.mark.parametrize("cipher", list(Cipher), ids=["aes", "chacha"])
def test_the_replay_window_stays_small_however_far_sequences_jump(cipher: Cipher) -> None:
    """An authentic sender with the worst of habits: far ahead and back again, each number once."""
    net = Row(cipher)
    net.meet()
    rng = random.Random(cipher)
    link = net.b.core.link(A)
    assert isinstance(link, Plait1Link)
    first, delivered = 100, 0
    for _ in range(5 * WINDOW // 64):
        net.connect_sender(A, B, first)
        for _ in range(64):
            net.a.captured_raw(f.finished("udp4", bytes(1000)))
        payloads = datagrams(net.a.drain())
        rng.shuffle(payloads)
        for payload in payloads:
            net.b.received(payload)
        delivered += len(net.b.take_raw())
        assert len(link.opener.window._seen) <= 3 * WINDOW
        first += rng.choice((64, 64, 65, 1000, WINDOW - 1, WINDOW, 1 << 20, 1 << 48))
    assert delivered == 5 * WINDOW // 64 * 64
    assert net.b.of_peer(A)["rx_rejected"] == 0


def test_addresses_have_a_bound_however_many_a_neighbour_claims() -> None:
    net = Row(None)
    net.meet()
    frame = f.MAC_B + bytes(6) + b"\x88\xb5" + bytes(10)
    for first in range(0, MAX_REMOTE + 4000, 40):
        records = []
        for number in range(first, first + 40):
            raw = bytes(10) + frame[:6] + b"\x06\x00" + number.to_bytes(4, "big") + frame[12:]
            records.append(len(raw).to_bytes(2, "big") + raw)
        payload = bytearray(A.to_bytes6() + b"\x11\x00" + bytes(8) + b"".join(records))
        for _ in net.b.core.received(payload, len(payload), len(payload), ADDRESSES[A], 1.0):
            pass
    counters = net.b.core.stats().counters
    assert counters["macs"] <= MAX_REMOTE + 10
    assert counters["macs_evicted"] > 0
