from plait.mesh.schedule import GATHERING_DELAY, Pace, Schedule


def test_a_deferred_task_waits_once_and_not_anew_with_each_cause() -> None:
    schedule = Schedule()
    schedule.within("routes", 5.0)
    schedule.within("routes", 9.0)
    assert schedule.next() == 5.0
    schedule.at("routes", 9.0)
    assert schedule.next() == 9.0


def test_due_tasks_come_in_the_order_of_their_times_and_only_once() -> None:
    schedule = Schedule()
    for name, when in (("late", 3.0), ("early", 1.0), ("later", 7.0)):
        schedule.at(name, when)
    assert schedule.due(0.9) == []
    assert schedule.due(3.0) == ["early", "late"]
    assert schedule.due(3.0) == []
    assert schedule.next() == 7.0


def test_a_cancelled_task_is_not_due() -> None:
    schedule = Schedule()
    schedule.at("gossip", 1.0)
    assert schedule.cancel("gossip")
    assert not schedule.cancel("gossip")
    assert schedule.due(5.0) == []
    assert schedule.next() is None


def test_what_is_done_seldom_is_due_at_once_but_for_a_gathering_delay() -> None:
    pace = Pace(2, interval=1.0)
    for now in (0.0, 10.0, 20.0):
        assert pace.due(now) == now + GATHERING_DELAY
        pace.done(now + GATHERING_DELAY)


def test_what_is_done_often_waits_until_its_burst_is_an_interval_old() -> None:
    pace = Pace(2, interval=1.0)
    pace.done(5.0)
    assert pace.due(5.1) == 5.1 + GATHERING_DELAY
    pace.done(5.2)
    assert pace.due(5.3) == 6.0
    pace.done(6.0)
    assert pace.due(6.01) == 6.2
    assert pace.due(6.5) == 6.5 + GATHERING_DELAY
