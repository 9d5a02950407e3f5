"""Loading: makes or finds an object's maps, and has the kernel verify and take its programs."""

import ctypes
import errno
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from struct import Struct, pack, pack_into
from typing import Self

from plait.errors import KernelLacks, KernelRefused, NotFound
from plait.host.bpf.elf import BpfObject, ProgramCode
from plait.host.bpf.maps import Map
from plait.host.bpf.spec import F_NO_COMMON_LRU, MapKind, MapSpec
from plait.host.bpf.syscall import PROG_TYPE_SCHED_CLS, Command, allocate, info, kernel_name, possible_cpus
from plait.host.kernel_errors import kernel_error

LOG_LINES = 8
"""So many of the last lines of the verifier's log are told."""

# BPF_LOG_LEVEL1 and BPF_LOG_STATS of the kernel's bpf_verifier.h: each step that it takes; how many there were.
LOG_STEPS = 1
LOG_STATISTICS = 4
_LOG_BYTES = 16 << 20  # only what is written of it takes memory; the kernel takes up to 1 GB
_LOAD = Struct("=IIQQIIQII16s")  # type, count, instructions, license, log level, log size, log, version, flags, name
_INFO = Struct("=II8s")  # struct bpf_prog_info: type, id, tag
_PSEUDO_MAP_FD = 1  # in the source register of a wide load: its number is a map's descriptor
_INSTRUCTION = 8


class MapMismatch(KernelRefused):
    """A pinned map is another than the object asks for."""


class ProgramRefused(KernelRefused):
    """The verifier does not take a program."""


@dataclass(slots=True)
class Program:
    """A loaded program. `id` is the kernel's number of it, `tag` the hash of its instructions."""

    name: str
    fd: int
    id: int
    tag: str

    def close(self) -> None:
        """Close the descriptor; twice is fine. An attached program lives on."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


@dataclass(slots=True)
class Loaded:
    """The maps and programs of an object, by their names in C."""

    maps: dict[str, Map] = field(default_factory=dict)
    programs: dict[str, Program] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all descriptors; what is pinned or attached lives on."""
        for program in self.programs.values():
            program.close()
        for map in self.maps.values():
            map.close()


def load(obj: BpfObject, pins: Path | None, resize: Mapping[str, int] | None = None) -> Loaded:
    """Load all programs, for the traffic hooks (SCHED_CLS). `resize` gives maps another number of entries.

    With `pins`, a directory in a BPF file system, maps are found there by their names, or made and pinned there;
    without it they are new. Raise MapMismatch, ProgramRefused, PermissionNeeded, KernelRefused; then nothing new
    stays behind.
    """
    if sys.byteorder != "little":
        raise KernelLacks("eBPF programs come compiled for little-endian machines only, which this one is not")
    wanted = _resized(obj.maps, resize or {})
    loaded, new_pins = Loaded(), list[Path]()
    try:
        if pins is not None:
            _make_directory(pins)
        for name, spec in wanted.items():
            loaded.maps[name] = Map.create(spec) if pins is None else _pinned(spec, pins / name, new_pins)
        for name, code in obj.programs.items():
            loaded.programs[name] = _load_program(code, obj.license, loaded.maps)
    except BaseException:
        loaded.close()
        for path in new_pins:
            path.unlink(missing_ok=True)
        raise
    return loaded


def _resized(maps: Mapping[str, MapSpec], resize: Mapping[str, int]) -> dict[str, MapSpec]:
    unknown = sorted(set(resize) - set(maps))
    if unknown:
        raise ValueError(f"the object has no map {', '.join(unknown)}")
    return {name: replace(spec, max_entries=resize.get(name, spec.max_entries)) for name, spec in maps.items()}


def _make_directory(pins: Path) -> None:
    try:
        pins.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise kernel_error(error.errno or 0, f"make the directory {pins} for eBPF maps") from error


def _pinned(spec: MapSpec, path: Path, new_pins: list[Path]) -> Map:
    """The map that is pinned at the path, or a new one, pinned there and noted."""
    try:
        found = Map.open_pinned(path)
    except NotFound:
        made = Map.create(spec)
        try:
            made.pin(path)
        except BaseException:
            made.close()
            raise
        new_pins.append(path)
        return made
    if found.spec != _as_made(spec):
        found.close()
        raise MapMismatch(
            f"the eBPF map pinned at {path} is {_described(found.spec)}, but {_described(spec)} is needed: "
            f"another version of plait made it; stop its node, remove the file and start again"
        )
    return found


def _as_made(spec: MapSpec) -> MapSpec:
    """What becomes of a map in the kernel: per-CPU lists of an LRU hash get equally many entries."""
    if spec.kind != MapKind.LRU_HASH or not spec.flags & F_NO_COMMON_LRU:
        return spec
    cpus = possible_cpus()
    return replace(spec, max_entries=-(-spec.max_entries // cpus) * cpus)


def _described(spec: MapSpec) -> str:
    sizes = f"keys of {spec.key_size} and values of {spec.value_size} bytes"
    return f"{spec.kind.name} with {spec.max_entries} entries, {sizes}, flags {spec.flags:#x}"


def linked(program: ProgramCode, maps: Mapping[str, Map]) -> bytes:
    """Give a program's instructions with the descriptors of its maps in them."""
    code = bytearray(program.code)
    for relocation in program.relocations:
        code[relocation.offset + 1] = code[relocation.offset + 1] & 0x0F | _PSEUDO_MAP_FD << 4
        pack_into("<i", code, relocation.offset + 4, maps[relocation.map].fd)
    return bytes(code)


def _load_program(program: ProgramCode, license: str, maps: Mapping[str, Map]) -> Program:
    fd = _verified(program.name, linked(program, maps), license)
    try:
        _, number, tag = _INFO.unpack(info(fd, _INFO.size))
    except OSError as error:
        os.close(fd)
        raise kernel_error(error.errno or 0, f"look at the eBPF program {program.name}") from error
    return Program(program.name, fd, number, tag.hex())


def _verified(name: str, code: bytes, license: str) -> int:
    try:
        return load_code(name, code, license)[0]
    except OSError:
        pass  # once more, for the reason: with a log the verifier is much slower
    try:
        return load_code(name, code, license, log_bytes=_LOG_BYTES)[0]
    except CodeRefused as error:
        if not error.log and error.errno in (errno.EPERM, errno.EACCES):
            raise kernel_error(error.errno or 0, f"load the eBPF program {name}") from error
        lines = [line for line in error.log.splitlines() if line.strip()][-LOG_LINES:]
        raise ProgramRefused(
            f"the kernel refuses the eBPF program {name} ({error.strerror}); the verifier says: "
            + ("\n".join(lines) or "nothing")
        ) from error


class CodeRefused(OSError):
    """The kernel does not take instructions; `log` is what the verifier said of them."""

    log = ""


def load_code(
    name: str, code: bytes, license: str, *, log_bytes: int = 0, log_level: int = LOG_STEPS
) -> tuple[int, str]:
    """Have the kernel take instructions; give the descriptor and the verifier's log, of up to `log_bytes`.

    Raise CodeRefused.
    """
    instructions = ctypes.create_string_buffer(code, len(code))
    terms = ctypes.create_string_buffer(license.encode("ascii", "replace"))
    log = ctypes.create_string_buffer(log_bytes or 1)
    logging = (log_level, log_bytes, ctypes.addressof(log)) if log_bytes else (0, 0, 0)
    places = (ctypes.addressof(instructions), ctypes.addressof(terms))
    head = (PROG_TYPE_SCHED_CLS, len(code) // _INSTRUCTION, *places)
    try:
        fd = allocate(Command.PROG_LOAD, _LOAD.pack(*head, *logging, 0, 0, kernel_name(name)) + pack("=II", 0, 0))
    except OSError as error:
        refused = CodeRefused(error.errno, error.strerror)
        refused.log = log.value.decode("utf-8", "replace")
        raise refused from error
    return fd, log.value.decode("utf-8", "replace")
