"""The committed object is what its source compiles to."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import plait.overlay.fastdp
from plait.host.bpf.build import main
from plait.host.bpf.elf import read_object

BPF = Path(plait.overlay.fastdp.__file__).parent / "bpf"
SOURCE, OBJECT = BPF / "fastdp.bpf.c", BPF / "fastdp.bpf.o"
MAJOR = re.compile(rb"clang version (\d+)\.")
PROGRAMS = {"from_container", "from_underlay", "from_vxlan", "to_vxlan", "from_tap", "to_tap"}


def test_the_object_has_the_programs_that_are_attached() -> None:
    assert set(read_object(OBJECT.read_bytes()).programs) == PROGRAMS


def test_the_object_is_compiled_from_its_source() -> None:
    clang = shutil.which("clang")
    if clang is None:
        pytest.skip("clang is not installed: apt-get install clang")
    version = subprocess.run([clang, "--version"], capture_output=True, check=True).stdout
    here, there = MAJOR.search(version), MAJOR.search(OBJECT.read_bytes())
    assert here is not None
    assert there is not None
    if here[1] != there[1]:
        pytest.skip(f"clang {here[1].decode()} makes other code than clang {there[1].decode()}, which made the object")
    assert main([str(SOURCE), str(OBJECT), "--check"]) == 0
