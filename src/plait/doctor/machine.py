"""A machine as checks see it: what its probe reads, parsed once and kept."""

import ipaddress
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, TypeVar

import msgspec

from plait.doctor import facts
from plait.doctor.probe import Probe
from plait.doctor.rules import nft_json, save_text
from plait.doctor.rules.model import Ruleset

_T = TypeVar("_T")
_WEAVE_PORT = 6783
# Links of the overlay, of Docker and of containers are never the way to other hosts.
_NO_UNDERLAY = ("lo", "veth", "docker", "br-", "virbr", "cni", "flannel", "vxlan")
_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")
_RHEL_BUILD = re.compile(r"^(\d+\.\d+\.\d+)-(\d+)[\d.]*\.(el\d+)")


class Kernel(msgspec.Struct, frozen=True):
    """The running kernel. `rhel_build` is N of `3.10.0-N.el7`: it has fixes that the version lacks."""

    release: str
    version: tuple[int, int, int]
    rhel_build: int | None

    def is_before(self, *version: int) -> bool:
        """Whether this is an older version than `3, 13`; what an enterprise kernel took over does not count."""
        return self.version[: len(version)] < version


class Machine:
    """What checks ask. Everything absent is None or empty."""

    def __init__(self, probe: Probe) -> None:
        self.text = probe.text
        self.names = probe.names
        self.target = probe.target
        self._answer = probe.answer

    @cached_property
    def kernel(self) -> Kernel:
        """The running kernel."""
        release = (self.text("/proc/sys/kernel/osrelease") or "").strip()
        found = _VERSION.match(release)
        rhel = _RHEL_BUILD.match(release)
        major, minor, patch = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
        return Kernel(release, (major, minor, patch), int(rhel[2]) if rhel else None)

    def number(self, path: str) -> int | None:
        """Give the number in a file."""
        try:
            return int((self.text(path) or "").strip())
        except ValueError:
            return None

    def counters(self, protocol: str) -> dict[str, int]:
        """Give a protocol's counters since boot, of /proc/net/snmp (`Tcp`, `Udp`); empty if there are none."""
        rows = [line.split() for line in (self.text("/proc/net/snmp") or "").splitlines()]
        mine = [words[1:] for words in rows if words[:1] == [f"{protocol}:"]]
        return {key: int(value) for key, value in zip(*mine, strict=False)} if len(mine) == 2 else {}

    def sysctl(self, key: str) -> str | None:
        """Give a setting, by its path under /proc/sys: `net/ipv4/ip_forward`."""
        text = self.text(f"/proc/sys/{key}")
        return None if text is None else text.strip()

    @cached_property
    def links(self) -> Sequence[facts.Link]:
        """All interfaces."""
        return self._read("links", list[facts.Link]) or []

    def link(self, name: str) -> facts.Link | None:
        """The interface of this name."""
        return next((link for link in self.links if link.name == name), None)

    @cached_property
    def routes(self) -> Sequence[facts.Route]:
        """Unicast routes of the main table."""
        return self._read("routes", list[facts.Route]) or []

    def ethtool(self, device: str) -> facts.Ethtool:
        """Driver and offloads of a device; empty if it has none."""
        return self._read(f"ethtool/{device}", facts.Ethtool) or facts.Ethtool()

    @cached_property
    def nft(self) -> Sequence[dict[str, Any]]:
        """All of nftables, as libnftables-json(5) has it."""
        return self._read("nft", list[dict[str, Any]]) or []

    @cached_property
    def legacy_rules(self) -> str:
        """What iptables-legacy-save prints; empty if the legacy interface has no table."""
        return self._read("iptables-legacy", str) or ""

    @cached_property
    def legacy_rules6(self) -> str:
        """The same of ip6tables-legacy-save."""
        return self._read("ip6tables-legacy", str) or ""

    @cached_property
    def rules(self) -> Ruleset:
        """What the firewall does with IPv4 packets, of both backends."""
        chains = nft_json.parse(self.nft)
        if nft_json.has_extensions(self.nft):  # else nobody needs to start a program
            shown = save_text.parse(self._read("iptables-nft", str) or "", "nft")
            tables = {chain.table for chain in shown}
            chains = [chain for chain in chains if chain.family != "ip" or chain.table not in tables] + shown
        return Ruleset([*chains, *save_text.parse(self.legacy_rules)])

    @cached_property
    def bpf(self) -> facts.Bpf | None:
        """What the kernel's eBPF lacks."""
        return self._read("bpf", facts.Bpf)

    @cached_property
    def clock(self) -> facts.Clock | None:
        """Who keeps the clock."""
        return self._read("clock", facts.Clock)

    @cached_property
    def docker(self) -> facts.Docker | None:
        """The engine; None if there is no socket of one."""
        return self._read("docker", facts.Docker)

    @cached_property
    def modules(self) -> dict[str, str]:
        """Where parts of the kernel are; those of which nothing is known are not in it."""
        return self._read("modules", dict[str, str]) or {}

    def holders(self, port: int) -> Sequence[facts.Holder]:
        """Who waits at a TCP or UDP port."""
        return self._read(f"port/{port}", list[facts.Holder]) or []

    def is_of_the_node(self, holder: facts.Holder) -> bool:
        """Whether a socket is the node's, or that of a process which it started."""
        return self.node is not None and self.node.pid is not None and self.node.pid in (holder.pid, holder.parent)

    def process(self, pid: int) -> facts.Process | None:
        """Limits of a process."""
        return self._read(f"process/{pid}", facts.Process)

    @cached_property
    def weave_router(self) -> str:
        """What shows that a Weave router runs here; empty if nothing does."""
        for port in dict.fromkeys((self.port, _WEAVE_PORT)):
            for holder in self.holders(port):
                if holder.process == "weaver":
                    return f"weaver (process {holder.pid}) holds {holder.protocol.upper()} port {port}"
        # Column 2 is address:protocol. Weave sends its probes of the path MTU by a raw UDP socket, plait has none.
        rows = (self.text("/proc/net/raw") or "").splitlines()[1:]
        if any(len(row.split()) > 1 and row.split()[1].endswith(":0011") for row in rows):
            return "somebody has a raw UDP socket open, as Weave's router does"
        return ""

    @cached_property
    def node(self) -> facts.Node | None:
        """The node that runs here."""
        return self._read("node", facts.Node)

    @property
    def port(self) -> int:
        """TCP and UDP port of the node, or the one that it would have."""
        return self.node.port if self.node else _WEAVE_PORT

    @property
    def bridge(self) -> str:
        """Name of the node's bridge, or the one that it would have."""
        return self.node.bridge if self.node else "weave"

    @cached_property
    def underlays(self) -> Sequence[facts.Link]:
        """The interfaces towards other hosts: to the peers that are known, by the default route, else all real ones."""
        ways = [self.device_towards(peer.remote) for peer in self.node.peers] if self.node else []
        ways += [route.device for route in self.routes if ipaddress.ip_network(route.destination).prefixlen == 0]
        found = [link for name in dict.fromkeys(ways) if name and (link := self.link(name)) and _may_be_underlay(link)]
        return found or [link for link in self.links if link.up and link.kind is None and _may_be_underlay(link)]

    def device_towards(self, remote: str) -> str | None:
        """The device of the route to an address (with a port or without); None without a route."""
        host = remote.rpartition(":")[0].strip("[]") if remote.count(":") == 1 or remote.startswith("[") else remote
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return None
        fitting = [
            (network.prefixlen, route.device)
            for route in self.routes
            if (network := ipaddress.ip_network(route.destination)).version == address.version and address in network
        ]
        return max(fitting, default=(0, None))[1]

    def driver(self, device: str) -> str:
        """The name of a device's driver; empty if it has none."""
        return self.target(f"/sys/class/net/{device}/device/driver") or self.ethtool(device).driver

    def _read(self, question: str, shape: type[_T]) -> _T | None:
        answer = self._answer(question)
        if answer is None:
            return None
        try:
            return msgspec.convert(answer, shape)
        except msgspec.ValidationError:
            return None  # a captured machine of another version, or a damaged one


def _may_be_underlay(link: facts.Link) -> bool:
    return (not link.name.startswith(_NO_UNDERLAY) and link.kind not in ("bridge", "veth", "vxlan", "dummy")) or (
        link.kind == "veth" and link.master is None and not link.name.startswith("vethwe")
    )
