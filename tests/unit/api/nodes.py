"""A node that keeps everything in memory, reports as Weave wrote them, and a real server around it."""

import asyncio
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from golden import document
from plait.api import model, trace_model
from plait.api.health import EventPage, EventTold, Health
from plait.api.server import serve
from plait.config import Config
from plait.doctor.show import Examined
from plait.errors import AddressConflict, NotFound, PlaitError

NOTHING_SPECIAL = model.PlaitReport(problems=[], connections=[], pump={}, attached=0, exposed=[])


def with_names(weave: dict[str, Any]) -> model.Report:
    """As `report_of`, with the names."""
    return replace(report_of(weave), dns=msgspec.convert(weave["DNS"], model.Dns))


def report_of(weave: dict[str, Any]) -> model.Report:
    """What Weave reported, as a report of ours (which has more) without what is off."""
    weave = {key: value for key, value in weave.items() if key not in ("DNS", "IPAM")}
    return msgspec.convert({**weave, "Plait": msgspec.to_builtins(NOTHING_SPECIAL)}, model.Report)


def sample_report(node: str = "node2") -> model.Report:
    """The report of a node of the three that were recorded with a password and trusted subnets."""
    return report_of(document("mesh/live/status_samples.json")["nodes"][node]["report"])


class MemoryNode:
    """A NodeService without a network: containers have the addresses that they were given."""

    def __init__(self, report: model.Report | None = None) -> None:
        self.now = report or sample_report()
        self.containers: dict[str, list[str]] = {}
        self.dead: set[str] = set()
        self.exposed: list[str] = []
        self.masquerade: bool | None = None
        self.multicast_route: bool | None = None
        self.named: list[str] = []
        self.stopped: list[bool] = []
        self.happened: list[EventTold] = []
        self.missed = 0
        self.defect: Exception | None = None
        self.names: model.Names | None = None
        self.addresses: model.Addresses | None = None

    @property
    def targets(self) -> list[str]:
        return self.now.router.targets or []

    def set_router(self, **changes: Any) -> None:
        self.now = replace(self.now, router=replace(self.now.router, **changes))

    async def report(self) -> model.Report:
        if self.defect is not None:
            raise self.defect
        return self.now

    async def health(self) -> Health:
        return self.now.plait.health or Health()

    async def events(self, after: int, wait: float, since: float, peer: str) -> EventPage:
        found = [each for each in self.happened if each.number > after and each.at >= since and peer in ("", each.peer)]
        return EventPage(missed=self.missed, events=found, last=len(self.happened))

    async def connect(self, peers: list[str], replace: bool) -> list[str]:
        refused = [peer for peer in peers if peer.startswith("bad")]
        good = [peer for peer in peers if peer not in refused]
        self.set_router(targets=good if replace else self.targets + good)
        return [f"lookup {peer}: no such host" for peer in refused]

    async def forget(self, peers: list[str]) -> None:
        self.set_router(targets=[target for target in self.targets if target not in peers])

    async def attach(self, container: str, cidrs: list[str], multicast_route: bool) -> list[str]:
        if container == "gone":
            raise PlaitError("unable to inspect container gone: No such container: gone")
        for other, theirs in self.containers.items():
            if other != container and set(theirs) & set(cidrs):
                raise AddressConflict(f"{cidrs[0]} is held by {other}; choose another")
        self.multicast_route = multicast_route
        self.containers.setdefault(container, []).extend(cidrs)
        return _bare(cidrs)

    async def name_container(self, container: str, addresses: list[str]) -> None:
        self.named.append(container)

    async def detach(self, container: str, cidrs: list[str]) -> list[str]:
        if container not in self.containers:
            raise NotFound(f"{container} is not attached")
        had = self.containers.pop(container)
        removed = [cidr for cidr in had if not cidrs or cidr in cidrs]
        if kept := [cidr for cidr in had if cidr not in removed]:
            self.containers[container] = kept
        return _bare(removed)

    async def expose(self, cidrs: list[str], masquerade: bool) -> list[str]:
        if "10.66.0.1/8" in cidrs:
            raise AddressConflict("10.66.0.1/8 overlaps with a route of this host; choose another")
        self.masquerade = masquerade
        self.exposed += cidrs
        return _bare(cidrs)

    async def hide(self, cidrs: list[str]) -> list[str]:
        removed = [cidr for cidr in self.exposed if not cidrs or cidr in cidrs]
        self.exposed = [cidr for cidr in self.exposed if cidr not in removed]
        return _bare(removed)

    async def reclaim(self, peers: list[str], is_dry_run: bool, is_forced: bool) -> list[model.Reclaimed]:
        return [
            model.Reclaimed(
                peer, 8, 0 if is_dry_run else 8, "8 addresses " + ("would be reclaimed", "reclaimed")[not is_dry_run]
            )
            for peer in peers or ["gone"]
        ]

    async def check_addresses(self, is_everywhere: bool) -> list[model.Finding]:
        return [
            model.Finding(f"{ident} has no address", "attach it") for ident, had in self.containers.items() if not had
        ]

    async def is_running(self, ident: str) -> bool:
        return ident not in self.dead

    async def interfaces(self, idents: list[str]) -> list[model.Interface]:
        found = [model.Interface("weave:expose", "7a:00:00:00:00:01", self.exposed)] if "weave:expose" in idents else []
        for ident, cidrs in self.containers.items():
            if ident in idents or "weave:allids" in idents:
                found.append(model.Interface(ident, "ca:45:a0:6b:04:47", cidrs))
        return found

    async def doctor(self, peer: str) -> Examined:
        return Examined([], 3)

    async def trace(self, source: str, destination: str) -> trace_model.Trace:
        if source not in self.containers:
            raise NotFound(f"{source} has no interface on the network of this host")
        is_there = any(destination in _bare(cidrs) for cidrs in self.containers.values())
        hop = trace_model.TraceHop(
            kind="container",
            place=source,
            text="sends by ethwe",
            computed=False,
            overlay=None,
            device="ethwe",
            source=None,
            destination=None,
            vni=None,
            mtu=1376,
            sent=None,
            received=None,
            lost=None if is_there else f"nobody answered for {destination}",
        )
        return trace_model.Trace(
            source=source,
            destination=destination,
            mac=None,
            delivered=is_there,
            verdict="delivered: 3 of 3 questions were answered" if is_there else f"nobody answered for {destination}",
            asked=3,
            answered=3 if is_there else 0,
            hops=[hop],
            counted=[],
            drops={},
        )

    async def stop(self, reset: bool) -> None:
        self.stopped.append(reset)


@contextmanager
def directory() -> Iterator[Path]:
    """A directory with a path that is short enough for sockets in it."""
    with tempfile.TemporaryDirectory(prefix="plait-") as path:
        yield Path(path)


@contextmanager
def serving(service: model.NodeService, config: Config) -> Iterator[list[str]]:
    """A server in a thread of its own; gives the addresses that it listens at. Raise what `serve` raises."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        server = asyncio.run_coroutine_threadsafe(serve(service, config), loop).result(10)
        try:
            yield server.addresses
        finally:
            asyncio.run_coroutine_threadsafe(server.close(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def _bare(cidrs: list[str]) -> list[str]:
    return [cidr.partition("/")[0] for cidr in cidrs]
