"""This machine, read through `host`. Call it in a thread without an event loop."""

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from plait.doctor import facts, rights
from plait.errors import PlaitError
from plait.host import clock, ethtool, iptables, modules, nftables, processes
from plait.host.bpf.features import probe
from plait.host.netlink import Link, Netlink

_MAX_BYTES = 1 << 20
# What the programs in the kernel use (overlay/fastdp): without these frames go by user space.
_CARRIERS = ("bpf", "ring_buffer", "redirect_peer", "redirect_neigh")


class Live:
    """A Probe. `node` and `docker` answer what only these know; None if there is none."""

    def __init__(self, node: Callable[[], facts.Node | None], docker: Callable[[], facts.Docker | None]) -> None:
        self._questions: dict[str, Callable[[], Any]] = {
            "links": _links,
            "routes": _routes,
            "nft": self._nft,
            "iptables-legacy": lambda: iptables.legacy_rules(4),
            "iptables-nft": iptables.nft_rules,
            "ip6tables-legacy": lambda: iptables.legacy_rules(6),
            "bpf": _bpf,
            "clock": lambda: facts.Clock(**clock.state()),
            "docker": docker,
            "modules": lambda: modules.states(facts.MODULES),
            "node": node,
        }
        self._questions_about: dict[str, Callable[[str], Any]] = {
            "ethtool": _ethtool,
            "port": lambda port: processes.holders(int(port)),
            "process": lambda pid: processes.limits(int(pid)),
        }
        self._known: dict[str, Any] = {}

    def _nft(self) -> list[dict[str, Any]] | None:
        # Without the right to it, the library writes a line of its own to the terminal.
        return None if rights.has_net_admin(self.text(rights.STATUS)) is False else nftables.query("list ruleset")

    def text(self, path: str) -> str | None:
        """See Probe."""
        try:
            with open(path, errors="replace") as file:
                return file.read(_MAX_BYTES)
        except OSError:
            return None

    def names(self, path: str) -> Sequence[str]:
        """See Probe."""
        try:
            return sorted(os.listdir(path))
        except OSError:
            return ()

    def target(self, path: str) -> str | None:
        """See Probe."""
        try:
            return Path(os.readlink(path)).name
        except OSError:
            return None

    def answer(self, question: str) -> Any:
        """See Probe."""
        if question not in self._known:
            self._known[question] = None
            with contextlib.suppress(PlaitError):
                self._known[question] = msgspec.to_builtins(self._ask(question))
        return self._known[question]

    def _ask(self, question: str) -> Any:
        kind, _, about = question.partition("/")
        if about:
            return self._questions_about[kind](about)
        return self._questions[question]()


def _links() -> list[facts.Link]:
    with Netlink() as netlink:
        found = netlink.links()
    names = {link.index: link.name for link in found}
    return [_link(link, names) for link in found]


def _link(link: Link, names: dict[int, str]) -> facts.Link:
    vxlan = None
    if link.kind == "vxlan":
        vxlan = facts.Vxlan(port=link.vxlan_port or 0, vni=link.vxlan_id or None, external=link.is_external)
    return facts.Link(
        name=link.name,
        index=link.index,
        mac=link.mac,
        mtu=link.mtu,
        kind=link.kind,
        up=link.is_up,
        master=names.get(link.master_index or 0),
        vxlan=vxlan,
    )


def _routes() -> list[facts.Route]:
    with Netlink() as netlink:
        return [
            facts.Route(
                destination=str(route.destination),
                device=route.device,
                gateway=str(route.gateway) if route.gateway else None,
                mtu=route.mtu,
            )
            for route in netlink.routes()
        ]


def _ethtool(device: str) -> facts.Ethtool | None:
    with contextlib.suppress(PlaitError):
        return facts.Ethtool(driver=ethtool.driver(device), features=ethtool.features(device))
    return None


def _bpf() -> facts.Bpf:
    found = probe()
    return facts.Bpf(lacks=found.lacks(), carries=not any(name in found.reasons for name in _CARRIERS))
