"""What this machine lacks for a lab."""

import functools
import os
import shutil

from plait.errors import PlaitError
from plait.host import firewall, netns, nftables
from plait.host.firewall import Chain, Hook, Rule, Table
from plait.host.netlink import Netlink

_PROBE = f"labprobe{os.getpid()}"


_LOSSY = Table("bridge", "lab", (Chain("wire", (Rule("numgen random mod 2 0 drop"),), Hook("forward")),))
_TRANSLATING = Table("ip", "lab", (Chain("out", (Rule("masquerade"),), Hook("postrouting", "nat", "srcnat")),))


def missing_features() -> list[str]:
    """Sentences, one for each thing without which no lab can run here; none if all is well. Looks once."""
    return list(_missing())


@functools.cache
def _missing() -> tuple[str, ...]:
    if os.geteuid() != 0:
        return ("a lab needs root for network namespaces",)
    found = []
    if shutil.which("ip") is None:
        found.append("the program ip is missing (Debian: iproute2)")
    library = nftables.missing()
    if library is not None:
        return (*found, library)
    return (*found, *_kernel())


def _kernel() -> list[str]:
    try:
        path = netns.create(_PROBE)
    except PlaitError as error:
        return [str(error)]
    try:
        with netns.entered(path), Netlink() as netlink:
            netlink.create_bridge("bridge", mtu=1500)
            netlink.create_veth("one", "other", 1500)
            firewall.apply(_LOSSY)
            firewall.apply(_TRANSLATING)
    except PlaitError as error:
        return [str(error)]
    finally:
        netns.delete(_PROBE)
    return []
