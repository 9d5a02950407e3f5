"""`make bench [ONLY=metric,system,...] [QUICK=1]`: measures, prints a table, writes bench/results/latest.json."""

import os
import sys
import time
from pathlib import Path

from bench import machine
from bench.plan import FULL, QUICK, select
from bench.report import summarize, to_json, to_table
from bench.runner import Runner
from bench.systems import WEAVER_VARIABLE, available
from plait.errors import PlaitError
from plait.testing.lab import missing_features

RESULTS = Path(__file__).parent / "results" / "latest.json"


def main() -> int:
    """Run the benchmarks; gives the exit code."""
    missing = missing_features()
    if missing:
        print("the benchmarks cannot run here: " + "; ".join(missing), file=sys.stderr)
        return 1
    plan = QUICK if os.environ.get("QUICK", "") not in ("", "0") else FULL
    makers = available()
    if WEAVER_VARIABLE not in os.environ:
        _say(f"Weave is left out: {WEAVER_VARIABLE} does not name a weaver program")
    try:
        selection = select(os.environ.get("ONLY", ""), makers)
        readings = Runner(plan, selection, makers, _say).run()
    except PlaitError as error:
        print(f"the benchmarks failed: {error}", file=sys.stderr)
        return error.exit_code
    rows = summarize(readings, selection.systems)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(to_json(rows, machine.describe()))
    print(f"\n{machine.describe()}; medians of {plan.rounds} rounds of {plan.seconds:g} s; ! is noisy\n")
    print(to_table(rows, selection.systems))
    print(f"{RESULTS}: all of it, with ranges, CPU and noise")
    return 0


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
