"""The register of what is wrong."""

from plait.problems import MAX_PROBLEMS, VARIATION_INTERVAL, Problems


def test_a_problem_is_news_once_and_keeps_its_age() -> None:
    problems = Problems()
    assert problems.report("pump", "the pump died", "see the log", now=10.0)
    assert not problems.report("pump", "the pump died", "see the log", now=20.0)
    assert [problem.since for problem in problems.current(20.0)] == [10.0]


def test_a_changed_sentence_is_news() -> None:
    problems = Problems()
    problems.report("pump", "the pump died", "", now=1.0)
    assert problems.report("pump", "the pump died again", "", now=2.0)
    assert [problem.what for problem in problems.current(2.0)] == ["the pump died again"]


def test_what_varies_with_a_strangers_bytes_is_news_now_and_then() -> None:
    problems = Problems()
    assert problems.report("refused", "it says a", "", 0.0, 600.0, varies=True)
    assert not problems.report("refused", "it says b", "", 1.0, 600.0, varies=True)
    assert [problem.what for problem in problems.current(1.0)] == ["it says b"]
    assert not problems.report("refused", "it says b", "", VARIATION_INTERVAL, 600.0, varies=True)
    assert problems.report("refused", "it says c", "", VARIATION_INTERVAL, 600.0, varies=True)


def test_a_problem_ends_when_cleared_or_when_its_time_is_over() -> None:
    problems = Problems()
    problems.report("a", "x", "", now=0.0)
    problems.report("b", "y", "", now=0.0, lasts=5.0)
    assert problems.clear("a")
    assert not problems.clear("a")
    assert len(problems.current(4.9)) == 1
    assert problems.current(5.0) == []
    assert problems.report("b", "y", "", now=6.0, lasts=5.0)


def test_the_register_is_bounded_and_drops_the_oldest() -> None:
    problems = Problems()
    for number in range(MAX_PROBLEMS + 10):
        problems.report(f"stranger {number}", "knocked", "", now=float(number))
    current = problems.current(1000.0)
    assert len(current) == MAX_PROBLEMS
    assert current[0].since == 10.0
