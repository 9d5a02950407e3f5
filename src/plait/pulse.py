"""Looks whether this node can move frames at all: the pump answers, bridge and tap are there, programs are attached.

systemd's watchdog is fed from here and nowhere else.
"""

import asyncio
from collections.abc import Callable

from plait import sdnotify
from plait.errors import PlaitError
from plait.health import Fault
from plait.overlay.bridge import BridgeKeeper
from plait.overlay.fastdp.datapath import KernelDatapath
from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.supervisor import Pump
from plait.troubles import Troubles

INTERVAL = 2.0
"""Seconds between two looks."""

PUMP_CHANCES = 2
"""A pump that leaves so many questions in a row unanswered, each for 2 s, moves no frames: it is replaced."""


class Pulse:
    """Of one node."""

    def __init__(
        self,
        pump: Pump,
        bridge: BridgeKeeper,
        kernel: KernelDatapath | None,
        troubles: Troubles,
        needs_user_space: Callable[[], bool],
        is_ready: Callable[[], bool],
    ) -> None:
        """`needs_user_space`: frames of a neighbour go by the pump, as far as is known.

        `is_ready`: the node has begun; a pump that starts is waited for elsewhere.
        """
        self._pump = pump
        self._bridge = bridge
        self._kernel = kernel
        self._troubles = troubles
        self._needs_user_space = needs_user_space
        self._is_ready = is_ready
        self._ring_position: int | None = None
        self.stats: ipc.Stats | None = None
        """What the pump answered the last time; None if it did not."""
        self.faults: list[Fault] = []
        """What the last look found."""

    async def look(self) -> list[Fault]:
        """Look now, for at most a few seconds; gives what does not work."""
        is_ready = self._is_ready()
        stats = await self._pump.stats() if is_ready else None
        try:
            lacks = await asyncio.to_thread(self._lacks)
        except (PlaitError, OSError) as error:
            lacks = [f"the links of this host cannot be looked at: {error}"]
        if self._is_ready() is not is_ready:
            return await self.look()  # the start ended meanwhile: nobody asked the pump
        self.stats = stats
        self.faults = [*self._pump_faults(), *(Fault(what, "it is put right within seconds") for what in lacks)]
        return self.faults

    async def keep_looking(self) -> None:
        """Feed the watchdog while all works, replace a pump that hangs; until cancelled."""
        interval, loop = sdnotify.watchdog_interval(), asyncio.get_running_loop()
        unanswered, fed_at = 0, loop.time()
        while True:
            await asyncio.sleep(INTERVAL if interval is None else min(INTERVAL, interval))
            if not self._is_ready():
                continue
            faults = await self.look()
            is_well = self._is_ring_read() and not any(fault.is_fatal for fault in faults)
            if is_well and loop.time() >= fed_at + (interval or INTERVAL) - INTERVAL:
                fed_at = loop.time()
                sdnotify.notify("WATCHDOG=1")
            if self.stats is not None:
                unanswered = 0
                self._troubles.clear("pump silent")
                continue
            unanswered += 1
            if unanswered == PUMP_CHANCES:
                unanswered = 0
                self._pump.kill()

    def _pump_faults(self) -> list[Fault]:
        if not self._is_ready():
            return [Fault("the node has not finished its start", "wait; its log says what it waits for")]
        if self.stats is not None:
            return []
        pid = self._pump.state.pid
        who = "the pump is not running" if pid is None else f"the pump (process {pid}) does not answer"
        what, cure = f"{who}: it moves no frames in user space", "it is replaced by itself within seconds"
        self._troubles.report("pump silent", what, cure)
        return [Fault(what, cure, is_fatal=self._kernel is None or self._needs_user_space())]

    def _lacks(self) -> list[str]:
        kernel = [] if self._kernel is None else self._kernel.lacks()
        return [*self._bridge.lacks(), *kernel]

    def _is_ring_read(self) -> bool:
        """Whether the heartbeats that the kernel hands over are taken: some may wait, but not the same ones again."""
        if self._kernel is None:
            return True
        before, self._ring_position = self._ring_position, self._kernel.ring_waiting_at()
        return self._ring_position is None or self._ring_position != before
