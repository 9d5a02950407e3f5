"""The node's attaching: records and kernel together, over restarts and failures."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_interface
from pathlib import Path
from typing import Any, TypeVar

import pytest

from lab.attach_lab import Host, end, host, reaches
from plait.attach import interface, service
from plait.attach.container import Container, ContainerDied, InHostNamespace, resolve
from plait.attach.interface import BridgeMissing
from plait.attach.runtime import (
    ContainerNotRunning,
    NoSuchContainer,
    RuntimeContainer,
    RuntimeUnavailable,
)
from plait.attach.service import Attacher
from plait.errors import AddressConflict, KernelRefused, StateError, UsageError
from plait.host import firewall, netns, nftables
from plait.host.netlink import Netlink
from plait.state import Store

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces")

T = TypeVar("T")


class Engine:
    """A container engine that knows what it is told."""

    def __init__(self) -> None:
        self.containers: dict[str, RuntimeContainer] = {}
        self.is_down = False

    def add(self, ident: str, name: str, pid: int, network_mode: str = "none") -> None:
        self.containers[ident] = RuntimeContainer(ident, name, pid, pid != 0, network_mode)

    async def inspect(self, container: str) -> RuntimeContainer:
        if self.is_down:
            raise RuntimeUnavailable("the engine is down")
        for found in self.containers.values():
            if container == found.name or found.ident.startswith(container):
                return found
        raise NoSuchContainer(f"unable to inspect container {container}: No such container: {container}")

    async def running(self) -> list[RuntimeContainer]:
        if self.is_down:
            raise RuntimeUnavailable("the engine is down")
        return [found for found in self.containers.values() if found.running]


@dataclass
class Node:
    """A host whose node can be restarted."""

    host: Host
    state_dir: Path
    engine: Engine = field(default_factory=Engine)
    warnings: list[str] = field(default_factory=list)

    def run(self, act: Callable[[Attacher], Coroutine[Any, Any, T]]) -> T:
        """Start a node, let it do something, and stop it."""
        with Store(self.state_dir) as store:
            return asyncio.run(act(Attacher(store, self.host.bridge, self.engine, self.warnings.append)))

    def attach(self, container: str, *cidrs: str) -> list[str]:
        return self.run(lambda n: n.attach(container, list(cidrs)))

    def recorded(self) -> dict[str, tuple[str, ...]]:
        with Store(self.state_dir) as store:
            return {record.ident: record.cidrs for record in store.attachments}

    def exposed(self) -> list[str]:
        with Store(self.state_dir) as store:
            return [exposure.cidr for exposure in store.exposures]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with host() as made:
        yield Node(made, tmp_path)


def addresses(container: Container) -> list[str]:
    with Netlink(container.netns) as guest:
        return [str(cidr) for cidr in interface.addresses_of(guest, "ethwe")] if guest.link("ethwe") else []


def bridge_addresses() -> list[str]:
    with Netlink() as link:
        return [str(cidr) for cidr in interface.addresses_of(link, "weave")]


def host_ends() -> list[str]:
    with Netlink() as link:
        return [found.name for found in link.links() if found.name.startswith("vethwe")]


def test_attach_answers_all_addresses_and_detach_those_that_were_there(node: Node) -> None:
    a = node.host.container("a")
    assert node.attach(a.ident, "10.32.0.1/12", "fd00::1/64") == ["10.32.0.1", "fd00::1"]
    assert node.attach(a.ident, "10.32.0.1/12", "10.32.0.2/12") == ["10.32.0.1", "10.32.0.2"]
    assert node.recorded() == {a.ident: ("10.32.0.1/12", "fd00::1/64", "10.32.0.2/12")}
    assert node.run(lambda n: n.detach(a.ident, ["10.32.0.1/12", "10.32.0.7/12"])) == ["10.32.0.1"]
    assert node.recorded() == {a.ident: ("fd00::1/64", "10.32.0.2/12")}
    assert node.run(lambda n: n.detach(a.ident, [])) == ["10.32.0.2", "fd00::1"]
    assert node.recorded() == {}
    assert node.run(lambda n: n.detach(a.ident, [])) == []
    assert host_ends() == []


def test_a_process_and_a_docker_container_are_found(node: Node) -> None:
    first, _ = node.host.process()
    second, child = node.host.process()
    node.engine.add("f00d" * 16, "web", child.pid)
    node.attach(first.ident, "10.32.0.1/12")
    node.attach("web", "10.32.0.2/12")
    node.attach("f00df0", "10.32.0.3/12")
    assert node.recorded() == {first.ident: ("10.32.0.1/12",), "f00d" * 16: ("10.32.0.2/12", "10.32.0.3/12")}
    assert sorted(host_ends()) == sorted([f"vethwepl{first.pid}", f"vethwepl{second.pid}"])
    assert reaches(first.netns, second.netns, "10.32.0.3")


def test_words_that_name_no_container_are_explained(node: Node) -> None:
    node.engine.add("beef", "old", 0)
    node.engine.add("cafe", "hosty", os.getpid(), network_mode="host")
    node.engine.add("dead", "gone", 2**22 + 1)
    cases: list[tuple[str, type[Exception], str]] = [
        ("nobody", NoSuchContainer, "^unable to inspect container nobody: No such container: nobody$"),
        ("99999999999", NoSuchContainer, "No such container: 99999999999"),
        ("netns:plait-att-nowhere", NoSuchContainer, "no network namespace at /run/netns/plait-att-nowhere"),
        ("netns:", UsageError, "no name of a network namespace"),
        ("netns:../netns/x", UsageError, "no name of a network namespace"),
        ("", UsageError, "no container is named"),
        ("old", ContainerNotRunning, "^container old not running$"),
        ("gone", ContainerDied, "^Container dead died$"),
        ("hosty", InHostNamespace, r"host network namespace, and therefore cannot be connected to\nweave - perhaps"),
        (str(os.getpid()), InHostNamespace, "started with --net=host"),
        (f"netns:{node.host.netns.name}", InHostNamespace, "started with --net=host"),
    ]
    for text, kind, sentence in cases:
        with pytest.raises(kind, match=sentence):
            node.attach(text, "10.32.0.1/12")
    with pytest.raises(NoSuchContainer, match="does not use Docker"):
        asyncio.run(resolve("web", None))
    assert node.recorded() == {}


def test_a_file_that_is_no_namespace_is_explained(node: Node) -> None:
    name = f"{node.host.netns.name}-file"
    (netns.NAMED / name).touch()
    try:
        with pytest.raises(NoSuchContainer, match="left-over file"):
            node.run(lambda n: n.attach(f"netns:{name}", ["10.32.0.1/12"]))
        node.run(lambda n: n.reconcile())
    finally:
        (netns.NAMED / name).unlink()


@pytest.mark.parametrize(
    "cidr", ["", "10.32.0.1", "10.32.0.1/33", "a/8", "fe80::1%x/64", "224.0.0.1/4", "127.0.0.1/8", "::/0"]
)
def test_what_is_no_address_is_refused(node: Node, cidr: str) -> None:
    a = node.host.container("a")
    with pytest.raises(UsageError, match=r"10\.2\.1\.1/24"):
        node.attach(a.ident, cidr)
    with pytest.raises(UsageError):
        node.run(lambda n: n.expose([cidr]))
    for act in (lambda n: n.attach(a.ident, []), lambda n: n.expose([])):
        with pytest.raises(UsageError, match="no address is given"):
            node.run(act)


def test_an_address_has_one_owner_on_a_host(node: Node) -> None:
    a, b = node.host.container("a"), node.host.container("b")
    node.attach(a.ident, "10.32.0.1/12")
    node.run(lambda n: n.expose(["10.32.0.9/12"]))
    for act in (
        lambda n: n.attach(b.ident, ["10.32.0.5/12", "10.32.0.1/16"]),
        lambda n: n.expose(["10.32.0.1/12"]),
    ):
        with pytest.raises(AddressConflict, match=f"in use on this host by {a.ident}"):
            node.run(act)
    with pytest.raises(AddressConflict, match="in use on this host by weave:expose"):
        node.attach(b.ident, "10.32.0.9/12")
    assert addresses(b) == []
    assert bridge_addresses() == ["10.32.0.9/12"]
    netns.delete(a.netns.name)
    node.attach(b.ident, "10.32.0.1/12")


def test_an_overlap_with_a_route_of_the_host_is_told_once_and_done_all_the_same(node: Node) -> None:
    a = node.host.container("a")
    with Netlink() as link:
        link.create_bridge("eth9")
        link.set_link("eth9", up=True)
        link.add_address("eth9", "10.32.0.254/24")
    for _ in range(2):
        node.attach(a.ident, "10.32.0.1/12", "10.99.0.1/16")
    assert len(node.warnings) == 1
    assert "10.32.0.1 overlaps with existing route 10.32.0.0/24 on host (device eth9)" in node.warnings[0]
    assert addresses(a) == ["10.32.0.1/12", "10.99.0.1/16"]


def test_a_container_that_dies_meanwhile_leaves_no_record(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    a, child = node.host.process()
    node.attach(a.ident, "10.32.0.1/12")
    apply = firewall.apply

    def die_first(table: firewall.Table) -> None:
        end(child)
        apply(table)

    monkeypatch.setattr(firewall, "apply", die_first)
    with pytest.raises(ContainerDied, match=f"^Container {a.ident} died$"):
        node.attach(a.ident, "10.32.0.2/12")
    assert node.recorded() == {}
    assert host_ends() == []


def test_a_refused_attach_or_expose_leaves_the_record_as_it_was(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = node.host.container("a"), node.host.container("b")
    node.attach(a.ident, "10.32.0.1/12")
    node.run(lambda n: n.expose(["10.32.0.8/12"]))

    def refuse(_: firewall.Table) -> None:
        raise KernelRefused("the kernel refused nftables rules: no memory")

    with monkeypatch.context() as patch:
        patch.setattr(firewall, "apply", refuse)
        for act in (
            lambda n: n.attach(a.ident, ["10.32.0.2/12"]),
            lambda n: n.attach(b.ident, ["10.32.0.3/12"]),
            lambda n: n.expose(["10.32.0.9/12"]),
        ):
            with pytest.raises(KernelRefused, match="no memory"):
                node.run(act)
    assert node.recorded() == {a.ident: ("10.32.0.1/12",)}
    assert addresses(a) == ["10.32.0.1/12"]
    assert addresses(b) == []
    assert node.exposed() == bridge_addresses() == ["10.32.0.8/12"]


def test_a_record_that_cannot_be_written_stops_everything(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    a = node.host.container("a")

    def full(*_: object) -> None:
        raise StateError("cannot write the node's state: no space left on the device")

    monkeypatch.setattr(Store, "_run", full)
    with pytest.raises(StateError):
        node.attach(a.ident, "10.32.0.1/12")
    with pytest.raises(StateError):
        node.run(lambda n: n.expose(["10.32.0.1/12"]))
    assert host_ends() == []
    assert bridge_addresses() == []


def test_expose_and_hide(node: Node) -> None:
    assert node.run(lambda n: n.expose(["10.32.0.1/12", "10.99.0.1/16"], False)) == ["10.32.0.1", "10.99.0.1"]
    assert node.run(lambda n: n.expose(["10.32.0.1/12"], False)) == ["10.32.0.1"]
    assert node.run(lambda n: n.hide(["10.32.0.1/12", "10.32.0.2/12"])) == ["10.32.0.1"]
    assert node.exposed() == bridge_addresses() == ["10.99.0.1/16"]
    node.run(lambda n: n.expose(["10.32.0.1/12"], False))
    assert node.run(lambda n: n.hide([])) == ["10.99.0.1", "10.32.0.1"]
    assert node.exposed() == bridge_addresses() == []
    assert node.run(lambda n: n.hide([])) == []
    assert node.run(lambda n: n.hide(["10.32.0.1/12"])) == []


def test_a_restart_completes_the_living_and_forgets_the_dead(node: Node) -> None:
    a, b = node.host.container("a"), node.host.container("b")
    dead, child = node.host.process()
    for number, container in enumerate((a, b, dead), 1):
        node.attach(container.ident, f"10.32.0.{number}/12")
    node.run(lambda n: n.expose(["10.32.0.9/12"], False))
    end(child)
    with Netlink() as link:
        link.delete_link("weave")  # as `ip link del` or another tool would
        link.create_bridge("weave", mtu=1376)
        link.set_link("weave", up=True)
        link.delete_link(interface.host_end_name(a))
    assert not reaches(a.netns, b.netns, "10.32.0.2")
    node.run(lambda n: n.reconcile())
    assert node.warnings == []
    assert node.recorded() == {a.ident: ("10.32.0.1/12",), b.ident: ("10.32.0.2/12",)}
    assert reaches(a.netns, b.netns, "10.32.0.2")
    assert reaches(node.host.netns, b.netns, "10.32.0.2")
    node.run(lambda n: n.reconcile())
    assert node.warnings == []


def test_later_rounds_mend_what_is_broken_meanwhile(node: Node) -> None:
    a, b, c = (node.host.container(name) for name in "abc")

    async def live(attacher: Attacher) -> None:
        for number, container in enumerate((a, b, c), 1):
            await attacher.attach(container.ident, [f"10.32.0.{number}/12"])
        await attacher.expose(["10.32.0.9/12"], False)
        await attacher.reconcile()
        await asyncio.to_thread(break_things)
        await attacher.reconcile()
        assert attacher.count == 2

    def break_things() -> None:
        with Netlink() as link, Netlink(b.netns) as guest:
            link.set_link(interface.host_end_name(a), master="")
            guest.set_link("ethwe", up=False)
            link.delete_address("weave", "10.32.0.9/12")
            link.add_address("weave", "10.50.0.1/16")  # by hand, and left alone
        firewall.delete("ip", "plait_expose")
        netns.delete(c.netns.name)

    node.run(live)
    assert reaches(a.netns, b.netns, "10.32.0.2")
    assert reaches(a.netns, node.host.netns, "10.32.0.9")
    assert firewall.exists("ip", "plait_expose")
    assert node.exposed() == ["10.32.0.9/12"]
    assert bridge_addresses() == ["10.50.0.1/16", "10.32.0.9/12"]
    assert node.warnings == []


def test_rules_lost_from_a_foreign_chain_come_back_in_time(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = "table ip filter {\n chain FORWARD {\n type filter hook forward priority 0; policy drop;\n}\n}\n"

    async def live(attacher: Attacher) -> None:
        await attacher.expose(["10.32.0.9/12"], False)
        await attacher.reconcile()
        nftables.run("flush table ip filter")
        await attacher.reconcile()
        assert len(nftables.query("list chain ip filter FORWARD")) == 1
        monkeypatch.setattr(service, "RULES_CHECK_INTERVAL", 0.0)
        await attacher.reconcile()
        assert len(nftables.query("list chain ip filter FORWARD")) == 3

    nftables.run(chain)
    node.run(live)


def test_a_namespace_made_again_under_the_same_name_is_another_container(node: Node) -> None:
    a = node.host.container("a")
    node.attach(a.ident, "10.32.0.1/12")
    netns.delete(a.netns.name)
    again = node.host.container("a")
    node.attach(again.ident, "10.32.0.2/12")
    assert node.recorded() == {again.ident: ("10.32.0.2/12",)}
    netns.delete(again.netns.name)
    node.host.container("a")
    node.run(lambda n: n.reconcile())
    assert node.recorded() == {}
    assert host_ends() == []


def test_what_cannot_be_mended_is_told_and_does_not_stop_the_rest(node: Node) -> None:
    a, b = node.host.container("a"), node.host.container("b")
    node.attach(a.ident, "10.32.0.1/12")
    node.attach(b.ident, "10.32.0.2/12")
    for container in (a, b):
        with Netlink() as link:
            link.delete_link(interface.host_end_name(container))
    with Netlink(a.netns) as guest:
        guest.create_bridge("ethwe")
    node.run(lambda n: n.reconcile())
    assert len(node.warnings) == 1
    assert a.ident in node.warnings[0]
    assert addresses(b) == ["10.32.0.2/12"]
    assert set(node.recorded()) == {a.ident, b.ident}


def test_addresses_found_on_the_bridge_are_adopted(node: Node) -> None:
    with Netlink() as link:
        link.add_address("weave", "10.32.0.5/12")
    node.run(lambda n: n.expose(["10.99.0.1/16"], False))
    node.run(lambda n: n.reconcile())
    assert node.exposed() == ["10.99.0.1/16", "10.32.0.5/12"]
    assert firewall.exists("ip", "plait_expose")
    assert node.run(lambda n: n.hide(["10.32.0.5/12"])) == ["10.32.0.5"]


def test_without_a_bridge_nothing_works_and_the_reason_is_given(node: Node) -> None:
    a = node.host.container("a")
    with Netlink() as link:
        link.delete_link("weave")
    for act in (
        lambda n: n.attach(a.ident, ["10.32.0.1/12"]),
        lambda n: n.expose(["10.32.0.1/12"]),
        lambda n: n.hide(["10.32.0.1/12"]),
        lambda n: n.reconcile(),
        lambda n: n.interfaces(["weave:expose"]),
        lambda n: n.interfaces(["weave:allids"]),
    ):
        with pytest.raises(BridgeMissing, match='bridge "weave" not present'):
            node.run(act)
    assert node.recorded() == {}


def test_a_detach_from_what_is_gone_forgets_it(node: Node) -> None:
    a = node.host.container("a")
    _, child = node.host.process()
    node.engine.add("f00d" * 16, "web", child.pid)
    node.attach(a.ident, "10.32.0.1/12", "10.32.0.2/12")
    node.attach("web", "10.32.0.3/12")
    netns.delete(a.netns.name)
    end(child)
    node.engine.add("f00d" * 16, "web", 0)
    assert node.run(lambda n: n.detach(a.ident, ["10.32.0.2/12", "10.32.0.7/12"])) == ["10.32.0.2"]
    assert node.run(lambda n: n.detach(a.ident, [])) == ["10.32.0.1"]
    with pytest.raises(NoSuchContainer):
        node.run(lambda n: n.detach(a.ident, []))
    assert node.run(lambda n: n.detach("web", [])) == ["10.32.0.3"]
    with pytest.raises(ContainerNotRunning):
        node.run(lambda n: n.detach("web", []))
    assert node.recorded() == {}


def test_detaching_by_another_name_forgets_every_record_of_the_namespace(node: Node) -> None:
    a, child = node.host.process()
    node.engine.add("f00d", "web", child.pid)
    node.attach("web", "10.32.0.1/12")
    node.attach(a.ident, "10.32.0.1/12", "10.32.0.2/12")
    assert node.run(lambda n: n.detach(a.ident, ["10.32.0.1/12"])) == ["10.32.0.1"]
    assert node.recorded() == {a.ident: ("10.32.0.2/12",)}


def test_ps_lists_containers_and_the_host(node: Node) -> None:
    a = node.host.container("a")
    docker, child = node.host.process()
    plain, other = node.host.process()
    node.engine.add("f00d", "web", child.pid)
    node.engine.add("beef", "plain", other.pid)
    node.engine.add("cafe", "hosty", os.getpid(), network_mode="host")
    node.engine.add("dead", "old", 0)
    node.attach(a.ident, "10.32.0.1/12", "fd00::1/64")
    interface.attach(docker, [ip_interface("10.32.0.2/12")], node.host.bridge)  # not recorded: Weave did it
    node.run(lambda n: n.expose(["10.32.0.9/12"], False))
    found = node.run(lambda n: n.interfaces(["weave:expose", "weave:allids", "nobody", "netns:x/", "beef", "web"]))
    assert [(one.ident, one.cidrs) for one in found] == [
        ("weave:expose", ["10.32.0.9/12"]),
        (a.ident, ["10.32.0.1/12", "fd00::1/64"]),
        ("f00d", ["10.32.0.2/12"]),
        ("f00d", ["10.32.0.2/12"]),
    ]
    assert found[0].mac == "7a:00:00:00:00:01"
    node.engine.is_down = True
    assert [one.ident for one in node.run(lambda n: n.interfaces(["weave:allids"]))] == [a.ident]
    assert "the engine is down" in node.warnings[-1]
    assert plain.is_alive()


def test_requests_at_once_are_done_one_after_the_other(node: Node) -> None:
    containers = [node.host.container(f"c{number}") for number in range(5)]

    async def all_at_once(attacher: Attacher) -> int:
        requests = [attacher.attach(c.ident, [f"10.32.1.{n}/12"]) for n, c in enumerate(containers)]
        requests += [attacher.attach(containers[0].ident, [f"10.32.2.{n}/12"]) for n in range(3)]
        requests.append(attacher.expose(["10.32.0.1/12"], False))
        await asyncio.gather(*requests)
        assert attacher.exposed == ["10.32.0.1/12"]
        return attacher.count

    assert node.run(all_at_once) == 5
    assert len(addresses(containers[0])) == 4


def test_a_cancelled_request_is_done_to_its_end(node: Node) -> None:
    a = node.host.container("a")

    async def cancel(attacher: Attacher) -> None:
        request = asyncio.create_task(attacher.attach(a.ident, ["10.32.0.1/12"]))
        for _ in range(3):  # until the thread works
            await asyncio.sleep(0)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert await attacher.detach(a.ident, []) == ["10.32.0.1"]

    node.run(cancel)
    assert host_ends() == []
