"""docs/troubleshooting.md from the table of checks: `python -m plait.doctor.guide > docs/troubleshooting.md`."""

from collections.abc import Iterator

from plait.doctor.check import Check
from plait.doctor.checks import CHECKS
from plait.doctor.finding import Severity

_HEAD = """\
# When something is wrong

Begin with `plait status`: it says what is wrong with the node and the way to each peer, and the cure. Then `plait
doctor`: it looks for what is wrong with this machine (`--peer NAME`: with a peer's), and says of each finding how sure
it is, what it does to you, the command that cures it and whether that lasts. `--fix CHECK` applies a cure and remembers
what was there, `--undo CHECK` brings that back; `--json` is for programs. It exits with 0 if nothing or only notes were
found, 20 for risks, 21 if something does not work. `plait doctor --capture DIR` writes down what it read of this
machine, for a bug report; `--machine DIR` looks at such a directory.

The table is made from the checks themselves (`python -m plait.doctor.guide`). *Row* is the number of the field problem.

| row | symptom | command | meaning | cure |
|---|---|---|---|---|
"""


def guide() -> str:
    """Give the whole file."""
    rows = sorted(CHECKS, key=lambda check: (check.rows or (1000,), check.name))
    return _HEAD + "".join(f"| {' | '.join(map(_cell, _cells(check)))} |\n" for check in rows)


def _cells(check: Check) -> Iterator[str]:
    yield ", ".join(map(str, check.rows))
    yield check.symptom
    yield f"`plait doctor {check.name}`" if check.examine is not None else f"none: {check.unseen}"
    kind = {Severity.BREAKS: "does not work", Severity.RISK: "a risk", Severity.NOTE: "good to know"}[check.severity]
    yield f"{check.condition} ({kind}): {check.consequence}"
    yield f"{check.cure}. See {check.reference}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    print(guide(), end="")
