"""Runs the measurements: systems in turn, round after round, noisy ones again, as far as patience goes."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from bench import plan as planning
from bench import traffic, waiting, weight
from bench.machine import Meter, NetnsId, family_cpu_seconds
from bench.network import Network, connected
from bench.plan import WEIGHTS, Kind, Plan, Selection, Way, is_measured
from bench.report import Reading, is_noisy
from bench.systems import System
from bench.traffic import Measured
from plait.errors import PlaitError

ATTEMPTS = 3
"""At one measurement, as long as the run has retries left."""

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
    """Values by metric, what the machine did meanwhile, and the work done: GB or million packets, 0 for none.

    `daemon_seconds` is the CPU time of the system's own processes, None if it has none or nobody looked.
    """

    values: Mapping[str, float]
    meter: Meter
    work: float = 0.0
    daemon_seconds: float | None = None


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
        for way, chosen in planning.traffic(self.selection, self.plan).items():
            self._measure_traffic(chosen, way)
        for _ in range(self.plan.rounds):
            self._measure_waiting()
        if self.selection.wants(*WEIGHTS):
            self._measure_weight()
        return self.readings

    def _measure_traffic(self, chosen: Sequence[Kind], way: Way) -> None:
        if not chosen:
            return
        with contextlib.ExitStack() as stack:
            networks = self._connect(chosen, way, stack)
            namespaces = {each for network in networks for each in network.namespaces()}
            for kind in chosen:
                self._measure_kind(kind, [each for each in networks if is_measured(each.name, kind.metric)], namespaces)

    def _connect(self, chosen: Sequence[Kind], way: Way, stack: contextlib.ExitStack) -> list[Network]:
        """Build what the systems need; a system that cannot be built has failed in all of these."""
        wanted_of = {name: [kind for kind in chosen if is_measured(name, kind.metric)] for name in self.makers}
        involved = {name: self.makers[name] for name, wanted in wanted_of.items() if wanted}
        self.say(f"{way.value}: {', '.join(involved)}")
        networks, broken = [], []
        for name, make in involved.items():
            try:
                networks.append(stack.enter_context(connected(name, make, way)))
            except PlaitError as error:
                self.say(f"{name}: FAILED, and left out from now on: {error}")
                broken.append(name)
                for kind in wanted_of[name]:
                    self._fail(Job((kind.metric,), name, kind.wire, kind.cc))
        self.makers = {name: make for name, make in self.makers.items() if name not in broken}
        return networks

    def _measure_kind(self, kind: Kind, networks: Sequence[Network], namespaces: set[NetnsId]) -> None:
        offers: dict[str, float] = {}
        for network in networks:
            network.set_wire(kind.wire)
            if self.plan.searches and kind.metric in traffic.UDP_PAYLOAD:
                self.say(f"{kind.metric} {kind.wire} {network.name}: looking for the rate to offer")
                offers[network.name] = traffic.best_offer(network, kind.metric)
        for _ in range(self.plan.rounds):
            for network in networks:
                offer = offers.get(network.name, 0.0)
                measure = traffic.measurement(kind.metric, self.plan.seconds, kind.cc, offer)
                job = Job((kind.metric,), network.name, kind.wire, kind.cc)
                self._measure(job, partial(_travelling, kind.metric, measure, network, namespaces))

    def _measure_waiting(self) -> None:
        for name, make in self.makers.items():
            if self._wants(name, "launch_to_ping_s"):
                self._measure(Job(("launch_to_ping_s",), name), partial(_launching, make))
            if self._wants(name, *_ATTACHES):
                self._measure(Job(_ATTACHES, name), partial(_attaching, make, self.plan.attaches))

    def _measure_weight(self) -> None:
        with contextlib.ExitStack() as stack:
            names = [name for name in self.makers if self._wants(name, *WEIGHTS)]
            if not names:
                return
            self.say(f"{weight.HOSTS} hosts each, idle: {', '.join(names)}")
            meshes = []
            for name in names:
                try:
                    meshes.append(stack.enter_context(weight.mesh(name, self.makers[name])))
                except PlaitError as error:
                    self.say(f"{name}: FAILED: {error}")
                    self._fail(Job(WEIGHTS, name))
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
            self._fail(job)

    def _wants(self, system: str, *metrics: str) -> bool:
        return any(self.selection.wants(metric) and is_measured(system, metric) for metric in metrics)

    def _spend_retry(self) -> bool:
        self._retries -= 1
        return self._retries >= 0

    def _fail(self, job: Job) -> None:
        self.readings += [Reading(metric, job.system, job.wire, job.cc, None) for metric in job.metrics]

    def _keep(self, job: Job, taken: Taken) -> None:
        meter = taken.meter
        cpu = meter.own / taken.work if taken.work else None
        daemon = taken.daemon_seconds / taken.work if taken.work and taken.daemon_seconds is not None else None
        noises = (meter.foreign_cores, meter.stolen_cores)
        for metric, value in taken.values.items():
            self.readings.append(Reading(metric, job.system, job.wire, job.cc, value, cpu, *noises, daemon_cpu=daemon))
            noise = f"  ({meter.foreign_cores:.2f} foreign cores)" if is_noisy(metric, meter.foreign_cores) else ""
            self.say(f"{replace(job, metrics=(metric,))}: {value:.4g}{noise}")


def _travelling(
    metric: str, measure: Callable[[Network], Measured], network: Network, namespaces: set[NetnsId]
) -> Taken:
    processes = network.processes()
    before = family_cpu_seconds(processes)
    with Meter(namespaces) as meter:
        measured = measure(network)
    daemon_seconds = family_cpu_seconds(processes) - before if processes else None
    return Taken({metric: measured.value}, meter, measured.work, daemon_seconds)


def _launching(make: Callable[[], System]) -> Taken:
    return Taken(*waiting.launch_to_ping(make))


def _attaching(make: Callable[[], System], count: int) -> Taken:
    return Taken(*waiting.attach(make, count))
