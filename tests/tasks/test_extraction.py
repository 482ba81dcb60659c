import pytest

from tasks.extraction import stated_number, without_remarks


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("45 (9*5)", "45"),
        ("45 (= 9 * 5)", "45"),
        ("45 [9*5]", "45"),
        ("45 (9*(2+3))", "45"),
        ("45 (9*5", "45"),
        ("3 (which is 1/4 of 12)", "3"),
        ("64 cents (=$0.64)", "64"),
        ("12 (a dozen, 10+2) eggs", "12"),
        ("18 (not 17)", "18"),
        ("18, not 17", "18"),
        ("18 because 9 * 2 = 18", "18"),
        ("3 out of 4", "3"),
        ("16, since 16 > 12", "16"),
        ("of 24 players 17 did not play, so it is 7", "7"),
        ("to pay in 2 years instead of 5, 250-100 = $150", "150"),
        ("he has 25 in and 16 out of it, 25+16 = 41", "41"),
        ("45 = 9*5", "45"),
        ("9*5 = 45", "45"),
        ("2 (3) = 6", "6"),
        ("(3)", "3"),
        (r"\(7\)", "7"),
        ("not 4 but 3", "3"),
        ("minus 3", "-3"),
        ("none", None),
        (None, None),
    ],
)
def test_the_number_of_a_stated_answer_is_not_one_of_its_remarks(answer: str | None, number: str | None) -> None:
    assert stated_number(answer) == number


def test_a_remark_without_a_number_before_it_is_the_answer() -> None:
    assert without_remarks("so (9*5)") == "so (9*5)"


@pytest.mark.parametrize("unit", ["(", " (a", " (a)", " [a", "1 (", " not", " ", "=", "1*1=", "1 not "])
def test_a_long_text_is_searched_in_one_pass(unit: str) -> None:
    stated_number(unit * (20_000 // len(unit)))
