"""Names that containers of a real Docker engine bring with them."""

from collections.abc import Iterator

import dns.message
import dns.query
import pytest

from lab.node_lab import check_logs, kill
from plait.testing.docker import DockerEngine, docker_engine, why_not
from plait.testing.lab import Host, Lab, wait_until
from plait.testing.lab.features import missing_features

_MISSING = why_not()
pytestmark = pytest.mark.skipif(_MISSING is not None, reason=_MISSING or "")


@pytest.fixture
def host() -> Iterator[Host]:
    if missing := missing_features():
        pytest.skip("; ".join(missing))
    with Lab() as lab:
        yield lab.host("one")
        check_logs(lab)


def launch(host: Host, engine: DockerEngine) -> None:
    host.launch(extra=[f"--dns-listen-address={host.ip}:53", f"--docker-api={engine.address}"])


def answers(host: Host) -> list[str]:
    with host.entered():
        answer = dns.query.udp(dns.message.make_query("web.weave.local.", "A"), host.ip, timeout=10).answer
    return sorted(str(record) for rrset in answer for record in rrset)


def test_a_container_has_its_name_as_long_as_it_is_attached(host: Host) -> None:
    with docker_engine(host.path) as engine:
        launch(host, engine)
        named = ("--hostname", "web.weave.local")
        engine.run("web", options=named)
        engine.run("quiet", options=named)
        host.plait("attach", "10.32.0.1/12", "web")
        host.plait("attach", "--without-dns", "10.32.0.2/12", "quiet")
        assert answers(host) == ["10.32.0.1"]
        host.plait("detach", "web")
        assert answers(host) == []
        host.plait("attach", "10.32.0.3/12", "web")
        host.plait("dns-remove", "web")
        assert answers(host) == []
        host.plait("dns-add", "web")
        assert answers(host) == ["10.32.0.3"]
        kill(host)
        launch(host, engine)
        wait_until(lambda: "10.32.0.3" in answers(host), "the name is there again")
        engine.remove("web")
        wait_until(lambda: "10.32.0.3" not in answers(host), "the name is gone with its container")
