import pytest

from tasks.maths import equivalent
from tasks.units import units_of, without_unit


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (r"5\text{ m}", r"5\text{ km}", False),
        (r"5\text{m/s}", "5 km/h", False),
        ("5 hours", "5 minutes", False),
        ("5 hours", r"5\text{ h}", True),
        (r"5\text{ m/s}", "5 m/s", True),
        ("2h", r"2\text{h}", True),
        ("3m", r"3\text{m}", True),
        ("2V", r"2\mathrm{V}", True),
        ("3m", r"4\text{m}", False),
        ("15\\text{ cm}\u00b2", r"15\text{ cm}^2", True),
        ("10", "10 m", True),
        ("10", "11 m", False),
        ("5m", "5", False),
        ("5x", "5", False),
    ],
)
def test_units_count_where_both_answers_have_one(one: str, other: str, equal: bool) -> None:
    assert equivalent(one, other) == equivalent(other, one) == equal


def test_a_unit_has_one_name() -> None:
    assert units_of("5 hours") == units_of(r"5\text{ hrs}") == {"h"}
    assert units_of(r"5\text{ km/h}") == units_of("5 kph") == {"km/h"}
    assert units_of(r"5\text{ units}") == units_of("5x") == units_of("5") == set()


def test_a_letter_directly_behind_a_number_may_be_a_variable() -> None:
    assert (without_unit("10 m"), without_unit("10m"), without_unit("x + 10 m")) == ("10", "10m", "x + 10 m")
