"""What addresses cost in the node: its allocator and its state file, without a mesh and without the API.

Each allocation is durable when it is answered: one transaction of SQLite, in WAL mode with synchronous=FULL.
"""

import asyncio
import gc
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import msgspec

from bench.costs import Cost
from bench.machine import resident_bytes
from plait.ipam import codec
from plait.ipam.address import Cidr
from plait.ipam.codec import GossipState
from plait.ipam.paxos import Voter
from plait.ipam.records import Snapshot
from plait.ipam.ring import Ring, RingState
from plait.ipam.service import AddressService
from plait.ipam.settings import Settings
from plait.ipam_report import build_ipam
from plait.mesh.gossip import GossipData
from plait.mesh.name import PeerName
from plait.state import Store

PEERS, ALLOCATIONS, HELD = 4096, 10_000, 65_000
"""Of issue 5: in the ring; in a row; at the same time."""

_DISK = "/var/tmp"  # /tmp may be memory
_US = PeerName(1)
# Ours is a part of 65536 addresses of the ring; the rest is divided among the others.
_WHOLE = Cidr.parse("10.0.0.0/8")


class _Alone:
    """A mesh in which nobody is heard."""

    def is_known(self, peer: PeerName) -> bool:
        return peer == _US

    def why_unreachable(self, peer: PeerName) -> str | None:
        return None

    def quorum(self) -> int:
        return 1

    def unicast(self, peer: PeerName, payload: bytes) -> None:
        pass

    def broadcast(self, news: GossipData) -> None:
        for _ in news.encode():
            pass

    def flush(self) -> None:
        pass


def measure(rounds: int) -> list[Cost]:
    """Give the best of some rounds of everything."""
    found = [{**_times(), **_held()} for _ in range(rounds)]
    units = {"ms": "ms", "mb": "MB"}
    return [
        Cost(metric, "plait-ipam", min(each[metric] for each in found), units[metric.rpartition("_")[2]], rounds)
        for metric in found[0]
    ]


def ring_state() -> RingState:
    """Divide the range among PEERS: a large part for us, equal ones for the others."""
    ring = Ring(_WHOLE.range, _US)
    ring.claim_for_peers([_US])
    start = _WHOLE.range.start + 2 * HELD
    share = (_WHOLE.range.end - start) // (PEERS - 1)
    for number in range(PEERS - 1):
        last = number == PEERS - 2
        ring.grant(start, _WHOLE.range.end if last else start + share, PeerName(number + 2))
        start += share
    return ring.state()


@contextmanager
def _service(snapshot: Snapshot) -> Iterator[AddressService]:
    with tempfile.TemporaryDirectory(dir=_DISK) as directory, Store(directory) as store:
        store.set_addresses(snapshot)
        settings = Settings(Voter(_US, 1), "bench", _WHOLE)
        service = AddressService(settings, _WHOLE, _Alone(), store, print, print, random.Random(1))
        service.open()
        yield service


def _times() -> Mapping[str, float]:
    state = ring_state()
    with _service(Snapshot(state, {})) as service:
        newer = state._replace(
            peer=PeerName(2),
            entries=tuple(
                entry if entry.peer == _US or number % 2 else entry._replace(version=entry.version + 1, free=1)
                for number, entry in enumerate(state.entries)
            ),
        )
        payload = codec.encode_state(GossipState(0, {}, None, newer))
        ring = Ring(_WHOLE.range, _US)
        ring.restore(state)
        began = time.perf_counter()
        ring.merge(newer, lambda ranges: True)
        merged = time.perf_counter()
        service.receive(payload, 0.0)
        received = time.perf_counter()
        used = time.process_time()
        times = asyncio.run(_allocate(service))
        used = time.process_time() - used
    return {
        "disk_sync_ms": _sync(),
        "allocate_cpu_ms": used / len(times) * 1e3,
        "allocate_ms": sum(times) / len(times) * 1e3,
        "allocate_p99_ms": sorted(times)[len(times) * 99 // 100] * 1e3,
        "merge_ms": (merged - began) * 1e3,
        "receive_ms": (received - merged) * 1e3,
    }


def _sync() -> float:
    """Give ms that the disk alone takes to keep one page at the end of a file: to compare allocations with."""
    count = 200
    with tempfile.NamedTemporaryFile(dir=_DISK) as file:
        began = time.perf_counter()
        for _ in range(count):
            os.write(file.fileno(), bytes(4096))
            os.fdatasync(file.fileno())
        return (time.perf_counter() - began) / count * 1e3


async def _allocate(service: AddressService) -> list[float]:
    times = []
    for number in range(ALLOCATIONS):
        began = time.perf_counter()
        await service.allocate(f"{number:064x}", _WHOLE)
        times.append(time.perf_counter() - began)
    return times


def _held() -> Mapping[str, float]:
    """Hold HELD addresses in a process of its own, as memory that others freed would be counted."""
    words = [sys.executable, "-m", "bench.costs.ipam"]
    found: Mapping[str, float] = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    return found


def _hold() -> Mapping[str, float]:
    state = ring_state()
    with _service(Snapshot(state, {})) as service:
        gc.collect()
        before = resident_bytes(os.getpid())
        # Built here, so that nothing is shared with what a reader of the state file would not share.
        base = _WHOLE.range.start
        for number in range(HELD):
            ident, cidr = f"{number:064x}", Cidr(base + number, _WHOLE.prefix_length)
            service.allocator.space.claim(cidr.address)
            service.allocator.record(ident, cidr, True)
        service.tick()
        gc.collect()
        after = resident_bytes(os.getpid())
        began = time.perf_counter()
        msgspec.json.encode(build_ipam(service, {_US}))
        status = time.perf_counter() - began
        began = time.perf_counter()
        asyncio.run(service.allocate("one more", _WHOLE))
        return {
            "held_mb": (after - before) / 1e6,
            "held_status_ms": status * 1e3,
            "held_allocate_ms": (time.perf_counter() - began) * 1e3,
        }


if __name__ == "__main__":
    print(json.dumps(_hold()))
