"""The systems under measurement, one file each. `available()` gives those that can run here."""

import os
from collections.abc import Callable, Mapping
from functools import partial

from bench import plan
from bench.systems.base import System
from bench.systems.plait import Plait
from bench.systems.routed import Routed
from bench.systems.vxlan import VxlanBridge
from bench.systems.weave import Weave

WEAVER_VARIABLE = "PLAIT_WEAVER"
_PASSWORD = "benchmark"

__all__ = ["WEAVER_VARIABLE", "System", "available"]


def available() -> Mapping[str, Callable[[], System]]:
    """Give a maker for each system, in the order of the table. Weave is among them if PLAIT_WEAVER names `weaver`."""
    makers: dict[str, Callable[[], System]] = {plan.PLAIT: Plait, plan.PLAIT_ENC: partial(Plait, _PASSWORD)}
    weaver = os.environ.get(WEAVER_VARIABLE)
    if weaver:
        makers |= {plan.WEAVE: partial(Weave, weaver), plan.WEAVE_ENC: partial(Weave, weaver, _PASSWORD)}
    return makers | {plan.VXLAN: VxlanBridge, plan.ROUTED: Routed}
