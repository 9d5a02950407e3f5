"""`make bench [ONLY=metric,system,...] [QUICK=1] [ROUNDS=n] [CC=cubic,bbr]`: measures, prints a table.

Writes bench/results/latest.json. ONLY=dns and ONLY=ipam measure what names and addresses cost (costs.json there).

`python -m bench table [FILE]` shows a results file as Markdown; `python -m bench profile SYSTEM` where CPU time goes.
"""

import argparse
import dataclasses
import json
import math
import os
import sys
import time
from pathlib import Path

from bench import goals, machine, profile, table
from bench.costs import Cost, dns, ipam
from bench.plan import FULL, QUICK, SUPER, WIRE, adjusted, estimate, select
from bench.report import summarize, to_json, to_table
from bench.runner import Runner
from bench.systems import available, left_out
from plait.errors import PlaitError, UsageError
from plait.testing.lab import missing_features

RESULTS = Path(__file__).parent / "results" / "latest.json"

COSTS = RESULTS.with_name("costs.json")


def main(words: list[str]) -> int:
    """Run the benchmarks, or show results; gives the exit code."""
    options = _parser().parse_args(words)
    try:
        match options.verb:
            case "table":
                return show(options.file, options.wire, options.cc)
            case "profile":
                return show_profile(options.system, options.wire, options.metric, options.cc)
        return measure()
    except PlaitError as error:
        print(f"the benchmarks failed: {error}", file=sys.stderr)
        return error.exit_code


def measure() -> int:
    """Measure what the environment selects by ONLY and QUICK."""
    missing = missing_features()
    if missing:
        print("the benchmarks cannot run here: " + "; ".join(missing), file=sys.stderr)
        return 1
    plan = adjusted(QUICK if os.environ.get("QUICK", "") not in ("", "0") else FULL, os.environ)
    named = [word.strip() for word in os.environ.get("ONLY", "").split(",")]
    if rooms := [word for word in named if word in ("dns", "ipam")]:
        if len(rooms) < len(named):
            raise UsageError(f"ONLY={','.join(rooms)} can be measured by itself only: run the others on their own")
        return measure_costs(rooms, plan.rounds)
    for line in left_out():
        _say(line)
    makers = available()
    selection = select(os.environ.get("ONLY", ""), makers)
    minutes = math.ceil(estimate(selection, plan) / 60)
    _say(f"{len(selection.systems)} systems, {plan.rounds} rounds: about {minutes} min if nobody disturbs")
    rows = summarize(Runner(plan, selection, makers, _say).run(), selection.systems)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(to_json(rows, machine.describe()))
    print(f"\n{machine.describe()}; medians of {plan.rounds} rounds of {plan.seconds:g} s; ! is noisy")
    print(
        "in brackets: times the value of Weave (W), vxlan-bridge (V), routed (R), Docker (D), plait-fastdp-direct (F)\n"
    )
    print(to_table(rows, selection.systems))
    print(f"{RESULTS}: all of it, with ranges, CPU and noise; `python -m bench table` shows it by systems")
    return 0


def measure_costs(rooms: list[str], rounds: int) -> int:
    """Measure what rooms of the node cost, and say which goals are met."""
    costs: list[Cost] = []
    if "dns" in rooms:
        costs += dns.measure(rounds, _say)
    if "ipam" in rooms:
        costs += ipam.measure(rounds)
    COSTS.parent.mkdir(exist_ok=True)
    rows = [dataclasses.asdict(cost) | {"machine": machine.describe()} for cost in costs]
    COSTS.write_text(json.dumps(rows, indent=1) + "\n")
    print(f"\n{machine.describe()}; best of {rounds} rounds\n\n{goals.costs_to_markdown(costs)}")
    return 0


def show(file: Path, wire: str | None, cc: str | None) -> int:
    """Print the tables of a results file: of all conditions that there are, or of one wire or congestion control."""
    try:
        rows = table.read(file.read_text(), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read ({error}): name a file that `python -m bench` wrote") from error
    chosen = [each for each in table.conditions_of(rows) if wire in (None, each.wire) and cc in (None, each.cc)]
    if not chosen:
        raise UsageError(f"{file} has no TCP results for wire {wire or 'any'}, congestion control {cc or 'any'}")
    for each in chosen:
        print(f"{table.heading(each)}\n\n{table.to_markdown(rows, each)}")
        if reached := goals.to_markdown(rows, each):
            print(reached)
    return 0


def show_profile(system: str, wire: str, metric: str, cc: str) -> int:
    """Print where the CPU time of both cores goes while a system carries traffic."""
    makers = available()
    if system not in makers:
        raise UsageError(f"{system} is no system that can run here: {', '.join(makers)}")
    print(profile.profile(system, makers[system], wire, metric, cc))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", metavar="table|profile")
    shower = verbs.add_parser("table", help="show a results file as Markdown")
    shower.add_argument("file", nargs="?", type=Path, default=RESULTS, metavar="FILE")
    shower.add_argument("--wire", help="only this kind of wire: super or wire")
    shower.add_argument("--cc", help="only this congestion control")
    profiler = verbs.add_parser("profile", help="show where CPU time goes while a system carries traffic; wants perf")
    profiler.add_argument("system", metavar="SYSTEM")
    profiler.add_argument("--wire", default=WIRE, choices=(SUPER, WIRE))
    profiler.add_argument("--metric", default="tcp1_gbps", choices=("tcp1_gbps", "tcp4_gbps", "udp64_kpps", "rr_per_s"))
    profiler.add_argument("--cc", default="cubic")
    return parser


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
