"""The ways to other hosts: what is narrower or more one-sided than it looks. Much of it is the node's own report."""

from collections.abc import Iterator

from plait.doctor.check import Check
from plait.doctor.checks.netfilter import column, counter
from plait.doctor.facts import Peer
from plait.doctor.finding import Certainty, Finding, Severity
from plait.doctor.fix import Setting
from plait.doctor.machine import Machine
from plait.overlay.fastdp.health import Illness
from plait.overlay.pmtu import BLACK_HOLE, KEPT

_IPV4 = "/proc/sys/net/ipv4"
_VXLAN_OVERHEAD = 50
"""Bytes around an IP packet: IPv4 20, UDP 8, VXLAN 8, Ethernet 14."""

_STRICT, _LOOSE = 1, 2
"""Values of rp_filter (Linux Documentation/networking/ip-sysctl.rst)."""

_NEARLY = 0.9
_USER_SPACE = ("sleeve", "plait1")


def _label(peer: Peer) -> str:
    return f"{peer.nickname or peer.name} ({peer.remote})"


def _peers(machine: Machine) -> list[Peer]:
    """Those that the node is connected to, not those that it tries to call."""
    return [peer for peer in machine.node.peers if peer.name] if machine.node else []


def _rp_filter(machine: Machine) -> Iterator[Finding]:
    """Strict filtering asks for the way back to be the way in: that is a trap where there are several ways."""
    dropped = counter(machine, "/proc/net/netstat", "TcpExt", "IPReversePathFilter")
    links = machine.underlays
    for link in links:
        own, everywhere = (machine.number(f"{_IPV4}/conf/{name}/rp_filter") or 0 for name in (link.name, "all"))
        if max(own, everywhere) != _STRICT or len(links) < 2:
            continue
        others = ", ".join(other.name for other in links if other is not link)
        what = (
            f"{link.name} drops what comes by another way than answers go (rp_filter: {own}, of all: {everywhere}), "
            f"and other hosts are reached by {others} too; dropped so since boot, on all interfaces: {dropped}"
        )
        fix = Setting(f"{_IPV4}/conf/{link.name}/rp_filter", str(_LOOSE))
        yield Finding(link.name, what, fix=fix, certainty=Certainty.LIKELY if dropped else Certainty.POSSIBLE)


def _black_hole(machine: Machine) -> Iterator[Finding]:
    node = machine.node
    for peer in _peers(machine):
        link = machine.link(machine.device_towards(peer.remote) or "")
        if node is None or link is None or peer.mtu is None or peer.path_mtu is None:
            continue
        cure = f"plait launch --mtu {peer.mtu} on all nodes, or raise what is narrow"
        if peer.mtu_source in (BLACK_HOLE, KEPT):
            what = f"large packets to {_label(peer)} vanish: {peer.mtu_source}; {peer.path_mtu} bytes are used now"
            yield Finding(_label(peer), what, cure, severity=Severity.BREAKS, certainty=Certainty.LIKELY)
        elif peer.state == "established" and peer.path_mtu < link.mtu and peer.mtu < (node.mtu or 0):
            what = (
                f"the path to {_label(peer)} takes packets of {peer.path_mtu} bytes, {link.name} sends {link.mtu}; "
                f"containers can send {peer.mtu} there and {node.mtu} to others ({peer.mtu_source})"
            )
            yield Finding(_label(peer), what, cure, severity=Severity.NOTE)


_MTU_LASTS = "as long as the node is launched with it"


def _overlay_mtu(machine: Machine) -> Iterator[Finding]:
    node, bridge = machine.node, machine.link(machine.bridge)
    mtu = (node.mtu if node else None) or (bridge.mtu if bridge else None)
    is_vxlan = "fastdp" in node.overlays and not node.encrypted if node else any(link.vxlan for link in machine.links)
    if mtu is None or not is_vxlan:
        return
    for link in machine.underlays:
        fitting = link.mtu - _VXLAN_OVERHEAD
        if mtu <= fitting:
            continue
        towards = [
            _label(peer) for peer in _peers(machine) if peer.weave and machine.device_towards(peer.remote) == link.name
        ]
        what = (
            f"containers send packets of {mtu} bytes ({machine.bridge}), VXLAN over {link.name} (MTU {link.mtu}) takes "
            f"{fitting}"
        )
        if towards:
            what += f"; the kernel's path to Weave peers is never established: {', '.join(towards)}"
        cure = f"plait launch --mtu {fitting} on all nodes, or raise the MTU of {link.name} to {mtu + _VXLAN_OVERHEAD}"
        yield Finding(link.name, what, cure, _MTU_LASTS, severity=Severity.BREAKS if towards else None)


def _udp_blocked(machine: Machine) -> Iterator[Finding]:
    for peer in _peers(machine):
        if peer.state == "pending":
            what = f"TCP to {_label(peer)} works, and no overlay does: {peer.reason or 'no reason is known'}"
            yield Finding(_label(peer), what, _let_through(peer, f"UDP {machine.port} and {machine.port + 1}"))


def _let_through(peer: Peer, ports: str) -> str:
    host = peer.remote.rpartition(":")[0] or peer.remote
    return (
        f"let {ports} pass between this host and {host}, both ways: in both "
        "firewalls ('plait doctor filtered-ports' looks at this one's), and in the security groups of the cloud"
    )


def _one_way(machine: Machine) -> Iterator[Finding]:
    for peer in _peers(machine):
        for illness in Illness:
            if illness.value in peer.reason and peer.state == "established":
                what = f"the kernel's path to {_label(peer)} is on hold, {peer.overlay} carries frames: {peer.reason}"
                certainty = Certainty.CERTAIN if illness is Illness.DEAF else Certainty.LIKELY
                yield Finding(_label(peer), what, _let_through(peer, f"UDP {machine.port + 1}"), certainty=certainty)
                break


def _stale_flows(machine: Machine) -> Iterator[Finding]:
    for peer in _peers(machine):
        has_fallen = "fastdp is unhealthy" in peer.reason or "fastdp failed" in peer.reason
        if peer.weave and peer.overlay in _USER_SPACE and has_fallen:
            what = f"{_label(peer)}, a Weave router, fell back from VXLAN and may go on sending by it: {peer.reason}"
            yield Finding(_label(peer), what)


def _forwarding(machine: Machine) -> Iterator[Finding]:
    if machine.node is None or not machine.node.exposed:
        return
    exposed = ", ".join(machine.node.exposed)
    if machine.sysctl("net/ipv4/ip_forward") == "0":
        what = f"ip_forward is 0, and this host has {exposed} in the overlay"
        yield Finding("ip_forward", what, fix=Setting(f"{_IPV4}/ip_forward", "1"))
        return
    for name in (machine.bridge, *(link.name for link in machine.underlays)):
        if machine.sysctl(f"net/ipv4/conf/{name}/forwarding") == "0":
            what = f"{name} forwards nothing (conf/{name}/forwarding is 0), and this host has {exposed} in the overlay"
            yield Finding(name, what, fix=Setting(f"{_IPV4}/conf/{name}/forwarding", "1"))


def _neighbours(machine: Machine) -> Iterator[Finding]:
    most = machine.number(f"{_IPV4}/neigh/default/gc_thresh3")
    entries = max(0, len((machine.text("/proc/net/arp") or "").splitlines()) - 1)
    fulls = column(machine, "/proc/net/stat/arp_cache", "table_fulls")
    if not most or (not fulls and entries < _NEARLY * most):
        return
    what = f"{entries} neighbours are known, {most} may be (gc_thresh3); the table was full {fulls} times since boot"
    yield Finding(
        "neighbours",
        what,
        fix=Setting(f"{_IPV4}/neigh/default/gc_thresh3", str(4 * most)),
        severity=Severity.BREAKS if entries >= _NEARLY * most else Severity.RISK,
    )


def _receive_buffer(machine: Machine) -> Iterator[Finding]:
    """The kernel counts for each socket what found no room: the last column; the port is in hex."""
    dropped = sum(
        int(row[-1])
        for line in (machine.text("/proc/net/udp") or "").splitlines()[1:]
        if len(row := line.split()) > 2 and row[1].endswith(f":{machine.port:04X}") and row[-1].isdecimal()
    )
    if not dropped:
        return
    errors = counter(machine, "/proc/net/snmp", "Udp", "RcvbufErrors")
    what = (
        f"{dropped} datagrams for UDP {machine.port} were dropped because nobody read them in time; of all sockets "
        f"since boot: {errors}; rmem_max is {machine.sysctl('net/core/rmem_max') or 'not known'}"
    )
    yield Finding(f"UDP {machine.port}", what)


CHECKS = (
    Check(
        name="rp-filter",
        rows=(8,),
        condition="strict reverse path filtering on one of several ways to other hosts",
        symptom="traffic passes in one direction only, and nothing says why",
        consequence="packets that come by another interface than the answer would leave by are dropped silently",
        cure="set rp_filter of the interface to 2 (loose); the larger of its value and that of `all` counts",
        reference="Linux Documentation/networking/ip-sysctl.rst, rp_filter; RFC 3704",
        examine=_rp_filter,
    ),
    Check(
        name="mtu-black-hole",
        rows=(12,),
        condition="the path to a peer takes smaller packets than the interface sends",
        symptom="ping works, TCP hangs after its handshake",
        consequence="large packets are lost. plait finds the size by acknowledged probes and tells containers; "
        "what else this host sends there may hang",
        cure="launch all nodes with a smaller --mtu, or raise what is narrow",
        reference="RFC 8899; RFC 2923, section 2.1",
        examine=_black_hole,
    ),
    Check(
        name="overlay-mtu",
        rows=(13,),
        condition="packets of containers do not fit VXLAN over this interface",
        symptom="connections to Weave peers stay on sleeve; large packets between containers are slow",
        consequence="Weave's heartbeat of full size never arrives; plait answers or cuts what is too large, in "
        "user space",
        cure="launch all nodes with a smaller --mtu, or raise the interface's",
        reference="docs/protocol/fastdp.md",
        examine=_overlay_mtu,
    ),
    Check(
        name="neighbour-table",
        rows=(14,),
        condition="the table of neighbours is full",
        symptom="'neighbor table overflow' in the log; 'No buffer space available' or 'Invalid argument' now and then",
        consequence="addresses cannot be resolved, so packets to some neighbours are lost",
        cure="raise net.ipv4.neigh.default.gc_thresh3, and gc_thresh1 and 2 in proportion",
        reference="arp(7), gc_thresh3",
        examine=_neighbours,
    ),
    Check(
        name="forwarding",
        rows=(17,),
        condition="IP forwarding is off, or was turned off by NetworkManager or firewalld, with networks exposed",
        symptom="exposed networks are not reached from outside, containers do not reach the Internet by them",
        consequence="this host routes nothing between the overlay and other networks",
        cure="sysctl -w net.ipv4.ip_forward=1",
        reference="Linux Documentation/networking/ip-sysctl.rst, ip_forward",
        severity=Severity.BREAKS,
        examine=_forwarding,
    ),
    Check(
        name="receive-buffer",
        rows=(21,),
        condition="datagrams for the user-space overlay were dropped for want of room",
        symptom="loss under load on connections that sleeve or plait1 carries",
        consequence="what was dropped has to be sent again by the containers",
        cure="let the kernel carry frames ('plait status' says what keeps it from that), or give this host more CPU. "
        "plait asks for a buffer of 16 MiB whatever rmem_max says, if it has NET_ADMIN; else raise net.core.rmem_max",
        reference="udp(7), socket(7) SO_RCVBUFFORCE",
        examine=_receive_buffer,
    ),
    Check(
        name="udp-blocked",
        rows=(23,),
        condition="TCP to a peer passes and UDP does not",
        symptom="a connection is pending, or flaps every minute",
        consequence="no frame reaches the peer directly",
        cure="let UDP 6783 and 6784 pass, both ways",
        reference="docs/protocol/fastdp.md, docs/protocol/sleeve2.md",
        severity=Severity.BREAKS,
        certainty=Certainty.LIKELY,
        examine=_udp_blocked,
    ),
    Check(
        name="source-check",
        rows=(24,),
        condition="the cloud drops packets whose source address is not the host's",
        symptom="packets of containers that are bridged to the host's network vanish",
        consequence="none for plait: its frames travel in UDP packets of the host, which the cloud knows",
        cure="keep encapsulation",
        reference="AWS: EC2, source/destination check",
        severity=Severity.NOTE,
        unseen="only the cloud's own interface says it",
    ),
    Check(
        name="stale-flows",
        rows=(27,),
        condition="a Weave router still sends by VXLAN after it fell back to sleeve",
        symptom="a connection is 'established' with sleeve, and tcpdump shows UDP 6784",
        consequence="frames of that peer are lost as long as its kernel has flows for VXLAN. Not between plait nodes: "
        "the programs look up the way of each frame, and there is no flow to go stale",
        cure="restart the Weave router at the peer, or replace it by plait",
        reference="docs/protocol/fastdp.md",
        severity=Severity.NOTE,
        certainty=Certainty.POSSIBLE,
        examine=_stale_flows,
    ),
    Check(
        name="one-way",
        rows=(28,),
        condition="VXLAN passes in one direction only, or in none",
        symptom="'fastdp is unhealthy' in 'plait status connections'; of two Weave routers one says fastdp, one sleeve",
        consequence="frames go by user space, slower. Between plait nodes each heartbeat is echoed, so both directions "
        "are judged and no frame vanishes; a Weave peer judges only what it receives",
        cure="let UDP 6784 pass, both ways",
        reference="docs/protocol/fastdp.md",
        examine=_one_way,
    ),
    Check(
        name="nat-timeout",
        rows=(29,),
        condition="a NAT or firewall on the way forgets UDP flows within 10 s",
        symptom="connections flap when there is no traffic",
        consequence="heartbeats, of which Weave sends one each 10 s, come too late to keep the way open",
        cure="raise its timeout for UDP to 30 s or more",
        reference="RFC 4787, REQ-5",
        unseen="the timeouts of other devices are not to be read; `plait doctor udp-timeout` reads this host's",
    ),
)
