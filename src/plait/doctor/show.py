"""Findings as people and programs read them, here or at another node."""

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from plait.doctor.check import Check, Result
from plait.doctor.finding import Severity
from plait.printable import printable

Word = Literal["breaks", "risk", "note"]
_WORDS: dict[Severity, Word] = {Severity.BREAKS: "breaks", Severity.RISK: "risk", Severity.NOTE: "note"}


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A finding with every word that is shown of it; `fixable`: `plait doctor --fix` cures it."""

    check: str
    rows: list[int]
    subject: str
    severity: Word
    certainty: str
    what: str
    consequence: str
    cure: str
    lasting: str
    fixable: bool
    reference: str


class Examined(msgspec.Struct, frozen=True):
    """What was found on a machine, worst first, and how many checks were made."""

    findings: list[Shown]
    checks: int

    def only(self, names: Iterable[str]) -> "Examined":
        """The same with the findings of these checks alone."""
        wanted = set(names)
        return Examined([each for each in self.findings if each.check in wanted], len(wanted))


def examined(results: Iterable[Result], checks: Iterable[Check]) -> Examined:
    """Give what these checks found."""
    return Examined([_shown(result) for result in results], sum(check.examine is not None for check in checks))


def _shown(result: Result) -> Shown:
    return Shown(
        check=result.check.name,
        rows=list(result.check.rows),
        subject=result.finding.subject,
        severity=_WORDS[result.severity],
        certainty=result.certainty.value,
        what=result.finding.what,
        consequence=result.check.consequence,
        cure=result.cure,
        lasting=result.lasting,
        fixable=result.finding.fix is not None,
        reference=result.check.reference,
    )


def as_text(found: Examined) -> str:
    """The same for people."""
    blocks = ["\n".join([*map(printable, _block(finding)), ""]) for finding in found.findings]
    counts = [
        f"{count} {word}"
        for word in _WORDS.values()
        if (count := sum(finding.severity == word for finding in found.findings))
    ]
    return "\n".join([*blocks, f"{', '.join(counts) or 'nothing found'} ({found.checks} checks)"])


def _block(finding: Shown) -> Iterator[str]:
    yield f"{finding.severity}: {finding.what}"
    yield f"    check  {finding.check} ({finding.certainty}), about {finding.subject}"
    yield f"    does   {finding.consequence}"
    yield f"    cure   {finding.cure}"
    if finding.fixable:
        yield f"           or: plait doctor --fix {finding.check} (and --undo {finding.check} to take it back)"
    if finding.lasting:
        yield f"    lasts  {finding.lasting}"
    yield f"    see    {finding.reference}"
