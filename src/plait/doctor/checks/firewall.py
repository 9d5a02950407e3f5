"""Rules of this host that drop what the overlay needs: judged by following a packet through all of them."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Network, ip_interface, ip_network

from plait.doctor import rights
from plait.doctor.check import Check
from plait.doctor.checks.netfilter import manager
from plait.doctor.finding import Certainty, Finding, Severity
from plait.doctor.fix import Accepting
from plait.doctor.machine import Machine
from plait.doctor.rules.model import Packet
from plait.doctor.rules.walk import Judgement, judge
from plait.host.accepts import Accept

_DOCKER_BRIDGE = "docker0"
_DNS = 53
# Since iptables 1.8 (2018, when 4.18 came) the legacy one has a name of its own.
_LEGACY_HAS_A_NAME = (4, 18)
_BRIDGE_CALLS = "net/bridge/bridge-nf-call-iptables"


def _ports(machine: Machine) -> Iterator[Finding]:
    """What peers send first: to TCP and UDP 6783, and VXLAN to UDP 6784."""
    for protocol, port in (("tcp", machine.port), ("udp", machine.port), ("udp", machine.port + 1)):
        found = _worst(machine, Packet(protocol, port, is_local=True))
        if found is not None:
            yield _about_port(machine, port, *found)


def _about_port(machine: Machine, port: int, packet: Packet, judgement: Judgement) -> Finding:
    subject = f"{packet.protocol.upper()} {port}"
    opened = _opened(machine, packet.protocol, port, judgement)
    if judgement.passes is None:
        what = f"whether {subject} gets in by {packet.iif} cannot be told: it may end in {judgement.by}"
        return replace(
            opened, subject=subject, what=what, fix=None, severity=Severity.NOTE, certainty=Certainty.POSSIBLE
        )
    sender = f" from {packet.source.network_address}" if packet.source else ""
    what = f"{subject}{sender} is dropped when it comes by {packet.iif}: {judgement.by}"
    answer = replace(packet, state="established")
    if port != machine.port or not judge(machine.rules, "input", answer).passes:
        return replace(opened, subject=subject, what=what)
    what += "; answers to what this host sends first get in, so it works only with peers that are called from here"
    return replace(opened, subject=subject, what=what, severity=Severity.RISK)


def _worst(machine: Machine, packet: Packet) -> tuple[Packet, Judgement] | None:
    """Give a packet that is dropped, else one that may be; None if all get in. The peers that are known are senders."""
    doubtful = None
    for link in machine.underlays:
        anyone = replace(packet, iif=link.name)
        by_source = [anyone]
        if judge(machine.rules, "input", anyone).passes is None and (senders := _senders(machine, link.name)):
            by_source = [replace(anyone, source=sender) for sender in senders]
        for each in by_source:
            judgement = judge(machine.rules, "input", each)
            if judgement.passes is False:
                return each, judgement
            if judgement.passes is None:
                doubtful = doubtful or (each, judgement)
    return doubtful


def _senders(machine: Machine, device: str) -> list[IPv4Network]:
    remotes = [peer.remote for peer in machine.node.peers] if machine.node else []
    return [
        network
        for each in remotes
        if machine.device_towards(each) == device and (network := _address(each)) is not None
    ]


def _address(remote: str) -> IPv4Network | None:
    try:
        network = ip_network(remote.rpartition(":")[0])
    except ValueError:
        return None
    return network if isinstance(network, IPv4Network) else None


def _opened(machine: Machine, protocol: str, port: int, judgement: Judgement, device: str = "") -> Finding:
    """Give a cure as a finding without words: firewalld and ufw are told, other rules get one more."""
    program = manager(machine)
    if program == "firewalld":
        cure = f"firewall-cmd --permanent --add-port={port}/{protocol} && firewall-cmd --reload"
        return Finding("", "", cure, "over reboots")
    if program == "ufw":
        where = f"in on {device} to any port {port} proto {protocol}" if device else f"{port}/{protocol}"
        return Finding("", "", f"ufw allow {where}", "over reboots")
    legacy = f"-p {protocol} --dport {port}"
    native = f"{protocol} dport {port}"
    if device:
        legacy, native = f"-i {device} {legacy}", f'iifname "{device}" {native}'
    fix = _accepting(machine, judgement, legacy, native)
    return Finding("", "", fix.command, fix.lasting, fix)


def _accepting(machine: Machine, judgement: Judgement, legacy: str, native: str) -> Accepting:
    base = judgement.base
    if base is None:
        raise ValueError("only what is dropped needs a rule")
    if base.backend == "legacy":
        program = "iptables" if machine.kernel.is_before(*_LEGACY_HAS_A_NAME) else "iptables-legacy"
        return Accepting(Accept("legacy", "ip", base.table, base.name, legacy), program)
    return Accepting(Accept("nft", base.family, base.table, base.name, native))


def _dns(machine: Machine) -> Iterator[Finding]:
    """Containers ask for names at the address of Docker's bridge; the node lets that in where nftables drops it."""
    if machine.link(_DOCKER_BRIDGE) is None:
        return
    for protocol in ("udp", "tcp"):
        packet = Packet(protocol, _DNS, iif=_DOCKER_BRIDGE, is_local=True)
        judgement = judge(machine.rules, "input", packet)
        if judgement.passes is not False or _will_be_accepted(machine, judgement):
            continue
        opened = _opened(machine, protocol, _DNS, judgement, _DOCKER_BRIDGE)
        subject = f"{protocol.upper()} {_DNS} on {_DOCKER_BRIDGE}"
        what = f"containers' questions for names are dropped ({subject}): {judgement.by}"
        yield Finding(subject, what, opened.cure, opened.lasting, opened.fix)


def _bridged(machine: Machine) -> Iterator[Finding]:
    if machine.sysctl(_BRIDGE_CALLS) != "1":
        return
    bridge = machine.bridge
    judgement = judge(machine.rules, "forward", Packet("tcp", iif=bridge, oif=bridge))
    if judgement.passes is not False or _will_be_accepted(machine, judgement):
        return
    there = "" if machine.link(bridge) else " (there is none yet)"
    what = (
        f"{_BRIDGE_CALLS.replace('/', '.')} is 1, so frames between containers on the bridge {bridge}{there} pass "
        f"iptables, where they are dropped: {judgement.by}"
    )
    fix = _accepting(machine, judgement, f"-i {bridge}", f'iifname "{bridge}"')
    yield Finding(bridge, what, fix=fix, severity=None if machine.link(bridge) else Severity.RISK)


def _will_be_accepted(machine: Machine, judgement: Judgement) -> bool:
    """A node that starts places its rules in nftables' chains by itself; iptables-legacy's it cannot see."""
    return machine.node is None and judgement.base is not None and judgement.base.backend == "nft"


def _forward(machine: Machine) -> Iterator[Finding]:
    """From containers to other hosts, and from these to the networks that are exposed."""
    bridge, exposed = machine.bridge, machine.node.exposed if machine.node else []
    networks = [network for cidr in exposed if isinstance(network := ip_interface(cidr).network, IPv4Network)]
    for link in machine.underlays:
        ways = [(Packet("tcp", iif=bridge, oif=link.name), f"-i {bridge}", f'iifname "{bridge}"')]
        for network in networks:
            into = Packet("tcp", iif=link.name, oif=bridge, destination=network)
            ways.append((into, f"-o {bridge} -d {network}", f'oifname "{bridge}" ip daddr {network}'))
        found = [finding for way in ways if (finding := _stopped(machine, *way, is_exposed=bool(networks)))]
        yield from found
        if found:
            return


def _stopped(machine: Machine, packet: Packet, legacy: str, native: str, *, is_exposed: bool) -> Finding | None:
    judgement = judge(machine.rules, "forward", packet)
    if judgement.passes is not False or judgement.base is None or _will_be_accepted(machine, judgement):
        return None
    if not is_exposed and judgement.base.backend == "nft":
        return None
    whither = f" for {packet.destination}" if packet.destination else ""
    later = "" if is_exposed else "; it matters once a network is exposed"
    what = f"what goes from {packet.iif} to {packet.oif}{whither} is dropped: {judgement.by}{later}"
    fix = _accepting(machine, judgement, legacy, native)
    return Finding(f"{packet.iif} to {packet.oif}", what, fix=fix, severity=None if is_exposed else Severity.NOTE)


def _fragments(machine: Machine) -> Iterator[Finding]:
    if not _puts_together(machine):
        port = machine.port
        for link in machine.underlays:
            judgement = judge(machine.rules, "input", Packet("udp", iif=link.name, is_fragment=True, is_local=True))
            whole = judge(machine.rules, "input", Packet("udp", port, iif=link.name, is_local=True))
            if whole.passes and judgement.passes is False:
                what = f"fragments of datagrams that come by {link.name} are dropped: {judgement.by}"
                fix = _accepting(machine, judgement, "-f", "ip frag-off & 0x1fff != 0")
                yield Finding(link.name, what, fix=fix)
    for peer in machine.node.peers if machine.node else ():
        if peer.fragments is False:
            what = f"fragments of IP from this host do not arrive at {peer.nickname or peer.name} ({peer.remote})"
            cure = "let fragments pass in the firewalls of that host and between the two; plait cuts frames meanwhile"
            yield Finding(peer.nickname or peer.name, what, cure, severity=Severity.NOTE, certainty=Certainty.LIKELY)


def _puts_together(machine: Machine) -> bool:
    """Whether rules see whole datagrams only: connection tracking is there, and some rule needs it."""
    if machine.sysctl("net/netfilter/nf_conntrack_count") is None:
        return False
    chains = machine.rules.chains
    return any(chain.kind == "nat" and chain.hook for chain in chains) or any(
        match.key in ("state", "") for chain in chains for rule in chain.rules for match in rule.matches
    )


def _unread(machine: Machine) -> Iterator[Finding]:
    if rights.has_net_admin(machine.text(rights.STATUS)) is False:
        what = "the firewall's rules cannot be read without the capability NET_ADMIN, so nothing is known of them"
        yield Finding("firewall", what)


CHECKS = (
    Check(
        name="unread-firewall",
        condition="doctor runs without the rights to read the firewall's rules",
        symptom="doctor finds nothing, and packets are dropped all the same",
        consequence="checks of the firewall find nothing, whatever is in it",
        cure="run it as root: sudo plait doctor",
        reference="capabilities(7), CAP_NET_ADMIN",
        severity=Severity.NOTE,
        examine=_unread,
    ),
    Check(
        name="bridge-filter",
        rows=(9,),
        condition="bridged frames pass iptables (br_netfilter), whose FORWARD chain drops them",
        symptom="containers on one host do not reach each other, or those of other hosts, while the hosts do",
        consequence="frames of containers are dropped in the bridge",
        cure="accept them, or set net.bridge.bridge-nf-call-iptables to 0 if no policy engine needs it",
        reference="Linux Documentation/networking/ip-sysctl.rst, bridge-nf-call-iptables",
        severity=Severity.BREAKS,
        examine=_bridged,
    ),
    Check(
        name="forward-drop",
        rows=(10,),
        condition="the FORWARD chain drops (as Docker sets it), and plait's accept rule is not in it",
        symptom="an exposed network is not reached from outside this host, or its containers do not get out",
        consequence="what is routed to or from containers is dropped; plait minds nftables' chains by itself, "
        "but does not touch those of iptables-legacy",
        cure="accept what comes from the bridge, and what goes to the exposed network",
        reference="Docker: Packet filtering and firewalls, Docker on a router",
        severity=Severity.BREAKS,
        examine=_forward,
    ),
    Check(
        name="fragments",
        rows=(22,),
        condition="fragments of IP are filtered",
        symptom="small packets pass, large ones are lost, towards Weave peers",
        consequence="a datagram that is cut on its way does not arrive. plait cuts frames inside the overlay instead",
        cure="let fragments pass",
        reference="RFC 8900",
        examine=_fragments,
    ),
    Check(
        name="filtered-ports",
        condition="the firewall of this host drops the ports of the overlay",
        symptom="peers do not connect, or are connected in user space only",
        consequence="TCP 6783: peers cannot connect to this node; UDP 6783: no frames by user space; UDP 6784: none by "
        "the kernel",
        cure="accept TCP 6783, UDP 6783 and UDP 6784",
        reference="nft(8), iptables(8)",
        severity=Severity.BREAKS,
        examine=_ports,
    ),
    Check(
        name="dns-port",
        condition="the firewall of this host drops containers' questions for names",
        symptom="containers find no names, not even those of the Internet",
        consequence="Docker's containers ask plait at docker0, port 53, and get no answer; plait places an "
        "accept rule in nftables' chains that drop by themselves, but not in those of iptables-legacy",
        cure="accept UDP and TCP 53 on docker0",
        reference="nft(8), iptables(8)",
        severity=Severity.BREAKS,
        examine=_dns,
    ),
)
