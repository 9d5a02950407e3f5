"""The systems under measurement, one file each. `available()` gives those that can run here."""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from bench import plan
from bench.systems import nebula, swarm, tinc, wireguard
from bench.systems.base import System
from bench.systems.crowd import Crowd
from bench.systems.plait import BY_DEVICE, COMPILED_LOOP, DIRECT, PYTHON_LOOP, WEAVE_FORMAT, Plait
from bench.systems.routed import Routed
from bench.systems.vxlan import VxlanBridge
from bench.systems.weave import Weave

WEAVER_VARIABLE = "PLAIT_WEAVER"
_PASSWORD = "benchmark"
_RIVALS: tuple[tuple[str, Iterable[str], Callable[[], System]], ...] = (
    (plan.SWARM, swarm.PROGRAMS, swarm.DockerSwarm),
    (plan.NEBULA, nebula.PROGRAMS, nebula.Nebula),
    (plan.WIREGUARD, wireguard.PROGRAMS, wireguard.WireguardGo),
    (plan.TINC, tinc.PROGRAMS, tinc.Tinc),
)

__all__ = ["WEAVER_VARIABLE", "System", "available", "left_out"]


def available() -> Mapping[str, Callable[[], System]]:
    """Give a maker for each system that can run here, in the order of the table."""
    makers: dict[str, Callable[[], System]] = {
        plan.FASTDP: partial(Plait, BY_DEVICE),
        plan.FASTDP_DIRECT: partial(Plait, DIRECT),
        plan.SLEEVE: partial(Plait, PYTHON_LOOP),
        plan.SLEEVE_ENC: partial(Plait, PYTHON_LOOP, _PASSWORD),
        plan.SLEEVE_C: partial(Plait, COMPILED_LOOP),
        plan.SLEEVE_C_ENC: partial(Plait, COMPILED_LOOP, _PASSWORD),
        plan.WEAVEFORMAT: partial(Plait, WEAVE_FORMAT),
        plan.WEAVEFORMAT_ENC: partial(Plait, WEAVE_FORMAT, _PASSWORD),
    }
    weaver = os.environ.get(WEAVER_VARIABLE)
    if weaver:
        makers |= {plan.WEAVE: partial(Weave, weaver), plan.WEAVE_ENC: partial(Weave, weaver, _PASSWORD)}
    rivals = {name: make for name, programs, make in _RIVALS if not _missing(programs)}
    crowds = {name: partial(Crowd, peers) for peers, name in plan.PEERS.items()}
    return makers | {plan.VXLAN: VxlanBridge} | rivals | {plan.ROUTED: Routed} | crowds


def left_out() -> list[str]:
    """Say in a sentence each which systems cannot run here, and why."""
    lines = []
    if not os.environ.get(WEAVER_VARIABLE):
        lines.append(f"Weave is left out: {WEAVER_VARIABLE} does not name a weaver program")
    for name, programs, _ in _RIVALS:
        if missing := _missing(programs):
            lines.append(f"{name} is left out: {' and '.join(missing)} not found; scripts/setup bench installs it")
    return lines


def _missing(programs: Iterable[str]) -> list[str]:
    return [program for program in programs if shutil.which(program) is None]
