from hypothesis import given
from hypothesis import strategies as st

from bench.conformance.overlap import RUN, contains_answer, overlap

WORDS = [f"{syllable}{number}" for number in range(4) for syllable in ("ba", "do", "ki", "lu")]
TEXTS = st.lists(st.text(alphabet="ab \n", max_size=40), max_size=6)


def join(words: list[str]) -> str:
    return " ".join(words)


def test_a_shared_run_has_at_least_thirteen_words() -> None:
    assert RUN == 13
    for length in (12, 13):
        first = f"Mine: {join(WORDS[:length])} and so on."
        second = f"Once, {join(WORDS[:length]).upper()}! Then nothing."
        assert overlap([first], [second]) == (length == 13)


def test_instructions_around_a_question_do_not_count() -> None:
    template = f"{join(WORDS)}. {{}} {join(WORDS[::-1])}"
    texts = [template.format(question) for question in ("one", "two", "three")]
    assert overlap(texts[:2], texts[2:]) == 0
    # The other text ends differently, so the end of these texts counts.
    assert overlap(texts[:2], [f"{join(WORDS[::-1])} indeed"]) == 2


@given(TEXTS, TEXTS)
def test_counts_do_not_depend_on_the_order_of_texts(texts: list[str], others: list[str]) -> None:
    found = overlap(texts, others)
    assert 0 <= found <= len(texts)
    assert found == overlap(texts[::-1], others[::-1])


def test_a_set_of_long_texts_overlaps_completely_with_itself() -> None:
    texts = [join([*WORDS[number:], *WORDS[:number]]) for number in range(5)]
    assert overlap(texts, texts) == 5
    assert overlap(texts, []) == 0


def test_a_text_contains_an_answer_as_whole_words() -> None:
    assert contains_answer("12+34=(46)", "46")
    assert contains_answer("I love new york.", "New  York")
    assert contains_answer("so x^2, then", "x^2")
    assert not contains_answer("460 or 146", "46")
    assert not contains_answer("anything", "")
    assert not contains_answer("None", None)
