"""The node's state file: durable, exclusive, and honest about damage."""

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.errors import StateError
from plait.ipam.address import Cidr, parse_ip
from plait.ipam.entry import Entry
from plait.ipam.records import Holding, Snapshot
from plait.ipam.ring import RingState
from plait.mesh.name import PeerName
from plait.state import FILE_NAME, SCHEMA_VERSION, Attachment, Exposure, Store

NAME = PeerName.parse("7a:00:00:00:00:01")
C1 = Attachment("c1", "/run/netns/c1", "boot/1", None, None, ("10.32.0.1/12", "fd00::1/64"), True)
C2 = Attachment("f00d", "/proc/42/ns/net", "boot/2", 42, "f00d", ("10.32.0.2/12",), False)
EXPOSED = [Exposure("10.32.0.9/12", True), Exposure("10.2.0.1/16", False)]
FIRST, MIDDLE, LAST = map(parse_ip, ("10.32.0.0", "10.40.0.0", "10.48.0.0"))
OTHER = PeerName.parse("7a:00:00:00:00:02")
RING = RingState(FIRST, LAST, NAME, (Entry(FIRST, NAME, 3, 7), Entry(MIDDLE, OTHER, 0, 9)), (NAME, OTHER))
HELD = {
    "c1": Holding(True, (Cidr.parse("10.32.0.9/12"), Cidr.parse("10.32.0.1/12"))),
    "weave:expose": Holding(False, (Cidr.parse("10.32.0.2/12"),)),
    "no \udcff text": Holding(True, (Cidr.parse("192.168.0.1/24"),)),
}
ADDRESSES = Snapshot(RING, HELD)


def fill(store: Store) -> None:
    store.set_peer_name(NAME)
    store.set_targets(["h2", "192.0.2.7:6783"])
    store.put_attachment(C1)
    store.put_attachment(C2)
    store.set_exposures(EXPOSED)
    store.set_addresses(ADDRESSES)


def assert_filled(store: Store) -> None:
    assert store.peer_name == NAME
    assert store.targets == ["h2", "192.0.2.7:6783"]
    assert store.attachments == [C1, C2]
    assert store.exposures == EXPOSED
    assert store.addresses == ADDRESSES


def assert_empty(store: Store) -> None:
    assert (store.peer_name, store.targets, store.attachments, store.exposures) == (None, [], [], [])
    assert store.addresses is None


def test_a_new_directory_begins_empty(tmp_path: Path) -> None:
    with Store(tmp_path / "deep" / "state") as store:
        assert_empty(store)
        assert store.damage is None
    assert (tmp_path / "deep" / "state").stat().st_mode & 0o777 == 0o700


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        fill(store)
        assert_filled(store)
    with Store(tmp_path) as store:
        assert_filled(store)


def test_an_attachment_is_replaced_in_its_place_and_forgotten(tmp_path: Path) -> None:
    moved = Attachment("c1", "/run/netns/c1", "boot/9", None, None, ("10.32.0.5/12",), False)
    with Store(tmp_path) as store:
        fill(store)
        store.put_attachment(moved)
        assert store.attachments == [moved, C2]
        assert store.attachment("c1") == moved
        store.forget_attachment("nobody")
    with Store(tmp_path) as store:
        assert store.attachments == [moved, C2]
        store.forget_attachment("c1")
        assert store.attachment("c1") is None
    with Store(tmp_path) as store:
        assert store.attachments == [C2]


def test_targets_and_exposures_are_replaced_whole(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        fill(store)
        store.set_targets([])
        store.set_exposures(EXPOSED[1:])
    with Store(tmp_path) as store:
        assert store.targets == []
        assert store.exposures == EXPOSED[1:]


def test_addresses_are_replaced_whole(tmp_path: Path) -> None:
    ring = RING._replace(
        entries=(Entry(FIRST, NAME, 4, 6), Entry(MIDDLE + 1, NAME, 0, 1), Entry(MIDDLE + 2, OTHER, 0, 2))
    )
    changed = Snapshot(ring, {"c1": Holding(False, HELD["c1"].cidrs[:1]), "c2": HELD["weave:expose"]})
    other_range = Snapshot(RingState(0, 256, OTHER, (), ()), {})
    for snapshot in (changed, other_range, ADDRESSES):
        with Store(tmp_path) as store:
            fill(store)
            store.set_addresses(snapshot)
            assert store.addresses == snapshot
        with Store(tmp_path) as store:
            assert store.addresses == snapshot
            assert store.attachments == [C1, C2]
    with Store(tmp_path) as store:
        store.forget_addresses()
        assert store.addresses is None
    with Store(tmp_path) as store:
        assert store.addresses is None


def test_of_addresses_only_what_changed_is_written(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        fill(store)
        before = store._db.total_changes
        store.set_addresses(ADDRESSES)
        assert store._db.total_changes == before
        entries = (RING.entries[0]._replace(free=6, version=4), RING.entries[1])
        store.set_addresses(Snapshot(RING._replace(entries=entries), HELD))
        assert store._db.total_changes <= before + 2, "one row, which sqlite may count as taken out and put in"


def test_a_file_of_the_first_schema_gets_what_it_lacks(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        fill(store)
    database = sqlite3.connect(tmp_path / FILE_NAME)
    with database:
        for name in ("ring", "ring_entries", "holdings", "reclaim"):
            database.execute(f"DROP TABLE {name}")
        database.execute("PRAGMA user_version = 1")
    database.close()
    with Store(tmp_path) as store:
        assert store.damage is None
        assert (store.peer_name, store.attachments, store.addresses) == (NAME, [C1, C2], None)
        store.set_addresses(ADDRESSES)
    with Store(tmp_path) as store:
        assert_filled(store)


def test_a_caller_cannot_change_the_memory(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        fill(store)
        store.targets.clear()
        store.attachments.clear()
        store.exposures.clear()
        assert_filled(store)


def test_a_second_node_is_refused_and_told_who_holds_the_directory(tmp_path: Path) -> None:
    with Store(tmp_path), pytest.raises(StateError, match=rf"process id {os.getpid()}; stop that node"):
        Store(tmp_path)
    Store(tmp_path).close()


def test_the_lock_of_another_process_names_that_process(tmp_path: Path) -> None:
    code = (
        "import sys; from plait.state import Store; s = Store(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StateError, match=f"process id {holder.pid}"):
            Store(tmp_path)
        holder.kill()
    Store(tmp_path).close()


def test_a_closed_store_refuses_writes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.close()
    store.close()
    with pytest.raises(StateError, match="closed"):
        store.set_targets(["h2"])
    assert store.targets == []


def test_a_newer_schema_is_left_untouched(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        fill(store)
    database = sqlite3.connect(tmp_path / FILE_NAME)
    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    database.close()
    before = (tmp_path / FILE_NAME).read_bytes()
    for _ in range(2):
        with pytest.raises(StateError, match=f"newer plait .schema {SCHEMA_VERSION + 1}"):
            Store(tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_a_broken_file_is_kept_aside_and_the_node_begins_afresh(tmp_path: Path) -> None:
    rubbish = b"no database at all" * 400
    (tmp_path / FILE_NAME).write_bytes(rubbish)
    with Store(tmp_path) as store:
        assert_empty(store)
        assert isinstance(store.damage, StateError)
        fill(store)
    kept = list(tmp_path.glob(f"{FILE_NAME}.damaged-*"))
    assert [path.read_bytes() for path in kept] == [rubbish]
    assert str(kept[0]) in str(store.damage)
    assert "targets" in str(store.damage)
    with Store(tmp_path) as store:
        assert store.damage is None
        assert_filled(store)


def test_a_second_broken_file_does_not_overwrite_the_first(tmp_path: Path) -> None:
    for rubbish in (b"first" * 500, b"second" * 500, b"third" * 500):
        (tmp_path / FILE_NAME).write_bytes(rubbish)
        Store(tmp_path).close()
    kept = {path.read_bytes()[:5] for path in tmp_path.glob(f"{FILE_NAME}.damaged-*")}
    assert kept == {b"first", b"secon", b"third"}


def test_a_log_without_its_file_is_kept_aside(tmp_path: Path) -> None:
    (tmp_path / f"{FILE_NAME}-wal").write_bytes(b"half of a rename")
    with Store(tmp_path) as store:
        assert_empty(store)
        assert "its main file is missing" in str(store.damage)
    assert [path.read_bytes() for path in tmp_path.glob("*.damaged-*-wal")] == [b"half of a rename"]


def test_another_programs_database_is_kept_aside(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / FILE_NAME)
    database.execute("CREATE TABLE bookmarks (url TEXT)")
    database.close()
    with Store(tmp_path) as store:
        assert "another program" in str(store.damage)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE identity SET peer_name = 'nobody'",
        "UPDATE attachments SET cidrs = '[\"10.32.0.1/99\"]'",
        "UPDATE attachments SET cidrs = '{}'",
        "UPDATE attachments SET cidrs = '[1]'",
        "UPDATE attachments SET cidrs = 'x'",
        "UPDATE attachments SET pid = 'x'",
        "UPDATE attachments SET multicast_route = x'00'",
        "UPDATE exposures SET cidr = 'here' WHERE masquerade",
        "UPDATE targets SET target = CAST(x'ff' AS TEXT)",
        "UPDATE targets SET target = x'ff'",
        "UPDATE ring SET seeds = '[\"nobody\"]'",
        "UPDATE ring SET first = -1",
        "UPDATE ring_entries SET version = 4294967296",
        "UPDATE ring_entries SET peer = 'nobody'",
        "UPDATE holdings SET cidrs = '[\"10.32.0.1/99\"]'",
        "UPDATE holdings SET cidrs = '{}'",
        "UPDATE holdings SET ident = 'text' WHERE is_container = 0",
        "DROP TABLE holdings",
        "DROP TABLE targets",
        "ALTER TABLE exposures DROP COLUMN masquerade",
    ],
)
def test_values_that_make_no_sense_are_damage(tmp_path: Path, statement: str) -> None:
    with Store(tmp_path) as store:
        fill(store)
    database = sqlite3.connect(tmp_path / FILE_NAME)
    with database:
        database.execute(statement)
    database.close()
    with Store(tmp_path) as store:
        assert_empty(store)
        assert store.damage is not None


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), cut=st.booleans())
def test_any_damage_gives_an_open_store(tmp_path_factory: pytest.TempPathFactory, seed: int, cut: bool) -> None:
    state_dir = tmp_path_factory.mktemp("state")
    with Store(state_dir) as store:
        fill(store)
    file, chance = state_dir / FILE_NAME, random.Random(seed)
    content = bytearray(file.read_bytes())
    for _ in range(chance.randrange(1, 30)):
        content[chance.randrange(len(content))] = chance.randrange(256)
    file.write_bytes(content[: chance.randrange(len(content))] if cut else content)
    with contextlib.ExitStack() as stack:
        try:
            store = stack.enter_context(Store(state_dir))
        except StateError as error:
            if "newer plait" not in str(error):  # the damage may hit the version number
                raise
            return
        store.set_targets(["still", "writable"])
        assert store.targets == ["still", "writable"]


def test_a_process_killed_while_writing_leaves_whole_transactions(tmp_path: Path) -> None:
    code = """
import sys
from plait.state import Store
store = Store(sys.argv[1])
print("open", flush=True)
number = 0
while True:
    number += 1
    store.set_targets([str(number)] * 50)
"""
    for delay in (0.0, 0.003, 0.01, 0.03):
        writer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        with writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "open\n"
            signal.sigtimedwait([], delay)
            writer.kill()
        with Store(tmp_path) as store:
            assert store.damage is None
            assert len(store.targets) in (0, 50)
            assert len(set(store.targets)) <= 1


def run_mounted(tmp_path: Path, mount: str, code: str) -> str:
    """Run Python code on `store_dir` with a file system of its own there, in a private mount namespace."""
    store_dir = tmp_path / "mounted"
    store_dir.mkdir()
    script = f'mount -t tmpfs -o {mount} tmpfs "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "-m", "sh", "-c", script, "sh", str(store_dir), sys.executable, code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a mount of its own needs root")


@needs_root
def test_a_full_disk_refuses_the_write_and_keeps_memory_and_file_consistent(tmp_path: Path) -> None:
    code = """
import os, sys
from plait.errors import StateError
from plait.state import Exposure, Store
here = sys.argv[1]
store = Store(here)
store.set_targets(["before"])
with open(here + "/ballast", "wb", buffering=0) as ballast:
    try:
        while True:
            ballast.write(b"x" * 4096)
    except OSError:
        pass
refused = 0
for number in range(5):
    try:
        store.set_targets(["a long target that needs room %d" % n for n in range(2000)])
    except StateError as error:
        refused += 1
        assert here in str(error) and "--state-dir" in str(error) and "no space" in str(error), error
    assert store.targets == ["before"]
assert refused == 5
os.unlink(here + "/ballast")
store.set_exposures([Exposure("10.32.0.1/12", True)])
store.close()
with Store(here) as store:
    assert store.targets == ["before"] and len(store.exposures) == 1 and store.damage is None
print("fine")
"""
    assert run_mounted(tmp_path, "size=256k", code) == "fine\n"


@needs_root
def test_a_full_disk_at_the_first_start_is_explained(tmp_path: Path) -> None:
    code = """
import sys
from plait.errors import StateError
from plait.state import Store
here = sys.argv[1]
with open(here + "/ballast", "wb", buffering=0) as ballast:
    try:
        while True:
            ballast.write(b"x" * 4096)
    except OSError:
        pass
try:
    Store(here)
except StateError as error:
    assert here in str(error) and "No space" in str(error), error
    print("fine")
"""
    assert run_mounted(tmp_path, "size=64k", code) == "fine\n"


@needs_root
@pytest.mark.parametrize("pages", [1, 2, 4, 6, 8])
def test_a_disk_that_fills_while_the_file_is_made_is_explained_and_does_no_harm(tmp_path: Path, pages: int) -> None:
    code = f"""
import os, sys
from plait.errors import StateError
from plait.state import Store
here = sys.argv[1]
space = os.statvfs(here)
with open(here + "/ballast", "wb", buffering=0) as ballast:
    ballast.write(b"x" * 4096 * (space.f_bavail - {pages}))
try:
    Store(here).close()
except StateError as error:
    assert here in str(error) and "space" in str(error).lower(), error
os.unlink(here + "/ballast")
with Store(here) as store:
    assert store.damage is None
    store.set_targets(["now"])
print("fine")
"""
    assert run_mounted(tmp_path, "size=256k", code) == "fine\n"


@needs_root
def test_a_read_only_directory_is_explained(tmp_path: Path) -> None:
    code = """
import sys
from plait.errors import StateError
from plait.state import Store
try:
    Store(sys.argv[1])
except StateError as error:
    assert sys.argv[1] in str(error) and "Read-only" in str(error) and "--state-dir" in str(error), error
    print("fine")
"""
    assert run_mounted(tmp_path, "size=64k,ro", code) == "fine\n"
