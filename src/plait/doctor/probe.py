"""What checks read of a machine: this one (`live`), or one that was captured in a directory (`captured`)."""

from collections.abc import Sequence
from typing import Any, Protocol


class Probe(Protocol):
    """Reads, without any effect on the machine. What is absent or may not be read is None, never an error."""

    def text(self, path: str) -> str | None:
        """Give the contents of a file under /proc, /sys, /etc or /lib."""

    def names(self, path: str) -> Sequence[str]:
        """Give the names in a directory, sorted; none if there is no such directory."""

    def target(self, path: str) -> str | None:
        """Give the last part of what a symbolic link points to."""

    def answer(self, question: str) -> Any:
        """Give what the kernel or a service answers, in the types of JSON; the questions are those of `facts`."""
