"""The node looks at its own machine: `doctor`'s checks now and then, each second whether its interfaces transmit."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import msgspec

from plait.api import model
from plait.docker.facts import docker_facts
from plait.doctor.check import Result
from plait.doctor.checks import CHECKS
from plait.doctor.examine import examine
from plait.doctor.finding import Certainty, Severity
from plait.doctor.live import Live
from plait.doctor.node_facts import node_of
from plait.doctor.show import Examined, examined
from plait.errors import PlaitError
from plait.host import underlay
from plait.overlay.transmission import Reading, TransmissionWatch
from plait.troubles import Troubles

_log = logging.getLogger(__name__)

TOPIC = "doctor"
"""Of the question that other nodes ask."""

FIRST_LOOK = 3.0
"""Seconds after the start: who launches a node waits for its first connections, not for this."""

CHECK_INTERVAL = 300.0
"""Seconds between two looks: one costs a third of a second of a core."""

RECHECK_INTERVAL = 60.0
"""The same while something is wrong: who cures it wants to see that."""

LOOK_INTERVAL = 1.0
"""Seconds between two looks at the counters of interfaces."""

ROUTE_LOOKS = 5
"""With each so manieth of them, which interface leads to which peer is asked anew."""


def read_answer(peer: str, answer: bytes) -> Examined:
    """Read what a peer answered. Raises PlaitError."""
    try:
        return msgspec.json.decode(answer, type=Examined)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PlaitError(
            f"the answer of {peer} is not understood ({error}): run the same version of plait on both, "
            "or 'plait doctor' there"
        ) from error


class Checkup:
    """`report` gives the node's report, `handed` how many packets it has handed over for each remote address."""

    def __init__(
        self, report: Callable[[], Awaitable[model.Report]], handed: Callable[[], dict[str, int]], troubles: Troubles
    ) -> None:
        self._report = report
        self._handed = handed
        self._troubles = troubles
        self._told: set[str] = set()

    async def findings(self, *, has_connections: bool = True) -> list[Result]:
        """Look at this machine, as `plait doctor` does; or without what the node itself knows of its connections."""
        node = node_of(msgspec.to_builtins(await self._report()))
        if not has_connections:
            node = msgspec.structs.replace(node, peers=[], problems=[])
        return await asyncio.to_thread(lambda: examine(Live(lambda: node, docker_facts), CHECKS))

    async def examined(self) -> Examined:
        """Give the findings as they are shown."""
        return examined(await self.findings(), CHECKS)

    async def answer(self, question: bytes) -> bytes:
        """Answer a peer."""
        return msgspec.json.encode(await self.examined())

    async def keep_checking(self) -> None:
        """Report what is surely wrong with the machine among the node's problems, until cancelled.

        What is wrong with a connection the node says itself, and at once when it is over.
        """
        await asyncio.sleep(FIRST_LOOK)
        while True:
            try:
                self._tell(await self.findings(has_connections=False))
            except PlaitError as error:
                _log.info("this machine could not be looked at: %s", error)
            await asyncio.sleep(RECHECK_INTERVAL if self._told else CHECK_INTERVAL)

    def _tell(self, results: list[Result]) -> None:
        serious = {_key(result): result for result in results if _is_serious(result)}
        for key, result in serious.items():
            cure = f"{result.cure} ('plait doctor {result.check.name}' says more)"
            self._troubles.report(key, result.finding.what, cure, varies=True)
        for key in self._told - serious.keys():
            self._troubles.clear(key)
        self._told = set(serious)

    async def watch_transmission(self) -> None:
        """Recognise an interface that takes packets and sends none, until cancelled."""
        watch, devices, looks = TransmissionWatch(), dict[str, str](), 0
        while True:
            await asyncio.sleep(LOOK_INTERVAL)
            handed = self._handed()
            if looks % ROUTE_LOOKS == 0 or not handed.keys() <= devices.keys():
                devices = await asyncio.to_thread(underlay.devices, list(handed))
            looks += 1
            now = asyncio.get_running_loop().time()
            for device, is_frozen in watch.look(_readings(handed, devices), now).items():
                if is_frozen:
                    self._troubles.report(f"frozen {device}", *_frozen(device))
                else:
                    self._troubles.clear(f"frozen {device}")


def _key(result: Result) -> str:
    return f"doctor {result.check.name} {result.finding.subject}"


def _is_serious(result: Result) -> bool:
    return result.severity >= Severity.RISK and result.certainty != Certainty.POSSIBLE


def _readings(handed: dict[str, int], devices: dict[str, str]) -> dict[str, Reading]:
    found: dict[str, Reading] = {}
    for device in set(devices.values()):
        sent = underlay.sent_packets(device)
        if sent is not None:
            ours = sum(count for remote, count in handed.items() if devices.get(remote) == device)
            found[device] = Reading(ours, sent)
    return found


def _frozen(device: str) -> tuple[str, str]:
    return (
        f"{device} accepts packets but transmits none: its transmit ring has stopped, peers cannot hear this host",
        f"reload the driver of {device} or reboot, nothing else unblocks it; then 'plait doctor ufo tunnel-offload' "
        "says what may have stopped it",
    )
