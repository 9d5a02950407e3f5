"""What a small MTU on the way does to UDP in a lab, and what a forged ICMP error does."""

import socket

from lab.path_lab import narrow
from plait.testing.lab import Lab, wait_until

FULL = 1500 - 28
FITS = 1400 - 28
"""Data bytes of UDP datagrams that fill packets of 1500 and 1400 bytes."""


def told_mtus(frames: list[bytes]) -> list[tuple[str, int]]:
    """Senders and MTUs of the ICMP errors "fragmentation needed"."""
    found = []
    for frame in frames:
        if frame[12:14] == b"\x08\x00" and frame[23] == socket.IPPROTO_ICMP and frame[34:36] == b"\x03\x04":
            found.append((socket.inet_ntoa(frame[26:30]), int.from_bytes(frame[40:42], "big")))
    return found


def test_a_router_tells_senders_of_udp(lab: Lab) -> None:
    one, other, (router, _), _ = narrow(lab, icmp=True)
    assert one.send_udp(other, 3, size=FITS, dont_fragment=True).received == 3
    with one.capture("eth0") as capture:
        assert one.send_udp(other, 3, size=FULL, dont_fragment=True).received == 0
        assert set(told_mtus(capture.frames())) == {(str(router.ports[0].address.ip), 1400)}
    assert one.send_udp(other, 3, size=FULL).received == 3  # in fragments


def test_a_router_without_icmp_swallows_long_udp(lab: Lab) -> None:
    one, other, (router, _), _ = narrow(lab, icmp=False)
    with one.capture("eth0") as capture:
        assert one.send_udp(other, 3, size=FULL, dont_fragment=True).received == 0
        assert one.send_udp(other, 3, size=FITS, dont_fragment=True).received == 3
        assert one.send_udp(router, 3, size=FULL, dont_fragment=True).received == 3
        assert told_mtus(capture.frames()) == []


def test_a_forged_icmp_error_is_believed_by_a_plain_socket(lab: Lab) -> None:
    one, other = lab.host("h1"), lab.host("h2")
    attacker = lab.host("h3")
    with one.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        plain.bind((one.ip, 6783))
        plain.connect((other.ip, 6783))
        assert "mtu" not in one.run(["ip", "route", "get", other.ip]).stdout
        with one.capture("eth0") as capture:
            attacker.forge_too_big(one, other, 600)
            wait_until(
                lambda: "mtu 600" in one.run(["ip", "route", "get", other.ip]).stdout, "the kernel believes the lie"
            )
            assert told_mtus(capture.frames()) == [(attacker.ip, 600)]
    assert one.send_udp(other, 3, size=FULL, dont_fragment=True).received == 3
