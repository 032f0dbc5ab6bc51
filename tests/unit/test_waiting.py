"""Waiting ends in time, asks at once, and rests between its questions."""

from allocation.service_layer.waiting import wait_until
from tests.fakes import SetTimer


def test_what_is_so_already_is_not_waited_for() -> None:
    timer = SetTimer()
    assert wait_until(lambda: True, timer, 2.0)
    assert timer.pauses == []


def test_it_is_asked_again_with_growing_pauses() -> None:
    timer, answers = SetTimer(), iter([False, False, False, False, True])
    assert wait_until(lambda: next(answers), timer, 2.0)
    assert timer.pauses == [0.005, 0.01, 0.02, 0.02]


def test_it_ends_in_time_though_the_question_itself_takes_long() -> None:
    timer, asked = SetTimer(), []

    def slowly() -> bool:
        asked.append(timer.seconds())
        timer.now += 0.6
        return False

    assert not wait_until(slowly, timer, 1.0)
    assert len(asked) == 2
    assert timer.seconds() - 1000.0 < 1.0 + 0.6


def test_the_last_question_comes_at_the_end() -> None:
    timer, asked = SetTimer(), []
    assert not wait_until(lambda: bool(asked.append(timer.seconds())), timer, 0.03)  # type: ignore[func-returns-value]  # it is asked for what it notes down
    assert asked[-1] == 1000.03
