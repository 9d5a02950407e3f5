"""Namespaces and settings in them."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from plait.errors import KernelLacks, KernelRefused
from plait.host import netns, sysctl
from plait.host.kernel_errors import NoSuchNamespace
from plait.host.netlink import Netlink

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces")

NAME = f"plait-ns-{os.getpid()}"


@pytest.fixture
def space() -> Iterator[Path]:
    path = netns.create(NAME)
    yield path
    netns.delete(NAME)


def current() -> tuple[int, int]:
    return netns.identity("/proc/thread-self/ns/net")


def test_create_is_seen_by_iproute2_and_delete_removes_it() -> None:
    path = netns.create(NAME)
    try:
        assert not netns.is_ours(path)
        assert netns.is_ours("/proc/self/ns/net")
        with pytest.raises(KernelRefused, match=f"there is a network namespace {NAME} already"):
            netns.create(NAME)
    finally:
        netns.delete(NAME)
    assert not path.exists()
    netns.delete(NAME)


def test_left_over_file_is_deleted_too() -> None:
    netns.NAMED.mkdir(exist_ok=True)
    path = netns.NAMED / NAME
    path.touch()
    netns.delete(NAME)
    assert not path.exists()


def test_entered_comes_back_after_an_exception(space: Path) -> None:
    before, seen = current(), []

    def fail() -> None:
        with netns.entered(space):
            seen.append(current())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert seen == [netns.identity(space)]
    assert current() == before


def test_threads_may_be_in_different_namespaces(space: Path) -> None:
    before, seen = current(), []
    inside, leave = threading.Event(), threading.Event()

    def visit() -> None:
        with netns.entered(space):
            seen.append(current())
            inside.set()
            leave.wait(10)

    visitor = threading.Thread(target=visit)
    visitor.start()
    assert inside.wait(10)
    assert current() == before
    leave.set()
    visitor.join()
    assert seen == [netns.identity(space)]


def test_sockets_opened_inside_stay_there(space: Path) -> None:
    with Netlink(space) as netlink:
        netlink.set_link("lo", up=True)
        netlink.add_address("lo", "10.9.8.7/32")
    with netns.entered(space):
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with opened:
        opened.bind(("10.9.8.7", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours, pytest.raises(OSError, match="assign"):
        ours.bind(("10.9.8.7", 0))


def test_absent_or_wrong_path_is_explained() -> None:
    with pytest.raises(NoSuchNamespace, match="there is no network namespace at /run/netns/plait-none"):
        netns.identity("/run/netns/plait-none")
    with pytest.raises(NoSuchNamespace), netns.entered("/run/netns/plait-none"):
        pass
    with pytest.raises(KernelRefused, match="enter the network namespace"), netns.entered("/dev/null"):
        pass


def test_settings_are_those_of_the_thread_s_namespace(space: Path) -> None:
    outside = sysctl.read("net.ipv4.ip_forward")
    inside = "0" if outside == "1" else "1"
    with netns.entered(space):
        sysctl.write("net.ipv4.ip_forward", inside)
        sysctl.write("net.ipv4.ip_forward", inside)
        assert sysctl.read("net/ipv4/ip_forward") == inside
    assert sysctl.read("net.ipv4.ip_forward") == outside


def test_unknown_setting_and_bad_value_are_explained(space: Path) -> None:
    with netns.entered(space):
        with pytest.raises(KernelLacks, match="has no setting"):
            sysctl.write("net.ipv4.conf.nope.forwarding", "1")
        with pytest.raises(KernelRefused, match="=many"):
            sysctl.write("net.ipv4.ip_forward", "many")
