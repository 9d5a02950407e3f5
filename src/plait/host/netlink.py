"""Links, addresses and routes of one network namespace: a typed, synchronous adapter around pyroute2.

Everything may be done twice: what exists, or is gone already, is fine. Use an object only in the thread that opened it,
and not in a thread whose asyncio loop runs (pyroute2 has a loop of its own): from a coroutine, by `asyncio.to_thread`.
"""

import asyncio
import errno
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Any, Literal, Self

from plait.errors import PlaitError
from plait.host import netns as namespaces
from plait.host._pyroute2 import IPRoute, NetlinkError
from plait.host.kernel_errors import NoSuchLink, kernel_error, lacks_link_kind

Scope = Literal["global", "link", "host"]

_IFF_UP = 1  # linux/if.h
_SCOPES: dict[Scope, int] = {"global": 0, "link": 253, "host": 254}  # linux/rtnetlink.h RT_SCOPE_*
_RT_SCOPE_NOWHERE = 255  # in a deletion: any scope
_RT_TABLE_MAIN = 254
_RTN_UNICAST = 1
# From here on listing all interfaces is cheaper than asking for each: a hundred of them cost as much as ten questions.
_MANY_LINKS = 10
_FAMILIES = {4: 2, 6: 10}  # AF_INET, AF_INET6


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface. `kind` is the kernel's word (`veth`, `bridge`, `vxlan`, `tun`), None for a real device.

    `peer_index` is a veth's other end, in the namespace that `peer_netns_id` numbers; None: in this one.
    """

    index: int
    name: str
    kind: str | None
    mac: str
    mtu: int
    is_up: bool
    has_carrier: bool
    master_index: int | None
    peer_index: int | None
    peer_netns_id: int | None
    gso_max_size: int | None
    vxlan_port: int | None = None
    vxlan_id: int | None = None
    is_external: bool = False
    """Of a VXLAN device: who sends through it says for each packet where to (collect metadata)."""
    takes_zero_checksums: bool = False
    """Of a VXLAN device: it takes packets of IPv6 without a UDP checksum."""


@dataclass(frozen=True, slots=True)
class Address:
    """An address with its prefix length on a link."""

    cidr: IPv4Interface | IPv6Interface
    link_index: int


@dataclass(frozen=True, slots=True)
class Route:
    """A unicast route of the main table. `mtu` is the route's own, if it has one; `source` the preferred address."""

    destination: IPv4Network | IPv6Network
    device: str
    gateway: IPv4Address | IPv6Address | None
    source: IPv4Address | IPv6Address | None
    mtu: int | None
    is_link_scope: bool


class Netlink:
    """A connection to one namespace: the calling thread's, or the one at the path `netns`. Raise NoSuchNamespace."""

    def __init__(self, netns: str | os.PathLike[str] | None = None) -> None:
        _refuse_running_loop()
        # A socket belongs to the namespace in which it was made; pyroute2 would fork a process to make it elsewhere.
        if netns is None:
            self._ip = IPRoute(ext_ack=True, strict_check=True)
        else:
            with namespaces.entered(netns):
                self._ip = IPRoute(ext_ack=True, strict_check=True)
        self._thread = threading.get_ident()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket; twice is fine."""
        self._ip.close()

    def link(self, name: str) -> Link | None:
        """The interface of this name."""
        return self._link(f"look at the interface {name}", ifname=name)

    def link_by_index(self, index: int) -> Link | None:
        """The interface of this number."""
        return self._link(f"look at the interface number {index}", index=index)

    def links(self) -> list[Link]:
        """All interfaces."""
        with self._doing("list interfaces"):
            return [_to_link(message) for message in self._ip.get_links()]

    def ports(self, bridge: str) -> list[Link]:
        """The interfaces in a bridge. Raise NoSuchLink."""
        index = self._index(bridge, f"list the ports of the bridge {bridge}")
        with self._doing(f"list the ports of the bridge {bridge}"):
            return [_to_link(message) for message in self._ip.get_links(master=index)]

    def other_end(self, veth: Link) -> Link | None:
        """The other end of a veth that is in another namespace; None if there is none, or it is in this one."""
        if veth.peer_index is None or veth.peer_netns_id is None:
            return None
        doing = f"look up the other end of {veth.name}"
        with self._doing(doing, tolerate=(errno.ENODEV, errno.EINVAL)):  # the namespace may be gone
            for message in self._ip.link("get", index=veth.peer_index, if_netnsid=veth.peer_netns_id):
                return _to_link(message)
        return None

    def namespace_number(self, netns: str | os.PathLike[str]) -> int | None:
        """The number by which this namespace knows the one at a path, as in `Link.peer_netns_id`; None if it does not.

        Raise NoSuchNamespace.
        """
        with _opened(netns) as descriptor, self._doing(f"look up the network namespace {os.fspath(netns)}"):
            answer = self._ip.get_netnsid(fd=descriptor)
        return answer["nsid"] if answer and answer["nsid"] >= 0 else None

    def create_bridge(self, name: str, mac: str | None = None, mtu: int = 1500) -> None:
        """Make a bridge, down. An existing one keeps MAC and MTU. Raise KernelRefused if another kind has the name."""
        self._create(name, "bridge", {"mtu": mtu, **_mac(mac)})

    def create_veth(
        self,
        name: str,
        peer_name: str,
        mtu: int,
        peer_netns: str | os.PathLike[str] | None = None,
        *,
        mac: str | None = None,
        peer_mac: str | None = None,
    ) -> None:
        """Make a pair of interfaces, both down, the peer in its namespace at once. An existing pair is left as it is.

        Raise KernelRefused if one of the names is taken by something else, NoSuchNamespace.
        """
        doing = f"create the veth pair {name} - {peer_name}"
        peer: dict[str, object] = {"ifname": peer_name, "mtu": mtu, **_mac(peer_mac)}
        if peer_netns is None:
            self._create(name, "veth", {"mtu": mtu, "peer": peer, **_mac(mac)}, doing)
        else:
            with _opened(peer_netns) as descriptor:
                peer["net_ns_fd"] = descriptor
                self._create(name, "veth", {"mtu": mtu, "peer": peer, **_mac(mac)}, doing)

    def create_vxlan(self, name: str, port: int, mtu: int) -> None:
        """Make a VXLAN device in collect-metadata mode, without learning, down; it serves IPv6 where there is such.

        Over IPv6 it takes packets without a UDP checksum, which the kernel refuses unless told (RFC 6935).
        That the UDP port is taken shows only when it is set up: AddressInUse then.
        """
        metadata = {"vxlan_collect_metadata": True, "vxlan_learning": False, "vxlan_port": port}
        metadata["vxlan_udp_zero_csum6_rx"] = True
        self._create(name, "vxlan", {"mtu": mtu, **metadata})

    def delete_link(self, name: str) -> None:
        """Delete an interface, and with a veth its peer. Absent is fine."""
        link = self.link(name)
        if link is None:
            return
        with self._doing(f"delete the interface {name}", tolerate=(errno.ENODEV,)):
            self._ip.link("del", index=link.index)

    def set_link(
        self,
        name: str,
        *,
        up: bool | None = None,
        mtu: int | None = None,
        master: str | None = None,
        mac: str | None = None,
        new_name: str | None = None,
        netns: str | os.PathLike[str] | None = None,
        gso_max_size: int | None = None,
        txqueuelen: int | None = None,
    ) -> None:
        """Change what is not None. `master=""` takes the interface out of its bridge; `netns` moves it there.

        Moving sets the interface down. Raise NoSuchLink for it or the master, NoSuchNamespace.
        """
        doing = f"change the interface {name}"
        index = self._index(name, doing)
        changes: dict[str, object] = {
            "state": None if up is None else ("up" if up else "down"),
            "mtu": mtu,
            "master": None if master is None else (self._index(master, doing) if master else 0),
            "address": mac,
            "ifname": new_name,
            "gso_max_size": gso_max_size,
            "txqlen": txqueuelen,
        }
        changes = {key: value for key, value in changes.items() if value is not None}
        if netns is None:
            self._set(doing, index, changes)
        else:
            with _opened(netns) as descriptor:
                self._set(doing, index, changes | {"net_ns_fd": descriptor})

    def set_hairpin(self, name: str, on: bool) -> None:
        """Whether a bridge may send a frame out of the port by which it came. Raise NoSuchLink."""
        doing = f"set hairpin mode of the bridge port {name}"
        link = self.link(name)
        if link is None or link.master_index is None:
            raise NoSuchLink(f"cannot {doing}: there is no such interface in a bridge")
        with self._doing(doing):
            self._ip.brport("set", index=link.index, mode=int(on))

    def set_isolated(self, name: str, on: bool) -> None:
        """Whether a bridge keeps frames of this port from its other isolated ports. Raise NoSuchLink."""
        doing = f"isolate the bridge port {name}"
        link = self.link(name)
        if link is None or link.master_index is None:
            raise NoSuchLink(f"cannot {doing}: there is no such interface in a bridge")
        with self._doing(doing):
            self._ip.brport("set", index=link.index, isolated=int(on))

    def addresses(self, name: str | None = None) -> list[Address]:
        """The addresses of an interface, of all interfaces without a name. Raise NoSuchLink."""
        doing = "list addresses" if name is None else f"list the addresses of {name}"
        chosen = {} if name is None else {"index": self._index(name, doing)}
        with self._doing(doing):
            return [_to_address(message) for message in self._ip.get_addr(**chosen)]

    def add_address(self, name: str, cidr: str | IPv4Interface | IPv6Interface) -> bool:
        """Give an interface an address; False if it had it. Raise NoSuchLink."""
        return self._address("add", name, cidr, tolerate=errno.EEXIST)

    def delete_address(self, name: str, cidr: str | IPv4Interface | IPv6Interface) -> bool:
        """Take an address from an interface; False if it had it not. Raise NoSuchLink."""
        return self._address("del", name, cidr, tolerate=errno.EADDRNOTAVAIL)

    def routes(self, version: Literal[4, 6] | None = None) -> list[Route]:
        """The unicast routes of the main table; one entry for each device of a multipath route.

        Ask for one version where that is enough: with IPv6, every interface has routes.
        """
        family = {} if version is None else {"family": _FAMILIES[version]}
        messages: list[Any] = []
        with self._doing("list routes", tolerate=(errno.ENOENT,)):  # a namespace without routes has no table
            messages = list(self._ip.get_routes(table=_RT_TABLE_MAIN, **family))
        messages = [message for message in messages if _is_main_unicast(message)]
        names = self._names({index for message in messages for _, index in _hops(message)})
        return [route for message in messages for route in _to_routes(message, names)]

    def route_to(self, destination: str | IPv4Address | IPv6Address) -> Route | None:
        """The route by which the kernel would send to an address now; None if it has none. Local ones too."""
        doing = f"look up the route to {destination}"
        with self._doing(doing, tolerate=(errno.ENETUNREACH, errno.EHOSTUNREACH)):
            for message in self._ip.route("get", dst=str(destination)):
                names = self._names({index for _, index in _hops(message)})
                return next(iter(_to_routes(message, names)))
        return None

    def add_route(
        self,
        destination: str | IPv4Network | IPv6Network,
        device: str | None = None,
        *,
        scope: Scope | None = None,
        gateway: str | IPv4Address | IPv6Address | None = None,
        mtu: int | None = None,
    ) -> bool:
        """Add a route by a device, a gateway or both; False if the same destination has one already.

        Raise NoSuchLink for the device, KernelRefused if the gateway cannot be reached.
        """
        doing = f"add the route to {destination}"
        more: dict[str, object] = {} if scope is None else {"scope": _SCOPES[scope]}
        if mtu is not None:
            more["metrics"] = {"mtu": mtu}
        return self._route("add", doing, destination, device, gateway, more, errno.EEXIST)

    def delete_route(
        self,
        destination: str | IPv4Network | IPv6Network,
        device: str | None = None,
        *,
        gateway: str | IPv4Address | IPv6Address | None = None,
    ) -> bool:
        """Delete a route; False if there was none. Raise NoSuchLink for the device."""
        doing = f"delete the route to {destination}"
        return self._route("del", doing, destination, device, gateway, {"scope": _RT_SCOPE_NOWHERE}, errno.ESRCH)

    def _link(self, doing: str, **key: object) -> Link | None:
        with self._doing(doing, tolerate=(errno.ENODEV,)):
            for message in self._ip.link("get", **key):
                return _to_link(message)
        return None

    def _names(self, indexes: set[int]) -> dict[int, str]:
        if len(indexes) > _MANY_LINKS:
            return {link.index: link.name for link in self.links()}
        found = [self.link_by_index(index) for index in indexes]
        return {link.index: link.name for link in found if link is not None}

    def _index(self, name: str, doing: str) -> int:
        link = self.link(name)
        if link is None:
            raise NoSuchLink(f"cannot {doing}: there is no interface {name}")
        return link.index

    def _create(self, name: str, kind: str, attributes: dict[str, object], doing: str | None = None) -> None:
        doing = doing or f"create the {kind} {name}"
        try:
            self._check_thread()
            self._ip.link("add", ifname=name, kind=kind, **attributes)
        except NetlinkError as error:
            if error.code == errno.EOPNOTSUPP:
                raise lacks_link_kind(kind, doing) from error
            existing = self.link(name) if error.code == errno.EEXIST else None
            if existing is None or existing.kind != kind:
                raise _explain(error, doing) from error

    def _set(self, doing: str, index: int, changes: dict[str, object]) -> None:
        if changes:
            with self._doing(doing):
                self._ip.link("set", index=index, **changes)

    def _address(self, verb: str, name: str, cidr: str | IPv4Interface | IPv6Interface, tolerate: int) -> bool:
        interface = ip_interface(cidr)
        doing = f"{'add' if verb == 'add' else 'delete'} the address {interface} on {name}"
        index = self._index(name, doing)
        with self._doing(doing, tolerate=(tolerate,)):
            self._ip.addr(verb, index=index, address=str(interface.ip), prefixlen=interface.network.prefixlen)
            return True
        return False

    def _route(
        self,
        verb: str,
        doing: str,
        destination: str | IPv4Network | IPv6Network,
        device: str | None,
        gateway: str | IPv4Address | IPv6Address | None,
        more: dict[str, object],
        tolerate: int,
    ) -> bool:
        network = ip_network(destination)
        request: dict[str, object] = {"dst": str(network), "family": _FAMILIES[network.version]} | more
        if device is not None:
            request["oif"] = self._index(device, doing)
        if gateway is not None:
            request["gateway"] = str(gateway)
        with self._doing(doing, tolerate=(tolerate,)):
            self._ip.route(verb, **request)
            return True
        return False

    @contextmanager
    def _doing(self, what: str, tolerate: tuple[int, ...] = ()) -> Iterator[None]:
        self._check_thread()
        try:
            yield
        except NetlinkError as error:
            if error.code not in tolerate:
                raise _explain(error, what) from error

    def _check_thread(self) -> None:
        # In another thread pyroute2 would silently open a second socket, in that thread's namespace.
        if threading.get_ident() != self._thread:
            raise RuntimeError("a Netlink object must be used in the thread that opened it")


def _explain(error: NetlinkError, doing: str) -> PlaitError:
    return kernel_error(error.code, doing, error.args[1] if len(error.args) > 1 else "")


@contextmanager
def _opened(netns: str | os.PathLike[str]) -> Iterator[int]:
    namespaces.identity(netns)  # explains an absent one
    descriptor = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _refuse_running_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("open Netlink in a thread of its own (asyncio.to_thread), not in the event loop's")


def _mac(mac: str | None) -> dict[str, object]:
    return {} if mac is None else {"address": mac}


def _attributes(message: Any) -> dict[str, Any]:
    return dict(message["attrs"])


def _to_link(message: Any) -> Link:
    found = _attributes(message)
    info = found.get("IFLA_LINKINFO")
    of_kind = _attributes(info) if info else {}
    vxlan = _attributes(of_kind["IFLA_INFO_DATA"]) if of_kind.get("IFLA_INFO_KIND") == "vxlan" else {}
    return Link(
        index=message["index"],
        name=found["IFLA_IFNAME"],
        kind=of_kind.get("IFLA_INFO_KIND"),
        mac=found.get("IFLA_ADDRESS", ""),
        mtu=found.get("IFLA_MTU", 0),
        is_up=bool(message["flags"] & _IFF_UP),
        has_carrier=bool(found.get("IFLA_CARRIER")),
        master_index=found.get("IFLA_MASTER"),
        peer_index=found.get("IFLA_LINK"),
        peer_netns_id=found.get("IFLA_LINK_NETNSID"),
        gso_max_size=found.get("IFLA_GSO_MAX_SIZE"),
        vxlan_port=vxlan.get("IFLA_VXLAN_PORT"),
        vxlan_id=vxlan.get("IFLA_VXLAN_ID"),
        is_external=bool(vxlan.get("IFLA_VXLAN_COLLECT_METADATA")),
        takes_zero_checksums=bool(vxlan.get("IFLA_VXLAN_UDP_ZERO_CSUM6_RX")),
    )


def _to_address(message: Any) -> Address:
    found = _attributes(message)
    # On a point-to-point link IFA_ADDRESS is the other end; IFA_LOCAL is absent with IPv6.
    own = found.get("IFA_LOCAL", found.get("IFA_ADDRESS"))
    return Address(ip_interface(f"{own}/{message['prefixlen']}"), message["index"])


def _is_main_unicast(message: Any) -> bool:
    table = _attributes(message).get("RTA_TABLE", message["table"])
    return bool(table == _RT_TABLE_MAIN and message["type"] == _RTN_UNICAST)


def _hops(message: Any) -> list[tuple[dict[str, Any], int]]:
    """The attributes and the device's number of each hop of a route; 0 if it has no device."""
    found = _attributes(message)
    several = [(_attributes(hop), hop["oif"]) for hop in found.get("RTA_MULTIPATH", ())]
    return several or [(found, found.get("RTA_OIF", 0))]


def _to_routes(message: Any, names: dict[int, str]) -> Iterable[Route]:
    found = _attributes(message)
    everywhere = "::" if message["family"] == _FAMILIES[6] else "0.0.0.0"
    destination = ip_network(f"{found.get('RTA_DST', everywhere)}/{message['dst_len']}")
    metrics = found.get("RTA_METRICS")
    for hop, index in _hops(message):
        gateway = hop.get("RTA_GATEWAY")
        source = found.get("RTA_PREFSRC")
        yield Route(
            destination=destination,
            device=names.get(index, ""),
            gateway=ip_address(gateway) if gateway else None,
            source=ip_address(source) if source else None,
            mtu=_attributes(metrics).get("RTAX_MTU") if metrics else None,
            is_link_scope=message["scope"] == _SCOPES["link"],
        )
