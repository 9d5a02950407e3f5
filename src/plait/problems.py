"""What is wrong with this node right now: kept until it is over, shown in `status`, logged once.

Pure: takes time, gives back whether a problem is news.
"""

from collections.abc import Iterable
from dataclasses import dataclass

# Problems are keyed by what they touch; a flood of strangers' connections must not fill memory.
MAX_PROBLEMS = 100
# Seconds between two log lines of one problem whose sentence varies with what a stranger sends.
VARIATION_INTERVAL = 60.0

PROBLEM_KINDS = (
    *("pending", "lost", "refused", "target", "fastdp", "frozen", "pump", "bridge"),
    *("addresses", "reclaim", "range", "state", "store", "doctor", "task", "duplicate"),
)
"""What a problem touches: the first word of its key."""

OTHER_KIND = "other"
"""Of those whose key is a sentence."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong and what to do. `ends_at` is when it is taken to be over unless seen again."""

    what: str
    cure: str
    since: float
    told_at: float
    ends_at: float | None
    kind: str = OTHER_KIND


class Problems:
    """The problems of the moment, by key."""

    def __init__(self) -> None:
        self._by_key: dict[str, Problem] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._by_key

    def report(
        self, key: str, what: str, cure: str, now: float, lasts: float | None = None, *, varies: bool = False
    ) -> bool:
        """Note that something is wrong, for `lasts` seconds or until `clear`; True if it should be logged.

        The same problem again is no news; another sentence of one that `varies` with what a stranger sends is so once
        per VARIATION_INTERVAL. The oldest problem makes room when the register is full.
        """
        ends_at = None if lasts is None else now + lasts
        known = self._by_key.pop(key, None)
        if known is not None and not self._is_over(known, now):
            is_quiet = varies and now < known.told_at + VARIATION_INTERVAL
            if known.what == what or is_quiet:
                self._by_key[key] = Problem(what, cure, known.since, known.told_at, ends_at, _kind(key))
                return False
        if known is None and len(self._by_key) >= MAX_PROBLEMS:
            del self._by_key[min(self._by_key, key=lambda other: self._by_key[other].since)]
        self._by_key[key] = Problem(what, cure, now, now, ends_at, _kind(key))
        return True

    def clear(self, key: str) -> Problem | None:
        """Note that it is over; gives it if it was there."""
        return self._by_key.pop(key, None)

    def expire(self, now: float) -> list[Problem]:
        """Forget what is taken to be over, and give it."""
        over = [key for key, problem in self._by_key.items() if self._is_over(problem, now)]
        return [self._by_key.pop(key) for key in over]

    def current(self, now: float) -> list[Problem]:
        """Give what is wrong now, oldest first."""
        self.expire(now)
        return sorted(self._by_key.values(), key=lambda problem: problem.since)

    @staticmethod
    def _is_over(problem: Problem, now: float) -> bool:
        return problem.ends_at is not None and problem.ends_at <= now


def count_kinds(problems: Iterable[Problem]) -> dict[str, int]:
    """Count problems by kind; every kind is there."""
    counts = dict.fromkeys((*PROBLEM_KINDS, OTHER_KIND), 0)
    for problem in problems:
        counts[problem.kind] += 1
    return counts


def _kind(key: str) -> str:
    word = key.partition(" ")[0]
    return word if word in PROBLEM_KINDS else OTHER_KIND
