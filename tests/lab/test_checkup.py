"""What a node finds out about its own machine, and about a peer's, on real interfaces."""

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from lab.node_lab import check_logs, problems, told
from plait.host import tap
from plait.host.netlink import Netlink
from plait.testing.lab import Host, Lab, wait_until
from plait.testing.lab.features import missing_features

IPS = ("10.77.0.1", "10.77.0.2")
CARD = "card"


class Wire:
    """Carries frames between two taps, the network cards of two hosts, unless one of the cards is frozen."""

    def __init__(self, cards: tuple[int, int]) -> None:
        self.frozen: set[int] = set()
        self._cards = cards
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._carry, args=(number,)) for number in (0, 1)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _carry(self, number: int) -> None:
        while not self._is_over.is_set():
            if number in self.frozen:
                time.sleep(0.05)
                continue
            try:
                frame = os.read(self._cards[number], 1 << 17)
            except BlockingIOError:
                time.sleep(0.001)
                continue
            try:
                os.write(self._cards[1 - number], frame)
            except OSError:
                pass  # the other card is full


@contextmanager
def wired(one: Host, other: Host) -> Iterator[Wire]:
    """Two hosts whose cards are taps."""
    with ExitStack() as stack:
        cards = []
        for host, ip in zip((one, other), IPS, strict=True):
            with host.entered():
                cards.append(tap.open_tap(CARD, tap.SUPER_FRAMES))
            stack.callback(os.close, cards[-1])
            with Netlink(host.path) as netlink:
                netlink.set_link(CARD, up=True)
                netlink.add_address(CARD, f"{ip}/24")
        wire = Wire((cards[0], cards[1]))
        stack.callback(wire.close)
        yield wire


@pytest.fixture
def lab() -> Iterator[Lab]:
    if missing := missing_features():
        pytest.skip("; ".join(missing))
    with Lab() as made:
        yield made
        check_logs(made)


def test_a_frozen_card_is_named_and_a_silent_peer_is_not(lab: Lab) -> None:
    one, other = lab.host("one"), lab.host("other")
    with wired(one, other) as wire:
        one.launch()
        other.launch(IPS[0])
        wait_until(lambda: not problems(other), "the two are connected", 20.0)
        wait_until(lambda: "established" in other.plait("status", "connections").stdout, "frames pass", 20.0)
        wire.frozen.add(0)
        told(one, f"{CARD} accepts packets but transmits none", "reload the driver")
        # The other host hears nothing, but its own card is well.
        assert not any("transmits none" in problem for problem in problems(other))
        wire.frozen.clear()
        wait_until(lambda: not any("transmits none" in problem for problem in problems(one)), "it is over", 20.0)


def test_doctor_of_a_peer(lab: Lab) -> None:
    one, other = lab.host("one"), lab.host("other")
    one.launch()
    other.launch(one)
    wait_until(lambda: "other" in one.plait("status", "peers").stdout, "the peer is known", 20.0)
    asked = one.plait("doctor", "--json", "--peer", "other", check=False)
    assert asked.status in (0, 20, 21)
    assert {each["check"] for each in json.loads(asked.stdout)} == {
        each["check"] for each in json.loads(other.plait("doctor", "--json", check=False).stdout)
    }
    nobody = one.plait("doctor", "--peer", "nobody", check=False)
    assert nobody.status == 4
    assert "there is no peer nobody" in nobody.stderr
