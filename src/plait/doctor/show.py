"""Findings as people and programs read them."""

from collections.abc import Sequence
from typing import Any

from plait.doctor.check import Result
from plait.doctor.finding import Severity

_WORDS = {Severity.BREAKS: "breaks", Severity.RISK: "risk", Severity.NOTE: "note"}


def as_json(results: Sequence[Result]) -> list[dict[str, Any]]:
    """One object for each finding."""
    return [
        {
            "check": result.check.name,
            "rows": list(result.check.rows),
            "subject": result.finding.subject,
            "severity": _WORDS[result.severity],
            "certainty": result.certainty.value,
            "what": result.finding.what,
            "consequence": result.check.consequence,
            "cure": result.cure,
            "lasting": result.lasting,
            "fixable": result.finding.fix is not None,
            "reference": result.check.reference,
        }
        for result in results
    ]


def as_text(findings: Sequence[dict[str, Any]], checks: int) -> str:
    """The same for people; `checks` is how many were made."""
    blocks = [_block(finding) for finding in findings]
    counts = [
        f"{count} {word}"
        for word in _WORDS.values()
        if (count := sum(finding["severity"] == word for finding in findings))
    ]
    summary = f"{', '.join(counts) or 'nothing found'} ({checks} checks)"
    return "\n".join([*blocks, summary])


def _block(finding: dict[str, Any]) -> str:
    name = finding["check"]
    lines = [
        f"{finding['severity']}: {finding['what']}",
        f"    check  {name} ({finding['certainty']}), about {finding['subject']}",
        f"    does   {finding['consequence']}",
        f"    cure   {finding['cure']}",
    ]
    if finding["fixable"]:
        lines.append(f"           or: plait doctor --fix {name} (and --undo {name} to take it back)")
    if finding["lasting"]:
        lines.append(f"    lasts  {finding['lasting']}")
    return "\n".join([*lines, f"    see    {finding['reference']}", ""])
