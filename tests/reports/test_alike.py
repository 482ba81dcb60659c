import pytest

from bench.records.rows import AnswerCost
from reports.alike import CLOSE, alike, differences


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        (0.5, 0.5 + CLOSE / 2, True),
        (0.5, 0.5 + 3 * CLOSE, False),
        (1e12, 1e12 * (1 + CLOSE / 2), True),
        (0.0, 0.001, False),
        (1, 1.0, True),
        (3, 4, False),
        (10**18, 10**18 + 1, False),
        ((0.1 + 0.2, "x"), [0.3, "x"], True),
        ({"a": 0.3}, {"a": 0.1 + 0.2}, True),
        ({"a": 0.3}, {"b": 0.3}, False),
        ((1.0,), (1.0, 2.0), False),
        (None, 0.0, False),
    ],
)
def test_floats_are_compared_closely_and_all_else_exactly(one, two, same):
    assert alike(one, two) is same
    assert alike(two, one) is same


def test_fields_that_differ_are_named_with_both_values():
    given = AnswerCost(evaluations=1.0, flops=50.0, new_tokens=3.0)
    expected = given.model_copy(update={"flops": 60.0, "evaluations": 1.0 + 1e-15})
    assert list(differences("cost", given, expected)) == [("cost.flops", 50.0, "60.0")]
