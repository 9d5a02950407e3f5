import gzip
import random
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import golden
from plait.errors import StateError
from plait.ipam.address import Cidr
from plait.ipam.allocator import Allocator
from plait.ipam.paxos import Voter
from plait.ipam.settings import Settings
from plait.ipam.weave_db import WeaveState, read_weave_db
from plait.mesh.name import PeerName
from plait.state import Store
from unit.ipam.notation import ring_text
from unit.ipam.replay import holding_text

TARGETS: dict[str, tuple[str, ...]] = {"host1": (), "host2": ("10.77.0.1",), "host3": ("10.77.0.1",)}

golden.expect_entered("weave db")


def content(host: str) -> bytes:
    return gzip.decompress((golden.VECTORS / "ipam" / "db" / f"{host}.weavedata.db.gz").read_bytes())


def with_page(data: bytes, number: int, page: bytes) -> bytes:
    return data[: number * 4096] + page.ljust(4096, b"\0") + data[(number + 1) * 4096 :]


@pytest.mark.parametrize("case", golden.cases("ipam/persisted_db.json", ""), ids=lambda case: str(case[0]))
def test_files_of_the_real_program(case: tuple[str, dict[str, Any]]) -> None:
    host, expected = case
    state = read_weave_db(content(host), "weavedata.db")
    assert state.peer_name == PeerName.parse(expected["peername"]["decoded"])
    assert state.targets == TARGETS[host]
    assert state.snapshot is not None
    assert ring_text(state.snapshot.ring) == expected["ring"]["decoded"]
    holdings = {ident: holding_text(holding) for ident, holding in state.snapshot.holdings.items()}
    assert holdings == expected["ownedAddresses"]["decoded"]


class Alone:
    """A mesh without others."""

    def is_known(self, peer: PeerName) -> bool:
        return False

    def why_unreachable(self, peer: PeerName) -> str | None:
        return "gone"

    def quorum(self) -> int:
        return 2


def test_a_node_goes_on_where_weave_stopped(tmp_path: Path) -> None:
    state = read_weave_db(content("host2"), "weavedata.db")
    assert state.snapshot is not None
    with Store(tmp_path) as store:
        store.set_addresses(state.snapshot)
    universe = Cidr.parse("10.32.0.0/12")
    allocator = Allocator(Settings(Voter(state.peer_name, 1), "host2", universe), Alone(), random.Random(1))
    with Store(tmp_path) as store:
        allocator.start(0, store.addresses)
    assert allocator.lookup("b3", universe) == [Cidr.parse("10.33.0.9/12")]
    assert allocator.ring.state() == state.snapshot.ring


def test_the_other_meta_page_serves_when_one_is_damaged() -> None:
    """Its transaction is older, so some of the content is; the file reads all the same."""
    whole = content("host1")
    newest = max((0, 1), key=lambda page: struct.unpack_from("<Q", whole, page * 4096 + 64)[0])
    state = read_weave_db(with_page(whole, newest, b""), "weavedata.db")
    assert state.peer_name == PeerName.parse("02:00:00:00:00:01")


@pytest.mark.parametrize(
    ("damaged", "problem"),
    [
        (b"", "neither of its two first pages is valid"),
        (b"SQLite format 3\0" * 600, "neither of its two first pages is valid"),
        (content("host1")[:8192], "it ends before byte"),
    ],
)
def test_other_files_are_refused(damaged: bytes, problem: str) -> None:
    with pytest.raises(StateError, match=problem) as caught:
        read_weave_db(damaged, "/weavedb/weavedata.db")
    assert str(caught.value).startswith("/weavedb/weavedata.db cannot be read")


def test_another_version_is_refused() -> None:
    whole = content("host1")
    assert whole.count(b"version\1\0") >= 1
    with pytest.raises(StateError, match=r"has version 02\.00"):
        read_weave_db(whole.replace(b"version\1\0", b"version\2\0"), "weavedata.db")


def test_a_tree_in_circles_is_refused() -> None:
    whole = content("host1")
    for number in range(2, len(whole) // 4096):
        branch = struct.pack("<QHHI", number, 1, 1, 0) + struct.pack("<IIQ", 16, 0, number)
        whole = with_page(whole, number, branch)
    with pytest.raises(StateError, match="part of the tree twice"):
        read_weave_db(whole, "weavedata.db")


@given(st.sampled_from(["host1", "host2", "host3"]), st.integers(0, 32767), st.binary(min_size=1, max_size=8))
def test_damaged_files_are_read_or_refused(host: str, position: int, patch: bytes) -> None:
    whole = content(host)
    golden.entered("weave db")
    try:
        state = read_weave_db(whole[:position] + patch + whole[position + len(patch) :], "weavedata.db")
    except StateError:
        return
    assert isinstance(state, WeaveState)
