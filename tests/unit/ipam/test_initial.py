import pytest

from plait.errors import ConfigError
from plait.ipam.initial import Initial, parse_initial, quorum
from plait.mesh.name import PeerName


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", Initial()),
        ("consensus", Initial()),
        ("consensus=5", Initial(peer_count=5)),
        ("consensus=0", Initial()),
        ("consensus=-3", Initial()),
        ("seed=", Initial()),
        ("seed=02::3,02::1,02::3", Initial(seed=(PeerName(0x020000000001), PeerName(0x020000000003)))),
        ("observer", Initial(is_observer=True)),
    ],
)
def test_modes(given: str, expected: Initial) -> None:
    assert parse_initial(given) == expected


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("consensus=x", "bad consensus parameter: 'x' is no number"),
        ("consensus=", "bad consensus parameter: '' is no number"),
        ("seed", "seed mode requires peer name list"),
        ("seed=foo", "bad seed parameter: 'foo' is not a peer name"),
        ("seed=02::1,", "bad seed parameter: '' is not a peer name"),
        ("observer=1", "observer mode takes no parameter"),
        ("raft", "unknown mode: raft"),
        ("=3", "unknown mode: "),
    ],
)
def test_what_is_no_mode(given: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=f"^Unable to parse --ipalloc-init: {problem}"):
        parse_initial(given)


@pytest.mark.parametrize(
    ("peer_count", "target_count", "expected"),
    [(0, 0, 1), (0, 1, 2), (0, 2, 2), (0, 3, 3), (5, 0, 3), (4, 9, 3), (1, 7, 1)],
)
def test_quorum(peer_count: int, target_count: int, expected: int) -> None:
    assert quorum(peer_count, target_count) == expected
