"""Reading and writing /proc/sys/net, in the network namespace of the calling thread.

/proc/sys/net shows the namespace of the thread that opens it, so it works inside `netns.entered`.
"""

from pathlib import Path

from plait.errors import KernelLacks
from plait.host.kernel_errors import kernel_error

_ROOT = Path("/proc/sys")


def read(key: str) -> str:
    """The value of a key such as `net.ipv4.ip_forward`. Raise KernelLacks if there is none.

    Write `/` in the place of `.` between the parts if an interface's name has a dot, as sysctl(8) does.
    """
    try:
        return _path(key).read_text().strip()
    except FileNotFoundError as error:
        raise _no_key(key) from error
    except OSError as error:
        raise kernel_error(error.errno or 0, f"read the setting {key}") from error


def write(key: str, value: str) -> None:
    """Set a key, unless it has the value already. Raise KernelLacks, PermissionNeeded or KernelRefused."""
    if read(key) == value:
        return
    try:
        _path(key).write_text(value)
    except OSError as error:
        raise kernel_error(error.errno or 0, f"set {key}={value}") from error


def _path(key: str) -> Path:
    return _ROOT / (key if "/" in key else key.replace(".", "/"))


def _no_key(key: str) -> KernelLacks:
    return KernelLacks(f"this kernel has no setting {key} (or its interface is gone); see `sysctl -a`")
