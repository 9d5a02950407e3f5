"""A virtual machine with Debian's kernel and this host's own files: its kernel fetched, its start made, itself run.

It needs no /dev/kvm: everything is emulated. It has no network, and writes nothing to the host.
"""

import os
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

META_PACKAGE = "linux-image-amd64"
"""Depends on Debian's current kernel. The cloud one has no 9p."""

_CACHE = Path("/var/cache/plait/vm")
_INIT = Path(__file__).with_name("init")
_BUSYBOX = Path("/bin/busybox")
_NEEDED_TO_START = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
_MEMORY = "2G"


class MachineError(Exception):
    """The virtual machine cannot be made; the text says why."""


def fetch_kernel() -> Path:
    """Give a directory with boot/vmlinuz-* and lib/modules of Debian's current kernel, unpacked if it is not yet.

    The package is not installed. Raise MachineError.
    """
    package = _kernel_package()
    target = _CACHE / package
    if target.exists():
        return target
    _CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_CACHE) as scratch:
        _run(["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", package], scratch)
        (archive,) = Path(scratch).glob("*.deb")
        unpacked = Path(scratch, "unpacked")
        _run(["dpkg-deb", "--extract", str(archive), str(unpacked)], scratch)
        _run(["depmod", "--basedir", str(unpacked), _release(unpacked)], scratch)
        unpacked.chmod(0o755)
        unpacked.rename(target)
    return target


@contextmanager
def run(kernel: Path, command: Sequence[str], initrd: Path, seconds: float) -> Iterator[Iterator[str]]:
    """Boot with `command` as the only program, and give the lines of the serial console until it ends.

    The machine is killed when the block is left, or after `seconds`; then the lines end. `initrd` is written.
    """
    _write_initrd(initrd, kernel, command)
    argv = [
        *("timeout", "--signal=KILL", str(seconds), "nice", "-n", "10", "qemu-system-x86_64"),
        *("-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", _MEMORY, "-no-reboot", "-nodefaults", "-nic", "none"),
        *("-display", "none", "-serial", "stdio"),
        *("-kernel", str(kernel / "boot" / f"vmlinuz-{_release(kernel)}"), "-initrd", str(initrd)),
        *("-append", "console=ttyS0 loglevel=1 panic=-1 mitigations=off random.trust_cpu=on net.ifnames=0"),
        *("-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"),
    ]
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    assert process.stdout is not None
    try:
        yield (line.rstrip() for line in process.stdout)
    finally:
        with suppress(ProcessLookupError):
            # timeout(1) forwards it to the machine.
            process.terminate()
        process.wait()
        process.stdout.close()


def _write_initrd(initrd: Path, kernel: Path, command: Sequence[str]) -> None:
    modules = kernel / "lib" / "modules" / _release(kernel)
    needed = _load_order(modules, _NEEDED_TO_START)
    settings = {
        "modules": " ".join(module.name for module in needed),
        "kernel": str(kernel),
        "command": shlex.join(command),
    }
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for directory in ("bin", "modules"):
            (root / directory).mkdir()
        _copy(_BUSYBOX, root / "bin" / "busybox", 0o755)
        _copy(_INIT, root / "init", 0o755)
        for module in needed:
            _copy(module, root / "modules" / module.name, 0o644)
        (root / "settings").write_text("".join(f"{key}={shlex.quote(value)}\n" for key, value in settings.items()))
        names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
        with initrd.open("wb") as archive:
            subprocess.run(
                [str(_BUSYBOX), "cpio", "-o", "-H", "newc"],
                cwd=root,
                input=names.encode(),
                stdout=archive,
                stderr=subprocess.DEVNULL,
                check=True,
            )


def _load_order(modules: Path, names: Sequence[str]) -> list[Path]:
    """The files of these modules and of what they need, each after what it needs. Built-in ones have none."""
    needs: dict[Path, list[Path]] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        name, _, dependencies = line.partition(":")
        needs[modules / name] = [modules / each for each in dependencies.split()]
    by_name = {path.stem: path for path in needs}
    order: dict[Path, None] = {}

    def add(path: Path) -> None:
        for each in needs[path]:
            add(each)
        order.setdefault(path)

    for name in names:
        if name in by_name:
            add(by_name[name])
    return list(order)


def _kernel_package() -> str:
    shown = _run(["apt-cache", "depends", "--important", META_PACKAGE], "/")
    names = [line.split()[-1] for line in shown.splitlines() if "Depends: linux-image" in line]
    if not names:
        raise MachineError(f"apt knows no package that {META_PACKAGE} depends on: run 'apt-get update'")
    return names[0]


def _release(kernel: Path) -> str:
    (modules,) = (kernel / "lib" / "modules").iterdir()
    return modules.name


def _copy(source: Path, target: Path, mode: int) -> None:
    target.write_bytes(source.read_bytes())
    target.chmod(mode)


def _run(argv: Sequence[str], directory: str) -> str:
    environment = os.environ | {"LC_ALL": "C"}
    done = subprocess.run(argv, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MachineError(f"{shlex.join(argv)} ended with status {done.returncode}: {done.stderr.strip()}")
    return done.stdout
