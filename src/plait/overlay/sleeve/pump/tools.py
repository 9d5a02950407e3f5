"""Chooses what cuts and joins super-frames: the compiled code where it was built, else Python."""

import ctypes
from typing import Literal

from plait.overlay.sleeve.compiled_cutter import CompiledCutter
from plait.overlay.sleeve.cutting import PythonCutter
from plait.overlay.sleeve.native.build import built_library
from plait.overlay.sleeve.native.engine import CompiledEngine, load_engine
from plait.overlay.sleeve.native.flows import NativeFlows
from plait.overlay.sleeve.pump.loop import Tools

LOOPS: tuple[Literal["auto", "python", "compiled"], ...] = ("auto", "python", "compiled")


def tools(loop: Literal["auto", "python", "compiled"]) -> Tools:
    """Give what the pump works with. Raises PlaitError if "compiled" is wanted and cannot be had."""
    engine, sentence = load_engine(loop)
    if isinstance(engine, CompiledEngine):
        cutter = CompiledCutter(ctypes.CDLL(str(built_library())))
        return Tools(engine, cutter, NativeFlows(engine), sentence)
    return Tools(engine, PythonCutter(), None, sentence)
