from hypothesis import given
from hypothesis import strategies as st

from bench.conformance.overlap import RUN, DataOverlap, overlap, stands_in

WORDS = [f"{syllable}{number}" for number in range(4) for syllable in ("ba", "do", "ki", "lu")]
TEXTS = st.lists(st.text(alphabet="ab \n", max_size=40), max_size=6)


def said(words: list[str]) -> str:
    return " ".join(words)


def test_the_same_text_is_found_whatever_its_case_and_space() -> None:
    found = overlap(["What is 1 + 1?", "What is 1 - 1?"], ["other", "  what IS\n1 + 1?"])
    assert found == DataOverlap(texts=2, same=1, runs=1)


def test_a_run_is_thirteen_words_and_no_fewer() -> None:
    assert RUN == 13
    for length in (12, 13):
        ours = f"Mine: {said(WORDS[:length])} and so on."
        theirs = f"Once, {said(WORDS[:length]).upper()}! Then nothing."
        assert overlap([ours], [theirs]).runs == (length == 13)


def test_instructions_around_a_question_do_not_count() -> None:
    frame = f"{said(WORDS)}. {{}} {said(WORDS[::-1])}"
    texts = [frame.format(question) for question in ("one", "two", "three")]
    assert overlap(texts[:2], texts[2:]) == DataOverlap(texts=2, same=0, runs=0)
    # The other text does not end like these, and so their end counts.
    assert overlap(texts[:2], [f"{said(WORDS[::-1])} indeed"]).runs == 2


@given(TEXTS, TEXTS)
def test_counts_are_ordered_and_the_texts_order_is_no_matter(texts: list[str], others: list[str]) -> None:
    found = overlap(texts, others)
    assert 0 <= found.same <= found.runs <= found.texts == len(texts)
    assert found == overlap(texts[::-1], others[::-1])


@given(TEXTS)
def test_all_of_a_set_stands_in_itself(texts: list[str]) -> None:
    assert overlap(texts, texts).same == len(texts)
    assert overlap(texts, []).same == 0


def test_an_answer_stands_in_a_text_as_whole_words() -> None:
    assert stands_in("46", "12+34=(46)")
    assert stands_in("New  York", "I love new york.")
    assert stands_in("x^2", "so x^2, then")
    assert not stands_in("46", "460 or 146")
    assert not stands_in("", "anything")
    assert not stands_in(None, "None")
