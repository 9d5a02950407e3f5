import pytest

from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.outbox import MAX_WAITING_EVENTS, SEQUENCES_PER_PUMP, Outbox
from plait.overlay.sleeve.pump.packets import CHUNK_BYTES, MAX_MESSAGE_BYTES, BrokenChannel, Joiner, split

KEY, OTHER_KEY = bytes(32), bytes([1]) * 32


def connection(peer: int, key: bytes | None = KEY, first_sequence: int = 0) -> ipc.SetConnection:
    return ipc.SetConnection(peer, "192.0.2.1", key, True, first_sequence)


def path(peer: int, mtu: int) -> ipc.SetPath:
    return ipc.SetPath(peer, ("192.0.2.2", 6783), mtu, mtu + 34, False)


def routes(*known: int) -> ipc.SetRoutes:
    return ipc.SetRoutes(list(known), {}, {})


def generation(peer: int, number: int) -> ipc.SetGeneration:
    return ipc.SetGeneration(peer, number)


def special(uid: int) -> ipc.SendSpecial:
    return ipc.SendSpecial(1, 22, uid, True)


def rest(outbox: Outbox) -> list[ipc.ToPump]:
    messages = []
    while (message := outbox.take()) is not None:
        messages.append(message)
    return messages


def put(outbox: Outbox, *messages: ipc.ToPump) -> Outbox:
    for message in messages:
        outbox.put(message)
    return outbox


def test_messages_leave_in_order() -> None:
    messages: list[ipc.ToPump] = [connection(1), path(1, 1000), special(1), special(2), routes(1), ipc.SetLocalMtu(1)]
    assert rest(put(Outbox(), *messages)) == messages


def test_newer_wishes_replace_those_that_wait() -> None:
    outbox = put(Outbox(), connection(1), path(1, 1000), routes(1), path(1, 1100), routes(2), ipc.QueryStats())
    assert rest(put(outbox, ipc.QueryStats())) == [connection(1), path(1, 1100), routes(2), ipc.QueryStats()]


def test_a_new_connection_has_no_path_yet() -> None:
    outbox = put(Outbox(), connection(1), path(1, 1000), connection(1, OTHER_KEY))
    assert rest(outbox) == [connection(1, OTHER_KEY)]
    outbox.start_over()
    assert [type(message) for message in rest(outbox)] == [ipc.SetConnection]


def test_a_removed_connection_is_not_wanted() -> None:
    outbox = put(Outbox(), connection(1), path(1, 1000), ipc.RemoveConnection(1), path(1, 1000))
    assert rest(outbox) == [ipc.RemoveConnection(1)]
    outbox.start_over()
    assert rest(outbox) == []


def test_a_new_pump_is_told_everything_with_fresh_sequence_numbers() -> None:
    wishes: list[ipc.ToPump] = [routes(1), ipc.SetAnnounced({1: [bytes(6)]}), ipc.SetLocalMtu(1400)]
    outbox = put(Outbox(), connection(1), path(1, 1000), *wishes, special(1))
    rest(outbox)
    put(outbox, special(2), ipc.QueryStats())
    for pumps in (1, 2):
        outbox.start_over()
        assert rest(outbox) == [connection(1, KEY, pumps * SEQUENCES_PER_PUMP), path(1, 1000), *wishes]


@pytest.mark.parametrize(("key", "first"), [(KEY, SEQUENCES_PER_PUMP), (OTHER_KEY, 0), (None, 0)])
def test_a_key_that_comes_again_goes_on_with_fresh_numbers(key: bytes | None, first: int) -> None:
    outbox = put(Outbox(), connection(1), connection(1, key))
    assert rest(outbox) == [connection(1, key, first)]


def test_a_generation_belongs_to_its_connection() -> None:
    outbox = put(Outbox(), generation(1, 9), connection(1), generation(1, 3), path(1, 1000))
    assert rest(outbox) == [connection(1), generation(1, 3), path(1, 1000)]
    put(outbox, generation(1, 4), generation(1, 5))
    assert rest(outbox) == [generation(1, 5)]
    outbox.start_over()
    told = [connection(1, KEY, SEQUENCES_PER_PUMP), path(1, 1000), generation(1, 5)]
    assert rest(outbox) == told
    put(outbox, connection(1, OTHER_KEY), ipc.RemoveConnection(1), generation(1, 6))
    outbox.start_over()
    assert rest(outbox) == []


def test_what_a_session_says_at_a_pumps_death_reaches_the_next_one_in_a_useful_order() -> None:
    outbox = put(Outbox(), connection(1), path(1, 1000), generation(1, 2))
    rest(outbox)
    renewed = ipc.SetConnection(1, "192.0.2.1", KEY, True, 0, overlay="plait1", generation=1)
    put(outbox, renewed, generation(1, 2), path(1, 1000), ipc.SendProbe(1, 0))
    outbox.start_over()
    first, *others = rest(outbox)
    assert isinstance(first, ipc.SetConnection)
    # Some numbers are left out, none comes twice.
    assert first.first_sequence >= SEQUENCES_PER_PUMP
    assert (first.generation, first.overlay) == (1, "plait1")
    assert others == [generation(1, 2), path(1, 1000)]


def test_probes_are_events() -> None:
    outbox = put(Outbox(), connection(1), *(ipc.SendProbe(1, size) for size in range(MAX_WAITING_EVENTS + 3)))
    assert outbox.dropped == 3
    assert rest(outbox)[1:] == [ipc.SendProbe(1, size) for size in range(MAX_WAITING_EVENTS)]


def test_events_have_a_bound() -> None:
    outbox = put(Outbox(), *map(special, range(MAX_WAITING_EVENTS + 10)))
    assert outbox.dropped == 10
    assert rest(outbox) == list(map(special, range(MAX_WAITING_EVENTS)))
    put(outbox, special(1))
    assert (rest(outbox), outbox.dropped) == ([special(1)], 10)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_messages_pass_in_packets(size: int) -> None:
    message = bytes(range(256)) * (size // 256) + bytes(size % 256)
    packets = split(message)
    assert all(len(packet) <= CHUNK_BYTES + 1 for packet in packets)
    joiner = Joiner()
    for _ in range(2):
        assert [joiner.add(packet) for packet in packets] == [None] * (len(packets) - 1) + [message]


def test_nonsense_on_the_channel() -> None:
    with pytest.raises(BrokenChannel, match="mark"):
        Joiner().add(b"\x07abc")
    joiner = Joiner()
    more = split(bytes(2 * CHUNK_BYTES))[0]
    for _ in range(MAX_MESSAGE_BYTES // CHUNK_BYTES):
        joiner.add(more)
    with pytest.raises(BrokenChannel, match="end"):
        joiner.add(more)
