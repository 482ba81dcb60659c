import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.extraction import last_number
from tasks.numbers import exact, plain, plain_text


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("9{,}500", "9500"),
        (r"9\,500", "9500"),
        (r"11,\! 111,\! 100", "11111100"),
        ("12'500", "12500"),
        ("12_500", "12500"),
        ("1,00,000", "100000"),
        ("12,50,000", "1250000"),
        ("10,20,300", "10,20,300"),
        ("10 000", "10000"),
        ("cost: 9 050", "cost: 9050"),
        ("cost: 1 234 567", "cost: 1234567"),
        ("on day 2 100 came", "on day 2 100 came"),
        ("in 12 500-gram bags", "in 12 500-gram bags"),
        ("-$5", "-5"),
        (r"is -\$5", "is -5"),
        ("$10-$5", "$10-$5"),
        ("\u22125", "-5"),
        ("is \u20135", "is -5"),
        ("3\u20134", "3\u20134"),
        ("1.5e3", "1500"),
        ("1e-07", "0.0000001"),
        ("2e999", "2" + "0" * 999),
        ("2 million", "2000000"),
        (r"2.5~\text{ million}", "2500000"),
        ("5 hundredths", "5 hundredths"),
        ("$5k", "$5000"),
        ("5 km", "5 km"),
        ("2k", "2k"),
        ("$2bn", "$2000000000"),
        ("3 dozen", "36"),
        ("half a dozen", "6"),
        ("2 hundred thousand", "200000"),
        ("it is minus 3", "it is -3"),
        ("10 minus 5", "10 minus 5"),
        ("1\u00bd", r"1\frac{1}{2}"),
    ],
)
def test_a_number_has_one_spelling(text: str, written: str) -> None:
    assert plain(text) == written


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (r"The answer is \$9{,}500.", "9500"),
        ("dropped from 5 to \u22123 degrees. #### \u22123", "-3"),
        ("The answer is -$5.", "-5"),
        ("a loss of negative 5", "-5"),
        ("10 minus 5", "5"),
        ("The answer is 10 000.", "10000"),
        ("The answer is 2 million.", "2000000"),
        (r"about 1.5 \times 10^{3}", "1500"),
        ("about 1.5 \u00d7 10^3", "1500"),
        (r"so $\frac{3}{4}$", "3/4"),
        (r"so $1\frac{3}{4}$", "1 3/4"),
        ("so 1 3/4 cups", "1 3/4"),
        ("so \u00bd", "1/2"),
        ("25 cm^2", "25"),
        ("25 cm^{2}", "25"),
        ("25 cm\u00b2", "25"),
        ("from 3 to 4", "4"),
        ("about 2k", "2000"),
        ("about 1.5K people", "1500"),
        ("It earns 3M.", "3000000"),
        ("It earns 2bn", "2000000000"),
        ("2m dollars", "2000000"),
        ("$2m", "2000000"),
        ("It is 2 km", "2"),
        ("It is 5m", "5"),
        ("a 4K video", "4"),
        ("a 5k race", "5"),
        ("3 MB", "3"),
        ("Let k be the cost. 10 = 2k", "2"),
        ("2k = 10", "10"),
        ("minus 3", "-3"),
        ("fell to minus $3", "-3"),
        ("10 apples minus 5", "5"),
        ("3 dozen", "36"),
        ("There were 250 300", None),
        ("17 000/5 = 3 400.", "3400"),
        ("The total is 3 400.", "3400"),
        ("It is 12 500-gram bags", None),
        ("1 2 3", None),
        ("2\t3", None),
        ("2\n3", "3"),
        ("1, 2, 3", "3"),
        ("from 5 to -3", "-3"),
        ("3\u20134 hours", "4"),
        ("$200,000-$130,000", "130,000"),
        ("\u2212$1,250.75", "-1,250.75"),
    ],
)
def test_the_last_number_of_a_text_is_found_in_any_spelling(text: str, number: str | None) -> None:
    assert last_number(text) == number


@given(st.integers(0, 10**12), st.sampled_from(["{,}", r"\,", r"\ ", "~", "\u00a0", "\u2009", "\u202f", "'", "_", ","]))
def test_thousands_may_be_separated_by_anything(number: int, separator: str) -> None:
    text = f"{number:,}".replace(",", separator)
    found = last_number(f"It is {text}.")
    assert found is not None
    assert exact(found.replace(",", "")) == number


@given(st.text(max_size=200))
def test_every_text_has_a_plain_form(text: str) -> None:
    assert plain(plain(text)) is not None
    assert plain_text(text) is not None


@pytest.mark.parametrize(
    "unit",
    ["1 000 ", "1,", "9{,}", "-$", "1e", "2 million ", r"\frac{1}", "1 ", r"1\,", "\u00bd", "2k ", "k", "minus ", "= ",
     "\n", " ", "a dozen "],
)  # fmt: skip
def test_a_megabyte_is_read_in_one_pass(unit: str) -> None:
    last_number(unit * (1_000_000 // len(unit)))
    plain_text(unit * (100_000 // len(unit)))
