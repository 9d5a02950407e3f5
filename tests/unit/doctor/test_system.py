"""Checks of the kernel's parts and of what the node shares with its machine."""

from typing import Any

import pytest

from plait.doctor.finding import Severity
from unit.doctor.made import Made, found

NODE = {"name": "a", "version": "1", "pid": 900, "range": "10.32.0.0/12"}
ROUTES = [{"destination": "0.0.0.0/0", "device": "eth0"}]
RELEASE = "/proc/sys/kernel/osrelease"


def test_ebpf_says_what_it_means() -> None:
    lacks = {"lacks": ["no ring buffer: boot Linux 5.8"], "carries": False}
    locked = {RELEASE: "5.4.0", "/sys/kernel/security/lockdown": "none integrity [confidentiality]"}
    (result,) = found("ebpf", Made(locked, bpf=lacks))
    assert result.severity == Severity.NOTE
    assert "5.4.0: no ring buffer" in result.finding.what
    assert "confidentiality" in result.finding.what
    assert "user space" in result.finding.what
    (result,) = found("ebpf", Made({RELEASE: "6.1.0"}, bpf=lacks | {"carries": True}))
    assert "user space" not in result.finding.what
    assert not found("ebpf", Made(bpf={"lacks": [], "carries": True}))
    assert not found("ebpf", Made())


@pytest.mark.parametrize(
    ("part", "severity"),
    [("tun", Severity.BREAKS), ("nf_tables", Severity.RISK), ("vxlan", Severity.NOTE), ("dummy", None)],
)
def test_parts_that_the_kernel_has_not(part: str, severity: Severity | None) -> None:
    results = found("kernel-parts", Made(modules={part: "absent", "veth": "loadable", "bridge": "present"}))
    assert [result.severity for result in results] == ([severity] if severity else [])


CRYPTO = "name         : {}\ndriver       : x\n"


def test_esp_matters_with_a_password_only() -> None:
    modules = {"gcm": "absent", "esp4": "absent"}
    crypto = {"/proc/crypto": CRYPTO.format("cbc(aes)")}
    encrypted = NODE | {"encrypted": True}
    (result,) = found("esp", Made(crypto, modules=modules, node=encrypted))
    assert result.severity == Severity.NOTE
    assert not found("esp", Made(crypto, modules=modules, node=NODE))
    assert not found("esp", Made(crypto, modules={"gcm": "loadable", "esp4": "loadable"}, node=encrypted))
    full = {"/proc/crypto": CRYPTO.format("rfc4106(gcm(aes))")}
    assert not found("esp", Made(full, modules=modules, node=encrypted))


def test_dummy_matters_where_weave_was() -> None:
    docker = {"version": "28.2.2", "weave": ["weave"]}
    assert found("dummy", Made(modules={"dummy": "absent"}, docker=docker))
    assert not found("dummy", Made(modules={"dummy": "absent"}, docker={"version": "28.2.2"}))
    assert not found("dummy", Made(modules={"dummy": "loadable"}, docker=docker))


@pytest.mark.parametrize(("release", "fires"), [("6.15.9", True), ("6.16.0", False), ("6.18.1", False)])
def test_lists_of_packets_given_to_ebpf(release: str, fires: bool) -> None:
    where: dict[str, Any] = {"links": [{"name": "eth0", "index": 2}], "routes": ROUTES}
    carrying = where | {"bpf": {"lacks": [], "carries": True}}
    on: dict[str, Any] = {"ethtool__eth0": {"features": {"rx-gro-list": True}}}
    assert bool(found("gro-list", Made({RELEASE: release}, **carrying, **on))) == fires
    assert not found("gro-list", Made({RELEASE: release}, **carrying))
    assert not found("gro-list", Made({RELEASE: release}, **where, **on))


@pytest.mark.parametrize(
    ("release", "kind", "fires"),
    [("6.8.4", "tun", True), ("6.8.5", "tun", False), ("6.8.4", None, False), ("6.18.0", "tun", False)],
)
def test_vxlan_over_a_tunnel_in_user_space(release: str, kind: str | None, fires: bool) -> None:
    links = [{"name": "eth0", "index": 2, "kind": kind}]
    assert bool(found("vxlan-over-tun", Made({RELEASE: release}, links=links, routes=ROUTES))) == fires


def socket(protocol: str = "udp", **more: Any) -> dict[str, Any]:
    return {"protocol": protocol, "address": "127.0.0.1", "pid": 7, "process": "nc", "parent": 1, **more}


@pytest.mark.parametrize(
    ("port", "holder", "fires"),
    [
        (6783, socket(), True),
        (6783, socket("tcp"), True),
        (6784, socket("tcp"), False),
        (6784, socket(), False),  # see vxlan-port
        (6783, socket(pid=900), False),
        (6783, socket(parent=900), False),
        (6783, socket(pid=None), False),
    ],
)
def test_others_at_our_ports(port: int, holder: dict[str, Any], fires: bool) -> None:
    answers: dict[str, Any] = {"node": NODE, f"port__{port}": [holder]}
    assert bool(found("ports", Made(**answers))) == fires


def test_ports_of_a_weave_router_are_not_others() -> None:
    weaver = socket("tcp", process="weaver")
    assert not found("ports", Made(port__6783=[weaver]))
    assert found("ports", Made(port__6783=[weaver], node=NODE))


def test_the_port_of_the_http_api_matters_before_a_launch() -> None:
    (result,) = found("ports", Made(port__6784=[socket("tcp")]))
    assert "--http-addr" in result.cure


@pytest.mark.parametrize(
    ("destination", "device", "fires"),
    [
        ("10.0.0.0/8", "tun0", True),
        ("10.47.1.0/24", "eth1", True),
        ("10.48.0.0/24", "eth1", False),
        ("0.0.0.0/0", "eth0", False),
        ("10.32.0.0/12", "weave", False),
        ("fd00::/8", "eth1", False),
    ],
)
def test_routes_into_the_range(destination: str, device: str, fires: bool) -> None:
    routes = [{"destination": destination, "device": device}]
    for machine in (Made(routes=routes), Made(routes=routes, node=NODE)):
        assert bool(found("range", machine)) == fires
    assert not found("range", Made(routes=routes, node=NODE | {"range": None}))
    assert not found("range", Made(routes=routes, node=NODE | {"range": "172.30.0.0/16"}))


def test_a_range_that_is_free_is_offered() -> None:
    taken = ["10.0.0.0/8", "172.16.0.0/12"]
    results = found("range", Made(routes=[{"destination": each, "device": "tun0"} for each in taken]))
    assert [result.cure for result in results] == ["on all peers: plait launch --ipalloc-range 100.80.0.0/12"]


@pytest.mark.parametrize("is_kept", [True, False])
def test_who_keeps_the_clock(is_kept: bool) -> None:
    assert bool(found("clock", Made(clock={"synchronised": is_kept}))) != is_kept
    assert not found("clock", Made())


@pytest.mark.parametrize(("used", "fires"), [(800, False), (820, True)])
def test_descriptors_of_the_node_and_of_the_machine(used: int, fires: bool) -> None:
    process = {"descriptors": used, "descriptor_limit": 1000}
    assert bool(found("descriptors", Made(node=NODE, process__900=process))) == fires
    assert bool(found("descriptors", Made({"/proc/sys/fs/file-nr": f"{used}\t0\t1000\n"}))) == fires


@pytest.mark.parametrize(
    ("is_net_admin", "limit", "fires"), [(False, 212992, True), (True, 212992, False), (False, 16 << 20, False)]
)
def test_receive_buffers(is_net_admin: bool, limit: int, fires: bool) -> None:
    process = {"descriptors": 1, "descriptor_limit": 1000, "is_net_admin": is_net_admin}
    machine = Made({"/proc/sys/net/core/rmem_max": f"{limit}\n"}, node=NODE, process__900=process)
    assert bool(found("buffers", machine)) == fires


@pytest.mark.parametrize(("pages", "fires"), [(40, False), (95, True)])
def test_memory_for_udp(pages: int, fires: bool) -> None:
    files = {"/proc/net/sockstat": f"UDP: inuse 6 mem {pages}\n", "/proc/sys/net/ipv4/udp_mem": "50\t75\t100\n"}
    assert [result.cure for result in found("udp-memory", Made(files))] == [
        "sysctl -w 'net.ipv4.udp_mem=200 300 400'"
    ] * fires


@pytest.mark.parametrize(("available", "stalled", "count"), [(500, 0.0, 0), (20, 0.0, 1), (500, 12.5, 1), (20, 80, 2)])
def test_memory(available: int, stalled: float, count: int) -> None:
    files = {
        "/proc/meminfo": f"MemTotal:  1000 kB\nMemAvailable:  {available} kB\n",
        "/proc/pressure/memory": f"some avg10=0 avg60=99.00\nfull avg10=0.00 avg60={stalled} avg300=0.00 total=1\n",
    }
    assert len(found("memory", Made(files))) == count
    assert not found("memory", Made())


@pytest.mark.parametrize(
    ("docker", "severities"),
    [
        ({"error": "no answer in time"}, [Severity.RISK]),
        ({"version": "1.9.1"}, [Severity.NOTE]),
        ({"version": "1.13.1"}, []),
        ({"version": "28.2.2"}, []),
        ({"version": "dev"}, []),
        (None, []),
    ],
)
def test_docker(docker: dict[str, Any] | None, severities: list[Severity]) -> None:
    assert [result.severity for result in found("docker", Made(docker=docker))] == severities
