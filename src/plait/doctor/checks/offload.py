"""What network cards and their drivers do wrong when they are to spare the kernel work."""

from collections.abc import Iterator

from plait.doctor.check import Check
from plait.doctor.finding import Certainty, Finding, Severity
from plait.doctor.fix import Offload
from plait.doctor.machine import Machine

UFO = "tx-udp-fragmentation"
_UFO_DRIVERS = ("virtio_net", "tun", "macvtap", "s2io")
# The first with the check of the length before UFO is asked for (upstream 3.13, daba287b299e).
_RHEL7_WITH_DF_FIX = 150
_TUNNEL_OFFLOADS = ("tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation")
_BAD_TUNNEL_DRIVERS = {"vmxnet3": Certainty.LIKELY, "bnx2x": Certainty.POSSIBLE, "hv_netvsc": Certainty.POSSIBLE}
_IANA_VXLAN = 4789


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
        if _weave_runs(machine):
            danger += "; a Weave router runs here"
        elif weaves:
            danger += f"; plait never sends such, Weave peers on machines like this one do: look at {', '.join(weaves)}"
        is_known = driver in _UFO_DRIVERS
        yield Finding(
            link.name,
            what + danger,
            fix=Offload(link.name, UFO, on=False),
            severity=Severity.BREAKS if not has_df_fix and _weave_runs(machine) else None,
            certainty=(Certainty.LIKELY if has_df_fix else Certainty.CERTAIN) if is_known else Certainty.POSSIBLE,
        )


def _weave_runs(machine: Machine) -> bool:
    """Whether somebody has a raw UDP socket open: column 2 of /proc/net/raw is address:protocol."""
    rows = (machine.text("/proc/net/raw") or "").splitlines()[1:]
    return any(len(row.split()) > 1 and row.split()[1].endswith(":0011") for row in rows)


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
)
