"""All cutters that this machine can run."""

import ctypes
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import plait.overlay.sleeve.native
from plait.overlay.sleeve.checksum import fastest_word_sums, word_sums
from plait.overlay.sleeve.compiled_cutter import CompiledCutter
from plait.overlay.sleeve.cutting import Cutter, PythonCutter

SOURCE = Path(plait.overlay.sleeve.native.__file__).with_name("cutting.c")
FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-shared", "-fPIC")


class NumpyCutter(PythonCutter):
    """The reference with numpy."""

    name = "numpy"


@lru_cache
def cutters() -> list[Cutter]:
    found: list[Cutter] = [PythonCutter(joins=True, sums_of=word_sums)]
    if fastest_word_sums() is not word_sums:
        found.append(NumpyCutter(joins=True))
    if shutil.which("cc"):
        with tempfile.TemporaryDirectory() as directory:
            library = Path(directory, "cutting.so")
            subprocess.run(["cc", *FLAGS, "-o", library, SOURCE], check=True)
            found.append(CompiledCutter(ctypes.CDLL(str(library))))
    return found
