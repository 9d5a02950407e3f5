import heapq
import itertools
import random
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.overlay import pmtu
from plait.overlay.pmtu import BASE, HINT_INTERVAL, RAISE_FIRST, RAISE_INTERVAL, RESOLUTION, VERIFY_INTERVAL, PathMtu


class Path:
    """A path and the owner at its end: probes arrive, vanish, or make a router speak; virtual time jumps."""

    def __init__(self, passes: int, *, icmp: bool = False, loss: float = 0.0, rtt: float = 0.02, seed: int = 0) -> None:
        self.passes, self.icmp, self.loss, self.rtt = passes, icmp, loss, rtt
        self.search = PathMtu()
        self.ceiling = 0
        self.now = 1000.0
        self.sent: list[tuple[float, int]] = []
        self._random = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], list[int]]]] = []
        self._order = itertools.count()

    @property
    def sizes(self) -> list[int]:
        return [size for _, size in self.sent]

    def start(self, ceiling: int) -> None:
        self.ceiling = ceiling
        self._events.clear()
        self.send(self.search.start(ceiling, self.now))

    def change_ceiling(self, ceiling: int) -> None:
        self.ceiling = ceiling
        self.send(self.search.ceiling_changed(ceiling, self.now))

    def suspect(self) -> None:
        self.send(self.search.suspect(self.now))

    def hint(self, mtu: int) -> None:
        self.send(self.search.hint(mtu, self.now))

    def send(self, sizes: list[int]) -> None:
        for size in sizes:
            assert 0 < size <= self.ceiling
            self.sent.append((self.now, size))
            if size > self.passes:
                if self.icmp:
                    self._later(self.rtt / 2, partial(self._hinted, self.passes))
            elif self._random.random() >= self.loss and self._random.random() >= self.loss:
                self._later(self.rtt, partial(self._acknowledged, size))

    def run(self, until: Callable[[], bool], seconds: float = 5000.0) -> bool:
        """Go on until the condition holds; say whether it did within the time."""
        end = self.now + seconds
        while not until():
            deadline = self.search.next_deadline()
            assert deadline is not None
            if self._events and self._events[0][0] <= deadline:
                at, _, happen = heapq.heappop(self._events)
            else:
                at, happen = deadline, lambda: self.search.handle_timer(self.now)
            if at > end:
                self.now = end
                return False
            self.now = max(self.now, at)
            self.send(happen())
            assert self.search.mtu <= self.ceiling
        return True

    def settle(self) -> int:
        """Run until the search ends; give its result."""
        assert self.run(lambda: not self.search.is_searching)
        return self.search.mtu

    def wait(self, seconds: float) -> None:
        assert not self.run(lambda: False, seconds)

    def _hinted(self, mtu: int) -> list[int]:
        return self.search.hint(mtu, self.now)

    def _acknowledged(self, size: int) -> list[int]:
        return self.search.acknowledged(size, self.now, self.rtt)

    def _later(self, seconds: float, happen: Callable[[], list[int]]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), happen))


def settled(passes: int, ceiling: int = 1500, *, icmp: bool = False) -> Path:
    path = Path(passes, icmp=icmp)
    path.start(ceiling)
    path.settle()
    path.sent.clear()
    return path


# The search from nothing.


def test_before_the_start_the_base_is_assumed_and_nothing_is_asked() -> None:
    search = PathMtu()
    assert (search.mtu, search.source, search.is_searching) == (BASE, pmtu.ASSUMED, False)
    assert search.next_deadline() is None
    assert (
        search.handle_timer(5.0)
        == search.suspect(5.0)
        == search.hint(1400, 5.0)
        == search.acknowledged(1400, 5.0)
        == []
    )
    assert search.ceiling_changed(9000, 5.0) == []
    assert (search.mtu, search.ignored_hints) == (BASE, 1)


@pytest.mark.parametrize("ceiling", [1500, 9000, 1400, 1280, 1201, BASE, 1000, 552])
def test_a_path_that_carries_the_ceiling_is_known_after_one_round_trip(ceiling: int) -> None:
    path = Path(ceiling)
    path.start(ceiling)
    assert path.sizes == sorted(set(path.sizes), reverse=True)
    assert path.sizes[0] == ceiling
    assert len(path.sent) <= 12
    assert path.settle() == ceiling
    assert path.now == 1000.0 + path.rtt
    assert path.search.source == pmtu.ACKNOWLEDGED


def test_the_mtu_grows_with_each_acknowledgement() -> None:
    search = PathMtu()
    search.start(1500, 0.0)
    grown = []
    for size in (1280, 1420, 1400, 1492):
        assert search.acknowledged(size, 0.1) == []
        grown.append(search.mtu)
    assert grown == [1280, 1420, 1420, 1492]
    assert search.is_searching


@pytest.mark.parametrize(
    ("ceiling", "passes", "datagrams", "size_bytes"),
    [
        (9000, 9000, 11, 27_000),
        (9000, 1400, 24, 60_000),
        (9000, 1500, 18, 50_000),
        (9001, 1500, 20, 65_000),
        (1500, 1400, 20, 30_000),
        (1500, 1450, 16, 25_000),
        (1500, 1443, 24, 35_000),
        (65536, 1500, 20, 180_000),
    ],
)
def test_cost_of_common_paths(ceiling: int, passes: int, datagrams: int, size_bytes: int) -> None:
    path = Path(passes)
    path.start(ceiling)
    assert passes - RESOLUTION < path.settle() <= passes
    assert len(path.sent) <= datagrams
    assert sum(path.sizes) <= size_bytes


@pytest.mark.parametrize("icmp", [False, True])
@given(ceiling=st.integers(600, 9216), below=st.integers(0, 8000), rtt=st.sampled_from([0.0, 0.001, 0.02, 0.25, 0.9]))
@settings(max_examples=400)
def test_without_loss_the_result_is_at_most_seven_bytes_low(icmp: bool, ceiling: int, below: int, rtt: float) -> None:
    passes = max(ceiling - below, 552)
    path = Path(passes, icmp=icmp, rtt=rtt)
    path.start(ceiling)
    assert passes - RESOLUTION < path.settle() <= passes
    assert len(path.sent) <= 90  # a slow answer comes after its size was sent again
    assert sum(path.sizes) <= 60 * ceiling
    assert not path.search.black_holes


@given(ceiling=st.integers(1280, 9216), below=st.integers(0, 8000), loss=st.floats(0, 0.05), seed=st.integers(0, 2**32))
@settings(max_examples=300)
def test_with_loss_the_path_is_never_overrated_and_known_before_long(
    ceiling: int, below: int, loss: float, seed: int
) -> None:
    passes = max(ceiling - below, BASE)
    path = Path(passes, loss=loss, seed=seed)
    path.start(ceiling)

    def is_known() -> bool:
        assert path.search.mtu <= max(passes, BASE)
        return path.search.mtu > passes - RESOLUTION

    assert path.run(is_known, 4000.0)
    assert len(path.sent) <= 70 * (3 + (path.now - 1000.0) / RAISE_FIRST)


def test_each_single_lost_probe_of_the_ladder_is_made_up_for() -> None:
    for lost in range(9):
        path = Path(1500)
        path.ceiling = 1500
        asked = path.search.start(1500, path.now)
        path.send(asked[:lost] + asked[lost + 1 :])
        assert path.settle() == 1500


def test_a_long_round_trip_needs_no_second_search() -> None:
    path = Path(1450, rtt=1.8)
    path.start(1500)
    assert path.settle() == 1450
    assert path.search.black_holes == 0


def test_icmp_gives_a_size_off_the_ladder_at_once() -> None:
    path = Path(1437, icmp=True)
    path.start(1500)
    assert path.settle() == 1437
    assert path.search.source == pmtu.HINTED
    assert path.search.ignored_hints > 0
    assert len(path.sent) <= 20


# Small and silent paths.


@pytest.mark.parametrize("passes", [552, 600, 768, 1000, 1100, 1199])
def test_a_path_below_the_base_is_found_by_the_floors(passes: int) -> None:
    path = Path(passes)
    path.start(1500)
    assert passes - RESOLUTION < path.settle() <= passes


def test_a_silent_path_keeps_the_base_and_the_ladder_is_repeated_ever_more_slowly() -> None:
    path = Path(0)
    path.start(1500)
    path.wait(300.0)
    starts = [
        at for (at, size), (_, before) in zip(path.sent[1:], path.sent, strict=False) if size == 1500 and before < 600
    ]
    gaps = [round(later - earlier) for earlier, later in itertools.pairwise(starts)]
    assert gaps[:6] == sorted(gaps[:6])
    assert max(gaps) <= 32
    assert len(path.sent) < 16 * 30
    assert (path.search.mtu, path.search.source, path.search.is_searching) == (BASE, pmtu.ASSUMED, True)
    path.passes = 1400
    assert path.settle() == 1400


def test_an_acknowledgement_while_waiting_to_repeat_the_ladder_is_used() -> None:
    path = Path(0)
    path.start(1500)
    path.wait(2.0)
    asked_before = len(path.sent)
    path.send(path.search.acknowledged(1400, path.now))
    path.passes = 1400
    assert path.search.mtu == 1400
    assert path.sizes[asked_before:] == [1404]
    assert path.settle() == 1400


# What a peer may claim.


@pytest.mark.parametrize("size", [1501, 9000, 1499, 1300, 0, -1])
def test_acknowledgements_of_sizes_not_asked_for_are_ignored(size: int) -> None:
    search = PathMtu()
    search.start(1500, 0.0)
    assert search.acknowledged(size, 0.1) == []
    assert search.mtu == BASE
    assert search.source == pmtu.ASSUMED


def test_an_acknowledgement_above_a_lowered_ceiling_is_ignored() -> None:
    search = PathMtu()
    search.start(1500, 0.0)
    search.ceiling_changed(1400, 0.0)
    search.acknowledged(1500, 0.1)
    assert search.mtu == BASE
    search.acknowledged(1400, 0.1)
    assert search.mtu == 1400


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-10, 9999), st.floats(0, 40)), max_size=60))
@settings(max_examples=400)
def test_whatever_peer_and_routers_say_sizes_stay_within_bounds(calls: list[tuple[int, int, float]]) -> None:
    search = PathMtu()
    now = 0.0
    asked = set(search.start(9000, now))
    for call, size, seconds in calls:
        now += seconds
        match call:
            case 0:
                sizes = search.acknowledged(size, now, size / 1000)
            case 1:
                sizes = search.hint(size, now)
            case 2:
                sizes = search.handle_timer(now)
            case _:
                sizes = search.acknowledged(sorted(asked)[size % len(asked)], now)
        asked.update(sizes)
        assert len(sizes) <= 12
        assert all(552 <= asked_for <= 9000 for asked_for in sizes)
        assert search.mtu in asked | {BASE}
        assert search.next_deadline() is not None


# Hints.


@given(st.lists(st.tuples(st.integers(0, 2000), st.floats(0, 20)), max_size=40))
@settings(max_examples=200)
def test_forged_hints_never_lower_the_mtu(hints: list[tuple[int, float]]) -> None:
    path = settled(1500)
    for mtu, seconds in hints:
        path.hint(mtu)
        path.wait(seconds)
        assert path.search.mtu == 1500
    assert path.search.black_holes == 0
    assert path.search.source == pmtu.ACKNOWLEDGED


@pytest.mark.parametrize("mtu", [0, 68, 551, BASE - 1, 1500, 1501, 65535])
def test_hints_outside_of_what_is_in_doubt_are_ignored(mtu: int) -> None:
    path = settled(1500)
    path.hint(mtu)
    assert path.sent == []
    assert path.search.ignored_hints == 1


def test_a_flood_of_forged_hints_buys_two_probes_a_second() -> None:
    path = settled(1500)
    for mtu in range(1200, 1500):
        path.hint(mtu)
        path.wait(10 / 300)
    assert len(path.sent) <= 2 * (10 / HINT_INTERVAL + 1)
    assert path.search.ignored_hints > 280


def test_a_true_hint_replaces_the_mtu_once_that_is_lost() -> None:
    path = settled(1500)
    path.passes = 1436
    path.hint(1436)
    assert path.sizes == [1500, 1436]
    assert path.run(lambda: path.search.mtu < 1500, 5.0)
    assert (path.search.mtu, path.search.source) == (1436, pmtu.HINTED)
    assert path.settle() == 1436
    assert path.search.black_holes == 0


def test_a_hint_below_the_mtu_during_a_search_leads_to_a_verification_after_it() -> None:
    path = settled(1400)
    assert path.run(lambda: path.search.is_searching and path.search.mtu == 1400, 700.0)
    path.passes = 1300
    path.hint(1300)
    assert path.settle() == 1400
    assert path.run(lambda: path.search.mtu < 1400, 5.0)
    assert path.settle() in range(1293, 1301)


def test_routers_that_answer_a_raise_with_the_mtu_in_use_tell_nothing_new() -> None:
    path = settled(1400, icmp=True)
    ignored = path.search.ignored_hints
    assert path.run(lambda: path.search.is_searching, 100.0)
    path.settle()
    assert path.search.ignored_hints >= ignored + 7
    path.sent.clear()
    path.wait(10.0)
    assert path.sent == []


# Black holes and paths that are down.


@pytest.mark.parametrize("passes", [1450, 1436, 1280, BASE])
def test_a_suspected_black_hole_is_found_and_searched_anew(passes: int) -> None:
    path = settled(1500)
    path.passes = passes
    path.suspect()
    assert path.sizes == [1500]
    assert path.run(lambda: path.search.is_searching, 5.0)
    assert (path.search.mtu, path.search.source, path.search.black_holes) == (BASE, pmtu.BLACK_HOLE, 1)
    assert path.sizes[:4] == [1500, 1500, 1500, BASE]
    assert passes - RESOLUTION < path.settle() <= passes
    assert path.search.source == pmtu.ACKNOWLEDGED


def test_a_black_hole_nobody_suspects_is_found_by_the_periodic_verification() -> None:
    path = settled(9000, 9000)
    path.passes = 1400
    assert path.run(lambda: path.search.black_holes == 1, VERIFY_INTERVAL + 5.0)
    assert path.settle() == 1400


def test_two_lost_verifications_change_nothing() -> None:
    path = settled(1500)
    path.passes = 0
    path.suspect()
    assert path.run(lambda: len(path.sent) == 2, 5.0)
    path.passes = 1500
    path.wait(20.0)
    assert path.sizes[:4] == [1500, 1500, 1500, BASE]
    assert len(path.sent) == 4
    assert path.search.mtu == 1500
    assert path.search.black_holes == 0


def test_an_mtu_given_up_is_taken_back_when_its_acknowledgement_was_only_late() -> None:
    path = settled(1437)
    assert path.search.mtu == 1436
    path.passes = 1300
    path.suspect()
    assert path.run(lambda: path.search.is_searching, 5.0)
    assert path.search.mtu == BASE
    path.search.acknowledged(1436, path.now)
    assert path.search.mtu == 1436


def test_a_suspicion_during_a_search_is_looked_into_right_after_it() -> None:
    path = settled(1400)
    assert path.run(lambda: path.search.is_searching, 100.0)
    path.passes = 1300
    path.suspect()
    path.settle()
    assert path.run(lambda: path.search.black_holes == 1, 3.0)


def test_after_a_black_hole_raises_are_frequent_again() -> None:
    path = settled(1400)
    path.wait(2000.0)
    path.passes = BASE
    path.suspect()
    assert path.run(lambda: path.search.black_holes == 1, 3.0)
    assert path.settle() == BASE
    path.sent.clear()
    path.wait(20.0)
    assert path.sent == []
    path.passes = 1400
    assert path.run(lambda: path.search.mtu == 1400, RAISE_FIRST)


def test_a_suspicion_costs_one_probe_on_a_sound_path() -> None:
    path = settled(1500)
    path.suspect()
    path.suspect()
    path.wait(1.0)
    assert path.sizes == [1500]


def test_a_path_that_is_down_keeps_the_mtu_and_is_tried_ever_more_slowly() -> None:
    path = settled(1436)
    path.passes = 0
    path.suspect()
    assert path.run(lambda: path.search.source == pmtu.KEPT, 5.0)
    path.sent.clear()
    path.wait(300.0)
    assert path.search.mtu in range(1429, 1437)
    assert path.search.black_holes == 0
    assert 40 < len(path.sent) < 80
    assert max(path.sizes) == path.search.mtu
    path.passes = 1436
    assert path.run(lambda: path.search.source == pmtu.ACKNOWLEDGED, 35.0)
    assert path.search.mtu in range(1429, 1437)
    path.settle()
    path.passes = 0
    path.suspect()
    path.sent.clear()
    path.wait(10.0)
    assert len(path.sent) > 6


def test_a_path_that_comes_back_smaller_is_measured_anew() -> None:
    path = settled(1500)
    path.passes = 0
    path.wait(120.0)
    path.passes = 1420
    assert path.run(lambda: path.search.mtu == 1420, 40.0)
    assert path.search.black_holes == 1


def test_a_path_that_falls_below_the_base_is_measured_anew() -> None:
    path = settled(1500)
    path.passes = 700
    assert path.run(lambda: path.search.mtu <= 700, 120.0)
    assert path.settle() in range(693, 701)


# Growth, and ceilings.


def test_growth_of_the_path_is_found_by_the_next_raise() -> None:
    path = settled(1400)
    path.passes = 1500
    assert path.run(lambda: path.search.mtu == 1500, RAISE_FIRST + 5.0)


def test_raises_become_rare_and_stop_at_the_ceiling() -> None:
    path = settled(1400)
    path.wait(4000.0)
    raises = [at for at, size in path.sent if size == 1500][::2]
    gaps = [round(later - earlier, -1) for earlier, later in itertools.pairwise(raises)]
    assert gaps[:4] == [60, 120, 240, 480]
    assert len(gaps) > 6
    assert set(gaps[4:]) == {RAISE_INTERVAL}
    path.passes = 1500
    assert path.run(lambda: path.search.mtu == 1500, RAISE_INTERVAL + 5.0)
    path.sent.clear()
    path.wait(1000.0)
    assert set(path.sizes) == {1500}
    assert len(path.sent) in range(32, 34)


def test_after_growth_and_after_a_new_ceiling_raises_are_frequent_again() -> None:
    path = settled(1400)
    path.wait(4000.0)
    path.passes = 1450
    assert path.run(lambda: path.search.mtu == 1450, RAISE_INTERVAL + 5.0)
    path.passes = 1500
    assert path.run(lambda: path.search.mtu == 1500, RAISE_FIRST + 5.0)
    path.change_ceiling(9000)
    path.wait(4000.0)
    path.change_ceiling(8000)
    path.change_ceiling(9000)
    assert path.settle() == 1500
    path.passes = 9000
    assert path.run(lambda: path.search.mtu == 9000, RAISE_FIRST + 5.0)


def test_no_probe_is_longer_than_an_ip_packet_can_be() -> None:
    search = PathMtu()
    assert max(search.start(65536, 0.0)) == 65535
    search.acknowledged(65535, 0.1)
    assert search.ceiling_changed(65536, 0.2) == []
    search.ceiling_changed(1500, 0.3)
    assert max(search.ceiling_changed(65536, 0.4)) == 65535


@pytest.mark.parametrize(
    ("rtt", "wait"), [(None, 0.3), (-1.0, 0.3), (0.0001, 0.05), (0.1, 0.3), (0.2, 0.6), (5.0, 1.0)]
)
def test_a_probe_is_waited_for_three_round_trips_within_bounds(rtt: float | None, wait: float) -> None:
    search = PathMtu()
    search.start(1500, 0.0)
    search.acknowledged(1500, 0.0, rtt)
    search.suspect(0.0)
    assert search.next_deadline() == pytest.approx(wait)


def test_the_round_trip_is_smoothed() -> None:
    search = PathMtu()
    search.start(1500, 0.0)
    search.acknowledged(1280, 0.0, 0.1)
    search.acknowledged(1500, 0.0, 0.18)
    search.suspect(0.0)
    assert search.next_deadline() == pytest.approx(3 * 0.11)


def test_sizes_of_the_last_gap_are_sent_three_times() -> None:
    path = Path(1408)
    path.start(1500)
    assert path.settle() == 1408
    assert path.sizes.count(1412) == 3
    assert path.sizes.count(1420) == 2


def test_a_lower_ceiling_counts_at_once() -> None:
    path = settled(1500)
    path.change_ceiling(1400)
    assert (path.search.mtu, path.search.source, path.sent) == (1400, pmtu.LOWERED, [])
    path.change_ceiling(1000)
    assert path.search.mtu == 1000
    path.wait(700.0)
    assert set(path.sizes) == {1000}


def test_a_higher_ceiling_is_searched_at_once() -> None:
    path = settled(9000, 1500)
    path.change_ceiling(9000)
    assert path.sizes == [9000, 4352]
    assert path.search.mtu == 1500
    assert path.settle() == 9000


def test_an_unchanged_ceiling_asks_for_nothing() -> None:
    path = settled(1500)
    path.change_ceiling(1500)
    assert path.sent == []


def test_a_lower_ceiling_in_the_middle_of_a_search() -> None:
    path = Path(1436)
    path.start(9000)
    assert path.run(lambda: path.search.mtu == 1420)
    path.change_ceiling(1430)
    assert path.settle() == 1430
    path.change_ceiling(1500)
    assert path.settle() in range(1430, 1437)


def test_a_lower_ceiling_in_the_middle_of_a_verification() -> None:
    path = settled(1500)
    path.suspect()
    path.change_ceiling(1400)
    path.wait(5.0)
    assert path.sizes == [1500, 1400]
    assert (path.search.mtu, path.search.black_holes) == (1400, 0)


def test_a_new_start_forgets_the_old_path() -> None:
    path = settled(1500)
    path.passes = 1400
    path.start(1500)
    assert (path.search.mtu, path.search.source) == (BASE, pmtu.ASSUMED)
    assert path.settle() == 1400


def test_another_base_is_possible() -> None:
    search = PathMtu(base=1280)
    assert search.mtu == 1280
    assert min(search.start(1500, 0.0)) == 1280
