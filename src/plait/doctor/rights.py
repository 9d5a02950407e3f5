"""What this process may do, from /proc/self/status."""

import re

STATUS = "/proc/self/status"
_NET_ADMIN = 12
"""The number of the capability (linux/capability.h)."""

_EFFECTIVE = re.compile(r"^CapEff:\s*([0-9a-f]+)$", re.MULTILINE)


def has_net_admin(status: str | None) -> bool | None:
    """Whether the process has CAP_NET_ADMIN; None if the text does not say."""
    found = _EFFECTIVE.search(status or "")
    return None if found is None else bool(int(found[1], 16) >> _NET_ADMIN & 1)
