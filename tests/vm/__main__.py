"""`make vm-test`: boot Debian's kernel in an emulated machine and run `vm.guest` in it. See docs/vm-test.md.

Ends with 0 if every check passed or there is no weaver to test with, else with 1.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

from conformance.weaver import VARIABLE
from vm.machine import MachineError, fetch_kernel, run

_SECONDS = 15 * 60.0
_TESTS = Path(__file__).parents[1]


def main(scenarios: list[str]) -> int:
    """Run these scenarios, all if none is named, and print a line for each check; gives the exit status."""
    weaver = os.environ.get(VARIABLE)
    if not weaver:
        print(f"skipped: {VARIABLE} does not name a weaver binary (docs/vm-test.md)")
        return 0
    weaver = os.path.abspath(weaver)
    if not os.access(weaver, os.X_OK):
        print(f"{VARIABLE}={weaver} is no program")
        return 1
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="plait-vm-") as scratch:
        console = Path(tempfile.gettempdir(), "plait-vm-console.log")
        command = [
            *("/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8"),
            *(f"PYTHONPATH={_TESTS}:{_TESTS.parent / 'src'}", "PYTHONUNBUFFERED=1", f"{VARIABLE}={weaver}"),
            *(sys.executable, "-m", "vm.guest", *scenarios),
        ]
        try:
            kernel = fetch_kernel()
            print(f"==> booting {kernel.name}; the console goes to {console}", flush=True)
            with run(kernel, command, Path(scratch, "initrd"), _SECONDS) as lines, console.open("w") as log:
                summary = ""
                for line in lines:
                    print(line, file=log, flush=True)
                    if line.startswith("@"):
                        summary = line[1:]
                        print(f"{time.monotonic() - began:6.1f} s  {summary}", flush=True)
        except MachineError as error:
            print(f"error: {error}")
            return 1
    if not summary.startswith("summary "):
        print(f"error: the machine ended before the checks, or was stopped after {_SECONDS:.0f} s; see {console}")
        return 1
    return 0 if " 0 failed" in summary else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
