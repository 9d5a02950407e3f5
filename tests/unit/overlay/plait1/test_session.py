"""A plait1 session by itself, step by step."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.overlay.pmtu import ASSUMED, BASE, LADDER
from plait.overlay.quality import SUSPICION_INTERVAL
from plait.overlay.sleeve import actions as a
from plait.overlay.sleeve.ipc import Endpoint, ProbeAcknowledged
from plait.overlay.sleeve.plait1.session import CONTROL_GENERATION, LEAST, Plait1Session
from plait.overlay.sleeve.session import FAST_HEARTBEAT, HEARTBEAT_TIMEOUT, MISSED_HEARTBEATS, PASSING_ERRNOS

UID = 0x1122
PEER = ("192.0.2.2", 6783)
ELSEWHERE = ("203.0.113.7", 40000)
HEARTBEAT = a.SendProbe(LEAST)
BOTH = pytest.mark.parametrize("is_encrypted", [False, True], ids=["plain", "encrypted"])


def new(
    remote: Endpoint | None = PEER, *, is_encrypted: bool = False, interval: float = 1.0, first_repeat: float = 0.5
) -> Plait1Session:
    return Plait1Session(
        connection_uid=UID,
        is_encrypted=is_encrypted,
        remote=remote,
        heartbeat_interval=interval,
        first_repeat=first_repeat,
    )


def acked(size: int = 70, *, sent: int = 0, received: int = 0) -> ProbeAcknowledged:
    return ProbeAcknowledged(2, size, 0.001, sent, received, 0, 0)


def established(*, is_encrypted: bool = False, mtu: int | None = 1500) -> Plait1Session:
    session = new(is_encrypted=is_encrypted)
    session.confirm(0.0)
    session.probe_acknowledged(acked(), 0.0)
    if mtu is not None:
        session.interface_mtu_known(mtu, 0.0)
    return session


def searched(*, is_encrypted: bool = False, mtu: int = 1500) -> Plait1Session:
    """The search is over, everything passes."""
    session = established(is_encrypted=is_encrypted, mtu=mtu)
    session.probe_acknowledged(acked(mtu), 0.001)
    return session


def sizes(actions: list[a.Action]) -> list[int]:
    return [action.size for action in actions if isinstance(action, a.SendProbe)]


def path(path_mtu: int, *, is_encrypted: bool = False, remote: Endpoint | None = PEER) -> a.SetPath:
    return a.SetPath(remote, path_mtu - (104 if is_encrypted else 72), path_mtu - 28, stack_frag=False)


# Establishing


@BOTH
def test_confirm_tells_a_path_that_everything_fits_and_asks(is_encrypted: bool) -> None:
    session = new(is_encrypted=is_encrypted)
    assert session.state == "waiting for the mesh connection"
    assert session.next_deadline() is None
    assert session.handle_timer(5.0) == []
    actions = session.confirm(10.0)
    assert actions == [path(BASE, is_encrypted=is_encrypted), HEARTBEAT, a.QueryInterfaceMtu()]
    assert session.state == "sending UDP probes, the peer has not answered one yet"
    assert session.next_deadline() == 10.5
    assert session.confirm(11.0) == []


def test_the_accepting_side_waits_for_the_first_probe() -> None:
    session = new(None)
    assert session.confirm(0.0) == []
    assert session.state == "waiting for the peer's first UDP probe"
    assert session.next_deadline() == HEARTBEAT_TIMEOUT
    assert session.probe_received(PEER, 1.0) == [path(BASE), HEARTBEAT, a.QueryInterfaceMtu()]
    assert session.remote == PEER
    assert session.probe_received(PEER, 1.1) == []


def test_nothing_happens_before_the_mesh_connection_stays() -> None:
    session = new(None)
    assert session.probe_received(PEER, 0.0) == []
    assert session.probe_acknowledged(acked(), 0.0) == []
    assert session.interface_mtu_known(1500, 0.0) == []
    assert session.mtu_hint(1400, 0.0) == []
    assert session.packet_too_big() == []
    assert session.send_failed(errno.EINVAL) == []
    assert session.control_received(CONTROL_GENERATION, bytes(4)) == []
    assert session.pump_died(0.0) == []
    assert (session.remote, session.failure, session.ignored_controls) == (None, None, 0)


def test_probes_are_repeated_ever_slower_until_one_is_answered() -> None:
    session = new(first_repeat=0.01)
    session.confirm(0.0)
    times = []
    for _ in range(10):
        deadline = session.next_deadline()
        assert deadline is not None
        assert session.handle_timer(deadline - 0.001) == []
        assert session.handle_timer(deadline) == [HEARTBEAT]
        times.append(deadline)
    gaps = [after - before for before, after in zip([0.0, *times], times, strict=False)]
    assert gaps == pytest.approx([0.01, 0.02, 0.04, 0.08, 0.16, 0.32, *[FAST_HEARTBEAT] * 4])
    now = times[-1] + 0.05
    assert session.probe_acknowledged(acked(), now) == [a.Established()]
    assert (session.is_established, session.established_since, session.state) == (True, now, "established")
    assert session.next_deadline() == now + 1.0


def test_no_answer_at_all_ends_it_with_a_sentence() -> None:
    session = new()
    session.confirm(100.0)
    session.send_failed(errno.ENETUNREACH)
    (failed,) = session.handle_timer(100.0 + HEARTBEAT_TIMEOUT)
    assert failed == a.Failed(
        "no UDP probe was answered by the peer at 192.0.2.2:6783 for 60 s; the kernel refused to send: "
        "Network is unreachable; let UDP between the two hosts through, both ways"
    )
    assert session.state == f"failed: {session.failure}"
    assert session.next_deadline() is None
    assert session.handle_timer(1000.0) == []
    assert session.probe_acknowledged(acked(), 1000.0) == []
    assert session.confirm(1000.0) == []
    assert not session.is_established


def test_an_accepting_side_without_any_probe_ends_too() -> None:
    session = new(None)
    session.confirm(0.0)
    (failed,) = session.handle_timer(HEARTBEAT_TIMEOUT)
    assert isinstance(failed, a.Failed)
    assert "the peer at an unknown address for 60 s" in failed.reason


@pytest.mark.parametrize("interval", [0.01, 1.0, 10.0])
def test_six_probes_without_an_answer_end_an_established_session(interval: float) -> None:
    session = new(interval=interval)
    session.confirm(0.0)
    session.probe_acknowledged(acked(), 0.0)
    patience = max(MISSED_HEARTBEATS * interval, FAST_HEARTBEAT)
    sent, now = 0, 0.0
    while session.failure is None:
        deadline = session.next_deadline()
        assert deadline is not None
        now = deadline
        sent += len(sizes(session.handle_timer(now)))
    assert now == pytest.approx(patience)
    assert sent >= MISSED_HEARTBEATS - 1
    assert not session.is_established


def test_any_acknowledgement_keeps_it_alive() -> None:
    session = searched()
    for second in range(1, 60):
        session.handle_timer(second)
        session.probe_acknowledged(acked(1500), second)
    assert session.is_established
    assert session.last_acknowledged == 59


def test_stop_is_no_failure() -> None:
    session = established()
    session.stop()
    assert (session.state, session.failure, session.is_established) == ("stopped", None, False)
    assert session.handle_timer(100.0) == []
    assert session.next_deadline() is None
    assert session.probe_received(ELSEWHERE, 100.0) == []


# The neighbour's address


def test_the_address_follows_the_neighbours_probes_before_it_is_established() -> None:
    session = new()
    session.confirm(0.0)
    assert session.probe_received(ELSEWHERE, 0.1) == [path(BASE, remote=ELSEWHERE), HEARTBEAT, a.QueryInterfaceMtu()]
    assert session.remote == ELSEWHERE


def test_a_neighbour_that_moves_is_another_path_to_be_searched_from_the_start() -> None:
    session = searched()
    session.handle_timer(1.0)
    assert session.path_mtu == 1500
    first, heartbeat, query, *probes = session.probe_received(ELSEWHERE, 2.0)
    assert (heartbeat, query) == (HEARTBEAT, a.QueryInterfaceMtu())
    assert isinstance(first, a.SetPath)
    assert first.remote == ELSEWHERE
    told = [action for action in (first, *probes) if isinstance(action, a.SetPath)]
    assert told[-1] == path(BASE, remote=ELSEWHERE), "what fits the old path may not fit the new one"
    assert set(sizes(probes)) >= {1500, BASE}
    assert session.is_established
    assert session.probe_received(ELSEWHERE, 2.1) == []


# What fits


@BOTH
def test_over_ipv6_headers_cost_more(is_encrypted: bool) -> None:
    session = Plait1Session(
        connection_uid=UID,
        is_encrypted=is_encrypted,
        remote=("2001:db8::2", 6783),
        heartbeat_interval=1.0,
        first_repeat=0.5,
        is_ipv6=True,
    )
    session.confirm(0.0)
    session.probe_acknowledged(acked(), 0.0)
    session.interface_mtu_known(1500, 0.0)
    mtu = 1500 - (124 if is_encrypted else 92)
    assert session.probe_acknowledged(acked(1500), 0.001) == [
        a.SetPath(("2001:db8::2", 6783), mtu, 1500 - 48, stack_frag=False)
    ]
    assert (session.mtu, session.path_mtu) == (mtu, 1500)


def test_a_probe_of_the_other_version_of_ip_moves_nobody() -> None:
    accepting = Plait1Session(
        connection_uid=UID, is_encrypted=False, remote=None, heartbeat_interval=1.0, first_repeat=0.5, is_ipv6=True
    )
    accepting.confirm(0.0)
    assert accepting.probe_received(PEER, 0.1) == []
    assert accepting.remote is None
    assert a.SendProbe(LEAST) in accepting.probe_received(("2001:db8::2", 6783), 0.2)
    assert established().probe_received(("2001:db8::2", 6783), 1.0) == []


def test_the_search_begins_when_both_the_path_works_and_the_interface_is_known() -> None:
    session = established(mtu=None)
    actions = session.interface_mtu_known(1500, 0.01)
    assert sizes(actions) == sorted({size for size in LADDER if size < 1500} | {1500, BASE}, reverse=True)
    other = new()
    other.confirm(0.0)
    assert other.interface_mtu_known(1500, 0.01) == []
    assert other.probe_acknowledged(acked(), 0.02) == [a.Established(), *(a.SendProbe(s) for s in sizes(actions))]


@BOTH
def test_what_is_acknowledged_is_used_at_once(is_encrypted: bool) -> None:
    session = established(is_encrypted=is_encrypted)
    assert session.path.source == ASSUMED
    assert session.probe_acknowledged(acked(1400), 0.002) == [path(1400, is_encrypted=is_encrypted)]
    assert session.probe_acknowledged(acked(1500), 0.003) == [path(1500, is_encrypted=is_encrypted)]
    assert session.probe_acknowledged(acked(1280), 0.004) == []
    assert session.mtu == 1500 - (104 if is_encrypted else 72)
    assert session.mtu_source == "acknowledged by the peer"


def test_heartbeats_say_nothing_of_the_mtu() -> None:
    session = established()
    assert session.probe_acknowledged(acked(70), 0.002) == []
    assert session.path_mtu == BASE


@pytest.mark.parametrize("size", [0, 1201, 1501, 9000, 65535])
def test_sizes_that_were_not_asked_for_are_not_believed(size: int) -> None:
    session = established()
    session.probe_acknowledged(acked(size), 0.002)
    assert session.path_mtu == BASE


def test_an_interface_with_less_counts_at_once() -> None:
    session = searched()
    assert path(1300) in session.interface_mtu_known(1300, 1.0)
    assert session.path_mtu == 1300
    assert session.interface_mtu_known(1300, 6.0) == []


def test_an_interface_with_more_is_searched() -> None:
    session = searched()
    actions = session.interface_mtu_known(9000, 1.0)
    assert max(sizes(actions)) == 9000
    assert session.probe_acknowledged(acked(9000), 1.1)[0] == path(9000)


def test_no_route_at_the_moment_changes_nothing() -> None:
    session = searched()
    assert session.interface_mtu_known(None, 1.0) == []
    assert session.path_mtu == 1500


def test_an_interface_below_the_base_is_never_exceeded() -> None:
    session = established(mtu=576)
    assert session.path_mtu == 576
    told = session.probe_acknowledged(acked(576), 0.1)
    assert max(sizes(told), default=0) <= 576


def test_the_kernels_refusal_asks_for_the_interface() -> None:
    session = searched()
    assert session.packet_too_big() == [a.QueryInterfaceMtu()]
    assert session.send_failed(errno.EMSGSIZE) == []
    assert session.failure is None


def test_icmp_is_a_hint_that_is_probed_and_never_believed() -> None:
    session = searched()
    actions = session.mtu_hint(1400, 10.0)
    assert 1400 in sizes(actions)
    assert session.path_mtu == 1500
    assert session.mtu_hint(1300, 10.1) == [], "forged ones cost one probe a second at most"
    before_search = new()
    before_search.confirm(0.0)
    assert before_search.mtu_hint(1400, 0.1) == []


def test_data_that_vanishes_makes_the_mtu_suspicious() -> None:
    session = searched()
    session.probe_acknowledged(acked(sent=0), 1.0)
    actions = session.probe_acknowledged(acked(sent=1000), 2.0)
    assert sizes(actions) == [1500], "it is verified"
    assert session.path_mtu == 1500, "and used until that fails"
    assert sizes(session.probe_acknowledged(acked(sent=2000), 3.0)) == [], "but only from time to time"
    again = [sizes(session.probe_acknowledged(acked(sent=1000 * second), second)) for second in (4, 5, 6)]
    assert again == [[], [], []]
    later = 2.0 + SUSPICION_INTERVAL
    session.probe_acknowledged(acked(1500, sent=9000, received=0), later - 0.6)  # verified meanwhile
    assert sizes(session.probe_acknowledged(acked(sent=90_000), later + 0.1)) == [1500]


def test_data_that_arrives_is_not_suspicious() -> None:
    session = searched()
    for second in range(1, 20):
        acknowledgement = acked(sent=1000 * second, received=1000 * second)
        assert session.probe_acknowledged(acknowledgement, second) == []


# Refusals


@pytest.mark.parametrize("number", sorted(PASSING_ERRNOS))
def test_refusals_that_heal_are_remembered_until_something_passes(number: int) -> None:
    session = established()
    assert session.send_failed(number) == []
    assert session.last_send_error
    session.probe_acknowledged(acked(), 1.0)
    assert session.last_send_error is None


def test_other_refusals_end_it() -> None:
    session = established()
    (failed,) = session.send_failed(errno.EINVAL)
    assert failed == a.Failed(
        "the kernel refuses to send UDP datagrams to the peer at 192.0.2.2:6783 (Invalid argument); "
        "check this host's network, the mesh connects again by itself"
    )
    assert session.send_failed(errno.EINVAL) == []


# Keys


def test_the_neighbours_generation_is_sealed_with() -> None:
    session = established(is_encrypted=True)
    assert session.control_received(CONTROL_GENERATION, b"\x00\x00\x01\x02") == [a.SetGeneration(0x102)]
    assert session.their_generation == 0x102
    assert session.generation == 0


@pytest.mark.parametrize(
    ("is_encrypted", "tag", "payload"),
    [
        (False, CONTROL_GENERATION, bytes(4)),
        (True, CONTROL_GENERATION, bytes(3)),
        (True, CONTROL_GENERATION, bytes(5)),
        (True, CONTROL_GENERATION, b""),
        (True, 0, bytes(4)),
        (True, 255, bytes(4)),
    ],
)
def test_controls_without_meaning_are_counted(is_encrypted: bool, tag: int, payload: bytes) -> None:
    session = established(is_encrypted=is_encrypted)
    assert session.control_received(tag, payload) == []
    assert (session.ignored_controls, session.their_generation) == (1, 0)


def test_a_new_pump_needs_keys_that_nothing_old_fits() -> None:
    session = searched(is_encrypted=True)
    session.control_received(CONTROL_GENERATION, bytes((0, 0, 0, 9)))
    for generation in (1, 2):
        control = a.SendControl(CONTROL_GENERATION, generation.to_bytes(4, "big"))
        expected = [a.RenewKeys(), a.SetGeneration(9), path(1500, is_encrypted=True), control, HEARTBEAT]
        assert session.pump_died(1.0) == expected
        assert session.generation == generation
    assert session.is_established


def test_a_new_pump_before_the_neighbours_address_is_known() -> None:
    session = new(None, is_encrypted=True)
    session.confirm(0.0)
    control = a.SendControl(CONTROL_GENERATION, bytes((0, 0, 0, 1)))
    assert session.pump_died(1.0) == [a.RenewKeys(), a.SetGeneration(0), control]


def test_a_new_pump_without_encryption_needs_nothing() -> None:
    assert searched().pump_died(1.0) == []


@pytest.mark.parametrize("is_encrypted", [False, True])
def test_what_died_with_the_pump_is_no_loss_of_the_path(is_encrypted: bool) -> None:
    session = searched(is_encrypted=is_encrypted)
    for _ in range(8):
        session.quality.asked()
    assert session.quality.loss
    session.pump_died(1.0)
    assert not session.quality.loss


# Whatever happens

steps = st.lists(
    st.one_of(
        st.tuples(st.just("probe"), st.sampled_from([PEER, ELSEWHERE, ("10.0.0.1", 1)])),
        st.tuples(st.just("acked"), st.integers(0, 0xFFFF) | st.sampled_from([*LADDER, BASE, 70])),
        st.tuples(st.just("interface"), st.none() | st.integers(68, 65536)),
        st.tuples(st.just("hint"), st.integers(0, 2**32 - 1)),
        st.tuples(st.just("too big"), st.none()),
        st.tuples(st.just("refused"), st.sampled_from([errno.EMSGSIZE, errno.ENETUNREACH, errno.ENOBUFS])),
        st.tuples(st.just("control"), st.binary(max_size=6)),
        st.tuples(st.just("pump died"), st.none()),
        st.tuples(st.just("time"), st.floats(0, 20)),
    ),
    max_size=60,
)


@BOTH
@given(script=steps, sent=st.integers(0, 10**6), is_dialled=st.booleans())
def test_no_probe_and_no_path_exceeds_the_interface(
    script: list[tuple[str, object]], sent: int, is_dialled: bool, is_encrypted: bool
) -> None:
    session = new(PEER if is_dialled else None, is_encrypted=is_encrypted)
    actions, now, interface = session.confirm(0.0), 0.0, None
    for step, value in script:
        match step, value:
            case "probe", tuple(source):
                actions = session.probe_received((str(source[0]), int(source[1])), now)
            case "acked", int(size):
                actions = session.probe_acknowledged(acked(size, sent=int(now * sent)), now)
            case "interface", mtu:
                assert mtu is None or isinstance(mtu, int)
                interface = mtu if mtu and session.confirmed_since is not None and not session.failure else interface
                actions = session.interface_mtu_known(mtu, now)
            case "hint", int(mtu):
                actions = session.mtu_hint(mtu, now)
            case "too big", _:
                actions = session.packet_too_big()
            case "refused", int(number):
                actions = session.send_failed(number)
            case "control", bytes(payload):
                actions = session.control_received(CONTROL_GENERATION, payload)
            case "pump died", _:
                actions = session.pump_died(now)
            case "time", float(seconds):
                now += seconds
                actions = session.handle_timer(now)
        for action in actions:
            if isinstance(action, a.SendProbe) and interface is not None:
                assert action.size <= interface
            if isinstance(action, a.SetPath) and interface is not None:
                assert action.max_payload + 28 <= max(interface, 0) or not session.is_established
                assert action.mtu == action.max_payload + 28 - (104 if is_encrypted else 72)
        deadline = session.next_deadline()
        assert deadline is None or session.failure is None
    assert session.state
