from typing import Any

import pytest

import golden
from plait.overlay.ethernet import BROADCAST_MAC, ZERO_MAC
from plait.overlay.macs import FLAPS, MacTable, Move

VECTORS = "sleeve/mac_cache.json"
A = bytes.fromhex("02000000000a")
B = bytes.fromhex("02000000000b")
MAC = bytes.fromhex("aabbcc000001")
REFUSAL = (
    "Weave refuses a local capture while the address is known at another peer, which cuts a moved container off for "
    "10 minutes; in plait the capture wins"
)


def mac(number: int) -> bytes:
    return bytes((2, 1)) + number.to_bytes(4, "big")


def owner(table: MacTable, address: bytes) -> str:
    """The owner as the vectors write it: this host is B there when it captures."""
    peer = B if table.is_local(address) else table.remote_owner(address)
    return peer.hex(":") if peer else ""


def test_vectors_but_the_refusals() -> None:
    table = MacTable(max_age=2.0)
    steps = golden.cases(VECTORS, "steps")
    for index, document in enumerate(golden.document(VECTORS)["steps"]):
        if "unforced" in document["op"]:
            golden.left_out(VECTORS, document["op"], REFUSAL)
            continue
        step = steps[index]
        apply(table, step, float(step["t_s"]))
        assert owner(table, MAC) == step["lookup_after"], step["op"]


def apply(table: MacTable, step: dict[str, Any], now: float) -> None:
    match step["op"]:
        case "Add(mac, A)" | "Add(mac, A) again":
            assert (len(table) == 0) == step["new"]
            table.learn_remote(MAC, A, now)
        case "AddForced(mac, B)":
            table.learn_remote(MAC, B, now)
        case "still cached at 1.5 s of 2 s max age" | "after max age + sweep":
            table.sweep(now)
        case other:
            raise AssertionError(other)


def test_a_local_capture_takes_the_address_and_is_counted_as_move() -> None:
    table = MacTable()
    table.learn_remote(MAC, A, 0.0)
    table.learn_local(MAC, 1.0)
    assert table.is_local(MAC)
    assert table.remote_owner(MAC) is None
    assert (table.moves, list(table.recent_moves)) == (1, [Move(MAC, A, None, 1.0)])


def test_a_remote_frame_takes_the_address_back() -> None:
    table = MacTable()
    table.learn_local(MAC, 0.0)
    table.learn_remote(MAC, A, 1.0)
    assert table.remote_owner(MAC) == A
    assert not table.is_local(MAC)
    assert list(table.recent_moves) == [Move(MAC, None, A, 1.0)]
    assert len(table) == 1


def test_one_move_is_no_flapping_and_many_are() -> None:
    table = MacTable()
    table.learn_remote(MAC, A, 0.0)
    table.learn_remote(MAC, B, 1.0)
    assert table.flapping(2.0) == []
    for turn in range(FLAPS):
        table.learn_local(MAC, 2.0 + turn)
        table.learn_remote(MAC, A, 2.5 + turn)
    assert table.flapping(7.0) == [MAC]
    assert table.flapping(100.0) == []


def test_traffic_refreshes_an_entry_once_a_minute() -> None:
    table = MacTable()
    table.learn_local(MAC, 0.0)
    table.learn_remote(mac(1), A, 0.0)
    table.learn_local(MAC, 59.0)
    table.learn_remote(mac(1), A, 59.0)
    assert [entry.last_seen for entry in table] == [0.0, 0.0]
    table.learn_local(MAC, 60.0)
    table.learn_remote(mac(1), A, 61.0)
    assert [entry.last_seen for entry in table] == [60.0, 61.0]


def test_entries_age() -> None:
    table = MacTable()
    table.learn_remote(MAC, A, 0.0)
    table.learn_local(mac(1), 0.0)
    table.learn_remote(mac(2), A, 300.0)
    table.sweep(599.0)
    assert len(table) == 3
    table.sweep(600.0)
    assert [entry.mac for entry in table] == [mac(2)]
    table.sweep(10_000.0)
    assert len(table) == 0


def test_a_lost_peer_takes_its_addresses_with_it() -> None:
    table = MacTable()
    table.learn_remote(mac(1), A, 0.0)
    table.learn_remote(mac(2), B, 0.0)
    table.learn_local(mac(3), 0.0)
    table.forget_peer(A)
    assert {entry.mac for entry in table} == {mac(2), mac(3)}
    table.retain_peers({A})
    assert {entry.mac for entry in table} == {mac(3)}


def test_a_remote_flood_never_evicts_a_local_address() -> None:
    table = MacTable(max_local=4, max_remote=8)
    table.learn_local(MAC, 0.0)
    for number in range(100):
        table.learn_remote(mac(number), A, float(number))
    assert table.is_local(MAC)
    assert len(table) == 9
    assert table.evicted == 92
    assert table.remote_owner(mac(99)) == A
    assert table.remote_owner(mac(0)) is None


def test_a_local_flood_evicts_the_oldest_local_addresses() -> None:
    table = MacTable(max_local=4, max_remote=8)
    table.learn_remote(MAC, A, 0.0)
    for number in range(5):
        table.learn_local(mac(number), float(number))
    assert not table.is_local(mac(0))
    assert all(table.is_local(mac(number)) for number in range(1, 5))
    assert table.remote_owner(MAC) == A


@pytest.mark.parametrize("address", [BROADCAST_MAC, ZERO_MAC, bytes.fromhex("01005e000001")])
def test_addresses_that_are_no_senders_are_not_learned(address: bytes) -> None:
    table = MacTable()
    table.learn_local(address, 0.0)
    table.learn_remote(address, A, 0.0)
    assert len(table) == 0


def test_what_a_peer_announced_no_frame_takes_away() -> None:
    table = MacTable()
    table.learn_local(MAC, 0.0)
    table.set_announced({MAC: A})
    assert owner(table, MAC) == A.hex(":")
    table.learn_local(MAC, 1.0)
    table.learn_remote(MAC, B, 1.0)
    assert owner(table, MAC) == A.hex(":")
    assert table.moves == 0


def test_what_is_announced_no_longer_is_where_it_was_seen() -> None:
    table = MacTable()
    table.set_announced({MAC: A})
    table.learn_remote(MAC, A, 0.0)
    table.set_announced({})
    assert owner(table, MAC) == A.hex(":")
    table.learn_local(MAC, 1.0)
    assert owner(table, MAC) == B.hex(":")  # B is this host here


def test_news_of_announced_addresses_are_news_for_flows() -> None:
    table = MacTable()
    table.set_announced({MAC: A})
    version = table.version
    table.set_announced({MAC: A})
    assert table.version == version
    table.set_announced({MAC: B})
    assert table.version > version


def test_no_flood_evicts_what_was_announced() -> None:
    table = MacTable(max_remote=4)
    table.set_announced({MAC: A})
    for number in range(100):
        table.learn_remote(mac(number), B, 0.0)
    assert owner(table, MAC) == A.hex(":")
    assert table.announced == 1
