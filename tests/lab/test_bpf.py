"""eBPF against the real kernel: maps, loading, attaching both ways, ring buffers; frames cross a veth pair."""

import asyncio
import ctypes
import errno
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from struct import pack, unpack

import pytest

from plait.errors import KernelRefused, NotFound
from plait.host import netns
from plait.host.bpf import maps as maps_module
from plait.host.bpf.attachment import Direction, Way, attach, attached, detach
from plait.host.bpf.bpffs import ensure_bpffs
from plait.host.bpf.elf import BpfObject, MapRelocation, ProgramCode, read_object
from plait.host.bpf.features import probe
from plait.host.bpf.loader import Loaded, MapMismatch, ProgramRefused, load
from plait.host.bpf.maps import Map, MapFull, MapKind, MapSpec
from plait.host.bpf.ringbuf import RECORDS_PER_READ, RingBuffer
from plait.host.bpf.syscall import Command, bpf
from plait.host.kernel_errors import NoSuchLink
from plait.host.netlink import Netlink
from plait.testing.lab.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for eBPF and network namespaces")

SAMPLE = read_object((Path(__file__).parent / "bpf" / "sample.bpf.o").read_bytes())
ETH_P_TEST = 0x88B5  # IEEE 802 local experimental: no stack answers it
FRAME = bytes(12) + pack("!H", ETH_P_TEST) + bytes(46)
REPORT_BYTES = 64
_MNT_DETACH = 2
_numbers = count()
ways = pytest.mark.parametrize("way", Way)


@dataclass
class Pair:
    """A veth pair in a namespace of its own; frames go in at `far`, so that they come in by `near`."""

    space: Path
    near: int
    far: int

    def send(self, frames: int = 1) -> None:
        with netns.entered(self.space), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind(("far", 0))
            for _ in range(frames):
                sender.send(FRAME)

    def sees_frame(self) -> bool:
        """Whether what is sent reaches the stack behind the hook."""
        with netns.entered(self.space):
            receiver = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_TEST))
        with receiver:
            receiver.bind(("near", ETH_P_TEST))
            receiver.settimeout(0.3)
            self.send()
            try:
                return bool(receiver.recv(100))
            except TimeoutError:
                return False


@pytest.fixture
def pair() -> Iterator[Pair]:
    name = f"plait-bpf-{os.getpid()}-{next(_numbers)}"
    path = netns.create(name)
    try:
        with Netlink(path) as netlink:
            yield Pair(path, *make_veth(netlink))
    finally:
        netns.delete(name)


def make_veth(netlink: Netlink) -> tuple[int, int]:
    netlink.create_veth("near", "far", 1500)
    found = []
    for name in ("near", "far"):
        netlink.set_link(name, up=True)
        link = netlink.link(name)
        assert link is not None
        found.append(link.index)
    return found[0], found[1]


@pytest.fixture
def pins(tmp_path: Path) -> Iterator[Path]:
    """A BPF file system, with a directory in it that does not exist yet."""
    ensure_bpffs(tmp_path / "bpf")
    yield tmp_path / "bpf" / "plait"
    ctypes.CDLL(None).umount2(os.fsencode(tmp_path / "bpf"), _MNT_DETACH)


@pytest.fixture
def sample() -> Iterator[Loaded]:
    with load(SAMPLE, None) as loaded:
        yield loaded


def number(value: int) -> bytes:
    return pack("=I", value)


def made(kind: MapKind, entries: int, key_size: int = 4, value_size: int = 4) -> Map:
    return Map.create(MapSpec("test", kind, key_size, value_size, entries))


def frames_of(loaded: Loaded) -> int:
    """How many of our frames the counting programs saw."""
    ours = pack("!H", ETH_P_TEST)
    return sum(unpack("=QII", value)[0] for key, value in loaded.maps["flows"].items() if key[4:6] == ours)


def seen_at_least(loaded: Loaded, frames: int) -> int:
    wait_until(lambda: frames_of(loaded) >= frames, f"{frames} frames counted")
    return frames_of(loaded)


# Maps


def test_entries_of_a_hash_are_set_read_and_deleted() -> None:
    with made(MapKind.HASH, 4) as table:
        assert table.lookup(number(1)) is None
        assert not table.update(number(1), b"none", only="existing")
        assert table.update(number(1), b"abcd")
        assert not table.update(number(1), b"late", only="new")
        assert table.lookup(number(1)) == b"abcd"
        assert table.update(number(1), b"more", only="existing")
        assert dict(table.items()) == {number(1): b"more"}
        assert table.delete(number(1))
        assert not table.delete(number(1))
        assert list(table.items()) == []


def test_full_map_and_wrong_sizes_are_explained() -> None:
    with made(MapKind.HASH, 2) as table:
        table.update_many([(number(1), bytes(4)), (number(2), bytes(4))])
        with pytest.raises(MapFull, match="test is full with its 2 entries"):
            table.update(number(3), bytes(4))
        with pytest.raises(MapFull, match="test is full"):
            table.update_many([(number(2), b"2222"), (number(3), bytes(4))])
        assert table.lookup(number(2)) == b"2222"
        with pytest.raises(ValueError, match="has 4 bytes, not 5"):
            table.lookup(bytes(5))
        with pytest.raises(ValueError, match="has 4 bytes, not 3"):
            table.update(number(1), bytes(3))
        with pytest.raises(ValueError, match="cannot be read in this way"):
            table.lookup_per_cpu(number(1))


def test_array_has_all_its_entries_and_keeps_them() -> None:
    with made(MapKind.ARRAY, 3) as table:
        table.update(number(1), b"abcd")
        assert list(table.items()) == [(number(0), bytes(4)), (number(1), b"abcd"), (number(2), bytes(4))]
        assert table.lookup(number(3)) is None
        with pytest.raises(KernelRefused, match="no entry of this number, only 3"):
            table.update(number(3), bytes(4))
        with pytest.raises(KernelRefused, match="delete from the eBPF map test"):
            table.delete(number(1))


def test_map_that_the_kernel_refuses_is_explained() -> None:
    with pytest.raises(KernelRefused, match="cannot make the eBPF map test"):
        made(MapKind.RINGBUF, 5, 0, 0)


@pytest.fixture(params=["batches", "key by key"])
def reading(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the batch commands, and as on a kernel that does not know them."""

    def without_batches(command: Command, attributes: bytes | bytearray) -> int:
        if command in (Command.MAP_LOOKUP_BATCH, Command.MAP_UPDATE_BATCH):
            raise OSError(errno.EINVAL, "as before Linux 5.6")
        return bpf(command, attributes)

    if request.param == "key by key":
        monkeypatch.setattr(maps_module, "bpf", without_batches)
    return str(request.param)


@pytest.mark.usefixtures("reading")
@pytest.mark.parametrize("kind", [MapKind.HASH, MapKind.LRU_HASH])
def test_every_entry_is_given_once_although_the_caller_deletes_and_changes(kind: MapKind) -> None:
    entries = 20_000
    with made(kind, 2 * entries) as table:
        table.update_many((number(key), number(key + 1)) for key in range(entries))
        seen = []
        for key, value in table.items():
            assert unpack("=I", value)[0] == unpack("=I", key)[0] + 1
            seen.append(key)
            assert table.delete(key)
        assert len(seen) == len(set(seen)) == entries
        assert list(table.items()) == []


@pytest.mark.usefixtures("reading")
def test_reading_ends_although_the_map_is_filled_meanwhile() -> None:
    entries = 1000
    with made(MapKind.HASH, 8 * entries) as table:
        table.update_many((number(key), bytes(4)) for key in range(entries))
        fresh = count(entries)
        seen = []
        for key, _ in table.items():
            seen.append(key)
            table.delete(key)
            table.update(number(next(fresh)), bytes(4))
        assert {number(key) for key in range(entries)} <= set(seen)
        assert len(seen) == len(set(seen)) <= 8 * entries


@pytest.mark.usefixtures("reading")
@pytest.mark.parametrize("kind", [MapKind.PERCPU_ARRAY, MapKind.PERCPU_HASH])
def test_per_cpu_map_has_a_value_for_each_cpu(kind: MapKind) -> None:
    cpus = len(os.sched_getaffinity(0))
    with made(kind, 2, value_size=12) as table:
        table.update(number(0), b"twelve bytes")
        table.update_many([(number(1), b"as many here")])
        values = table.lookup_per_cpu(number(0))
        assert values is not None
        assert set(values) == {b"twelve bytes"}
        assert len(values) >= cpus
        assert {key: set(each) for key, each in table.items_per_cpu()} == {
            number(0): {b"twelve bytes"},
            number(1): {b"as many here"},
        }
        assert table.lookup_per_cpu(number(2)) is None
        with pytest.raises(ValueError, match="cannot be read in this way"):
            table.items()


def test_pinned_map_tells_its_real_attributes(pins: Path) -> None:
    pins.mkdir()
    with made(MapKind.LRU_HASH, 64, 6, 8) as table:
        table.update(b"abcdef", b"8 bytes.")
        table.pin(pins / "other")
        with pytest.raises(KernelRefused, match="pin the eBPF map test at"):
            table.pin(pins / "other")
    with Map.open_pinned(pins / "other") as found:
        assert found.spec == MapSpec("other", MapKind.LRU_HASH, 6, 8, 64)
        assert found.lookup(b"abcdef") == b"8 bytes."
    with pytest.raises(NotFound, match="no eBPF map pinned at"):
        Map.open_pinned(pins / "nothing")


# The BPF file system


def test_bpf_file_system_is_mounted_once(pins: Path) -> None:
    place = pins.parent
    mounts = Path("/proc/self/mountinfo").read_text()
    ensure_bpffs(place)
    ensure_bpffs(place / "below")
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert place.stat().st_mode & 0o777 == 0o700


def test_pins_outside_of_it_are_explained(tmp_path: Path, pair: Pair, sample: Loaded) -> None:
    with pytest.raises(KernelRefused, match="must be in one of the kind bpf"):
        load(SAMPLE, tmp_path)
    with netns.entered(pair.space):
        with pytest.raises(KernelRefused, match="must be in one of the kind bpf"):
            attach(sample.programs["drop_and_count"], pair.near, Direction.INGRESS, tmp_path / "in", way=Way.TCX)
        assert attached(pair.near, Direction.INGRESS, Way.TCX) is None
    (tmp_path / "file").write_text("")
    with pytest.raises(KernelRefused, match="must be in one of the kind bpf"):
        Map.open_pinned(tmp_path / "file")


# Loading


def test_new_maps_are_made_by_each_load_without_pins() -> None:
    with load(SAMPLE, None) as one, load(SAMPLE, None, {"flows": 7}) as other:
        assert {name: table.spec for name, table in one.maps.items()} == dict(SAMPLE.maps)
        assert other.maps["flows"].max_entries == 7
        assert sorted(one.programs) == ["drop_and_count", "pass_and_count", "pass_and_tell"]
        first, second = one.programs["pass_and_count"], other.programs["pass_and_count"]
        assert first.id != second.id
        assert len(first.tag) == 16


def test_unknown_map_to_resize_is_an_error_of_the_caller() -> None:
    with pytest.raises(ValueError, match="no map flow"):
        load(SAMPLE, None, {"flow": 7})


def test_pinned_maps_are_found_again_with_their_entries(pins: Path) -> None:
    key, value = bytes(8), pack("=QII", 5, 60, 0)
    with load(SAMPLE, pins) as first:
        first.maps["flows"].update(key, value)
    assert sorted(path.name for path in pins.iterdir()) == sorted(SAMPLE.maps)
    with load(SAMPLE, pins) as second:
        assert second.maps["flows"].lookup(key) == value


def test_pinned_map_that_differs_is_refused_and_left(pins: Path) -> None:
    load(SAMPLE, pins).close()
    with pytest.raises(MapMismatch) as caught:
        load(SAMPLE, pins, {"flows": 65})
    assert "flows is HASH with 64 entries" in str(caught.value)
    assert "but HASH with 65 entries" in str(caught.value)
    load(SAMPLE, pins).close()


def program(name: str, code: bytes, relocations: tuple[MapRelocation, ...] = ()) -> BpfObject:
    return BpfObject({name: ProgramCode(name, "tc", code, relocations)}, {"flows": SAMPLE.maps["flows"]}, "GPL")


def test_refused_program_is_explained_by_the_verifier_and_leaves_nothing(pins: Path) -> None:
    only_exit = pack("<BBhi", 0x95, 0, 0, 0)
    with pytest.raises(ProgramRefused, match=r"eBPF program bad .*(?s:.*)R0 !read_ok"):
        load(program("bad", only_exit), pins)
    assert list(pins.iterdir()) == []


def test_pin_of_something_else_is_not_taken_for_a_map(pins: Path, pair: Pair, sample: Loaded) -> None:
    with netns.entered(pair.space):
        attach(sample.programs["pass_and_count"], pair.near, Direction.INGRESS, pins / "flows", way=Way.TCX)
    with pytest.raises(KernelRefused, match="no map"):
        load(SAMPLE, pins)


# Attaching


@ways
def test_program_runs_is_replaced_and_leaves(way: Way, pair: Pair, pins: Path, sample: Loaded) -> None:
    passing, dropping = sample.programs["pass_and_count"], sample.programs["drop_and_count"]
    pin = pins / "near-ingress"
    with netns.entered(pair.space):
        assert attached(pair.near, Direction.INGRESS, way, pin) is None
        for each in (passing, passing, dropping):
            attach(each, pair.near, Direction.INGRESS, pin, way=way)
            assert attached(pair.near, Direction.INGRESS, way, pin) == each.id
            assert attached(pair.near, Direction.INGRESS, way) == each.id
        assert attached(pair.near, Direction.EGRESS, way) is None
        assert attached(pair.far, Direction.INGRESS, way) is None
        assert not pair.sees_frame()
        attach(passing, pair.near, Direction.INGRESS, pin, way=way)
        assert pair.sees_frame()
        counted = seen_at_least(sample, 2)
        for _ in range(2):
            detach(pair.near, Direction.INGRESS, pin, way)
            assert attached(pair.near, Direction.INGRESS, way, pin) is None
            assert attached(pair.near, Direction.INGRESS, way) is None
        assert pair.sees_frame()
        assert frames_of(sample) == counted
        assert not pin.exists()


@ways
def test_directions_are_apart(way: Way, pair: Pair, pins: Path, sample: Loaded) -> None:
    passing, dropping = sample.programs["pass_and_count"], sample.programs["drop_and_count"]
    with netns.entered(pair.space):
        attach(passing, pair.near, Direction.INGRESS, pins / "in", way=way)
        attach(dropping, pair.near, Direction.EGRESS, pins / "out", way=way)
        assert attached(pair.near, Direction.INGRESS, way, pins / "in") == passing.id
        assert attached(pair.near, Direction.EGRESS, way, pins / "out") == dropping.id
        detach(pair.near, Direction.INGRESS, pins / "in", way)
        assert attached(pair.near, Direction.INGRESS, way, pins / "in") is None
        assert attached(pair.near, Direction.EGRESS, way, pins / "out") == dropping.id
        assert pair.sees_frame()
        attach(dropping, pair.far, Direction.EGRESS, pins / "far", way=way)
        with pytest.raises(OSError, match="No buffer space"):  # what the sender hears of a drop
            pair.send()


@ways
def test_no_frame_passes_uncounted_while_programs_replace_each_other(
    way: Way, pair: Pair, pins: Path, sample: Loaded
) -> None:
    both = [sample.programs["pass_and_count"], sample.programs["drop_and_count"]]

    def send_all() -> None:
        for sent in range(500, 20_001, 500):
            pair.send(500)  # more at once the receiving queue of a busy machine may drop
            assert seen_at_least(sample, sent) == sent

    with netns.entered(pair.space):
        attach(both[0], pair.near, Direction.INGRESS, pins / "in", way=way)
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(send_all)
            for turn in count():
                attach(both[turn % 2], pair.near, Direction.INGRESS, pins / "in", way=way)
                if sending.done():
                    break
            sending.result()
    assert turn >= 10


@ways
def test_attached_program_outlives_its_loader_and_a_new_one_takes_its_place(way: Way, pair: Pair, pins: Path) -> None:
    pin = pins / "links" / "in"
    with netns.entered(pair.space):
        with load(SAMPLE, pins) as first:
            attach(first.programs["drop_and_count"], pair.near, Direction.INGRESS, pin, way=way)
            number_of_first = first.programs["drop_and_count"].id
        assert not pair.sees_frame()
        with load(SAMPLE, pins) as second:
            assert frames_of(second) >= 1
            assert attached(pair.near, Direction.INGRESS, way, pin) == number_of_first
            attach(second.programs["pass_and_count"], pair.near, Direction.INGRESS, pin, way=way)
            assert pair.sees_frame()


@ways
def test_interface_that_is_gone(way: Way, pair: Pair, pins: Path, sample: Loaded) -> None:
    passing, pin = sample.programs["pass_and_count"], pins / "in"
    with netns.entered(pair.space), Netlink() as netlink:
        attach(passing, pair.near, Direction.INGRESS, pin, way=way)
        netlink.delete_link("near")
        assert attached(pair.near, Direction.INGRESS, way, pin) is None
        assert attached(pair.near, Direction.INGRESS, way) is None
        with pytest.raises(NoSuchLink, match=f"attach the eBPF program pass_and_count to .* number {pair.near}"):
            attach(passing, pair.near, Direction.INGRESS, pin, way=way)
        near, _ = make_veth(netlink)
        attach(passing, near, Direction.INGRESS, pin, way=way)
        assert attached(near, Direction.INGRESS, way, pin) == passing.id
        pair.send()
        seen_at_least(sample, 1)
        netlink.delete_link("near")
        detach(near, Direction.INGRESS, pin, way)
        detach(near, Direction.INGRESS, pin, way)
        assert not pin.exists()
        with pytest.raises(NoSuchLink):
            attach(passing, 0, Direction.INGRESS, pin, way=way)


def test_stale_link_of_another_interface_is_taken_away(pair: Pair, pins: Path, sample: Loaded) -> None:
    passing, dropping, pin = sample.programs["pass_and_count"], sample.programs["drop_and_count"], pins / "in"
    with netns.entered(pair.space):
        attach(dropping, pair.near, Direction.INGRESS, pin, way=Way.TCX)
        attach(passing, pair.far, Direction.INGRESS, pin, way=Way.TCX)
        assert attached(pair.near, Direction.INGRESS, Way.TCX) is None
        assert attached(pair.near, Direction.INGRESS, Way.TCX, pin) is None
        assert attached(pair.far, Direction.INGRESS, Way.TCX, pin) == passing.id
        assert pair.sees_frame()


def test_pinned_map_is_not_taken_for_a_link(pair: Pair, pins: Path, sample: Loaded) -> None:
    load(SAMPLE, pins).close()
    with netns.entered(pair.space), pytest.raises(KernelRefused, match="no tcx link"):
        attach(sample.programs["pass_and_count"], pair.near, Direction.INGRESS, pins / "flows", way=Way.TCX)
    assert (pins / "flows").exists()


def test_clsact_leaves_no_qdisc_but_spares_other_filters(pair: Pair, sample: Loaded) -> None:
    from plait.host._pyroute2 import IPRoute

    passing, dropping = sample.programs["pass_and_count"], sample.programs["drop_and_count"]
    with netns.entered(pair.space), IPRoute(strict_check=True) as ip:

        def kinds() -> list[str]:
            return [message.get_attr("TCA_KIND") for message in ip.tc("dump", index=pair.near)]

        attach(passing, pair.near, Direction.INGRESS, None, way=Way.CLSACT)
        assert "clsact" in kinds()
        place = {"parent": 0xFFFFFFF3, "handle": 1, "prio": 1, "protocol": 3}
        ip.tc("add-filter", "bpf", pair.near, fd=dropping.fd, name="theirs", direct_action=True, **place)
        assert attached(pair.near, Direction.EGRESS, Way.CLSACT) is None
        detach(pair.near, Direction.EGRESS, None, Way.CLSACT)
        detach(pair.near, Direction.INGRESS, None, Way.CLSACT)
        assert "clsact" in kinds()
        attach(passing, pair.near, Direction.INGRESS, None, way=Way.CLSACT)
        ip.tc("del-filter", "bpf", pair.near, **place)
        detach(pair.near, Direction.INGRESS, None, Way.CLSACT)
        assert "clsact" not in kinds()


def test_older_ingress_qdisc_is_explained(pair: Pair, sample: Loaded) -> None:
    from plait.host._pyroute2 import IPRoute

    with netns.entered(pair.space), IPRoute(strict_check=True) as ip:
        ip.tc("add", "ingress", pair.near)
        with pytest.raises(KernelRefused, match="older qdisc `ingress`"):
            attach(sample.programs["pass_and_count"], pair.near, Direction.INGRESS, None, way=Way.CLSACT)


def test_tcx_needs_a_pin(pair: Pair, sample: Loaded) -> None:
    with pytest.raises(ValueError, match="needs a pin"):
        attach(sample.programs["pass_and_count"], pair.near, Direction.INGRESS, None, way=Way.TCX)


# Ring buffers


@dataclass
class Teller:
    """A program that reports each frame to a ring buffer of one page."""

    loaded: Loaded
    pair: Pair
    buffer: RingBuffer

    def tell(self, frames: int) -> None:
        told = self.next() + frames
        self.pair.send(frames)
        wait_until(lambda: self.next() >= told, f"{told} frames reported")

    def next(self) -> int:
        value = self.loaded.maps["settings"].lookup(number(1))
        assert value is not None
        return int(unpack("=Q", value)[0])

    def sequence(self) -> list[int]:
        return [unpack_from(record) for record in self.buffer.read()]


def unpack_from(record: bytes) -> int:
    assert len(record) == REPORT_BYTES
    length, sequence = unpack("=II56x", record)
    assert length == len(FRAME)
    return int(sequence)


@pytest.fixture
def teller(pair: Pair, pins: Path, sample: Loaded) -> Iterator[Teller]:
    with netns.entered(pair.space):
        # At near no other frames come in than ours: IPv6 would greet its neighbours.
        Path("/proc/sys/net/ipv6/conf/far/disable_ipv6").write_text("1")
        attach(sample.programs["pass_and_tell"], pair.near, Direction.INGRESS, pins / "in", way=Way.TCX)
    with RingBuffer(sample.maps["reports"]) as buffer:
        yield Teller(sample, pair, buffer)


def test_records_come_in_order_and_once_around_the_buffer_many_times(teller: Teller) -> None:
    expected = 0
    assert teller.buffer.read() == []
    for frames in [1, 2, 50, 3, 55, 54, 1] * 10:
        teller.tell(frames)
        assert teller.sequence() == list(range(expected, expected + frames))
        expected += frames
        assert teller.buffer.read() == []


def test_discarded_records_are_left_out(teller: Teller) -> None:
    teller.loaded.maps["settings"].update(number(0), pack("=Q", 3))
    teller.tell(20)
    assert teller.sequence() == [sequence for sequence in range(20) if sequence % 3]
    assert teller.buffer.read() == []


def test_full_buffer_keeps_the_oldest_and_goes_on_after_a_read(teller: Teller) -> None:
    teller.pair.send(100)  # a page holds 56 of 72 bytes
    wait_until(lambda: teller.next() >= 56, "the buffer is full")
    assert teller.sequence() == list(range(56))
    teller.tell(1)
    assert teller.sequence() == [56]


def test_one_read_is_bounded(pair: Pair, pins: Path) -> None:
    with load(SAMPLE, None, {"reports": 1 << 20}) as loaded, RingBuffer(loaded.maps["reports"]) as buffer:
        with netns.entered(pair.space):
            Path("/proc/sys/net/ipv6/conf/far/disable_ipv6").write_text("1")
            attach(loaded.programs["pass_and_tell"], pair.near, Direction.INGRESS, pins / "in", way=Way.TCX)
        teller = Teller(loaded, pair, buffer)
        for _ in range(30):
            teller.tell(100)
        counts = []
        while records := buffer.read():
            counts.append(len(records))
        assert counts == [RECORDS_PER_READ, RECORDS_PER_READ, 3000 - 2 * RECORDS_PER_READ]


def test_event_loop_is_woken_for_records(teller: Teller) -> None:
    async def collect(wanted: int) -> list[int]:
        loop, found, done = asyncio.get_running_loop(), list[int](), asyncio.Event()

        def readable() -> None:
            found.extend(teller.sequence())
            if len(found) >= wanted:
                done.set()

        loop.add_reader(teller.buffer.fileno(), readable)
        try:
            for _ in range(5):
                await asyncio.to_thread(teller.pair.send, 20)
            await asyncio.wait_for(done.wait(), 10)
        finally:
            loop.remove_reader(teller.buffer.fileno())
        return found

    assert asyncio.run(collect(100)) == list(range(100))


def test_other_maps_are_no_ring_buffers() -> None:
    with made(MapKind.HASH, 1) as table, pytest.raises(ValueError, match="no ring buffer but a HASH"):
        RingBuffer(table)


# What the kernel has


def test_features_of_this_kernel_are_found_without_a_trace() -> None:
    def open_bpf() -> int:
        links = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        return sum("bpf" in link for link in links)

    before = open_bpf()
    found = probe()
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    since = {
        "tcx": (6, 6),
        "ring_buffer": (5, 8),
        "check_mtu": (5, 12),
        "redirect_peer": (5, 10),
        "redirect_neigh": (5, 10),
        "loop": (5, 17),
    }
    assert found.bpf
    assert {name: getattr(found, name) for name in since} == {name: release >= first for name, first in since.items()}
    assert len(found.lacks()) == sum(release < first for first in since.values())
    assert open_bpf() == before


def test_process_without_rights_is_told_what_it_needs() -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # its rights do not come back
        try:
            os.setuid(65534)
            os.write(write, "; ".join(probe().lacks()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read) as answer:
        told = answer.read()
    os.waitpid(child, 0)
    assert "may not load eBPF programs: run plait as root" in told
