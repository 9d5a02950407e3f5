"""Whether the node can move frames, as it looks itself."""

import asyncio
import threading

from plait.chronicle import Chronicle
from plait.mesh.name import PeerName
from plait.overlay.bridge import BridgeKeeper, BridgeSettings
from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.supervisor import Pump
from plait.pulse import Pulse
from plait.troubles import Troubles

STATS = ipc.Stats({"captured": 1}, {}, [])


class AnsweringPump(Pump):
    """It has no process, and answers all the same."""

    def __init__(self) -> None:
        super().__init__(PeerName(1), 6783, -1, [], lambda message: None, lambda sentence: None)

    async def stats(self) -> ipc.Stats | None:
        return STATS


class SlowBridge(BridgeKeeper):
    """Looking at it takes until `is_looked_at`."""

    def __init__(self) -> None:
        super().__init__(BridgeSettings("weave", "02:00:00:00:00:01", 1450))
        self.is_asked, self.is_looked_at = threading.Event(), threading.Event()

    def lacks(self) -> list[str]:
        self.is_asked.set()
        assert self.is_looked_at.wait(10)
        return []


def test_a_start_that_ends_during_a_look_is_no_silent_pump() -> None:
    async def scenario() -> None:
        states, troubles, bridge = {"ready": False}, Troubles(Chronicle()), SlowBridge()
        pulse = Pulse(AnsweringPump(), bridge, None, troubles, lambda: True, lambda: states["ready"])
        look = asyncio.create_task(pulse.look())
        assert await asyncio.to_thread(bridge.is_asked.wait, 10)
        states["ready"] = True
        bridge.is_looked_at.set()
        assert await look == []
        assert pulse.stats == STATS
        assert "pump silent" not in troubles

    asyncio.run(scenario())


def test_a_node_that_starts_says_that_it_has_not_finished() -> None:
    async def scenario() -> None:
        troubles, bridge = Troubles(Chronicle()), SlowBridge()
        bridge.is_looked_at.set()
        pulse = Pulse(AnsweringPump(), bridge, None, troubles, lambda: True, lambda: False)
        assert [fault.what for fault in await pulse.look()] == ["the node has not finished its start"]
        assert "pump silent" not in troubles

    asyncio.run(scenario())
