"""Runs in the virtual machine, as its root: the scenarios named, or the usual ones. Lines with @ are for the host."""

import subprocess
import sys
import time

from plait.testing.lab import Lab
from vm import plaits, weave
from vm.checks import Checks

_MODULES = (
    "openvswitch",
    "vport-vxlan",
    "vxlan",
    "tun",
    "veth",
    "bridge",
    "dummy",
    "nf_tables",
    "sch_ingress",
    "cls_bpf",
)
_LOADED = ("plait.cli.main", "plait.node", "plait.overlay.sleeve.pump.loop")
_SCENARIOS = {
    "weave": weave.check,
    "encrypted": weave.check_encrypted,
    "relay": weave.check_relay,
    "plaits": plaits.check,
    "wide": weave.check_wide,
}


def main(names: list[str]) -> None:
    """Run scenarios one after the other, each in a lab of its own, and print the summary."""
    checks = Checks()
    with checks("the kernel has the modules") as it:
        subprocess.run(["modprobe", "--all", *_MODULES], check=True)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        # The host's files come slowly the first time; what a node loads is in memory from here on.
        subprocess.run([sys.executable, "-c", f"import {', '.join(_LOADED)}"], check=True)
        it.says(time.strftime("the clock says %H:%M:%S"))
    for name in names or _SCENARIOS:
        try:
            with Lab() as lab:
                lab.super_wire(False)
                _SCENARIOS[name](lab, checks)
        except Exception as error:
            checks.ended(name, error)
    print(f"@summary {checks.passed} passed, {checks.failed} failed", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
