"""How the first ring comes about: what `--ipalloc-init` says, and how many peers must agree (spec: ipam 6.1)."""

from dataclasses import dataclass

from plait.errors import ConfigError
from plait.mesh.name import InvalidPeerName, PeerName


@dataclass(frozen=True, slots=True)
class Initial:
    """`peer_count` 0: guess from the targets. With a `seed` there is no election, and an observer takes no part."""

    peer_count: int = 0
    seed: tuple[PeerName, ...] = ()
    is_observer: bool = False


def parse_initial(given: str) -> Initial:
    """Read `consensus[=N]`, `seed=NAME,...`, `observer`, or nothing, which is consensus. Raises ConfigError."""
    mode, equals, argument = given.partition("=")
    match mode:
        case "" | "consensus" if not equals:
            return Initial()
        case "consensus":
            try:
                return Initial(peer_count=max(int(argument), 0))
            except ValueError:
                raise _wrong(f"bad consensus parameter: {argument!r} is no number; write consensus=3") from None
        case "seed" if equals:
            try:
                names = {PeerName.parse(name) for name in argument.split(",")} if argument else set()
            except InvalidPeerName as error:
                raise _wrong(f"bad seed parameter: {error}") from error
            return Initial(seed=tuple(sorted(names)))
        case "seed":
            raise _wrong("seed mode requires peer name list; write seed=7a:00:00:00:00:01,7a:00:00:00:00:02")
        case "observer" if not equals:
            return Initial(is_observer=True)
        case "observer":
            raise _wrong("observer mode takes no parameter; write observer")
        case _:
            raise _wrong(f"unknown mode: {mode}; write consensus, consensus=3, seed=NAME,NAME or observer")


def quorum(peer_count: int, target_count: int) -> int:
    """Give the votes that decide: more than half of the peers; without their count, of the targets and this peer.

    Targets that turned out to be this peer, or to have another peer's name, are not counted.
    """
    return (peer_count or 1 + target_count) // 2 + 1


def _wrong(what: str) -> ConfigError:
    return ConfigError(f"Unable to parse --ipalloc-init: {what}")
