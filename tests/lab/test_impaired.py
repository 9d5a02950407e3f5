"""Bytes arrive unharmed over paths that lose, reorder and duplicate, and whatever strangers send meanwhile."""

import sys

import pytest

from lab.node_lab import check_logs, report, wait_for_neighbours
from lab.path_lab import OVERLAY, USER_SPACE, attach, both_ways, detail, join, statistic
from plait.testing.lab import Lab

SIZE = 4_000_000
SHARE = 0.05
FLOOD_SECONDS = 60
"""After which a flood ends by itself; it is stopped before."""

FLOOD_PACKETS = 20_000
"""That must have come at least: several times what the transfer takes."""

# As fast as one process can: all types, versions and flags, under names that are a peer's and nobody's, from the port
# of the peer's node (by a raw socket, as that port is taken) and from others.
_FLOOD = r"""
import itertools, random, socket, struct, sys, time
target, peer, seconds = sys.argv[1], bytes.fromhex(sys.argv[2].replace(":", "")), float(sys.argv[3])
rng = random.Random(5)
heads = [bytes([byte, flags]) for byte in range(16, 22) for flags in (0, 1, 2)] + [b"", b"?", b"\xff\xff"]
bodies = [head + rng.randbytes(size) for head in heads for size in (0, 30, 1400)]
names = [peer, peer, rng.randbytes(6), rng.randbytes(6), bytes(6)]
datagrams = [name + body for name in names for body in bodies]
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
others = itertools.cycle([socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(4)])
end = time.monotonic() + seconds
while time.monotonic() < end:
    for datagram in datagrams:
        raw.sendto(struct.pack("!HHHH", 6783, 6783, 8 + len(datagram), 0) + datagram, (target, 0))
        next(others).sendto(datagram, (target, 6783))
"""


@pytest.mark.parametrize("password", [None, "correct horse"], ids=["plain", "password"])
@pytest.mark.parametrize(
    "harm",
    [
        {"loss": SHARE},
        {"reorder": SHARE},
        {"duplicate": SHARE},
        {"loss": SHARE, "reorder": SHARE, "duplicate": SHARE},
    ],
    ids=["loss", "reorder", "duplicate", "all"],
)
def test_tcp_over_a_bad_path(lab: Lab, harm: dict[str, float], password: str | None) -> None:
    one, other = lab.host("h1"), lab.host("h2")
    here, there = join(one, other, password)
    made = lab.impair(one, other, seed=11, **harm)
    both_ways(here, there, SIZE)
    counts = made.counts()
    assert counts.seen > 2 * SIZE / 1500
    for rate, count in (
        ("loss", counts.lost),
        ("reorder", counts.reordered),
        ("duplicate", counts.duplicated),
    ):
        assert (count > 0.03 * counts.seen) == (rate in harm)
    assert (detail(one, other)["Overlay"], detail(one, other)["Encrypted"]) == (OVERLAY, password is not None)
    lab.heal()
    both_ways(here, there, SIZE)
    check_logs(lab)


@pytest.mark.parametrize("password", [None, "correct horse"], ids=["plain", "password"])
def test_a_flood_from_one_peer_does_not_starve_another(lab: Lab, password: str | None) -> None:
    one, other, third = (lab.host(name) for name in ("h1", "h2", "h3"))
    one.launch(password=password, extra=USER_SPACE)
    other.launch(one, password=password, extra=USER_SPACE)
    third.launch(one, password=password, extra=USER_SPACE)
    wait_for_neighbours(one, "h2", "h3")
    here, there = attach(one, other)
    since = detail(one, other)["EstablishedSince"]
    before = statistic(one, "eth0", "rx_packets")
    flood = third.spawn([sys.executable, "-c", _FLOOD, one.ip, third.peer_name, str(FLOOD_SECONDS)])
    pings = there.ping(here, count=40, timeout=2)
    both_ways(here, there, SIZE, timeout=10)
    assert flood.is_running, flood.output
    assert statistic(one, "eth0", "rx_packets") - before > FLOOD_PACKETS
    assert pings.loss < 0.5
    assert detail(one, other)["EstablishedSince"] == since
    flood.stop()
    assert there.ping(here, count=10).ok
    assert report(one)["Plait"]["Pump"]["restarts"] == 0
    check_logs(lab)
