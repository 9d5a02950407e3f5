from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import golden
from plait.mesh.name import PeerName
from plait.overlay.sleeve import datagram as d
from plait.overlay.sleeve.crypto import SEQUENCE_LIMIT, Opener, Rejection, ReplayWindow, Sealer, SequencesSpent
from unit.overlay.test_datagram import records_of

ENCRYPTED = "sleeve/encrypted_datagrams.json"
DOCUMENT = golden.document(ENCRYPTED)
KEY = bytes.fromhex(DOCUMENT["session_key_hex"])
SENDER = PeerName.parse(DOCUMENT["sender_peer"]).to_bytes6()


golden.expect_entered("crypto.Opener.open")


def case_id(case: dict[str, Any]) -> str:
    return f"{'df' if case['df'] else 'plain'}-{case['seq']}-{'out' if case['sender_outbound'] else 'in'}"


@pytest.mark.parametrize("case", golden.cases(ENCRYPTED, "vectors"), ids=case_id)
def test_encrypted_datagram(case: dict[str, Any]) -> None:
    sequence, df, is_outbound = int(case["seq"]), case["df"], case["sender_outbound"]
    records = d.encode_records(records_of(case))
    sealer = Sealer(SENDER, KEY, is_outbound=is_outbound, first_sequence=sequence)
    payload = sealer.seal(records, df)
    assert payload.hex() == case["udp_payload_hex"]
    assert sealer.next_sequence == {df: sequence + 1, not df: sequence}
    assert Opener(KEY, is_outbound=not is_outbound).open(payload) == records
    assert Opener(KEY, is_outbound=is_outbound).open(payload) is Rejection.FORGED
    assert payload[6:14].hex() == case["nonce_hex"][-16:]


@pytest.mark.parametrize("case", golden.cases("sleeve/decode_errors.json", "encrypted"))
def test_malformed_encrypted_datagram(case: dict[str, Any]) -> None:
    expected = Rejection.TOO_SHORT if "too short" in case["error"] else Rejection.FORGED
    assert Opener(KEY, is_outbound=False).open(SENDER + bytes(case["after_name_len"])) is expected


@pytest.mark.parametrize("script", golden.cases("sleeve/replay_windows.json", "scripts"), ids=golden.case_id)
def test_replay_window(script: dict[str, Any]) -> None:
    opener = Opener(KEY, is_outbound=False)
    for step in script["steps"]:
        sequence, df = int(step.get("seq", step.get("step"))), step.get("df", False)
        payload = Sealer(SENDER, KEY, is_outbound=True, first_sequence=sequence).seal(b"", df)
        if step.get("tampered"):
            payload = SENDER + (SEQUENCE_LIMIT - 1).to_bytes(8, "big") + payload[14:]
        opened = opener.open(payload)
        assert isinstance(opened, bytes) == step["delivered"], step
        assert (opened is Rejection.FORGED) == (step["error"] != "<nil>")
        if "current_window_after" in step:
            assert opener.windows[0].window == int(step["current_window_after"])


def test_the_two_counters_are_independent() -> None:
    sealer = Sealer(SENDER, KEY, is_outbound=True, first_sequence=7)
    opener = Opener(KEY, is_outbound=False)
    for df in (True, False, True, True, False):
        assert opener.open(sealer.seal(b"", df)) == b""
    assert sealer.next_sequence == {True: 10, False: 9}


def test_a_replayed_datagram_is_dropped() -> None:
    payload = Sealer(SENDER, KEY, is_outbound=True, first_sequence=0).seal(b"x", True)
    opener = Opener(KEY, is_outbound=False)
    assert opener.open(payload) == b"x"
    assert opener.open(payload) is Rejection.REPLAYED


def test_a_forged_datagram_does_not_move_the_window() -> None:
    opener = Opener(KEY, is_outbound=False)
    good = Sealer(SENDER, KEY, is_outbound=True, first_sequence=5).seal(b"x", False)
    forged = SENDER + (SEQUENCE_LIMIT - 1).to_bytes(8, "big") + good[14:]
    assert opener.open(forged) is Rejection.FORGED
    assert opener.open(good) == b"x"


def test_no_sequence_number_is_used_twice() -> None:
    sealer = Sealer(SENDER, KEY, is_outbound=True, first_sequence=SEQUENCE_LIMIT - 1)
    sealer.seal(b"", True)
    with pytest.raises(SequencesSpent):
        sealer.seal(b"", True)
    sealer.seal(b"", False)


def test_window_memory_grows_with_the_numbers_seen() -> None:
    window = ReplayWindow()
    assert window.accept(3)
    assert len(window._current) < 10_000
    assert window.accept((1 << 20) - 1)
    assert len(window._current) <= (1 << 17) + 4096


@given(st.binary(max_size=100))
def test_any_bytes_are_rejected(data: bytes) -> None:
    assert isinstance(Opener(KEY, is_outbound=False).open(data), Rejection)
    golden.entered("crypto.Opener.open")


@given(st.binary(max_size=300), st.booleans(), st.booleans(), st.integers(0, SEQUENCE_LIMIT - 1))
def test_round_trip(records: bytes, df: bool, is_outbound: bool, first: int) -> None:
    payload = Sealer(SENDER, KEY, is_outbound=is_outbound, first_sequence=first).seal(records, df)
    assert Opener(KEY, is_outbound=not is_outbound).open(payload) == records


@settings(max_examples=50)
@given(st.lists(st.integers(0, (1 << 22) - 1) | st.integers(1_048_570, 1_048_590), max_size=60))
def test_window_agrees_with_the_rules_in_sets(numbers: list[int]) -> None:
    window, current, seen = ReplayWindow(), 0, set[int]()
    for number in numbers:
        block = number >> 20
        expected = block >= current - 1 and number not in seen
        if block > current:
            seen = {old for old in seen if old >> 20 == current and block == current + 1}
            current = block
        if expected:
            seen.add(number)
        assert window.accept(number) == expected


@given(st.lists(st.tuples(st.sampled_from([0, 1, 5, 100, 1 << 20]), st.integers(1, 300)), max_size=8), st.data())
def test_new_numbers_are_remembered_many_at_a_time(runs: list[tuple[int, int]], data: st.DataObject) -> None:
    """The same windows as after accepting each of them; runs may go on from one window into the next."""
    one, other = ReplayWindow(), ReplayWindow()
    first = data.draw(st.sampled_from([0, 3, (1 << 20) - 150, 3 << 20]))
    for gap, count in runs:
        first += gap
        other.accept_new(first, count)
        assert all(one.accept(number) for number in range(first, first + count))
        first += count
        assert one.next == other.next == first
    numbers = data.draw(st.lists(st.integers(max(first - 500, 0), first + 10), max_size=50))
    assert [one.accept(number) for number in numbers] == [other.accept(number) for number in numbers]
