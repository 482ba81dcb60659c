import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.compute.budget import BUDGETS, budget_evaluations
from bench.errors import UsageError


def test_named_budgets_are_the_documented_sizes() -> None:
    assert {name: budget_evaluations(name) for name in BUDGETS} == {
        "smoke": 256,
        "quick": 512,
        "small": 4096,
        "medium": 65536,
        "paper": 1_000_000,
    }


@given(st.integers(1, 10**12))
def test_a_positive_number_is_itself(n: int) -> None:
    assert budget_evaluations(str(n)) == n


@pytest.mark.parametrize(
    "name", ["", "0", "00", "-5", "+5", "1e6", "4096.0", "1_000", "1,000", " 5", "٣", "²", "Smoke"]
)
def test_anything_else_is_refused_with_the_accepted_values(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        budget_evaluations(name)
    message = str(caught.value)
    assert message.startswith(f"--budget {name}:")
    assert "smoke (256)" in message
    assert "positive number" in message


@given(st.text())
def test_any_text_is_a_positive_number_or_a_usage_error(name: str) -> None:
    try:
        assert budget_evaluations(name) > 0
    except UsageError:
        assert not (name.isascii() and name.isdigit() and name.strip("0"))
