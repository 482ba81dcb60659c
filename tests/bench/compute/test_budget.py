import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.compute.budget import BUDGETS, Budget, canonical, parse_budget, parse_flops
from bench.errors import UsageError


def test_named_budgets_are_the_documented_sizes() -> None:
    assert {name: parse_budget(name).amount for name in BUDGETS} == {
        "smoke": 256,
        "quick": 512,
        "small": 4096,
        "medium": 65536,
        "paper": 1_000_000,
    }


@given(st.integers(1, 10**12))
def test_a_positive_number_is_itself(n: int) -> None:
    assert parse_budget(str(n)) == parse_budget(f"{n:,}") == parse_budget(f"{n:_}") == Budget("evaluations", n)
    assert canonical(f"{n:,}") == str(n)


@pytest.mark.parametrize(
    ("text", "unit", "amount", "spelling"),
    [
        ("1e5", "evaluations", 100_000, "100000"),
        ("64k", "evaluations", 64_000, "64000"),
        ("1.5M", "evaluations", 1_500_000, "1500000"),
        ("4096.0", "evaluations", 4096, "4096"),
        ("1e15flops", "flops", 10**15, "1e15flops"),
        ("1 PFLOPs", "flops", 10**15, "1e15flops"),
        ("3.5e12flops", "flops", 35 * 10**11, "3.5e12flops"),
        ("2pflops", "flops", 2 * 10**15, "2e15flops"),
        ("7flops", "flops", 7, "7flops"),
        ("1,234flops", "flops", 1234, "1234flops"),
        ("2h", "seconds", 7200, "2h"),
        ("120min", "seconds", 7200, "2h"),
        ("15min", "seconds", 900, "15min"),
        ("90s", "seconds", 90, "90s"),
        ("1.5h", "seconds", 5400, "90min"),
    ],
)
def test_a_budget_is_written_as_people_write_it(text: str, unit: str, amount: int, spelling: str) -> None:
    assert parse_budget(text) == Budget(unit, amount)
    assert canonical(text) == spelling
    assert parse_budget(spelling) == Budget(unit, amount)


def test_evaluations_enter_the_id_as_a_number_and_other_units_with_their_name() -> None:
    assert [parse_budget(text).identity for text in ("512", "2e3flops", "2min")] == [512, "2000 flops", "120 seconds"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "0",
        "00",
        "-5",
        "+5",
        "4096.5",
        "1,00",
        "1__0",
        " 5",
        "٣",
        "²",
        "Smoke",
        "0flops",
        "0.5s",
        "5m",
        "5H",
        "1e-3",
        "1e400",
        "flops",
        "h",
        "1 W",
        "1.5flops",
        "5  h",
        "1e5e5",
    ],
)
def test_anything_else_is_refused_with_the_accepted_values(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_budget(name)
    message = str(caught.value)
    assert message.startswith(f"--budget {shlex.quote(name)}:")
    assert "smoke (256)" in message
    assert "1e15flops" in message
    assert "2h" in message


@given(st.text() | st.from_regex(r"[0-9]{1,5}(,[0-9]{3})?(\.[0-9]+)?(e[0-9]{1,2})?[a-zA-Z]{0,5}", fullmatch=True))
def test_any_text_is_a_budget_that_keeps_its_size_or_a_usage_error(name: str) -> None:
    try:
        found = parse_budget(name)
    except UsageError:
        assert not (name.isascii() and name.isdigit() and 0 < int(name) <= 10**12)
    else:
        assert found.amount > 0
        assert parse_budget(found.text) == found


@pytest.mark.parametrize(
    ("largest", "beyond"),
    [("1e12", "1000000000001"), ("1e30flops", "1e99flops"), ("1e12eflops", "1e99eflops"), ("87600h", "1e60s")],
)
def test_a_budget_that_no_run_could_end_is_refused_and_the_largest_keeps_its_size(largest: str, beyond: str) -> None:
    assert parse_budget(canonical(largest)) == parse_budget(largest)
    with pytest.raises(UsageError, match=f"^--budget {beyond}: expected at most "):
        parse_budget(beyond)


def test_a_number_of_flops_needs_no_unit() -> None:
    assert [parse_flops("--of", text) for text in ("1e15", "1e15flops", "2pflops")] == [10**15, 10**15, 2 * 10**15]
    for text in ("2h", "small", "0"):
        with pytest.raises(UsageError, match=f"^--of {text}: expected a positive number of FLOPs"):
            parse_flops("--of", text)
