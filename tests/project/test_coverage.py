"""Coverage slows down only the tests that it is measured in. Under `-n 2 --cov`, as CI runs them, this can fail."""

import sys


def test_a_test_outside_the_pure_modules_is_not_traced() -> None:
    assert type(sys.gettrace()).__name__ not in ("CTracer", "PyTracer")
