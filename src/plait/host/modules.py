"""Which parts the kernel has, loaded or not, without loading any."""

import os
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path


class State(StrEnum):
    """Where a part of the kernel is."""

    PRESENT = "present"
    """Loaded, or never a module."""
    LOADABLE = "loadable"
    """Comes when something asks for it."""
    ABSENT = "absent"


def states(names: Iterable[str], directory: Path | None = None) -> dict[str, State]:
    """Look for modules by name (`nf_tables`). Those of which nothing can be known are left out.

    That is so where `directory` is missing; it is the running kernel's, under /lib/modules, if None.
    """
    directory = directory or Path("/lib/modules", os.uname().release)
    loaded = {line.split()[0] for line in _lines(Path("/proc/modules"))}
    builtin, loadable = _names(directory / "modules.builtin"), _names(directory / "modules.dep")
    found = {}
    for name in names:
        if name in loaded or name in builtin or Path("/sys/module", name).exists():
            found[name] = State.PRESENT
        elif name in loadable:
            found[name] = State.LOADABLE
        elif builtin or loadable:
            found[name] = State.ABSENT
    return found


def _names(path: Path) -> set[str]:
    """From `kernel/net/bridge/bridge.ko.xz: ...`; the kernel's own names have no dashes."""
    return {line.partition(":")[0].rpartition("/")[2].partition(".ko")[0].replace("-", "_") for line in _lines(path)}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
