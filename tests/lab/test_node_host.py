"""What a node takes from its host, in namespaces and without processes: names, MTU, descriptors; and giving it back."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path

import pytest

from lab.node_lab import same, snapshot
from plait import startup
from plait.attach.container import Container, namespace_id
from plait.attach.interface import Bridge, attach
from plait.config import Config
from plait.errors import AddressInUse, AlreadyRunning, KernelLacks, StateError
from plait.host._pyroute2 import IPRoute, NetlinkError
from plait.host.netlink import Netlink
from plait.host.tap import open_tap
from plait.mesh.name import PeerName
from plait.overlay.bridge import TAP, BridgeKeeper, BridgeSettings
from plait.startup import DEFAULT_UNDERLAY_MTU, open_host, pid_file, reset_host
from plait.state import Attachment, Store
from plait.testing.lab import Host, Lab

PLAIN, SEALED = 50, 104  # what VXLAN adds to a frame, and what an encrypted datagram does


@pytest.fixture
def host(lab: Lab) -> Host:
    return lab.host("h1")


def config_of(host: Host) -> Config:
    return Config(nickname="n", state_dir=host.directory / "state", run_dir=host.directory / "run", docker_api="")


@contextmanager
def opened(host: Host, config: Config) -> Iterator[startup.Host]:
    with host.entered(), Store(config.state_dir) as store, open_host(config, store) as found:
        yield found


def test_the_name_is_the_given_one_then_the_kept_one_then_that_of_a_bridge(host: Host) -> None:
    config = config_of(host)
    with opened(host, config) as first:
        random_name = first.name
    assert random_name.to_bytes6()[0] & 0b11 == 0b10  # locally administered, unicast
    with opened(host, config) as again:
        assert again.name == random_name
    given = PeerName.parse("7a:00:00:00:00:07")
    with opened(host, replace(config, name=given)) as named:
        assert named.name == given
    with opened(host, config) as kept:
        assert kept.name == given
    with Netlink(host.path) as netlink:
        netlink.create_bridge("weave", "7a:00:00:00:00:08")
    with opened(host, replace(config, state_dir=host.directory / "other")) as taken_over:
        assert str(taken_over.name) == "7a:00:00:00:00:08"


def test_the_overlay_fits_into_the_underlay(lab: Lab, host: Host) -> None:
    config = config_of(host)
    with opened(host, config) as found:
        assert found.mtu == 1500 - PLAIN
        assert host.ip in found.local_ips
        assert "127.0.0.1" in found.local_ips
    with opened(host, replace(config, password=b"secret")) as sealed:
        assert sealed.mtu == 1500 - SEALED
    with opened(host, replace(config, mtu=1300)) as given:
        assert given.mtu == 1300
    far = lab.switch(mtu=9000)
    two = lab.host("h2", on=[lab.segments[0], far])
    with opened(two, config_of(two)) as smallest:
        assert smallest.mtu == 1500 - PLAIN
    with opened(two, replace(config_of(two), host=str(two.ports[1].address.ip))) as bound:
        assert bound.mtu == 9000 - PLAIN
    two.run(["ip", "route", "add", "default", "via", "10.99.1.254"])
    with opened(two, config_of(two)) as uplink:
        assert uplink.mtu == 9000 - PLAIN


def test_our_own_links_do_not_make_the_overlay_smaller(host: Host) -> None:
    with Netlink(host.path) as netlink:
        netlink.create_bridge("weave", mtu=1438)
        netlink.create_veth("vethwepl1", "vethwepg1", 1438)
        for name in ("weave", "vethwepl1", "vethwepg1"):
            netlink.set_link(name, up=True)
    with opened(host, config_of(host)) as found:
        assert found.mtu == 1500 - PLAIN


def test_a_host_without_a_network_gets_the_usual_mtu(host: Host) -> None:
    with Netlink(host.path) as netlink:
        netlink.set_link("eth0", up=False)
    with opened(host, config_of(host)) as found:
        assert found.mtu == DEFAULT_UNDERLAY_MTU - PLAIN


def test_everything_is_closed_at_the_end_and_after_a_failure(host: Host) -> None:
    config = config_of(host)
    with opened(host, config):
        pass
    before = len(os.listdir("/proc/self/fd"))
    with opened(host, config) as found:
        assert os.fstat(found.tap_fd)
    with host.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", config.port))
        with pytest.raises(AddressInUse, match="UDP port 6783"), opened(host, config):
            pass
    with host.entered():
        holder = open_tap(TAP)
    try:
        with pytest.raises(AlreadyRunning, match=TAP), opened(host, config):
            pass
    finally:
        os.close(holder)
    assert len(os.listdir("/proc/self/fd")) == before
    with Netlink(host.path) as netlink:
        assert netlink.link(TAP) is None


def test_the_pid_file_lives_as_long_as_the_node(tmp_path: Path) -> None:
    with pid_file(tmp_path / "run"):
        assert (tmp_path / "run" / "plait.pid").read_text() == f"{os.getpid()}\n"
    assert not (tmp_path / "run" / "plait.pid").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="--run-dir"), pid_file(tmp_path / "file" / "run"):
        pass


def test_reset_takes_everything_back_and_says_what_it_cannot(host: Host) -> None:
    config = config_of(host)
    container = host.container("c1")
    before = [snapshot(node) for node in (host, container)]
    with opened(host, config) as found, host.entered():
        keeper = BridgeKeeper(BridgeSettings(config.bridge, str(found.name), found.mtu))
        keeper.ensure()
        attacher_bridge = Bridge(config.bridge, found.mtu)
        with pytest.raises(StateError, match="in use by the node"):
            reset_host(config)
    with host.entered(), Store(config.state_dir) as store:
        here = Container(container.spec, container.path, namespace_id(container.path))
        attach(here, [ip_interface("10.32.0.1/12")], attacher_bridge)
        store.put_attachment(
            Attachment(here.ident, str(here.netns), here.netns_id, None, None, ("10.32.0.1/12",), True)
        )
        gone = Attachment("netns:gone", "/run/netns/gone", "boot/1/1", None, None, ("10.32.0.2/12",), True)
        store.put_attachment(gone)
    with host.entered():
        assert reset_host(config) == []
        assert reset_host(config) == []  # once more does no harm
    for node, listing in zip((host, container), before, strict=True):
        assert same(listing, snapshot(node))
    assert {path.name for path in config.state_dir.iterdir()} <= {"plait.lock"}


def test_a_kernel_without_veth_or_bridges_is_named(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(self: IPRoute, verb: str, **attributes: object) -> object:
        if verb == "add":
            raise NetlinkError(errno.EOPNOTSUPP, "Unknown device type")
        return IPRoute.__getattr__(self, "link")(verb, **attributes)

    container = host.container("c1")
    with host.entered():
        with Netlink() as netlink:
            netlink.create_bridge("weave", mtu=1438)
        monkeypatch.setattr(IPRoute, "link", link, raising=False)
        here = Container(container.spec, container.path, namespace_id(container.path))
        with pytest.raises(KernelLacks, match="this kernel has no veth; load it with 'modprobe veth'"):
            attach(here, [ip_interface("10.32.0.1/12")], Bridge("weave", 1438))
        with Netlink() as netlink, pytest.raises(KernelLacks, match="modprobe bridge"):
            netlink.create_bridge("other")
