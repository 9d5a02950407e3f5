"""The members of one mesh on a lab: made, joined, and in the end all looked at."""

from collections.abc import Sequence
from typing import Literal

from conformance.member import Member, Plait
from conformance.weaver import Weaver
from plait.testing.lab import Host, Lab, Segment

Kind = Literal["plait", "weaver"]
KINDS: tuple[Kind, Kind] = ("plait", "weaver")
PASSWORDS = (None, "s3cret")


class Mesh:
    """Makes members on hosts of a lab and remembers them; the password is the mesh's unless a member is given one."""

    def __init__(self, lab: Lab, password: str | None = None) -> None:
        self.lab = lab
        self.password = password
        self.members: list[Member] = []

    def plait(self, extra: Sequence[str] = (), on: Sequence[Segment] | None = None) -> Plait:
        """Make a node of plait, not yet started, on a host of its own."""
        made = Plait(self._host(on), self.password, extra)
        self.members.append(made)
        return made

    def weaver(self, extra: Sequence[str] = (), on: Sequence[Segment] | None = None, dns: bool = False) -> Weaver:
        """Make a weaver, not yet started, on a host of its own."""
        made = Weaver(self._host(on), self.password, extra, dns)
        self.members.append(made)
        return made

    def successor(self, weaver: Weaver) -> Plait:
        """Make a node of plait, not yet started, on the host of a weaver."""
        made = Plait(weaver.host, self.password)
        self.members.append(made)
        return made

    def member(self, kind: Kind) -> Member:
        """Make one of a kind."""
        return self.plait() if kind == "plait" else self.weaver()

    def check(self) -> None:
        """Fail if a member panicked, logged a defect, or ended unasked."""
        for member in self.members:
            member.check()

    def show_logs(self) -> None:
        """Print what all have logged: pytest shows it when a test fails."""
        for member in self.members:
            print(f"--- {member}\n{member.log}")

    def _host(self, on: Sequence[Segment] | None) -> Host:
        return self.lab.host(f"h{len(self.members) + 1}", on)
