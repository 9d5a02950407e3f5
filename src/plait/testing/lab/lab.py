"""A lab: hosts, switches, routers and NATs as namespaces on this machine, all gone when it ends.

Switches are bridges in one namespace, the wire, where packets can be cut and lost. Needs root; ask `missing_features`.
"""

import itertools
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Self, TypeVar

from plait.errors import KernelLacks
from plait.host import ethtool, firewall, netns, sysctl
from plait.host.netlink import Netlink
from plait.overlay.fastdp.datapath import pins_of
from plait.testing.lab import faults, impairment
from plait.testing.lab.errors import LabError
from plait.testing.lab.faults import Fault
from plait.testing.lab.hosts import Host, Nat, Router
from plait.testing.lab.impairment import Impairment
from plait.testing.lab.node import Node
from plait.testing.lab.noise import Rates
from plait.testing.lab.processes import keep_bpf, stop_all_in
from plait.testing.lab.topology import Gateway, Interface, Network, Port, Segment, next_hops
from plait.testing.lab.waiting import wait_until

NodeT = TypeVar("NodeT", bound=Node)

_UNDERLAY = IPv4Network("10.99.0.0/16")  # outside the default range of containers, 10.32.0.0/12
_UNDERLAY6 = IPv6Network("fd00:99::/48")
_SEGMENTATION = (
    "tx-generic-segmentation",
    "tx-tcp-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp-mangleid-segmentation",
    "tx-tcp6-segmentation",
    "tx-udp-segmentation",
    "tx-udp_tnl-segmentation",
    "tx-udp_tnl-csum-segmentation",
)
_numbers = itertools.count()


class Lab:
    """Use it as a context manager, and make everything by its methods; hosts are joined by one switch unless told else.

    `name` begins the names of its namespaces; without one it is unique, so labs can run side by side. `wire` is the
    namespace of the switches, where every port can be captured.
    """

    def __init__(self, name: str | None = None, mtu: int = 1500) -> None:
        self.mtu = mtu
        self.nodes: list[Node] = []
        self.segments: list[Segment] = []
        self._wanted_name = name
        self._gateways: list[Gateway] = []
        self._faults: list[Fault] = []
        self._impairments: list[Impairment] = []
        self._port_numbers = itertools.count()
        self._subnets = _UNDERLAY.subnets(new_prefix=24)
        self._subnets6 = _UNDERLAY6.subnets(new_prefix=64)
        self._is_super = True

    def __enter__(self) -> Self:
        """Make the directory and the wire. Raise LabError if a lab of this name is there."""
        keep_bpf()
        self.name, self.directory = _new_directory(self._wanted_name)
        try:
            self.wire = Node("wire", f"{self.name}-wire", self.directory / "wire")
            self.wire.directory.mkdir()
            netns.create(self.wire.netns)
            with self.wire.entered():
                sysctl.write("net.ipv6.conf.default.disable_ipv6", "1")
                _switch_without_netfilter()
        except BaseException:
            remove(self.name)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop every process in the lab and remove everything."""
        try:
            remove(self.name)
        finally:
            for node in self._all_nodes():
                node.reap()

    def switch(self, mtu: int | None = None, subnet: Network | None = None, ipv6: bool = False) -> Segment:
        """Make a switch with a subnet of its own, with `ipv6` one of IPv6 alone; `mtu` is that of the ports on it."""
        number = len(self.segments)
        chosen: Network = subnet or (next(self._subnets6) if ipv6 else next(self._subnets))
        segment = Segment(f"sw{number}", chosen, mtu or self.mtu, bridge=f"sw{number}")
        with Netlink(self.wire.path) as netlink:
            netlink.create_bridge(segment.name, mtu=segment.mtu)
            netlink.set_link(segment.name, up=True)
        self.segments.append(segment)
        return segment

    def host(self, name: str, on: Sequence[Segment] | None = None) -> Host:
        """Make a host on these switches: on the lab's first, which is made if need be, if none are given."""
        if on is None:
            on = [next((each for each in self.segments if each.bridge), None) or self.switch()]
        peer_name = f"02:00:00:00:00:{len(self.nodes) + 1:02x}"
        host = self._add(Host(name, f"{self.name}-{name}", self.directory / name, peer_name=peer_name))
        for segment in on:
            self._plug(host, segment, segment.next_host())
        self._set_routes([host])
        return host

    def router(self, name: str, *segments: Segment, icmp: bool = True) -> Router:
        """Make a router between switches, by which all nodes find all subnets; see `Router.set_icmp` for `icmp`."""
        router = self._add(Router(name, f"{self.name}-{name}", self.directory / name))
        self._plug_gateway(router, segments)
        router.set_icmp(icmp)
        self._open_gateway(router.gateway())
        return router

    def nat(self, name: str, inside: Segment, outside: Segment) -> Nat:
        """Make a source NAT: nodes on the inside reach the outside under its address; no one reaches in unasked."""
        nat = self._add(Nat(name, f"{self.name}-{name}", self.directory / name))
        self._plug_gateway(nat, [inside, outside])
        nat.translate()
        self._open_gateway(nat.gateway())
        return nat

    def cable(self, one: Host, other: Host, mtu: int | None = None) -> Segment:
        """Join two hosts by one veth pair, without a switch, and so without cuts and losses: for benchmarks."""
        segment = Segment(f"cable{len(self.segments)}", next(self._subnets), mtu or self.mtu, bridge=None)
        self.segments.append(segment)
        ports = [Port(segment, f"eth{len(node.ports)}", None, segment.next_host()) for node in (one, other)]
        with Netlink(one.path) as netlink:
            netlink.create_veth(ports[0].device, ports[1].device, segment.mtu, other.path)
        for node, port in zip((one, other), ports, strict=True):
            self._bring_up(node, port)
        return segment

    def cut(
        self, one: Node, other: Node, one_way: bool = False, udp: Sequence[int] = (), tcp: Sequence[int] = ()
    ) -> None:
        """Lose everything from one node to another, and back unless `one_way`; only these ports if any are given."""
        self._break(one, other, one_way, 1, udp, tcp)

    def loss(
        self,
        one: Node,
        other: Node,
        one_in: int = 100,
        one_way: bool = False,
        udp: Sequence[int] = (),
        tcp: Sequence[int] = (),
    ) -> None:
        """Lose one packet in so many at random. On a super wire (`super_wire`) a packet is up to 64 KB of a stream."""
        if one_in < 2:
            raise LabError(f"a loss of one in {one_in} is a cut: use `cut`")
        self._break(one, other, one_way, one_in, udp, tcp)

    def impair(
        self,
        one: Node,
        other: Node,
        *,
        loss: float = 0.0,
        reorder: float = 0.0,
        duplicate: float = 0.0,
        seed: int = 0,
    ) -> Impairment:
        """Lose, reorder and duplicate these shares (0 to 1) of the UDP datagrams between two nodes, both ways.

        The nodes share a switch (one may be a router); TCP, ARP and ICMP pass as before. It sees single datagrams, so
        this ends the super wire. What the two directions do with their n-th datagram depends on the seed alone.
        """
        rates = Rates(loss, reorder, duplicate)
        self.super_wire(False)
        self._end_impairments([set(one.ports), set(other.ports)])
        made = impairment.start(self.wire, one, other, rates, seed)
        self._impairments.append(made)
        self._place_faults()
        return made

    def heal(self, one: Node | None = None, other: Node | None = None) -> None:
        """End cuts, losses and impairments: all of them, those of one node, or those between two."""
        chosen = [set(node.ports) for node in (one, other) if node is not None]
        self._faults = [
            fault for fault in self._faults if not all(ports & {*fault.source, *fault.target} for ports in chosen)
        ]
        self._end_impairments(chosen)
        self._place_faults()

    def super_wire(self, on: bool) -> None:
        """Whether the underlay passes 64 KB packets whole, as a NIC with tunnel offload does (the state at first).

        Off: senders segment in software, receivers merge (GRO), switches see single packets. Raise LabError if it is
        turned on while a path is impaired.
        """
        if on and self._impairments:
            raise LabError("an impaired path carries single datagrams only: call `heal` before `super_wire(True)`")
        self._is_super = on
        for node in self.nodes:
            for port in node.ports:
                self._set_offloads(node, port)

    def set_mtu(self, node: Node, mtu: int, segment: Segment | None = None) -> None:
        """Change the MTU of a node's link to a segment (its first without one), at both ends.

        A switch drops what is too long for the port it goes to, and tells nobody.
        """
        port = next((each for each in node.ports if segment in (None, each.segment)), None)
        if port is None:
            raise LabError(f"{node.name} is not on {segment.name if segment else 'any segment'}")
        with Netlink(node.path) as netlink:
            netlink.set_link(port.device, mtu=mtu)
        if port.outer is not None:
            with Netlink(self.wire.path) as netlink:
                netlink.set_link(port.outer, mtu=mtu)

    def _all_nodes(self) -> Iterator[Node]:
        yield self.wire
        for node in self.nodes:
            yield node
            yield from node.containers if isinstance(node, Host) else ()

    def _add(self, node: NodeT) -> NodeT:
        node.directory.mkdir()
        netns.create(node.netns)
        self.nodes.append(node)
        with Netlink(node.path) as netlink:
            netlink.set_link("lo", up=True)
        return node

    def _plug(self, node: Node, segment: Segment, address: Interface) -> None:
        if segment.bridge is None:
            raise LabError(f"{segment.name} is a cable: it has no free end for {node.name}")
        port = Port(segment, f"eth{len(node.ports)}", f"p{next(self._port_numbers)}", address)
        with Netlink(self.wire.path) as netlink:
            netlink.create_veth(f"{port.outer}", port.device, segment.mtu, node.path)
            netlink.set_link(f"{port.outer}", master=segment.bridge, up=True)
        self._bring_up(node, port)

    def _bring_up(self, node: Node, port: Port) -> None:
        if port.address.version == 6:
            with node.entered():  # else the address could not be used for two seconds
                sysctl.write(f"net.ipv6.conf.{port.device}.accept_dad", "0")
        with Netlink(node.path) as netlink:
            netlink.set_link(port.device, up=True)
            netlink.add_address(port.device, port.address)
        if port.address.version == 6:
            wait_until(lambda: _is_usable(node, str(port.address.ip)), f"{node.name} can use {port.address.ip}")
        node.ports.append(port)
        if not self._is_super:
            self._set_offloads(node, port)

    def _plug_gateway(self, node: Node, segments: Sequence[Segment]) -> None:
        for segment in segments:
            self._plug(node, segment, segment.next_router())
        with node.entered():
            sysctl.write("net.ipv4.ip_forward", "1")
            sysctl.write("net.ipv6.conf.all.forwarding", "1")

    def _open_gateway(self, gateway: Gateway) -> None:
        self._gateways.append(gateway)
        self._set_routes(self.nodes)

    def _set_routes(self, nodes: Sequence[Node]) -> None:
        for node in nodes if self._gateways else ():
            wanted = next_hops([port.segment for port in node.ports], self._gateways)
            with Netlink(node.path) as netlink:
                for subnet, gateway in wanted.items():
                    netlink.add_route(subnet, gateway=gateway)

    def _break(
        self, one: Node, other: Node, one_way: bool, one_in: int, udp: Sequence[int], tcp: Sequence[int]
    ) -> None:
        for source, target in ((one, other),) if one_way else ((one, other), (other, one)):
            for node in (source, target):
                if not any(port.outer for port in node.ports):
                    raise LabError(f"{node.name} is on no switch, so nothing can be cut there")
            fault = Fault(_switched(source), _switched(target), one_in, tuple(udp), tuple(tcp))
            self._refuse_detours(fault)
            self._faults.append(fault)
        self._place_faults()

    def _refuse_detours(self, fault: Fault) -> None:
        """What takes a detour does not meet the rules of the switch."""
        is_tcp_only = bool(fault.tcp) and not fault.udp
        for detour in (detour for each in self._impairments for detour in each.detours):
            if not is_tcp_only and detour.source in fault.source and detour.target in fault.target:
                raise LabError("UDP between these nodes is impaired already, and cannot be cut too: call `heal` first")

    def _end_impairments(self, chosen: Sequence[set[Port]]) -> None:
        """End those that touch each of these sets of ports; their rules stay until `_place_faults`."""
        for each in list(self._impairments):
            ends = {each.detours[0].source, each.detours[0].target}
            if all(ports & ends for ports in chosen):
                each.stop()
                self._impairments.remove(each)

    def _place_faults(self) -> None:
        detours = [detour for each in self._impairments for detour in each.detours]
        with self.wire.entered():
            firewall.apply(faults.table(self._faults, detours))

    def _set_offloads(self, node: Node, port: Port) -> None:
        with node.entered():
            _set_segmentation(port.device, self._is_super)
            ethtool.set_features(port.device, {"rx-gro": not self._is_super})
        if port.outer is not None:
            with self.wire.entered():
                _set_segmentation(port.outer, self._is_super)


def remove(name: str) -> None:
    """Stop all processes of the lab of this name and remove its namespaces and files. Absent is fine."""
    if not _directory(name).is_dir():  # it marks the namespaces as ours
        return
    paths = list(netns.NAMED.glob(f"{name}-*"))
    try:
        stop_all_in({netns.identity(path) for path in paths})
    finally:
        for path in paths:
            netns.delete(path.name)
        # What a node pinned in bpffs outlives its namespace, and its state too.
        directory = _directory(name)
        for state_dir in {*directory.glob("*/*"), *(each / "state" for each in directory.iterdir())}:
            shutil.rmtree(pins_of(state_dir), ignore_errors=True)
        shutil.rmtree(_directory(name))


def _directory(name: str) -> Path:
    return Path(tempfile.gettempdir(), f"plait-{name}")


def _new_directory(wanted: str | None) -> tuple[str, Path]:
    # A `-` ends the lab's name in the names of its namespaces.
    if wanted is not None and not wanted.isalnum():
        raise LabError(f"{wanted!r} is no name for a lab: letters and digits only")
    while True:
        name = wanted or f"lab{os.getpid()}x{next(_numbers)}"
        try:
            _directory(name).mkdir(mode=0o700)
        except FileExistsError as error:
            if wanted:
                raise LabError(f"there is a lab {name} already; plait.testing.lab.remove({name!r}) ends it") from error
            continue  # left by another process that had our id
        if any(netns.NAMED.glob(f"{name}-*")):
            _directory(name).rmdir()
            raise LabError(f"somebody else has network namespaces named {name}-*: choose another name for the lab")
        return name, _directory(name)


def _switched(node: Node) -> tuple[Port, ...]:
    return tuple(port for port in node.ports if port.outer is not None)


def _set_segmentation(device: str, on: bool) -> None:
    known = ethtool.features(device)
    ethtool.set_features(device, {name: on for name in _SEGMENTATION if name in known})


def _switch_without_netfilter() -> None:
    """Keep IP firewall hooks out of the switches: a wire has none."""
    for family in ("arptables", "iptables", "ip6tables"):
        try:
            sysctl.write(f"net.bridge.bridge-nf-call-{family}", "0")
        except KernelLacks:  # the kernel has no br_netfilter loaded: nothing to keep out
            return


def _is_usable(node: Node, address: str) -> bool:
    """Whether the kernel is done with a new IPv6 address, which it is a moment after it was added."""
    with node.entered():
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with sock:
        try:
            sock.bind((address, 0))
        except OSError:
            return False
    return True
