"""What Weave Net left on this machine, or still runs."""

import re
from collections.abc import Iterator

from plait.doctor.check import Check
from plait.doctor.finding import Certainty, Finding, Severity
from plait.doctor.machine import Machine

_TAKE_OVER = (
    "weave stop; docker cp weavedb:/weavedb/weavedata.db . && plait ipam import weavedata.db; plait launch PEER ..."
)
_VXLAN = "vxlan-6784"
# What each link is for Weave.
_LINKS = {
    _VXLAN: "the VXLAN device of its kernel path",
    "datapath": "its Open vSwitch",
    "vethwe-datapath": "the way from its bridge to its Open vSwitch",
    "vethwe-bridge": "the way from its bridge to its router",
    "vethwe-pcap": "the port at which its router reads frames",
    "vethwedu": "a helper to set the bridge's MTU",
}
_CHAIN = re.compile(r"^:(WEAVE[\w-]*) ", re.MULTILINE)
_POLICY = "WEAVE-NPC"
_DATABASES = ("weave-netdata.db", "weavedata.db")


def _router(machine: Machine) -> Iterator[Finding]:
    seen = machine.weave_router
    if not seen:
        return
    if seen.startswith("weaver"):
        certainty = Certainty.CERTAIN
    else:
        # Beside a node of plait's at Weave's port it is more likely something else.
        certainty = Certainty.POSSIBLE if machine.node else Certainty.LIKELY
    severity = Severity.RISK if machine.node else None
    yield Finding("weaver", f"a Weave router seems to run here: {seen}", severity=severity, certainty=certainty)


def _links(machine: Machine) -> Iterator[Finding]:
    if machine.weave_router:
        return
    for name, what in _LINKS.items():
        link = machine.link(name)
        if link is None:
            continue
        said = f"{name}, {what}, is still here though no Weave router runs"
        is_port_held = name == _VXLAN and link.up and link.vxlan is not None and link.vxlan.port == machine.port + 1
        if is_port_held:
            said += f"; it holds UDP port {machine.port + 1}"
        # The port of an Open vSwitch cannot be removed like other links.
        cure = "ovs-dpctl del-dp datapath" if link.kind == "openvswitch" else f"ip link delete {name}"
        yield Finding(name, said, cure, severity=Severity.RISK if is_port_held else None)


def _rules(machine: Machine) -> Iterator[Finding]:
    if machine.weave_router:
        return
    found: dict[str, set[str]] = {}
    for entry in machine.nft:
        chain = entry.get("chain", {})
        if str(chain.get("name", "")).startswith("WEAVE"):
            found.setdefault("ip6tables" if chain.get("family") == "ip6" else "iptables", set()).add(chain["name"])
    for program, rules in (("iptables-legacy", machine.legacy_rules), ("ip6tables-legacy", machine.legacy_rules6)):
        if chains := set(_CHAIN.findall(rules)):
            found[program] = chains
    for program, chains in found.items():
        has_policy = any(chain.startswith(_POLICY) for chain in chains)
        what = f"{program} has chains of Weave though no Weave router runs: {', '.join(sorted(chains))}"
        if has_policy:
            what += "; the last state of its network policy is in force"
        yield Finding(
            program,
            what,
            f"{program}-save | grep -v WEAVE | {program}-restore",
            "for good, unless something saved the rules for the next boot",
            severity=Severity.RISK if has_policy else None,
        )


def _data(machine: Machine) -> Iterator[Finding]:
    containers = machine.docker.weave if machine.docker else []
    places = [f"container {name}" for name in containers if name.startswith(("weavedb", "weavevolumes"))]
    places += [f"/var/lib/weave/{name}" for name in machine.names("/var/lib/weave") if name in _DATABASES]
    if not places:
        return
    what = f"Weave's database is still here ({', '.join(places)}): which addresses its containers have"
    cure = ""
    if machine.node:
        removals = [f"docker rm -v {name}" for name in containers if name.startswith(("weavedb", "weavevolumes"))]
        cure = f"when all is well with plait: {'; '.join(removals) or 'rm -r /var/lib/weave'}"
    yield Finding(places[0], what, cure)


CHECKS = (
    Check(
        name="weave-router",
        condition="a Weave router runs here",
        symptom="plait launch says that its ports are in use",
        consequence="Weave and plait use the same bridge and ports: one of them at a time. Containers and their "
        "addresses stay when plait takes over",
        cure=_TAKE_OVER,
        reference="README.md, Joining a Weave mesh",
        severity=Severity.NOTE,
        examine=_router,
    ),
    Check(
        name="weave-links",
        rows=(11,),
        condition="network links of a Weave router that is gone",
        symptom="connections of this host stay in user space (sleeve), though its kernel is good",
        consequence="a VXLAN device keeps its UDP port, so that no other can have it; the other links only lie about",
        cure="remove them",
        reference="README.md, Joining a Weave mesh",
        severity=Severity.NOTE,
        examine=_links,
    ),
    Check(
        name="weave-rules",
        condition="firewall rules of a Weave router that is gone",
        symptom="containers reach some others, and some not, whoever attached them",
        consequence="rules of Weave's network policy go on dropping what they did; the others change no packet of "
        "plait's",
        cure="remove them",
        reference="iptables-save(8)",
        severity=Severity.NOTE,
        certainty=Certainty.CERTAIN,
        examine=_rules,
    ),
    Check(
        name="weave-data",
        condition="the database of a Weave router",
        symptom="after a change from Weave to plait two containers have one address",
        consequence="addresses that Weave gave out are known to nobody until the database is imported",
        cure="before the first launch: docker cp weavedb:/weavedb/weavedata.db . && plait ipam import weavedata.db",
        reference="README.md, Joining a Weave mesh; docs/cli.md, ipam import",
        severity=Severity.NOTE,
        examine=_data,
    ),
)
