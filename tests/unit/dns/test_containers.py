import asyncio

import pytest

from plait.attach.runtime import NoSuchContainer, RuntimeContainer
from plait.dns.containers import ContainerNames
from plait.dns.resolver import Resolver
from plait.dns.settings import Settings
from plait.mesh.name import PeerName

US = PeerName(1)


class Engine:
    """Knows some containers by name."""

    def __init__(self, *containers: RuntimeContainer) -> None:
        self._containers = {container.name: container for container in containers}

    async def inspect(self, container: str) -> RuntimeContainer:
        if container not in self._containers:
            raise NoSuchContainer(f"No such container: {container}")
        return self._containers[container]

    async def running(self) -> list[RuntimeContainer]:
        return list(self._containers.values())


def container(fqdn: str, running: bool = True) -> RuntimeContainer:
    return RuntimeContainer("f00d", "web", 42 if running else 0, running, "none", fqdn)


@pytest.mark.parametrize(
    ("found", "words", "named", "warnings"),
    [
        (container("web.weave.local"), "web", [0x0A200001, 0x0A200002], 0),
        (container("Web.WEAVE.local"), "web", [0x0A200001, 0x0A200002], 0),
        (container("web.example.com"), "web", [], 0),
        (container(""), "web", [], 0),
        (container("web.weave.local", running=False), "web", [], 0),
        (container("a b.weave.local"), "web", [], 1),
        (container("web.weave.local"), "other", [], 0),
        (container("web.weave.local"), "netns:web", [], 0),
        (container("web.weave.local"), "42", [], 0),
    ],
)
def test_containers_get_the_names_that_they_bring(
    found: RuntimeContainer, words: str, named: list[int], warnings: int
) -> None:
    said: list[str] = []
    names = Resolver(US, {US}, Settings(), lambda news: None, lambda text: None)
    asyncio.run(
        ContainerNames(names, Engine(found), said.append).attached(words, ["10.32.0.1", "fd00::1", "10.32.0.2"])
    )
    assert names.lookup("web.weave.local") == named
    assert len(said) == warnings
    assert {entry.container_id for entry in names.report().entries or []} <= {"f00d"}
