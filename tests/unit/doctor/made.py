"""Machines made up in a test: only what is said of them is there."""

from collections.abc import Mapping, Sequence
from typing import Any

from plait.doctor.check import Check, Result
from plait.doctor.checks import CHECKS
from plait.doctor.examine import examine


class Made:
    """A Probe: files, symbolic links and answers by path or question. Names are those of what is in a directory."""

    def __init__(
        self, files: Mapping[str, str] | None = None, targets: Mapping[str, str] | None = None, **answers: Any
    ) -> None:
        """`answers`: `links=[...]`; questions with a slash or a dash are `ethtool__eth0`, `iptables_legacy`."""
        self._files, self._targets = dict(files or {}), dict(targets or {})
        self._answers = {key.replace("__", "/").replace("_", "-"): value for key, value in answers.items()}

    def text(self, path: str) -> str | None:
        """See Probe."""
        return self._files.get(path)

    def names(self, path: str) -> Sequence[str]:
        """See Probe."""
        start = path.rstrip("/") + "/"
        paths = [*self._files, *self._targets]
        return sorted({each.removeprefix(start).partition("/")[0] for each in paths if each.startswith(start)})

    def target(self, path: str) -> str | None:
        """See Probe."""
        return self._targets.get(path)

    def answer(self, question: str) -> Any:
        """See Probe."""
        return self._answers.get(question)


def check_named(name: str) -> Check:
    """The check of this name."""
    return next(check for check in CHECKS if check.name == name)


def found(name: str, machine: Made) -> list[Result]:
    """What one check finds."""
    return examine(machine, [check_named(name)])
