"""What the running kernel has of eBPF, found out by trying, without a trace."""

import errno
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from mmap import PAGESIZE
from struct import pack

from plait.errors import PlaitError
from plait.host.bpf import tcx
from plait.host.bpf.loader import CodeRefused, load_code
from plait.host.bpf.maps import Map
from plait.host.bpf.spec import MapKind, MapSpec

_NO_INTERFACE = 0
_LOG_BYTES = 1 << 16
_RETURN_ZERO = pack("<BBhi", 0xB7, 0, 0, 0) + pack("<BBhi", 0x95, 0, 0, 0)  # r0 = 0; exit
_CALL, _EXIT = 0x85, pack("<BBhi", 0x95, 0, 0, 0)
# What verifiers say of a helper that they do not know, or not for traffic hooks; other complaints are about arguments.
_UNKNOWN_HELPER = re.compile(r"(invalid|unknown) func|cannot use helper")
# By field: number of the helper (enum bpf_func_id), its name, the first Linux with it.
_HELPERS = {
    "check_mtu": (163, "bpf_check_mtu", "5.12"),
    "redirect_peer": (155, "bpf_redirect_peer", "5.10"),
    "redirect_neigh": (152, "bpf_redirect_neigh", "5.10"),
    "loop": (181, "bpf_loop", "5.17"),
}


@dataclass(frozen=True, slots=True)
class KernelFeatures:
    """What there is; `reasons` has a sentence for each field that is False. Without `bpf` there is nothing."""

    bpf: bool
    """Programs for traffic hooks can be loaded by this process."""
    tcx: bool
    """Way.TCX."""
    ring_buffer: bool
    """MapKind.RINGBUF."""
    check_mtu: bool
    redirect_peer: bool
    redirect_neigh: bool
    loop: bool
    """The helpers bpf_check_mtu, bpf_redirect_peer, bpf_redirect_neigh and bpf_loop."""
    reasons: Mapping[str, str] = field(default_factory=dict)

    def lacks(self) -> list[str]:
        """A sentence for each thing that is missing: what, and what to do. If there is no eBPF at all, only that."""
        return [self.reasons["bpf"]] if not self.bpf else list(self.reasons.values())


def probe() -> KernelFeatures:
    """Try everything; takes a few milliseconds. Never raises for what is missing."""
    refused = _why_no_bpf()
    if refused:
        names = ("bpf", "tcx", "ring_buffer", *_HELPERS)
        return KernelFeatures(**dict.fromkeys(names, False), reasons=dict.fromkeys(names, refused))
    reasons = {"tcx": _why_no_tcx(), "ring_buffer": _why_no_ring_buffer()}
    reasons |= {name: _why_no_helper(*helper) for name, helper in _HELPERS.items()}
    present = {name: not reason for name, reason in reasons.items()}
    return KernelFeatures(bpf=True, **present, reasons={name: why for name, why in reasons.items() if why})


def _why_no_bpf() -> str:
    try:
        os.close(load_code("probe", _RETURN_ZERO, "")[0])
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            return (
                "this process may not load eBPF programs: run plait as root with the capabilities BPF and NET_ADMIN, "
                "in a container with '--privileged' or a seccomp profile that allows bpf(2)"
            )
        if error.errno == errno.ENOSYS:
            return "this kernel has no eBPF: boot one with CONFIG_BPF_SYSCALL"
        return f"this kernel does not take eBPF programs for traffic hooks ({error.strerror}): boot Linux 5.10 or later"
    return ""


def _why_no_tcx() -> str:
    try:
        tcx.query(_NO_INTERFACE, tcx.INGRESS)
    except OSError as error:
        if error.errno == errno.ENODEV:  # it knows the hook, and looked for the interface
            return ""
        return f"this kernel has no tcx links ({error.strerror}): Linux 6.6 has them; until then clsact filters serve"
    return ""


def _why_no_ring_buffer() -> str:
    try:
        Map.create(MapSpec("probe", MapKind.RINGBUF, 0, 0, PAGESIZE)).close()
    except PlaitError as error:
        return f"this kernel gives no eBPF ring buffers, which Linux 5.8 and later have: {error}"
    return ""


def _why_no_helper(number: int, name: str, since: str) -> str:
    code = pack("<BBhi", _CALL, 0, 0, number) + _EXIT
    try:
        os.close(load_code("probe", code, "", log_bytes=_LOG_BYTES)[0])
    except CodeRefused as error:
        if _UNKNOWN_HELPER.search(error.log) or not error.log:
            return f"this kernel has no {name} for traffic programs: boot Linux {since} or later"
    return ""
