import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import UsageError
from tasks.addition import Addition, pretraining_pairs
from tasks.interface import SPLITS, Example

TASK = Addition()
SPLIT = TASK.load()
NUMBER = st.integers(0, 99)


def example(a: int, b: int) -> Example:
    return Example(f"{a}+{b}", {"a": a, "b": b})


def test_splits_have_the_documented_sizes() -> None:
    assert SPLIT.sizes == {"support": 400, "select": 400, "gate": 1000, "test": 2000}


def test_splits_match_the_task_version() -> None:
    """A failure means that results are no longer comparable with earlier ones. If intended, raise the version."""
    listed = "\n".join(f"{name} {e.id}" for name in SPLITS for e in getattr(SPLIT, name))
    assert (TASK.version, hashlib.sha256(listed.encode()).hexdigest()) == (
        "1",
        "fbd122a1bec752ebfc8bd0d0b39768eed4d2d6c3823349730fcdc8e23eb4578e",
    )


def test_no_split_contains_a_training_pair_of_the_model() -> None:
    seen = set(pretraining_pairs())
    held_out = {(e.fields["a"], e.fields["b"]) for name in SPLITS for e in getattr(SPLIT, name)}
    assert len(seen) == 6000
    assert len(held_out) == 3800
    assert not seen & held_out
    assert seen | held_out <= {(a, b) for a in range(100) for b in range(100)}


def test_the_pairs_that_the_model_was_trained_on_are_fixed() -> None:
    assert (
        hashlib.sha256(repr(pretraining_pairs()).encode()).hexdigest()
        == "e696340002337727222cc591f318fb25f389ffe454b414ed1e886898af6b0d0d"
    )


def test_loading_twice_gives_the_same() -> None:
    assert TASK.load() == SPLIT


@pytest.mark.parametrize(
    ("a", "b", "category"), [(1, 2, "no carry"), (8, 5, "one carry"), (70, 40, "one carry"), (99, 1, "two carries")]
)
def test_the_category_is_the_number_of_carries(a: int, b: int, category: str) -> None:
    assert TASK.category(example(a, b)) == category


def test_a_data_file_is_refused_with_its_name() -> None:
    with pytest.raises(UsageError, match=r"--data rows\.jsonl: .*takes no file"):
        TASK.load("rows.jsonl")  # type: ignore[arg-type]


def test_the_prompt_is_the_sum_up_to_its_equals_sign_in_both_styles() -> None:
    assert TASK.completion(example(12, 34)) == "12+34="
    assert TASK.messages(example(12, 34)) == [{"role": "user", "content": "12+34="}]


@given(NUMBER, NUMBER, st.sampled_from(["{}", " {}", "{}\n", "0{}", "\t00{} "]))
def test_white_space_and_leading_zeros_around_the_sum_are_ignored(a: int, b: int, form: str) -> None:
    score = TASK.score(example(a, b), form.format(a + b))
    assert (score.reward, score.correct, score.answer, score.status) == (1.0, True, str(a + b), "ok")


@given(NUMBER, NUMBER, st.integers(0, 10**6))
def test_any_other_number_is_wrong(a: int, b: int, answer: int) -> None:
    score = TASK.score(example(a, b), str(answer))
    assert score.correct == (answer == a + b)
    assert score.reward == float(score.correct)
    assert score.status == "ok"


@pytest.mark.parametrize("text", ["", " ", "four", "4.0", "-4", "+4", "2+2", "4 4", "=4", "4.", "0x4", "٤", "⁴", "4\0"])
def test_a_text_that_is_not_a_number_is_no_answer(text: str) -> None:
    score = TASK.score(example(2, 2), text)
    assert (score.reward, score.correct, score.answer, score.status) == (0.0, False, None, "no_answer")


@given(NUMBER, NUMBER, st.text())
def test_every_text_has_a_deterministic_score(a: int, b: int, text: str) -> None:
    score = TASK.score(example(a, b), text)
    assert score == TASK.score(example(a, b), text)
    assert score.status in ("ok", "no_answer")


@pytest.mark.parametrize("text", ["4" * 1_000_000, "\0" * 1_000_000, " " * 1_000_000])
def test_a_megabyte_of_text_is_wrong_and_described_in_one_line(text: str) -> None:
    score = TASK.score(example(2, 2), text)
    assert not score.correct
    assert len(score.detail) < 200


@given(st.integers(0, 250), st.integers(0, 250), st.integers(0, 3), st.integers(0, 3))
def test_equal_numbers_are_equal_votes(m: int, n: int, i: int, j: int) -> None:
    keys = [TASK.vote_key(example(2, 2), "0" * zeros + str(number)) for zeros, number in ((i, m), (j, n))]
    assert (keys[0] == keys[1]) == (m == n)


def test_a_text_that_is_not_a_number_does_not_vote() -> None:
    assert TASK.vote_key(example(2, 2), "four") is None


@given(NUMBER, NUMBER, st.integers(0, 10**6))
def test_the_signal_depends_on_the_addends_but_not_on_the_sum(a: int, b: int, number: int) -> None:
    assert TASK.signal(example(a, b), str(a + b)) == 1.0
    assert TASK.signal(example(a, b), str(number)) == float(max(a, b) <= number < 1000)


@pytest.mark.parametrize("text", ["", "four", "9" * 1_000_000])
def test_a_number_that_cannot_be_the_sum_has_signal_zero(text: str) -> None:
    assert TASK.signal(example(2, 2), text) == 0.0


def test_the_reward_has_three_parts_which_are_all_1_for_the_sum_alone() -> None:
    texts = ["100", "0100", "110", "90", "95", "many", ""]
    examples = [example(34, 66)] * len(texts)
    found = TASK.rewards(examples, texts, TASK.score_many(examples, texts))
    assert [tuple((parts or {}).values()) for parts in found] == [
        *((1, 1, 1), (1, 1, 1), (0, 1, 1), (0, 0, 1), (0, 0, 0), (0, 0, 0), (0, 0, 0))
    ]
    assert all(list(parts or {}) == ["number", "length", "last digit"] for parts in found)
