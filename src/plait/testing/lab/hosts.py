"""Hosts that run plait, the containers on them, and the boxes between: routers and source NATs."""

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plait.host import firewall, netns
from plait.host.firewall import Chain, Hook, Rule, Table
from plait.host.netlink import Netlink
from plait.testing.lab.errors import LabError
from plait.testing.lab.node import Node
from plait.testing.lab.processes import Completed
from plait.testing.lab.topology import Gateway

_PLAIT = (sys.executable, "-m", "plait")
_BLACK_HOLE = (
    Rule("icmp type { destination-unreachable, time-exceeded } drop"),
    Rule("icmpv6 type { destination-unreachable, packet-too-big, time-exceeded } drop"),
)


@dataclass(eq=False)
class Host(Node):
    """A machine that may run a node of plait. Its files are in `directory`, so several nodes share one machine.

    `peer_name` and the name are what the node is launched with: all hosts of a lab share one machine id.
    """

    peer_name: str = ""
    containers: "list[Container]" = field(default_factory=list)

    @property
    def ip(self) -> str:
        """Its address on its first segment: the underlay address."""
        if not self.ports:
            raise LabError(f"{self.name} is on no switch and no cable")
        return str(self.ports[0].address.ip)

    def environment(self) -> dict[str, str]:
        """Point plait's commands at this host's own directories."""
        return super().environment() | self._directories()

    def container(self, name: str) -> "Container":
        """Make a container here."""
        path = netns.create(f"{self.netns}-{name}")
        directory = Path(f"{self.directory}-{name}")
        directory.mkdir()
        made = Container(name, path.name, directory, host=self)
        self.containers.append(made)
        with Netlink(path) as netlink:
            netlink.set_link("lo", up=True)
        return made

    def plait_command(self) -> str:
        """What to type before a verb to run plait on this host by hand."""
        variables = [f"{key}={value}" for key, value in self._directories().items()]
        return shlex.join(["sudo", "ip", "netns", "exec", self.netns, "env", *variables, *_PLAIT])

    def plait(self, *words: str, check: bool = True, timeout: float = 60.0) -> Completed:
        """Run a command of plait on this host. Raise CommandFailed, Unanswered."""
        return self.run([*_PLAIT, *words], check=check, timeout=timeout)

    def launch(
        self,
        *peers: "Host | str",
        name: str | None = None,
        password: str | None = None,
        extra: Sequence[str] = (),
    ) -> None:
        """Start the node, which connects to the peers, and wait until it answers. Raise CommandFailed.

        Addresses are not allocated unless `extra` says of which range: most tests name them.
        """
        options = ["--name", name or self.peer_name, "--nickname", self.name]
        if not any(word.startswith("--ipalloc-range") for word in extra):
            options.append("--ipalloc-range=")
        if password is not None:
            options += ["--password", password]
        addresses = [peer if isinstance(peer, str) else peer.ip for peer in peers]
        self.plait("launch", *options, *extra, *addresses)

    def status_json(self) -> dict[str, Any]:
        """What `plait status --json` says."""
        status: dict[str, Any] = json.loads(self.plait("status", "--json").stdout)
        return status

    def attach(self, container: "Container", *words: str) -> str:
        """Attach a container to the network (`words`: addresses, options) and give the address it got."""
        return self.plait("attach", *words, container.spec).stdout.strip()

    def _directories(self) -> dict[str, str]:
        return {"PLAIT_STATE_DIR": f"{self.directory}/state", "PLAIT_RUN_DIR": f"{self.directory}/run"}


@dataclass(eq=False)
class Container(Node):
    """A namespace without a network, as a container starts; its address is what `plait attach` gives it."""

    host: Host = field(kw_only=True, repr=False)

    @property
    def spec(self) -> str:
        """How plait's commands name it."""
        return f"netns:{self.netns}"


@dataclass(eq=False)
class Router(Node):
    """Forwards between its segments. Senders of packets too long for the next link are told so, or not."""

    def set_icmp(self, on: bool) -> None:
        """Whether it sends its ICMP errors; off makes a link with a smaller MTU a black hole."""
        with self.entered():
            if on:
                firewall.delete("inet", "lab_icmp")
            else:
                firewall.apply(Table("inet", "lab_icmp", (Chain("out", _BLACK_HOLE, Hook("output")),)))

    def gateway(self) -> Gateway:
        """What it is to the others."""
        return Gateway({port.segment: port.address.ip for port in self.ports})


@dataclass(eq=False)
class Nat(Node):
    """Lets its first segment out to its second under its own address, and only answers in."""

    def translate(self) -> None:
        """Place its rules."""
        inside, outside = (port.device for port in self.ports)
        out = Rule(f'oifname "{outside}" masquerade')
        keep = Rule(f'iifname "{outside}" oifname "{inside}" ct state != {{ established, related }} drop')
        chains = (
            Chain("postrouting", (out,), Hook("postrouting", "nat", "srcnat")),
            Chain("forwarding", (keep,), Hook("forward")),
        )
        with self.entered():
            firewall.apply(Table("ip", "lab_nat", chains))

    def gateway(self) -> Gateway:
        """What it is to the others."""
        inside = self.ports[0].segment
        return Gateway({port.segment: port.address.ip for port in self.ports}, one_way_from=inside)
