"""Two nodes of plait on a kernel without tcx: programs are attached by clsact."""

from conformance.member import wait_for_mesh
from conformance.mesh import Mesh
from plait.testing.lab import Lab
from vm.checks import Checks
from vm.members import SlowPlait, wait_for_overlay

_START_SECONDS = 60.0
_TCP_BYTES = 2_000_000


def check(lab: Lab, checks: Checks) -> None:
    """Run the scenario in an empty lab."""
    mesh = Mesh(lab)
    one, other = SlowPlait(lab.host("h1")), SlowPlait(lab.host("h2"))
    mesh.members += [one, other]
    try:
        one.start()
        other.start(one)
        with checks("two nodes of plait: both report a connection by fastdp"):
            wait_for_overlay("fastdp", one, other, _START_SECONDS)
            wait_for_mesh(one, other)
        with checks("the programs are attached by clsact"):
            device = one.host.ports[0].device
            assert "bpf" in one.host.run(["tc", "filter", "show", "dev", device, "ingress"]).stdout
        first, second = one.attach(1), other.attach(2)
        for source, target in ((first, second), (second, first)):
            with checks(f"two nodes of plait: ping and TCP {source.name} to {target.name}") as it:
                assert source.ping(target, interval=0.2, timeout=3.0).ok
                it.says(f"{source.transfer(target, _TCP_BYTES).gigabits_per_second * 1000:.1f} Mbit/s")
        with checks("two nodes of plait: no defect in a log"):
            mesh.check()
    finally:
        mesh.show_logs()
        print(one.host.plait("status", check=False).stdout)
