"""What the kernel's error numbers mean to a person: turns them into PlaitErrors with a cure."""

import errno
import os

from plait.errors import AddressInUse, KernelLacks, KernelRefused, PermissionNeeded, PlaitError


class NoSuchLink(KernelRefused):
    """The network interface is not there (any more)."""


class NoSuchNamespace(KernelRefused):
    """The network namespace is not there (any more)."""


def kernel_error(number: int, doing: str, detail: str = "") -> PlaitError:
    """Explain error `number` met while `doing` something ("create the bridge weave"); `detail` is the kernel's text."""
    reason = detail or os.strerror(number)
    if number in (errno.EPERM, errno.EACCES):
        return PermissionNeeded(f"cannot {doing}: {reason}; run it as root (capability NET_ADMIN, and SYS_ADMIN)")
    if number == errno.EROFS:
        return PermissionNeeded(f"cannot {doing}: /proc/sys is mounted read-only here; use a privileged container")
    if number in (errno.ENODEV, errno.ENXIO):
        return NoSuchLink(f"cannot {doing}: the network interface does not exist (any more)")
    if number == errno.EADDRINUSE:
        return AddressInUse(f"cannot {doing}: its port or address is taken; `ss -lunpt` shows by which program")
    if number == errno.EOPNOTSUPP:
        return KernelLacks(f"cannot {doing}: this kernel does not support it ({reason})")
    return KernelRefused(f"cannot {doing}: {reason}")


def lacks_link_kind(kind: str, doing: str) -> KernelLacks:
    """Explain that links of this kind cannot be made."""
    return KernelLacks(
        f"cannot {doing}: this kernel has no {kind}; load it with 'modprobe {kind}', "
        "or boot a kernel that has it built in or as a module"
    )
