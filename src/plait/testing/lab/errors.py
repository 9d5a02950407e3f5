"""What can go wrong in a lab."""

from collections.abc import Sequence

from plait.errors import PlaitError


class LabError(PlaitError):
    """The lab cannot do what was asked; the text says why."""


class CommandFailed(LabError):
    """A program ended with a status other than 0; the text has the last lines it wrote."""

    def __init__(self, argv: Sequence[str], where: str, status: int, output: str) -> None:
        self.status = status
        self.output = output
        last = "\n".join(output.strip().splitlines()[-20:])
        super().__init__(f"on {where}: {' '.join(argv)}: status {status}\n{last}")


class Unanswered(LabError):
    """What was waited for did not come in time."""
