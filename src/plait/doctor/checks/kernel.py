"""What the running kernel lacks, and what it is known to do wrong."""

import re
from collections.abc import Iterator

from plait.doctor.check import Check
from plait.doctor.finding import Certainty, Finding, Severity
from plait.doctor.fix import Offload
from plait.doctor.machine import Machine

_ABSENT = "absent"
# For each part: who needs it, and how bad it is without.
_NEEDED = {
    "bridge": ("containers of one host share it", Severity.BREAKS),
    "veth": ("containers are attached by it", Severity.BREAKS),
    "tun": ("frames reach the user space path by it", Severity.BREAKS),
    "nf_tables": ("expose and the guard of the HTTP port are made with it", Severity.RISK),
    "vxlan": ("frames in the kernel travel by it; without it they go by user space", Severity.NOTE),
}
_MORE_MODULES = (
    "install the distribution's package of further modules (Ubuntu: linux-modules-extra-$(uname -r); "
    "RHEL: kernel-modules-extra), or boot another kernel"
)
_GRO_LIST = "rx-gro-list"
_LOCKED = re.compile(r"\[(\w+)\]")
_CIPHER = "gcm(aes)"


def _ebpf(machine: Machine) -> Iterator[Finding]:
    bpf = machine.bpf
    if bpf is None or not bpf.lacks:
        return
    locked = _LOCKED.search(machine.text("/sys/kernel/security/lockdown") or "")
    mode = f" (the kernel is locked down: {locked[1]})" if locked and locked[1] != "none" else ""
    effect = "some frames take longer ways" if bpf.carries else "frames go by user space"
    yield Finding("eBPF", f"Linux {machine.kernel.release}: {'; '.join(bpf.lacks)}{mode}; until then {effect}")


def _parts(machine: Machine) -> Iterator[Finding]:
    for name, (need, severity) in _NEEDED.items():
        if machine.modules.get(name) == _ABSENT:
            yield Finding(name, f"Linux {machine.kernel.release} has no {name}: {need}", severity=severity)


def _esp(machine: Machine) -> Iterator[Finding]:
    is_wanted = machine.weave_router or (machine.node is not None and machine.node.encrypted)
    crypto = machine.text("/proc/crypto") if is_wanted else None
    if crypto is None or re.search(rf"^name\s*: .*{re.escape(_CIPHER)}", crypto, re.MULTILINE):
        return
    missing = [name for name in ("gcm", "esp4") if machine.modules.get(name) == _ABSENT]
    if missing:
        what = f"the kernel has no {' and no '.join(missing)} (and no {_CIPHER} in /proc/crypto) for ESP"
        yield Finding("/proc/crypto", what)


def _dummy(machine: Machine) -> Iterator[Finding]:
    has_weave = machine.weave_router or (machine.docker is not None and machine.docker.weave)
    if has_weave and machine.modules.get("dummy") == _ABSENT:
        yield Finding("dummy", f"Linux {machine.kernel.release} has no dummy interfaces, and Weave was here")


def _gro_list(machine: Machine) -> Iterator[Finding]:
    carries = machine.bpf is not None and machine.bpf.carries
    if not carries or not machine.kernel.version[0] or not machine.kernel.is_before(6, 16):
        return
    for link in machine.underlays:
        if machine.ethtool(link.name).features.get(_GRO_LIST):
            what = f"{link.name} gives merged packets as lists ({_GRO_LIST}) to eBPF, on Linux {machine.kernel.release}"
            yield Finding(link.name, what, fix=Offload(link.name, _GRO_LIST, on=False))


def _vxlan_over_tun(machine: Machine) -> Iterator[Finding]:
    if not machine.kernel.version[0] or not machine.kernel.is_before(6, 8, 5):
        return
    for link in machine.underlays:
        if link.kind == "tun":
            what = f"peers are reached by {link.name}, a tunnel in user space, on Linux {machine.kernel.release}"
            yield Finding(link.name, what)


CHECKS = (
    Check(
        name="ebpf",
        condition="the kernel lacks eBPF of the kernel path",
        symptom="status says sleeve for connections to plait nodes, with the reason",
        consequence="nothing breaks: frames are carried in user space, which is slower and costs more CPU",
        cure="boot Linux 5.10 or later (6.6 has all of it)",
        reference="docs/protocol/fastdp.md; kernel_lockdown(7)",
        severity=Severity.NOTE,
        examine=_ebpf,
    ),
    Check(
        name="kernel-parts",
        condition="the kernel was built without a part that plait needs",
        symptom="plait launch, attach or expose ends with 'the kernel lacks ...'",
        consequence="what needs it does not work",
        cure=_MORE_MODULES,
        reference="/lib/modules/$(uname -r)/modules.builtin and modules.dep",
        severity=Severity.BREAKS,
        examine=_parts,
    ),
    Check(
        name="esp",
        rows=(25,),
        condition="the kernel lacks ESP with AES-GCM",
        symptom="with a password, Weave's connections stay on sleeve",
        consequence="Weave cannot encrypt in the kernel here. plait does not need it: it encrypts in user space",
        cure=f"{_MORE_MODULES}; let IP protocol 50 pass between the hosts",
        reference="RFC 4106; /proc/crypto",
        severity=Severity.NOTE,
        examine=_esp,
    ),
    Check(
        name="dummy",
        rows=(26,),
        condition="the kernel has no dummy interfaces",
        symptom="weave launch fails when it makes its bridge",
        consequence="Weave's router cannot start here, should you go back to it. plait does not need it",
        cure=_MORE_MODULES,
        reference="/lib/modules/$(uname -r)/modules.dep",
        severity=Severity.NOTE,
        examine=_dummy,
    ),
    Check(
        name="gro-list",
        rows=(5,),
        condition="lists of merged packets given to eBPF before Linux 6.16",
        symptom="the machine stops with 'kernel BUG at net/core/skbuff.c' in skb_segment",
        consequence="a program that pulls data out of such a list leaves a packet that the kernel cannot cut again",
        cure="turn the offload off; it is off unless somebody turned it on",
        reference="projectcalico/calico issue 11424",
        certainty=Certainty.POSSIBLE,
        examine=_gro_list,
    ),
    Check(
        name="vxlan-over-tun",
        condition="VXLAN over a user space tunnel before Linux 6.8.5",
        symptom="over Tailscale and the like UDP between containers is lost under load, ping works",
        consequence="datagrams that the tunnel hands over merged are dropped behind VXLAN",
        cure="boot Linux 6.8.5 or later, or keep frames in user space: plait launch --no-fastdp",
        reference="tailscale/tailscale issue 11026",
        certainty=Certainty.POSSIBLE,
        examine=_vxlan_over_tun,
    ),
)
