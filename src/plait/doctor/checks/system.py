"""What the node takes from its machine and shares with others: ports, addresses, clock, memory, Docker."""

import ipaddress
import re
from collections.abc import Iterator

from plait.config import DEFAULT_RANGE
from plait.doctor import facts
from plait.doctor.check import Check
from plait.doctor.finding import Certainty, Finding, Severity
from plait.doctor.fix import Setting
from plait.doctor.machine import Machine
from plait.host.udp import RECEIVE_BUFFER_BYTES

_HTTP_PORT = 6784
# Each neighbour takes a TCP connection and a UDP socket, and a restart of the pump as many again for a moment.
_FULL = 0.8
_PRESSURE = re.compile(r"^full .*avg60=([\d.]+)", re.MULTILINE)
_STALLED_PERCENT = 10.0
_LITTLE_MEMORY = 0.03
# The first engine with what Weave itself asked for.
_OLD_DOCKER = (1, 10)
# Private ranges to share out instead, as large as the usual one where they can be (RFC 1918, RFC 6598).
_OTHER_RANGES = ("10.32.0.0/12", "10.160.0.0/12", "172.24.0.0/13", "100.80.0.0/12", "192.168.128.0/17")


def _ports(machine: Machine) -> Iterator[Finding]:
    if machine.node is None and machine.weave_router:
        return  # that is said of the router
    wanted = [(machine.port, "tcp", "connections of peers"), (machine.port, "udp", "frames in user space")]
    if machine.node is None:  # a node has its own, wherever that is
        wanted.append((_HTTP_PORT, "tcp", "the HTTP API"))
    for port, protocol, use in wanted:
        for holder in machine.holders(port):
            if holder.protocol != protocol or holder.pid is None or machine.is_of_the_node(holder):
                continue
            what = (
                f"{holder.process} (process {holder.pid}) holds {protocol.upper()} port {port} at {holder.address}, "
                f"which is for {use}"
            )
            cure = f"stop process {holder.pid}, or launch all nodes with another port: 'plait launch --port N'"
            if port == _HTTP_PORT:
                cure = f"stop process {holder.pid}, or 'plait launch --http-addr 127.0.0.1:N'"
            yield Finding(f"{protocol}/{port}", what, cure)


def _range(machine: Machine) -> Iterator[Finding]:
    own = machine.node.range if machine.node else str(DEFAULT_RANGE)
    if own is None:
        return
    for route in _overlapping(machine, own):
        free = next((other for other in _OTHER_RANGES if not _overlapping(machine, other)), "CIDR")
        what = (
            f"the addresses that containers get, {own}, overlap with {route.destination} ({route.device}) of this host"
        )
        # Of the usual range a launch is refused; who chose another one knows, and `status` says it too.
        severity = Severity.NOTE if machine.node else None
        yield Finding(route.device, what, f"on all peers: plait launch --ipalloc-range {free}", severity=severity)


def _overlapping(machine: Machine, cidr: str) -> list[facts.Route]:
    network = ipaddress.ip_network(cidr, strict=False)
    return [
        route
        for route in machine.routes
        if (other := ipaddress.ip_network(route.destination)).version == network.version
        and other.prefixlen > 0
        and other.overlaps(network)
        and route.device != machine.bridge
    ]


def _clock(machine: Machine) -> Iterator[Finding]:
    if machine.clock is not None and not machine.clock.synchronised:
        yield Finding("clock", "nothing keeps this machine's clock right (the kernel says it is not synchronised)")


def _descriptors(machine: Machine) -> Iterator[Finding]:
    process = machine.process(machine.node.pid) if machine.node and machine.node.pid else None
    if process is not None and process.descriptors > _FULL * process.descriptor_limit:
        what = f"the node has {process.descriptors} files open of {process.descriptor_limit} that it may have"
        cure = f"prlimit --pid {machine.node.pid if machine.node else 'PID'} --nofile={4 * process.descriptor_limit}"
        lasting = "until the node is started again; to keep it, LimitNOFILE= in the unit file (systemd.exec(5))"
        yield Finding("node", what, cure, lasting)
    words = (machine.sysctl("fs/file-nr") or "").split()
    if len(words) == 3 and int(words[0]) > _FULL * int(words[2]):
        what = f"this machine has {words[0]} files open of {words[2]} that it may have (fs.file-nr)"
        yield Finding("fs.file-nr", what, fix=Setting("/proc/sys/fs/file-max", str(4 * int(words[2]))))


def _buffers(machine: Machine) -> Iterator[Finding]:
    process = machine.process(machine.node.pid) if machine.node and machine.node.pid else None
    limit = machine.number("/proc/sys/net/core/rmem_max")
    if process is None or process.is_net_admin or limit is None or limit >= RECEIVE_BUFFER_BYTES:
        return
    what = (
        f"the node may not go beyond net.core.rmem_max ({limit} bytes): it lacks CAP_NET_ADMIN of the machine; "
        f"it wants {RECEIVE_BUFFER_BYTES}"
    )
    cure = f"on the machine: sysctl -w net.core.rmem_max={RECEIVE_BUFFER_BYTES}, and restart the node"
    yield Finding("net.core.rmem_max", what, cure, "until the next boot; to keep it, a file in /etc/sysctl.d")


def _udp_memory(machine: Machine) -> Iterator[Finding]:
    used = re.search(r"^UDP: .*\bmem (\d+)", machine.text("/proc/net/sockstat") or "", re.MULTILINE)
    limits = (machine.sysctl("net/ipv4/udp_mem") or "").split()
    if used is None or len(limits) != 3 or int(used[1]) <= _FULL * int(limits[2]):
        return
    what = f"all UDP sockets together hold {used[1]} of {limits[2]} pages (net.ipv4.udp_mem)"
    more = " ".join(str(4 * int(limit)) for limit in limits)
    yield Finding("net.ipv4.udp_mem", what, fix=Setting("/proc/sys/net/ipv4/udp_mem", more))


def _memory(machine: Machine) -> Iterator[Finding]:
    sizes = dict(re.findall(r"^(\w+): +(\d+) kB", machine.text("/proc/meminfo") or "", re.MULTILINE))
    available, total = int(sizes.get("MemAvailable", 0)), int(sizes.get("MemTotal", 0))
    if "MemAvailable" in sizes and available < _LITTLE_MEMORY * total:
        yield Finding("memory", f"{available >> 10} of {total >> 10} MiB of memory are available")
    stalled = _PRESSURE.search(machine.text("/proc/pressure/memory") or "")
    if stalled is not None and float(stalled[1]) > _STALLED_PERCENT:
        yield Finding("memory", f"for {stalled[1]} % of the last minute all processes waited for memory")


def _docker(machine: Machine) -> Iterator[Finding]:
    docker = machine.docker
    if docker is None:
        return
    if docker.error:
        yield Finding("docker", f"Docker's socket is there but of no use: {docker.error}")
    version = tuple(map(int, re.findall(r"\d+", docker.version)[:2]))
    if version and version < _OLD_DOCKER:
        what = f"Docker {docker.version} is older than {'.'.join(map(str, _OLD_DOCKER))}, the oldest that Weave took"
        cure = "install a current Docker"
        yield Finding("docker", what, cure, severity=Severity.NOTE, certainty=Certainty.POSSIBLE)


CHECKS = (
    Check(
        name="ports",
        condition="another process holds a port of plait's",
        symptom="plait launch says that a port is in use, or peers speak to something else",
        consequence="the node cannot start, or one address of this host answers peers with another program",
        cure="stop the other process, or choose another port on all nodes",
        reference="docs/cli.md, launch; ss -tulpn",
        examine=_ports,
    ),
    Check(
        name="range",
        condition="the host has a route into the addresses of containers",
        symptom="plait launch refuses to start, or containers and a part of the host's network do not meet",
        consequence="packets for a container leave by the other route, or packets for the other network stay here",
        cure="share out another range, on all peers",
        reference="docs/cli.md, launch --ipalloc-range",
        examine=_range,
    ),
    Check(
        name="clock",
        condition="nothing keeps the clock right",
        symptom='one day a connection ends with "the peer\'s clock is ... s ahead of ours"',
        consequence="a clock runs away by seconds a week or more; peers whose clocks are more than 15 minutes apart "
        "disconnect, since names are deleted by time stamps",
        cure="systemctl enable --now systemd-timesyncd (or chrony)",
        reference="docs/cli.md, names; adjtimex(2)",
        severity=Severity.NOTE,
        certainty=Certainty.LIKELY,
        examine=_clock,
    ),
    Check(
        name="descriptors",
        condition="nearly all file descriptors are used",
        symptom="'Too many open files'",
        consequence="no new connection to a peer, no new container",
        cure="raise the limit",
        reference="getrlimit(2), proc_sys_fs(5)",
        examine=_descriptors,
    ),
    Check(
        name="buffers",
        condition="the node may not have the receive buffers that it wants",
        symptom="loss under load on connections that go by user space",
        consequence="datagrams are dropped when the pump does not run for a moment",
        cure="raise the limit",
        reference="socket(7), SO_RCVBUFFORCE",
        severity=Severity.NOTE,
        examine=_buffers,
    ),
    Check(
        name="udp-memory",
        condition="the kernel's memory for UDP is used up",
        symptom="loss on connections that go by user space, though buffers are not full",
        consequence="the kernel drops datagrams of all sockets",
        cure="find the socket that nobody reads (ss -uamp), or raise the limit",
        reference="udp(7), udp_mem",
        examine=_udp_memory,
    ),
    Check(
        name="memory",
        condition="memory is short",
        symptom="everything stands still for moments; connections flap",
        consequence="the node or its pump waits for memory while heartbeats pass, or is killed",
        cure="find who uses it (ps aux --sort -rss), or add some",
        reference="Linux Documentation/accounting/psi.rst, proc_meminfo(5)",
        certainty=Certainty.LIKELY,
        examine=_memory,
    ),
    Check(
        name="docker",
        condition="Docker is there but does not answer",
        symptom="plait attach NAME finds no container",
        consequence="containers can be named by process id or netns:NAME only",
        cure="systemctl restart docker",
        reference="dockerd(8)",
        examine=_docker,
    ),
)
