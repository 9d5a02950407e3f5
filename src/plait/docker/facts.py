"""What the engine tells `doctor`."""

import asyncio
import re
from pathlib import Path

from plait.docker.client import DEFAULT_ADDRESS, DockerClient
from plait.doctor import facts
from plait.errors import PlaitError

# An engine that hangs must not hold up the other answers, seconds.
_PATIENCE = 2.0
_WEAVE = "weave"
# Its router, the helpers of versions before 2.0, and the one that keeps its database.
_WEAVES = re.compile(r"weave(db|proxy|plugin|volumes.*)?")


def docker_facts(address: str = DEFAULT_ADDRESS, patience: float = _PATIENCE) -> facts.Docker | None:
    """Ask the engine for its version and for Weave's containers, for `patience` seconds; None if it has no socket."""
    if not Path(address.removeprefix("unix://")).exists():
        return None
    try:
        return asyncio.run(asyncio.wait_for(_docker(address), patience))
    except TimeoutError:
        return facts.Docker(error=f"no answer from the Docker engine at {address} within {patience:g} s")
    except PlaitError as error:
        return facts.Docker(error=str(error))


async def _docker(address: str) -> facts.Docker:
    client = DockerClient(address)
    named = await client.names_with(_WEAVE)
    return facts.Docker(version=await client.version(), weave=[name for name in named if _WEAVES.fullmatch(name)])
