"""Single rules that accept something, at the top of a chain of the host's own firewall; of nftables or iptables-legacy.

They are what `plait doctor --fix` places. Works in the network namespace of the calling thread.
"""

import shutil
import subprocess
from dataclasses import dataclass
from typing import Literal

from plait.errors import KernelLacks, KernelRefused
from plait.host import nftables

COMMENT = "plait doctor"
"""With which the comment of each such rule begins."""

_LEGACY = ("iptables-legacy", "iptables")
_PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class Accept:
    """`match` is in the backend's language, without comment and verdict: `udp dport 6784`, `-p udp --dport 6784`."""

    backend: Literal["nft", "legacy"]
    family: str
    table: str
    chain: str
    match: str

    @property
    def comment(self) -> str:
        """What tells the rule from others."""
        return f"{COMMENT}: {self.match.replace(chr(34), '')}"


def is_placed(rule: Accept) -> bool:
    """Whether it is there. Raise PlaitError, so if the chain is not there."""
    if rule.backend == "legacy":
        return _legacy("-C", rule).returncode == 0
    return bool(_handles(rule))


def place(rule: Accept) -> None:
    """Have it at the top of its chain. Raise PlaitError."""
    if is_placed(rule):
        return
    if rule.backend == "legacy":
        _require(_legacy("-I", rule), rule)
    else:
        nftables.run(f"insert rule {_chain(rule)} {rule.match} counter accept comment {nftables.quoted(rule.comment)}")


def remove(rule: Accept) -> None:
    """Have it there no more; absent is fine. Raise PlaitError."""
    if rule.backend == "legacy":
        if is_placed(rule):
            _require(_legacy("-D", rule), rule)
        return
    for handle in _handles(rule):
        nftables.run(f"delete rule {_chain(rule)} handle {handle}")


def _chain(rule: Accept) -> str:
    return f"{rule.family} {rule.table} {rule.chain}"


def _handles(rule: Accept) -> list[int]:
    entries = nftables.query(f"list chain {_chain(rule)}")
    return [each["rule"]["handle"] for each in entries if each.get("rule", {}).get("comment") == rule.comment]


def _legacy(action: str, rule: Accept) -> subprocess.CompletedProcess[str]:
    program = next((found for name in _LEGACY if (found := shutil.which(name))), None)
    if program is None:
        raise KernelLacks("iptables-legacy is not installed: the rule cannot be placed; install the package iptables")
    words = ["-w", "-t", rule.table, action, rule.chain, *rule.match.split()]
    comment = ["-m", "comment", "--comment", rule.comment, "-j", "ACCEPT"]
    try:
        return subprocess.run(
            [program, *words, *comment], capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelRefused(f"{program} did not answer ({error}): run the command of the finding by hand") from error


def _require(ended: subprocess.CompletedProcess[str], rule: Accept) -> None:
    if ended.returncode != 0:
        said = " ".join(ended.stderr.split()) or "no reason given"
        raise KernelRefused(
            f"iptables refused the rule '{rule.match}' in {rule.chain} ({said}): look at 'iptables-legacy-save'"
        )
