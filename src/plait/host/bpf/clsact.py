"""Programs at traffic hooks by filters of the clsact qdisc (Linux 4.5 and later), through netlink.

As in `netlink`: call it in the namespace of the interface, and not in a thread whose asyncio loop runs.
"""

import asyncio
import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from plait.errors import KernelRefused, PlaitError
from plait.host._pyroute2 import IPRoute, NetlinkError, package_not_run
from plait.host.kernel_errors import kernel_error

with package_not_run("pyroute2"):
    from pyroute2.netlink.rtnl.tcmsg.sched_bpf import options as _options

INGRESS, EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
"""The hooks as parents of filters: TC_H_CLSACT with TC_H_MIN_INGRESS and TC_H_MIN_EGRESS (linux/pkt_sched.h)."""

HANDLE, PRIORITY = 1, 6784
"""What makes a filter ours: fixed, so that a new program replaces the old one; unlikely for another tool."""

_OUR_NAMES = "plait:"
_ETH_P_ALL = 3
_PRIORITY_SHIFT = 16  # in tcm_info, above the protocol
# pyroute2 0.9 ends its list of attributes before these (linux/pkt_cls.h), and gives unknown ones without their value.
_KNOWN = {name for name, _ in _options.nla_map}
if "TCA_BPF_ID" not in _KNOWN:
    _options.nla_map = (
        *_options.nla_map,
        ("TCA_BPF_FLAGS_GEN", "uint32"),
        ("TCA_BPF_TAG", "hex"),
        ("TCA_BPF_ID", "uint32"),
    )


def attach(program_fd: int, program_name: str, ifindex: int, parent: int, doing: str) -> None:
    """Have the program run at the hook, in the place of the one of ours before it. Raise PlaitError."""
    with _netlink(doing) as ip:
        _ensure_qdisc(ip, ifindex, doing)
        ip.tc(
            "replace-filter",
            "bpf",
            ifindex,
            fd=program_fd,
            name=f"{_OUR_NAMES}{program_name}",
            direct_action=True,
            **_place(parent),
        )


def detach(ifindex: int, parent: int, doing: str) -> None:
    """Take our program away, and the qdisc if no other filter is left in it; absent is fine. Raise PlaitError."""
    with _netlink(doing) as ip:
        if _our_program(ip, ifindex, parent) is None:
            return
        try:
            ip.tc("del-filter", "bpf", ifindex, **_place(parent))
            if not any(_filters(ip, ifindex, each) for each in (INGRESS, EGRESS)):
                ip.tc("del", "clsact", ifindex)
        except NetlinkError as error:
            if error.code not in (errno.ENODEV, errno.ENOENT):
                raise


def attached(ifindex: int, parent: int, doing: str) -> int | None:
    """The number of our program at the hook; None without one. Raise PlaitError."""
    with _netlink(doing) as ip:
        return _our_program(ip, ifindex, parent)


def _place(parent: int) -> dict[str, int]:
    return {"parent": parent, "handle": HANDLE, "prio": PRIORITY, "protocol": _ETH_P_ALL}


def _ensure_qdisc(ip: Any, ifindex: int, doing: str) -> None:
    try:
        ip.tc("add", "clsact", ifindex)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise
        kinds = [dict(message["attrs"]).get("TCA_KIND") for message in ip.tc("dump", index=ifindex)]
        if "ingress" in kinds:  # it takes the same place, and has no hook for what is sent
            raise KernelRefused(
                f"cannot {doing}: the interface has the older qdisc `ingress`, which excludes clsact; remove it with "
                "'tc qdisc delete dev INTERFACE ingress' if nothing uses it"
            ) from error


def _our_program(ip: Any, ifindex: int, parent: int) -> int | None:
    for message in _filters(ip, ifindex, parent):
        found = dict(dict(message["attrs"])["TCA_OPTIONS"]["attrs"])
        is_here = (message["handle"], message["info"] >> _PRIORITY_SHIFT) == (HANDLE, PRIORITY)
        if is_here and found.get("TCA_BPF_NAME", "").startswith(_OUR_NAMES):
            return int(found["TCA_BPF_ID"])
    return None


def _filters(ip: Any, ifindex: int, parent: int) -> list[Any]:
    """The filters at a hook, without the entries that stand for their priorities; none without qdisc or interface."""
    messages = list(ip.get_filters(index=ifindex, parent=parent))
    return [message for message in messages if "TCA_OPTIONS" in dict(message["attrs"])]


@contextmanager
def _netlink(doing: str) -> Iterator[Any]:
    _refuse_running_loop()
    ip = IPRoute(ext_ack=True, strict_check=True)
    try:
        yield ip
    except NetlinkError as error:
        raise _explain(error, doing) from error
    finally:
        ip.close()


def _explain(error: NetlinkError, doing: str) -> PlaitError:
    return kernel_error(error.code, doing, error.args[1] if len(error.args) > 1 else "")


def _refuse_running_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("use clsact filters in a thread of its own (asyncio.to_thread), not in the event loop's")
