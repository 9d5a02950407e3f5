"""What is wrong with the links that the overlay is made of: bridge, its ports, VXLAN devices."""

from collections.abc import Iterator

from plait.doctor import facts
from plait.doctor.check import Check
from plait.doctor.finding import Finding, Severity
from plait.doctor.fix import Setting
from plait.doctor.machine import Machine

_OURS = "vethwe-vxlan"
_WEAVES = "vxlan-6784"
# Ports by which frames of other hosts come in: plait's two, and that of Weave's router.
_UPLINKS = ("vethwe-sleeve", "vethwe-vxlan", "vethwe-bridge")
# linux/netdevice.h: somebody chose the address, so that the kernel leaves it.
_NET_ADDR_SET = 3


def _vxlan_port(machine: Machine) -> Iterator[Finding]:
    port = machine.port + 1
    severity = Severity.BREAKS if machine.node else Severity.RISK
    for link in machine.links:
        if link.vxlan is None or link.vxlan.port != port or not link.up or link.name in (_OURS, _WEAVES):
            continue
        network = "many networks" if link.vxlan.external else f"network {link.vxlan.vni or 0}"
        what = f"the VXLAN device {link.name} ({network}) receives at UDP port {port}, which is the overlay's"
        cure = f"launch all nodes with another port, 'plait launch --port N' (VXLAN has N + 1), or move {link.name}"
        yield Finding(link.name, what, cure, severity=severity)
    for holder in machine.holders(port):
        if holder.protocol == "udp" and holder.pid is not None:
            what = f"{_who(holder)} receives at UDP port {port} ({holder.address}), which is the overlay's for VXLAN"
            cure = "stop it, or launch all nodes with another port: 'plait launch --port N' (VXLAN has N + 1)"
            yield Finding(holder.process or "udp", what, cure, severity=severity)


def _who(holder: facts.Holder) -> str:
    return f"{holder.process} (process {holder.pid})"


def _hairpin(machine: Machine) -> Iterator[Finding]:
    for port in machine.names(f"/sys/class/net/{machine.bridge}/brif"):
        path = f"/sys/class/net/{machine.bridge}/brif/{port}/hairpin_mode"
        if port in _UPLINKS and machine.number(path):
            what = f"the bridge {machine.bridge} sends frames back to {port}, whence they came (hairpin_mode is 1)"
            yield Finding(port, what, fix=Setting(path, "0"))


def _bridge_mac(machine: Machine) -> Iterator[Finding]:
    bridge = machine.link(machine.bridge)
    kind = machine.number(f"/sys/class/net/{machine.bridge}/addr_assign_type")
    if bridge is not None and bridge.kind == "bridge" and kind not in (None, _NET_ADDR_SET):
        what = f"nobody chose the MAC address of {bridge.name} ({bridge.mac}; addr_assign_type is {kind})"
        cure = f"ip link set dev {bridge.name} address {bridge.mac}"
        yield Finding(bridge.name, what, cure, "as long as the bridge is there; plait chooses one when it makes it")


def _port_mtu(machine: Machine) -> Iterator[Finding]:
    bridge = machine.link(machine.bridge)
    for port in machine.links:
        if bridge is not None and port.master == bridge.name and port.mtu < bridge.mtu:
            what = f"{port.name} takes packets of {port.mtu} bytes, the bridge {bridge.name} that it is in {bridge.mtu}"
            cure = f"ip link set dev {port.name} mtu {bridge.mtu}"
            severity = Severity.BREAKS if port.name in _UPLINKS else None
            yield Finding(port.name, what, cure, "as long as the interface is there", severity=severity)


def _bridge_kind(machine: Machine) -> Iterator[Finding]:
    bridge = machine.link(machine.bridge)
    if bridge is not None and bridge.kind != "bridge":
        what = f"{bridge.name} is there, but of kind {bridge.kind or 'unknown'} instead of bridge"
        if bridge.kind == "openvswitch":
            cure = "'weave reset' (containers on it lose their network), or 'plait launch --weave-bridge NAME'"
        else:
            cure = f"ip link delete {bridge.name}, or 'plait launch --weave-bridge NAME'"
        yield Finding(bridge.name, what, cure)


CHECKS = (
    Check(
        name="vxlan-port",
        rows=(11,),
        condition="two receivers of VXLAN on one port",
        symptom="'Address in use' when a VXLAN device is to come up; connections stay in user space (sleeve)",
        consequence="only one of them receives: the kernel's path does not come up, or frames of one overlay end in "
        "the other",
        cure="give one of them another port",
        reference="Linux Documentation/networking/vxlan.rst; ports: 4789 (IANA), 8472 (Linux, flannel), 6784 (Weave, "
        "plait)",
        severity=Severity.BREAKS,
        examine=_vxlan_port,
    ),
    Check(
        name="hairpin",
        rows=(15,),
        condition="hairpin mode on the overlay's ports of the bridge",
        symptom="the same packet comes several times; addresses of containers jump between peers; the log of Weave "
        "says 'MAC associated with another peer'",
        consequence="frames from other hosts go back into the overlay: they circle, and switches learn that containers "
        "are where they are not",
        cure="turn it off; only ports of containers may have it",
        reference="bridge(8), hairpin; kubelet --hairpin-mode=hairpin-veth",
        severity=Severity.BREAKS,
        examine=_hairpin,
    ),
    Check(
        name="bridge-mac",
        rows=(16,),
        condition="the kernel chooses the bridge's MAC address from its ports",
        symptom="containers lose the host's exposed address for a while when others come and go",
        consequence="the address changes with the ports, and neighbours have the old one until they ask again",
        cure="set the address that it has",
        reference="Linux net/bridge/br_stp_if.c (br_stp_recalculate_bridge_id); sysfs-class-net, addr_assign_type",
        examine=_bridge_mac,
    ),
    Check(
        name="port-mtu",
        rows=(16,),
        condition="a port takes shorter packets than its bridge",
        symptom="ping and TCP reach a container, long datagrams do not",
        consequence="a bridge drops what a port cannot take, and tells nobody; a bridge whose MTU nobody set falls to "
        "that of the smallest port, for all",
        cure="give the port the bridge's MTU",
        reference="Linux net/bridge/br_forward.c (is_skb_forwardable)",
        examine=_port_mtu,
    ),
    Check(
        name="bridge-kind",
        condition="the name of the overlay's bridge belongs to a link of another kind",
        symptom="plait launch ends, or status says that the link exists but is no bridge",
        consequence="containers cannot be attached",
        cure="remove the link, or choose another name",
        reference="docs/cli.md, launch --weave-bridge",
        severity=Severity.BREAKS,
        examine=_bridge_kind,
    ),
)
