"""Where programs run: the traffic hooks of a network interface, by a tcx link or by a clsact filter.

A tcx link is held by its pin, a clsact filter by the interface: both outlive the process, and end with the interface.
Call it in the interface's network namespace; for clsact not in a thread whose asyncio loop runs.
"""

from enum import Enum
from pathlib import Path

from plait.host.bpf import clsact, tcx
from plait.host.bpf.loader import Program
from plait.host.kernel_errors import NoSuchLink, kernel_error


class Direction(Enum):
    """Which frames a program sees: those that come in by the interface, or those that go out."""

    INGRESS = "ingress"
    EGRESS = "egress"


class Way(Enum):
    """How a program is attached: `features.probe` says whether the kernel has tcx; every kernel has clsact."""

    TCX = "tcx"
    CLSACT = "clsact"


_TCX = {Direction.INGRESS: tcx.INGRESS, Direction.EGRESS: tcx.EGRESS}
_CLSACT = {Direction.INGRESS: clsact.INGRESS, Direction.EGRESS: clsact.EGRESS}


def attach(program: Program, ifindex: int, direction: Direction, pin: Path | None, *, way: Way) -> None:
    """Have a program run at the hook, in the place of the one of ours that runs there, without a gap.

    `pin` is the link's name in a BPF file system, one for each hook: needed for tcx, not used for clsact. A link pinned
    there for another interface, or for one that is gone, is removed. Raise NoSuchLink, PlaitError.
    """
    doing = f"attach the eBPF program {program.name} to the {direction.value} of the interface number {ifindex}"
    if ifindex <= 0:
        raise NoSuchLink(f"cannot {doing}: there is no such interface")
    if way is Way.TCX:
        tcx.attach(program.fd, ifindex, _TCX[direction], _needed(pin), doing)
    else:
        clsact.attach(program.fd, program.name, ifindex, _CLSACT[direction], doing)


def detach(ifindex: int, direction: Direction, pin: Path | None, way: Way) -> None:
    """Take our program away from the hook, and the pin; absent is fine, also the interface. Raise PlaitError."""
    if way is Way.TCX:
        tcx.detach(_needed(pin))
    else:
        doing = f"detach the eBPF program from the {direction.value} of the interface number {ifindex}"
        clsact.detach(ifindex, _CLSACT[direction], doing)


def attached(ifindex: int, direction: Direction, way: Way, pin: Path | None = None) -> int | None:
    """The number (`Program.id`) of our program at the hook; None if there is none. Raise PlaitError.

    tcx does not say whose a program is: with `pin` it is that of the link pinned there, without it the first that runs.
    """
    doing = f"look at the {direction.value} of the interface number {ifindex}"
    if way is Way.CLSACT:
        return clsact.attached(ifindex, _CLSACT[direction], doing)
    if pin is not None:
        return tcx.attached(ifindex, _TCX[direction], pin)
    try:
        return next(iter(tcx.query(ifindex, _TCX[direction])), None)
    except OSError as error:
        explained = kernel_error(error.errno or 0, doing)
        if isinstance(explained, NoSuchLink):
            return None
        raise explained from error


def _needed(pin: Path | None) -> Path:
    if pin is None:
        raise ValueError("a tcx link needs a pin, or the program would go with this process")
    return pin
