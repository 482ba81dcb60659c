import pytest

from bench.conformance.answers import EMPTY, MEGABYTE, absurd, cut_off, long_texts, noise


def test_long_texts_have_a_megabyte_each_and_all_differ() -> None:
    assert {len(text) for text in long_texts()} == {MEGABYTE}
    assert len(set(long_texts())) == len(long_texts()) > 10


def test_absurd_answers_are_reproducible_distinct_and_not_empty() -> None:
    assert absurd() == absurd()
    assert len(set(absurd())) == len(absurd())
    assert not set(absurd()) & set(EMPTY)
    assert {*noise(), *long_texts()} < {*absurd()}
    assert {"\0", "\ud800"} < {*noise()}
    assert max(map(len, noise())) < 400


@pytest.mark.parametrize(
    ("gold", "answer", "cut"),
    [
        ("3 + 4 is 7, so #### 1234", "1234", ("3 + 4 is 7, so #### ", "3 + 4 is 7, so #### 12")),
        ("12 and again 12", "12", ("", "1")),
        ("7", "7", ("", "")),
        ("#### 1,234", "1234", ("#### ",)),
        ("abcd", None, ("ab",)),
        ("abcd", "", ("ab",)),
    ],
)
def test_a_gold_answer_is_cut_before_and_in_the_middle_of_its_final_answer(
    gold: str, answer: str | None, cut: tuple[str, ...]
) -> None:
    assert cut_off(gold, answer) == cut
