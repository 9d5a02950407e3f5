"""The two names of pyroute2 that we use, without the rest of it.

The package's own code imports all of its parts (NDB, nftables, 9p, ...): 6 MB in every node, and 35 ms of every launch.
"""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["IPRoute", "NetlinkError"]


@contextmanager
def package_not_run(name: str) -> Iterator[None]:
    """While the block runs, let parts of a package be imported although its `__init__` was not run.

    Afterwards the package can be imported whole as ever; it then finds the parts that are there.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or name in sys.modules:
        yield
        return
    sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        yield
    finally:
        del sys.modules[name]


try:
    with package_not_run("pyroute2"):
        from pyroute2.iproute.linux import IPRoute
        from pyroute2.netlink.exceptions import NetlinkError
except ImportError:  # a version whose parts want something of the package
    from pyroute2.iproute.linux import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError
