"""What network cards and their drivers do wrong when they are to spare the kernel work."""

from collections.abc import Iterator

from plait.doctor.check import Check
from plait.doctor.finding import Certainty, Finding, Severity
from plait.doctor.fix import Offload
from plait.doctor.machine import Machine
from plait.state import FILE_NAME as _STATE

UFO = "tx-udp-fragmentation"
_UFO_DRIVERS = ("virtio_net", "tun", "macvtap", "s2io")
# The first with the check of the length before UFO is asked for (upstream 3.13, daba287b299e).
_RHEL7_WITH_DF_FIX = 150
_TUNNEL_OFFLOADS = ("tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation")
_BAD_TUNNEL_DRIVERS = {"vmxnet3": Certainty.LIKELY, "bnx2x": Certainty.POSSIBLE, "hv_netvsc": Certainty.POSSIBLE}
_IANA_VXLAN = 4789
# Where Weave's router reads frames when it has no kernel path, by libpcap.
_CAPTURE_PORT = "vethwe-pcap"
_CHECKSUM, _TSO = "tx-checksum-ip-generic", "tx-tcp-segmentation"
# A few damaged segments are any network's; TCP suffers from about one in ten thousand on.
_FEW_ERRORS, _MANY_ERRORS = 20, 1e-4


def _ufo(machine: Machine) -> Iterator[Finding]:
    """Datagrams of a raw socket that the device is to cut, but cannot: it stops, and the machine is cut off."""
    kernel = machine.kernel
    if not kernel.version[0] or not kernel.is_before(4, 14):
        return
    has_df_fix = not kernel.is_before(3, 13) or (kernel.rhel_build or 0) >= _RHEL7_WITH_DF_FIX
    weaves = [peer.nickname or peer.name for peer in machine.node.peers if peer.weave] if machine.node else []
    for link in machine.underlays:
        driver = machine.driver(link.name)
        if not machine.ethtool(link.name).features.get(UFO):
            continue
        danger = (
            "large datagrams of raw sockets without DF can stop it"
            if has_df_fix
            else "Weave's 60000-byte probe of the path MTU stops it: no packet leaves until a reboot"
        )
        what = f"{link.name} (driver {driver or 'unknown'}) has UDP fragmentation offload on, Linux {kernel.release}: "
        if machine.weave_router:
            danger += "; a Weave router runs here"
        elif weaves:
            danger += f"; plait never sends such, Weave peers on machines like this one do: look at {', '.join(weaves)}"
        is_known = driver in _UFO_DRIVERS
        yield Finding(
            link.name,
            what + danger,
            fix=Offload(link.name, UFO, on=False),
            severity=Severity.BREAKS if not has_df_fix and machine.weave_router else None,
            certainty=(Certainty.LIKELY if has_df_fix else Certainty.CERTAIN) if is_known else Certainty.POSSIBLE,
        )


def _tunnel(machine: Machine) -> Iterator[Finding]:
    port = machine.port + 1
    for link in machine.underlays:
        driver, features = machine.driver(link.name), machine.ethtool(link.name).features
        certainty = _BAD_TUNNEL_DRIVERS.get(driver)
        if certainty is None or port == _IANA_VXLAN:
            continue
        for feature in _TUNNEL_OFFLOADS:
            if features.get(feature):
                what = (
                    f"{link.name} (driver {driver}) is to cut TCP inside VXLAN ({feature}), "
                    f"and may know no port but {_IANA_VXLAN}"
                )
                yield Finding(link.name, what, fix=Offload(link.name, feature, on=False), certainty=certainty)


def _lro(machine: Machine) -> Iterator[Finding]:
    for link in machine.underlays:
        if machine.ethtool(link.name).features.get("rx-lro"):
            what = f"{link.name} merges received packets in a way that cannot be taken back (rx-lro)"
            yield Finding(link.name, what, fix=Offload(link.name, "rx-lro", on=False))


def _captured(machine: Machine) -> bool:
    """Whether a Weave router takes frames off its bridge in user space: a packet socket at its port."""
    port = machine.link(_CAPTURE_PORT)
    rows = (machine.text("/proc/net/packet") or "").splitlines()[1:]
    return port is not None and any(row.split()[4:5] == [str(port.index)] for row in rows)


def _checksum_of_capture(machine: Machine) -> Iterator[Finding]:
    if not _captured(machine):
        return
    bridge = machine.bridge
    if machine.ethtool(bridge).features.get(_CHECKSUM):
        what = f"Weave reads frames at {_CAPTURE_PORT}, and {bridge} leaves the checksums of what it sends unfinished"
        yield Finding(bridge, what, fix=Offload(bridge, _CHECKSUM, on=False))
    if _STATE in machine.names("/var/lib/plait"):
        yield Finding(
            "containers",
            f"Weave reads frames at {_CAPTURE_PORT}, and plait ran here: containers that it attached leave the "
            "checksums of what they send unfinished, since plait finishes them and Weave does not",
            cure="for the process id PID of each: nsenter -t PID -n ethtool -K ethwe tx off",
            lasting="as long as the container runs; containers that Weave attaches have it off",
            severity=Severity.RISK,
            certainty=Certainty.POSSIBLE,
        )


def _super_frames(machine: Machine) -> Iterator[Finding]:
    bridge = machine.bridge
    if _captured(machine) and machine.ethtool(bridge).features.get(_TSO):
        what = f"Weave reads frames at {_CAPTURE_PORT}, and {bridge} sends TCP in frames of up to 64 KB ({_TSO})"
        yield Finding(bridge, what, fix=Offload(bridge, _TSO, on=False))


def _checksum_errors(machine: Machine) -> Iterator[Finding]:
    counters = machine.counters("Tcp")
    wrong, received = counters.get("InCsumErrors", 0), counters.get("InSegs", 0)
    if wrong >= _FEW_ERRORS and wrong > received * _MANY_ERRORS:
        what = f"{wrong} of {received} TCP segments since boot came with a wrong checksum (InCsumErrors)"
        yield Finding("/proc/net/snmp", what)


CHECKS = (
    Check(
        name="ufo",
        rows=(0,),
        condition="UDP fragmentation offload on a kernel before 4.14",
        symptom="right after a Weave connection comes up the machine is gone: no ARP, 'No buffer space available', "
        "the device's TX counter stands still",
        consequence="a large datagram of a raw socket reaches the driver with nonsense in its header; the ring of the "
        "device stops for good. plait never sends one; Weave's routers do",
        cure="turn the offload off before any Weave router starts, or boot a kernel from 4.14 on",
        reference="Linux daba287b299e (3.13), acf8dd0a9d0b (4.0), d9d30adf5677 (4.14); weaveworks/weave issue 2289",
        examine=_ufo,
    ),
    Check(
        name="tunnel-offload",
        rows=(2,),
        condition="a network card cuts TCP inside VXLAN, wrongly",
        symptom="ping works, TCP stands still or creeps",
        consequence="large segments between containers are lost or damaged on the wire",
        cure="turn the offload off",
        reference="weaveworks/weave issue 3887",
        severity=Severity.BREAKS,
        examine=_tunnel,
    ),
    Check(
        name="lro",
        rows=(5,),
        condition="LRO on an interface whose packets are forwarded",
        symptom="TCP through this host is slow, with many retransmissions",
        consequence="merged packets cannot be forwarded or bridged, and are dropped",
        cure="turn it off; GRO is fine",
        reference="Linux Documentation/networking/segmentation-offloads.rst",
        severity=Severity.BREAKS,
        certainty=Certainty.LIKELY,
        examine=_lro,
    ),
    Check(
        name="capture-checksum",
        rows=(3,),
        condition="checksum offload before a Weave router that reads frames in user space",
        symptom="on the way back from plait to Weave: ping works between containers, TCP and UDP do not",
        consequence="the far side drops TCP and UDP for their wrong checksums. plait is not concerned: its tap says "
        "which checksums are unfinished",
        cure="turn the offload off at the sender's end",
        reference="Linux Documentation/networking/checksum-offloads.rst",
        severity=Severity.BREAKS,
        certainty=Certainty.LIKELY,
        examine=_checksum_of_capture,
    ),
    Check(
        name="super-frames",
        rows=(4,),
        condition="TCP segmentation offload before a Weave router that reads frames in user space",
        symptom="on the way back from plait to Weave: TCP is slow, the router speaks of frames that are too long",
        consequence="frames of 64 KB reach a router that expects single packets: they are dropped or cut into IP "
        "fragments. plait is not concerned: it takes super-frames as they are",
        cure="turn the offload off at the sender's end",
        reference="Linux Documentation/networking/segmentation-offloads.rst",
        severity=Severity.BREAKS,
        certainty=Certainty.LIKELY,
        examine=_super_frames,
    ),
    Check(
        name="checksum-errors",
        rows=(30,),
        condition="segments arrive with wrong checksums",
        symptom="TCP to this host is slow, with retransmissions; tests on a single host see nothing of it",
        consequence="frames damaged on their way, or sent with unfinished checksums, are dropped here; between "
        "containers of one host nobody checks them, so the fault shows only where they are forwarded to",
        cure="find the sender (tcpdump -vv says 'incorrect'), and turn its transmit checksum offload off: "
        "ethtool -K IF tx off",
        reference="Linux Documentation/networking/checksum-offloads.rst",
        certainty=Certainty.LIKELY,
        examine=_checksum_errors,
    ),
)
