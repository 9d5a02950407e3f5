"""The pump beside a kernel that carries frames: labels say whom a frame is from and for, and nothing is sent twice."""

from hypothesis import given
from hypothesis import strategies as st

from plait.overlay.ethernet import BROADCAST_MAC
from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.plait1.superframe import PLAIN_VNET
from plait.overlay.sleeve.pump.labels import labels, strip_labels, without_labels
from unit.overlay.pumps import PumpHost
from unit.overlay.test_pump_core import MAC_A, MAC_B, MAC_C, A, B, C, core_of, frame

ID = {A: 1, B: 2, C: 3}
KERNEL_MTU = 1450


def tagged(source: int, destination: int, plain: bytes) -> bytes:
    """A frame as the kernel hands it over."""
    tags = b"\x88\xa8" + source.to_bytes(2, "big") + b"\x88\xa8" + destination.to_bytes(2, "big")
    return PLAIN_VNET + plain[:12] + tags + plain[12:]


def beside_kernel(host: PumpHost, carried: dict[int, int]) -> PumpHost:
    host.apply(ipc.SetKernel({number: int(peer) for peer, number in ID.items()}, carried))
    return host


def peers(host: PumpHost) -> list[int]:
    return [sent.peer for sent in host.drain()]


def test_a_broadcast_goes_only_to_whom_the_kernel_does_not_serve() -> None:
    host = beside_kernel(core_of(B), {A: KERNEL_MTU})
    host.captured(frame(BROADCAST_MAC, MAC_B))
    assert peers(host) == [C]
    host.apply(ipc.SetKernel({}, {}))
    host.captured(frame(BROADCAST_MAC, MAC_B))
    assert sorted(peers(host)) == [A, C]


def test_a_broadcast_that_came_by_the_kernel_is_passed_on_and_not_injected() -> None:
    host = beside_kernel(core_of(B), {A: KERNEL_MTU})
    host.captured_raw(tagged(ID[A], ID[B], frame(BROADCAST_MAC, MAC_A)))
    assert (peers(host), host.take_raw()) == ([C], [])


def test_a_labelled_frame_goes_where_its_label_says_and_without_it() -> None:
    host = beside_kernel(core_of(A), {})
    plain = frame(MAC_C, MAC_A)
    host.captured_raw(tagged(ID[A], ID[C], plain))
    (sent,) = host.drain()
    assert sent.peer == B
    assert plain in sent.payloads[0]


def test_a_relayed_frame_keeps_its_source() -> None:
    relay = beside_kernel(core_of(B), {A: KERNEL_MTU})
    relay.captured_raw(tagged(ID[A], ID[C], frame(MAC_C, MAC_A)))
    (sent,) = relay.drain()
    last = core_of(C)
    last.received(sent.payloads[0])
    assert last.take_injections() == [frame(MAC_C, MAC_A)]
    assert not last.counters().get("unknown_peer")


def test_labels_without_a_kernel_are_a_containers_own_tags() -> None:
    host = core_of(A)
    host.captured_raw(tagged(ID[A], ID[C], frame(BROADCAST_MAC, MAC_A)))
    (sent,) = host.drain()
    assert tagged(ID[A], ID[C], frame(BROADCAST_MAC, MAC_A))[len(PLAIN_VNET) :] in sent.payloads[0]


def test_a_label_that_nobody_owns_is_counted() -> None:
    host = beside_kernel(core_of(A), {})
    host.captured_raw(tagged(77, ID[C], frame(MAC_C, MAC_A)))
    assert (peers(host), host.counters()["unknown_peer"]) == ([], 1)


def mtu_told(host: PumpHost) -> int:
    """Next-hop MTU of the ICMP "fragmentation needed" for a container here."""
    (answer,) = host.take_injections()
    return int.from_bytes(answer[14 + 20 + 6 : 14 + 20 + 8], "big")


def test_who_sends_more_than_the_kernel_carries_hears_what_that_is() -> None:
    host = beside_kernel(core_of(A), {B: KERNEL_MTU})
    host.captured_raw(tagged(ID[A], ID[B], frame(MAC_B, MAC_A, 1490, df=True)))
    assert mtu_told(host) == KERNEL_MTU


def test_a_frame_that_the_kernel_did_not_see_must_fit_a_datagram() -> None:
    host, other = beside_kernel(core_of(A), {B: KERNEL_MTU}), core_of(B)
    other.captured(frame(BROADCAST_MAC, MAC_B))
    for sent in other.drain():
        if sent.peer == A:
            host.received(sent.payloads[0])  # it came by a datagram, so the kernel does not know the address
    host.take_raw()
    host.captured(frame(MAC_B, MAC_A, 1490, df=True))
    assert mtu_told(host) == 1438


@given(
    st.integers(0, 4095),
    st.integers(0, 4095),
    st.binary(min_size=60, max_size=200),
    st.binary(min_size=10, max_size=10),
)
def test_labels_come_off_as_they_went_on(source: int, destination: int, plain: bytes, vnet: bytes) -> None:
    raw = vnet + tagged(source, destination, plain)[len(PLAIN_VNET) :]
    assert labels(raw) == (source, destination)
    short = without_labels(raw)
    assert short[10:] == plain
    assert bytes(strip_labels(memoryview(bytearray(raw)))) == short
    start = int.from_bytes(vnet[6:8], "little")
    assert int.from_bytes(short[6:8], "little") == max(start - 8, 0)


@given(st.binary(max_size=40))
def test_what_is_too_short_has_no_labels(raw: bytes) -> None:
    assert labels(raw) is None or len(raw) >= 30
