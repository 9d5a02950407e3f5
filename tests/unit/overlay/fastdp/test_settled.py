from plait.overlay.fastdp.settled import Settled


def test_a_value_is_settled_when_it_stayed() -> None:
    settled: Settled[str, int] = Settled(3.0)
    settled.follow({"a": 1}, 0.0)
    settled.follow({"a": 1}, 2.9)
    assert settled.get("a", 2.9) is None
    assert settled.get("a", 3.0) == 1
    assert list(settled.items(3.0)) == [("a", 1)]


def test_what_changes_soon_does_not_replace_what_stayed() -> None:
    settled: Settled[str, int] = Settled(3.0)
    settled.follow({"a": 1}, 0.0)
    settled.follow({"a": 2}, 5.0)
    settled.follow({"a": 3}, 6.0)
    assert settled.get("a", 8.0) == 1
    assert settled.get("a", 9.0) == 3


def test_what_went_there_and_back_stayed() -> None:
    settled: Settled[str, int] = Settled(3.0)
    for now, value in ((0.0, 1), (4.0, 2), (5.0, 1)):
        settled.follow({"a": value}, now)
    assert settled.get("a", 5.0) == 1


def test_a_key_that_is_gone_is_forgotten() -> None:
    settled: Settled[str, int] = Settled(3.0)
    settled.follow({"a": 1, "b": 2}, 0.0)
    settled.follow({"b": 2}, 4.0)
    settled.follow({"a": 1, "b": 2}, 5.0)
    assert dict(settled.items(6.0)) == {"b": 2}


def test_what_is_adopted_is_settled() -> None:
    settled: Settled[str, int] = Settled(3.0)
    settled.adopt({"a": 1})
    assert settled.get("a", 0.0) == 1
