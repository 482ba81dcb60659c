import time

import pytest

from bench.run.timing import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    """Clock whose time advances one second at each reading."""
    ticks = iter(range(1000))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))
    return Clock()


def test_spans_of_a_kind_add_up(clock: Clock) -> None:
    for _ in range(3):
        with clock.span("moves"):
            pass
    with clock.span("generation"):
        pass
    assert clock.seconds == {"moves": 3.0, "generation": 1.0}


def test_nested_spans_count_no_time_twice(clock: Clock) -> None:
    with clock.span("training"), clock.span("judging"):
        pass
    assert clock.seconds == {"training": 1.0}
    with clock.span("judging"):
        pass
    assert clock.seconds == {"training": 1.0, "judging": 1.0}


def test_time_before_an_error_counts(clock: Clock) -> None:
    with pytest.raises(ValueError, match="broken"), clock.span("generation"):
        raise ValueError("broken")
    assert clock.seconds == {"generation": 1.0}


def test_the_time_of_journalled_work_adds_up_by_account(clock: Clock) -> None:
    for account, seconds in (("sample", 2.0), ("gate", 0.5), ("sample", 1.0)):
        clock.book(account, seconds)
    assert clock.accounts == {"sample": 3.0, "gate": 0.5}
    assert clock.seconds == {}
