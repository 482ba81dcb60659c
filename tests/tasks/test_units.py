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
        ("5 m", "5 kilometers", False),
        ("5 m", "5 meters", True),
        (r"5\text{ km}", "5 kilometres", True),
        ("5 grams", "5 kilograms", False),
        ("5 inches", "5 feet", False),
        ("5 cents", "5 dollars", False),
        ("5 dollars", r"\$5", True),
        ("5 months", "5 years", False),
        ("5 pounds", "5 ounces", False),
        ("5 square meters", "5 m^2", True),
        ("5 square meters", "5 meters", False),
        ("5 cubic feet", "5 ft^3", True),
        ("5 m/s", "5 meters per second", True),
        ("5 miles per hour", "5 mph", True),
        (r"864 \mbox{ inches}^2", "864 square inches", True),
        ("864 inches^2", "864 inches", False),
        ("5", "5 kilometers", True),
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
