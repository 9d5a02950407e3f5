"""What peers tell each other about leases and heirs, and what each keeps on disk. Names are texts, times seconds."""

import msgspec

Ballot = tuple[int, str]
"""A round and who began it; a later one is greater."""

NO_BALLOT: Ballot = (0, "")


class Config(msgspec.Struct, frozen=True):
    """Who decides about a peer: `electors`, that peer included, and how long it lives without them. Written by it."""

    version: int
    electors: tuple[str, ...]
    after: float

    def has_majority(self, names: set[str]) -> bool:
        """Tell whether these are more than half of the electors."""
        return 2 * len(names.intersection(self.electors)) > len(self.electors)


# Questions


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """What is your duration (0: off), and what do you know of my electors?"""

    sender: str


class Renew(msgspec.Struct, frozen=True, tag="renew"):
    """Promise again that I live. `pending` are electors to come; `ring` is left out for who has that `sequence`."""

    owner: str
    in_force: Config
    pending: Config | None
    sequence: int
    ring: bytes = b""


class Surrender(msgspec.Struct, frozen=True, tag="surrender"):
    """I shall never use a lease of this version again, nor bring its successor into force: elect an heir."""

    owner: str
    version: int


class Prepare(msgspec.Struct, frozen=True, tag="prepare"):
    """Paxos, first phase. `is_by_hand`: an operator asks."""

    owner: str
    version: int
    ballot: Ballot
    is_by_hand: bool = False


class Accept(msgspec.Struct, frozen=True, tag="accept"):
    """Paxos, second phase: make `heir` the heir."""

    owner: str
    version: int
    ballot: Ballot
    heir: str


class Decided(msgspec.Struct, frozen=True, tag="decided"):
    """A majority accepted. `ring` is the owner's last one that a majority knew."""

    owner: str
    version: int
    heir: str
    ring: bytes


class Resign(msgspec.Struct, frozen=True, tag="resign"):
    """To the heir: I am back, and all that I owned is yours by this `ring`. From now on take nothing of mine."""

    owner: str
    version: int
    ring: bytes


Question = Hello | Renew | Surrender | Prepare | Accept | Decided | Resign

# Answers

# Answers


class Greeting(msgspec.Struct, frozen=True, tag="greeting"):
    """To Hello. `known` are the asker's electors, None if nothing is known; `sequence` the last seen."""

    after: float
    known: Config | None
    sequence: int


class Renewed(msgspec.Struct, frozen=True, tag="renewed"):
    """`holds` is the version that the lease was renewed for, -1 for none; `acked` the version to come, or `holds`."""

    holds: int
    acked: int
    sequence: int


class Promise(msgspec.Struct, frozen=True, tag="promise"):
    """I take part in no lower ballot. What I accepted before, and the owner's last ring as I know it."""

    accepted: Ballot
    heir: str
    sequence: int
    ring: bytes


class Accepted(msgspec.Struct, frozen=True, tag="accepted"):
    """Done."""


class Refusal(msgspec.Struct, frozen=True, tag="refusal"):
    """No. `reason` is for people; `known` is a newer Config, `heir` a decision about version `version`."""

    reason: str
    version: int = -1
    known: Config | None = None
    heir: str = ""
    promised: Ballot = NO_BALLOT


class Resigned(msgspec.Struct, frozen=True, tag="resigned"):
    """Nothing of yours is taken from now on; this is the ring."""

    ring: bytes


Answer = Greeting | Renewed | Promise | Accepted | Refusal | Resigned


# On disk


class Own(msgspec.Struct):
    """Of ourselves. `last_version` is the highest ever written, `reclaimed_by` the heir while we have not resigned."""

    in_force: Config
    pending: Config | None = None
    sequence: int = 1
    last_version: int = 0
    is_surrendered: bool = False
    reclaimed_by: str = ""


class Vote(msgspec.Struct):
    """Of another peer. `holds`: we agreed to `in_force` before it came into force, so our voice counts in it."""

    in_force: Config
    holds: bool = False
    pending: Config | None = None
    sequence: int = 0
    ring: bytes = b""
    promised: Ballot = NO_BALLOT
    accepted: Ballot = NO_BALLOT
    accepted_heir: str = ""
    heir: str = ""
    is_surrendered: bool = False
    is_taking: bool = False

    @property
    def is_bound(self) -> bool:
        """True from the first promise on: the lease is never renewed again in this version."""
        return self.is_surrendered or self.promised != NO_BALLOT or bool(self.heir)


class Durable(msgspec.Struct):
    """All that is kept."""

    own: Own | None = None
    votes: dict[str, Vote] = {}


_question: msgspec.msgpack.Decoder[Question] = msgspec.msgpack.Decoder(Question)
_answer: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)
_durable = msgspec.msgpack.Decoder(Durable)
encode = msgspec.msgpack.encode
"""Encode a question, an answer or what is durable."""


def decode_question(body: bytes) -> Question:
    """Raise msgspec.DecodeError for anything else."""
    return _question.decode(body)


def decode_answer(body: bytes) -> Answer:
    """Raise msgspec.DecodeError for anything else."""
    return _answer.decode(body)


def decode_durable(body: bytes) -> Durable:
    """Raise msgspec.DecodeError for anything else."""
    return _durable.decode(body)
