"""The default time limit depends on the machine's speed, within bounds."""

import pytest

from bench.sandbox import timeout


@pytest.mark.parametrize(("seconds", "limit"), [(0.001, 7.0), (0.02, 7.0), (0.04, 14.0), (10.0, 28.0)])
def test_a_slower_machine_gets_more_time(monkeypatch: pytest.MonkeyPatch, seconds: float, limit: float) -> None:
    runs = iter([seconds * 3, seconds, seconds * 2])
    monkeypatch.setattr(timeout, "_calibrate", lambda: next(runs))
    assert timeout.default_timeout.__wrapped__() == pytest.approx(limit)


def test_the_calibration_measures_a_positive_time() -> None:
    assert 0 < timeout._calibrate() < 60
