import pytest

from tasks.asked import asks_for_base, in_asked_multiple
from tasks.maths import equivalent


@pytest.mark.parametrize(
    ("question", "base", "asks"),
    [
        ("Express your answer in base $8.$", 8, True),
        ("is equal to what number in base eight?", 8, True),
        ("What is the base six equivalent of $999_{10}$?", 6, True),
        ("Write it as a base-5 numeral.", 5, True),
        ("Write 13 in binary notation.", 2, True),
        ("Write 13 in hexadecimal form.", 16, True),
        ("Express your answer in base $8.$", 9, False),
        ("Express your answer in base $10$.", 1, False),
        ("The base of the triangle is 8.", 8, False),
        ("The binary number $101_{2}$ is equal to what number?", 8, False),
    ],
)
def test_a_question_names_a_base(question: str, base: int, asks: bool) -> None:
    assert asks_for_base(question, base) == asks


@pytest.mark.parametrize(
    ("gold", "answer", "question", "equal"),
    [
        ("52_8", "52", "Express your answer in base $8.$", True),
        ("52", "52_8", "Express your answer in base $8.$", True),
        ("52_8", "53", "Express your answer in base $8.$", False),
        ("52", "52_9", "Express your answer in base $8.$", False),
        ("1101_2", "1101", "Write 13 in base 2.", True),
        ("1101_2", "1101", "What is 5 + 8?", False),
        ("1101", "1101_2", "What is 1100 + 1?", False),
        ("1101_2", "1101_3", "Write 13 in base 2.", False),
        ("1101_2", "13", "Write 13 in base 2.", False),
        ("2516_8", "2516", None, True),
        ("2516", "2516_8", None, False),
    ],
)
def test_the_digits_alone_are_right_where_the_question_names_the_base(gold, answer, question, equal) -> None:
    assert equivalent(gold, answer, question) == equal


@pytest.mark.parametrize(
    ("gold", "answer", "question", "equal"),
    [
        ("36", "3 dozen", "How many eggs are there?", True),
        ("3", "3 dozen", "How many eggs are there?", False),
        ("3", r"3\text{ dozen}", "How many dozens of eggs are there?", True),
        ("36", "3 dozen", "How many dozen eggs are there?", False),
        ("2", "2 million", "How many millions did it earn?", True),
        ("2000000", "2 million", "How much did it earn?", True),
        ("36", "3 dozen", None, True),
    ],
)
def test_a_multiple_is_a_unit_where_the_question_counts_in_it(gold, answer, question, equal) -> None:
    assert equivalent(gold, answer, question) == equal
    assert in_asked_multiple("3 dozen eggs", "How many dozens?") == "3  eggs"
