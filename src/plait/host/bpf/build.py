"""Compiles eBPF objects, and checks that a committed one is what its source compiles to. For developers and CI.

python -m plait.host.bpf.build SRC.c OUT.o [--check]

Needs Debian's clang and libc6-dev; where plait runs, neither is needed.
"""

import argparse
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from plait.errors import KernelRefused, NotFound, PlaitError, UsageError
from plait.host.bpf.elf import BadObject, BpfObject, read_object

_COMPILERS = ("clang", *(f"clang-{version}" for version in range(21, 10, -1)))
_FLAGS = ("-O2", "-g", "-Wall", "-Werror", "-target", "bpf", "-mcpu=v2")  # v2: what Linux 4.14 and later take
_PRODUCER = re.compile(rb"clang version [0-9]+\.[0-9]+\.[0-9]+")  # in the debugging sections


class ObjectDiffers(PlaitError):
    """A committed object is not what its source compiles to."""


def compile_object(source: Path) -> bytes:
    """The object that clang makes of a C file, the same in every directory. Raise PlaitError."""
    clang = next((found for found in map(shutil.which, _COMPILERS) if found), None)
    if clang is None:
        raise NotFound("there is no clang to compile eBPF with: 'apt-get install clang libc6-dev'")
    if not source.is_file():
        raise UsageError(f"there is no file {source} to compile")
    directory = source.resolve().parent
    headers = f"/usr/include/{platform.machine()}-linux-gnu"
    with tempfile.TemporaryDirectory() as scratch:
        result = Path(scratch) / "object.o"
        # Run beside the source, by its bare name, and call that directory `.` in what is written.
        places = (f"-I{headers}", f"-ffile-prefix-map={directory}=.", f"-fdebug-prefix-map={directory}=.")
        command = [clang, *_FLAGS, *places, "-c", source.name, "-o", str(result)]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
        if done.returncode:
            raise KernelRefused(f"clang does not compile {source}:\n{done.stderr.strip()}")
        return result.read_bytes()


def difference(built: BpfObject, committed: BpfObject) -> str | None:
    """The first thing in which two objects differ, as words of a sentence; None if they do the same."""
    for what, new, old in (("program", built.programs, committed.programs), ("map", built.maps, committed.maps)):
        for name in sorted(set(new) | set(old)):
            if name not in old:
                return f"lacks the {what} {name}"
            if name not in new:
                return f"has a {what} {name} that is not in the source"
            if new[name] != old[name]:
                return f"has another {what} {name}"
    return None if built == committed else "has another license"


def check(source: Path, committed: Path) -> None:
    """Compile and compare. Raise ObjectDiffers, BadObject, PlaitError."""
    data = compile_object(source)
    try:
        old = committed.read_bytes()
    except OSError as error:
        raise NotFound(f"there is no object {committed} to compare with ({error.strerror})") from error
    found = difference(_read(data, "compiled"), _read(old, f"in {committed}"))
    if found:
        raise ObjectDiffers(
            f"{committed} {found}: {source} was changed without compiling it, or by another compiler "
            f"({_producer(old)} then, {_producer(data)} now); run "
            f"'python -m plait.host.bpf.build {source} {committed}' and commit the result"
        )


def main(arguments: list[str] | None = None) -> int:
    """Run the tool; give its exit code."""
    parser = argparse.ArgumentParser(prog="python -m plait.host.bpf.build", description="Compile an eBPF object.")
    parser.add_argument("source", type=Path, metavar="SRC.c")
    parser.add_argument("object", type=Path, metavar="OUT.o")
    parser.add_argument("--check", action="store_true", help="only compare OUT.o with what SRC.c compiles to")
    options = parser.parse_args(arguments)
    try:
        if options.check:
            check(options.source, options.object)
        else:
            data = compile_object(options.source)
            _read(data, "compiled")
            options.object.write_bytes(data)
    except PlaitError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _read(data: bytes, which: str) -> BpfObject:
    try:
        return read_object(data)
    except BadObject as error:
        raise BadObject(f"the object {which} cannot be loaded: {error}") from error


def _producer(data: bytes) -> str:
    found = _PRODUCER.search(data)
    return found[0].decode("ascii") if found else "an unknown one"


if __name__ == "__main__":
    sys.exit(main())
