"""Runs the measurements: systems in turn, round after round, noisy ones again, as far as patience goes."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from bench import traffic, waiting, weight
from bench.machine import Meter, NetnsId
from bench.network import Network, connected
from bench.plan import SUPER, TRAFFIC, TRAFFIC_ON_WIRE, Plan, Selection
from bench.report import Reading, is_noisy
from bench.systems import System
from bench.traffic import Measured
from plait.errors import PlaitError

ATTEMPTS = 3
"""At one measurement, as long as the run has retries left."""

_WEIGHTS = ("rss_mb", "rss_daemon_mb", "rss_pump_mb", "idle_cpu_percent")
_ATTACHES = ("attach_ms", "attach_api_ms")


@dataclass(frozen=True, slots=True)
class Job:
    """What is measured of a system: these metrics, all in one go."""

    metrics: tuple[str, ...]
    system: str
    wire: str | None = None
    cc: str | None = None

    def __str__(self) -> str:
        return " ".join(filter(None, (self.metrics[0], self.wire, self.cc, self.system)))


@dataclass(frozen=True, slots=True)
class Taken:
    """Values by metric, what the machine did meanwhile, and the work done: GB or million packets, 0 for none."""

    values: Mapping[str, float]
    meter: Meter
    work: float = 0.0


@dataclass
class Runner:
    """One run. `say` is told what happens, a line each."""

    plan: Plan
    selection: Selection
    makers: Mapping[str, Callable[[], System]]
    say: Callable[[str], None]
    readings: list[Reading] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.makers = {name: self.makers[name] for name in self.selection.systems}
        self._retries = self.plan.retries

    def run(self) -> list[Reading]:
        """Measure everything that was selected."""
        kinds = list(_kinds(self.selection, self.plan))
        if kinds:
            self._measure_traffic(kinds)
        for _ in range(self.plan.rounds):
            self._measure_waiting()
        if self.selection.wants(*_WEIGHTS):
            self._measure_weight()
        return self.readings

    def _measure_traffic(self, kinds: Sequence[tuple[str, str, str | None]]) -> None:
        with contextlib.ExitStack() as stack:
            self.say(f"two hosts each: {', '.join(self.makers)}")
            networks = [stack.enter_context(connected(name, make)) for name, make in self.makers.items()]
            namespaces = {each for network in networks for each in network.namespaces()}
            for metric, wire, cc in kinds:
                offers: dict[str, float] = {}
                for network in networks:
                    network.set_wire(wire)
                    if self.plan.searches and metric in traffic.UDP_PAYLOAD:
                        self.say(f"{metric} {wire} {network.name}: looking for the rate to offer")
                        offers[network.name] = traffic.best_offer(network, metric)
                for _ in range(self.plan.rounds):
                    for network in networks:
                        measure = traffic.measurement(metric, self.plan.seconds, cc, offers.get(network.name, 0.0))
                        job = Job((metric,), network.name, wire, cc)
                        self._measure(job, partial(_travelling, metric, measure, network, namespaces))

    def _measure_waiting(self) -> None:
        for name, make in self.makers.items():
            if self.selection.wants("launch_to_ping_s"):
                self._measure(Job(("launch_to_ping_s",), name), partial(_launching, make))
            if self.selection.wants(*_ATTACHES) and name.startswith("plait-"):
                self._measure(Job(_ATTACHES, name), partial(_attaching, make, self.plan.attaches))

    def _measure_weight(self) -> None:
        with contextlib.ExitStack() as stack:
            self.say(f"{weight.HOSTS} hosts each, idle: {', '.join(self.makers)}")
            meshes = [stack.enter_context(weight.mesh(name, make)) for name, make in self.makers.items()]
            found, meter = weight.weigh(meshes, self.plan.idle_seconds)
        for system, metric, value in found:
            self._keep(Job((metric,), system), Taken({metric: value}, meter))

    def _measure(self, job: Job, take: Callable[[], Taken]) -> None:
        """Measure until nobody disturbs; what was disturbed is kept too, and told apart when all is summed up."""
        has_failed = True
        for attempt in range(ATTEMPTS):
            if attempt and not self._spend_retry():
                break
            try:
                taken = take()
            except PlaitError as error:
                self.say(f"{job}: FAILED: {error}")
                continue
            has_failed = False
            self._keep(job, taken)
            if not is_noisy(job.metrics[0], taken.meter.foreign_cores):
                break
        if has_failed:
            self.readings += [
                Reading(metric, job.system, job.wire, job.cc, None, None, 0.0, 0.0) for metric in job.metrics
            ]

    def _spend_retry(self) -> bool:
        self._retries -= 1
        return self._retries >= 0

    def _keep(self, job: Job, taken: Taken) -> None:
        meter = taken.meter
        cpu = meter.own / taken.work if taken.work else None
        for metric, value in taken.values.items():
            reading = Reading(metric, job.system, job.wire, job.cc, value, cpu, meter.foreign_cores, meter.stolen_cores)
            self.readings.append(reading)
            noise = f"  ({meter.foreign_cores:.2f} foreign cores)" if is_noisy(metric, meter.foreign_cores) else ""
            self.say(f"{replace(job, metrics=(metric,))}: {value:.4g}{noise}")


def _kinds(selection: Selection, plan: Plan) -> Iterator[tuple[str, str, str | None]]:
    """Give metric, wire and congestion control of all traffic; the second of these with one stream, on one wire."""
    for wire in plan.wires:
        for metric in TRAFFIC if wire == SUPER else TRAFFIC_ON_WIRE:
            if not selection.wants(metric):
                continue
            if not metric.startswith("tcp"):
                yield metric, wire, None
                continue
            is_main = metric == "tcp1_gbps" and wire == SUPER
            yield from ((metric, wire, cc) for cc in plan.congestion_controls[: None if is_main else 1])


def _travelling(
    metric: str, measure: Callable[[Network], Measured], network: Network, namespaces: set[NetnsId]
) -> Taken:
    with Meter(namespaces) as meter:
        measured = measure(network)
    return Taken({metric: measured.value}, meter, measured.work)


def _launching(make: Callable[[], System]) -> Taken:
    return Taken(*waiting.launch_to_ping(make))


def _attaching(make: Callable[[], System], count: int) -> Taken:
    return Taken(*waiting.attach(make, count))
