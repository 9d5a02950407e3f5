"""Builds the C of this directory into a cache, and says which file of the cache may be loaded.

The code runs as root, so nothing is loaded that anybody but root or ourselves could have written. Loads nothing itself.
"""

import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from plait.errors import PlaitError

DEFAULT_CACHE_DIR = Path("/var/cache/plait")
CACHE_DIR_VARIABLE = "PLAIT_CACHE_DIR"
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-std=c11", "-O2", "-shared", "-fPIC")
LIBRARIES = ("-ldl",)
"""For dlopen, which glibc has in a library of its own before 2.34."""

COMPILE_SECONDS = 120
"""Far more than it takes on a slow machine; a compiler that hangs must not hold a node up for ever."""

_SOURCES = Path(__file__).parent
_COMMAND = "python -m plait.overlay.sleeve.native"
_NO_COMPILER = "no C compiler was found (apt install gcc libc6-dev)"
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_MAX_REASON = 200


class NotBuilt(PlaitError):
    """There is no compiled engine that may be loaded; the sentence says why."""


def build() -> str:
    """Compile, if that is not done yet, and give one sentence about the result.

    Nothing is raised: without it Python does the same. May take seconds, so an event loop calls it in a thread.
    """
    try:
        path = built_library()
    except NotBuilt:
        try:
            return f"The compiled loop is at {_compile(library_path())}."
        except NotBuilt as error:
            return f"The compiled loop was not built: {error}; plait works with its Python loop, which is slower."
    return f"The compiled loop is at {path}."


def built_library() -> Path:
    """Give the shared object of this version and machine; raises NotBuilt if there is none that can be trusted."""
    path = library_path()
    try:
        if not path.exists():
            raise NotBuilt(f"{path} is not there: {_COMMAND} builds it" if _compiler() else _NO_COMPILER)
        return _trusted(path)
    except OSError as error:
        raise NotBuilt(f"{path} cannot be looked at ({error.strerror})") from error


def library_path() -> Path:
    """Give where the shared object belongs: its name tells source, interface and machine apart."""
    digest = hashlib.sha256(f"{FLAGS} {platform.machine()} {platform.libc_ver()[0]}\n".encode())
    for source in _sources("*.[ch]"):
        digest.update(f"{source.name} {source.stat().st_size}\n".encode() + source.read_bytes())
    return cache_dir() / f"engine-{platform.machine()}-{digest.hexdigest()[:16]}.so"


def cache_dir() -> Path:
    """Give the directory of compiled code."""
    return Path(os.environ.get(CACHE_DIR_VARIABLE) or DEFAULT_CACHE_DIR).absolute()


def _sources(pattern: str) -> list[Path]:
    return sorted(_SOURCES.glob(pattern))


def _compiler() -> str | None:
    return next(filter(None, map(shutil.which, COMPILERS)), None)


def _compile(path: Path) -> Path:
    compiler = _compiler()
    if compiler is None:
        raise NotBuilt(_NO_COMPILER)
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        real = _trusted_directory(path.parent)
        with tempfile.TemporaryDirectory(prefix=".build-", dir=real) as directory:
            made = Path(directory, path.name)
            _run([compiler, *FLAGS, "-o", str(made), *map(str, _sources("*.c")), *LIBRARIES])
            made.chmod(0o755)
            made.replace(real / path.name)
        return _trusted(path)
    except OSError as error:
        raise NotBuilt(
            f"{path.parent} cannot be used ({error.strerror}); {CACHE_DIR_VARIABLE} names another"
        ) from error


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, errors="replace", timeout=COMPILE_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise NotBuilt(f"{command[0]} was not done within {COMPILE_SECONDS} seconds") from error
    if done.returncode:
        complaint = next((line for line in done.stderr.splitlines() if "error" in line.lower()), done.stderr)
        reason = complaint.strip()[:_MAX_REASON] or f"exit code {done.returncode}"
        raise NotBuilt(f"{command[0]} failed ({reason}); are the headers there (apt install libc6-dev)?")


def _trusted(path: Path) -> Path:
    """Give a file by its real path, if only root and we can write it; else raise NotBuilt or OSError."""
    real = _trusted_directory(path.parent) / path.name
    found = real.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise NotBuilt(f"{real} is no file; remove it and build again")
    _check(real, found, may_be_sticky=False)
    return real


def _trusted_directory(path: Path) -> Path:
    """Give a directory without symbolic links, if nobody else can put anything there, or another in its place."""
    real = path.resolve(strict=True)
    _check(real, real.stat(), may_be_sticky=False)
    for parent in real.parents:
        # Where the sticky bit is set, as in /tmp, others cannot rename what is ours.
        _check(parent, parent.stat(), may_be_sticky=True)
    return real


def _check(path: Path, found: os.stat_result, *, may_be_sticky: bool) -> None:
    is_open = found.st_mode & _OTHERS_WRITE and not (may_be_sticky and found.st_mode & stat.S_ISVTX)
    if found.st_uid not in (0, os.geteuid()) or is_open:
        raise NotBuilt(
            f"{path} can be written by others than root and this user, so that no code is loaded from there; "
            f"give it to root, mode 755, or name another directory with {CACHE_DIR_VARIABLE}"
        )
