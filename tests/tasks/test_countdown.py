import hashlib
import json
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import UsageError
from tasks.countdown import FORMAT_REWARD, LONGEST, PROMPTS, Countdown, evaluate
from tasks.interface import SPLITS, Example

TASK = Countdown()
SPLIT = TASK.load()
ALL = [example for name in SPLITS for example in getattr(SPLIT, name)]
PUZZLE = Example("p", {"numbers": [3, 5, 7, 2], "target": 24})

Term = tuple[str, Fraction | None, list[int]]


def joined(left: Term, symbol: str, right: Term) -> Term:
    (a, x, m), (b, y, n) = left, right
    value = None
    if x is not None and y is not None and not (symbol == "/" and y == 0):
        value = {"+": lambda: x + y, "-": lambda: x - y, "*": lambda: x * y, "/": lambda: x / y}[symbol]()
    return f"({a} {symbol}{b})", value, m + n


TERMS = st.recursive(
    st.integers(0, 99).map(lambda n: (str(n), Fraction(n), [n])),
    lambda inner: st.builds(joined, inner, st.sampled_from("+-*/"), inner),
    max_leaves=8,
)


class TestData:
    def test_splits_have_the_documented_sizes_and_no_puzzle_twice(self) -> None:
        assert SPLIT.sizes == {"support": 200, "select": 100, "gate": 400, "test": 1000}
        assert len({(tuple(sorted(e.fields["numbers"])), e.fields["target"]) for e in ALL}) == 1700

    def test_they_match_the_task_version(self) -> None:
        """A failure means that results are no longer comparable with earlier ones. If intended, raise the version."""
        listed = "\n".join(f"{name} {e.id}" for name in SPLITS for e in getattr(SPLIT, name))
        assert (TASK.version, hashlib.sha256(listed.encode()).hexdigest()) == (
            "3",
            "17cc753f690583593f024a9734bf7fca1cfffbeb57320a9ea7a53c66e31d3a13",
        )

    def test_puzzles_are_of_three_and_four_numbers_with_targets_of_two_digits(self) -> None:
        assert Counter(len(e.fields["numbers"]) for e in ALL) == {3: 850, 4: 850}
        assert all(10 <= e.fields["target"] <= 99 for e in ALL)
        assert all(1 <= n <= 99 for e in ALL for n in e.fields["numbers"])

    def test_every_puzzle_is_solved_by_the_expression_it_was_made_from(self) -> None:
        assert all(TASK.score(e, TASK.gold(e) or "").correct for e in ALL)

    def test_puzzles_of_a_file_with_the_same_numbers_count_once(self, tmp_path: Path) -> None:
        rows = [{"numbers": [n, 2], "target": n + 2} for n in range(1, 61)] + [{"numbers": [2, 1], "target": 3}]
        path = tmp_path / "puzzles.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        splits = TASK.load(path)
        assert sum(splits.sizes.values()) == 60
        assert splits.sizes["test"] >= 30
        assert TASK.gold(splits.test[0]) is None

    @pytest.mark.parametrize("numbers", [[], [1], [1] * 7, [1, 0], [1, -2], [1, "2"], [1, 2.0], [True, 2]])
    def test_invalid_numbers_are_an_error_that_names_the_line(self, tmp_path: Path, numbers: list[object]) -> None:
        path = tmp_path / "puzzles.jsonl"
        path.write_text(
            json.dumps({"numbers": [1, 2], "target": 3}) + "\n" + json.dumps({"numbers": numbers, "target": 3})
        )
        with pytest.raises(
            UsageError, match=r"puzzles\.jsonl, line 2: field 'numbers' is .*; expected two to six positive"
        ):
            TASK.load(path)


class TestEvaluator:
    @given(TERMS)
    def test_it_computes_exactly(self, term: Term) -> None:
        text, value, numbers = term
        if len(text) > LONGEST:
            return
        found = evaluate(text)
        assert (found and found.value) == value
        if found is not None:
            assert found.numbers == Counter(numbers)

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("(1/3)*3", Fraction(1)),
            ("1/3+1/6", Fraction(1, 2)),
            ("2*-3", Fraction(-6)),
            ("-(2-5)", Fraction(3)),
            ("2 + 3 * 4", Fraction(14)),
            ("8/4/2", Fraction(1)),
            ("9-4-3", Fraction(2)),
            ("2 +\n3", Fraction(5)),
        ],
    )
    def test_it_follows_the_rules_of_arithmetic(self, text: str, value: Fraction) -> None:
        found = evaluate(text)
        assert found is not None
        assert found.value == value

    @pytest.mark.parametrize(
        "text",
        [
            *(
                "",
                "()",
                "1/0",
                "1/(2-2)",
                "2**3",
                "7//2",
                "7%2",
                "2^3",
                "1)+(2",
                "(1",
                "1 2",
                "1,2",
                "007",
                "1_0",
                "0x10",
            ),
            *("1.5", "1e3", "1j", "True", "x", "__import__('os')", "1if 1else 2", "(1)(2)", "[1][0]", "٣+1", "²", "~1"),
            *("9" * 201, "(" * 199, "-" * 200, "1;2", "#", "1\0", "lambda:1", "'a'*9", "1<2", "1:=2", "not 1"),
        ],
    )
    def test_what_is_not_arithmetic_has_no_value(self, text: str) -> None:
        assert evaluate(text) is None

    @given(st.one_of(st.text(), st.text("0123456789+-*/() \n", max_size=LONGEST)))
    def test_every_text_is_accepted_without_an_error(self, text: str) -> None:
        assert evaluate(text) == evaluate(text)


class TestScore:
    @pytest.mark.parametrize(
        ("text", "reward"),
        [
            ("<answer>(7 + 5) * (3 - 2 + 1)</answer>", FORMAT_REWARD),  # 1 is not among the numbers
            ("<answer>3 * 5 + 7 + 2</answer>", 1.0),
            ("First <answer>3</answer>, then <answer>2+7+5*3</answer>.", 1.0),
            ("<answer>3×5+7+2", 1.0),
            ("<answer>3*5 + 7 + 2 = 24</answer>", 1.0),
            ("3 * 5 + 7 + 2", 1.0),
            ("<answer>24</answer>", FORMAT_REWARD),
            ("<answer>7 * 3 + 5 - 2</answer>", 1.0),
            ("<answer>7 * 3 + 5</answer>", FORMAT_REWARD),
            ("<answer>3 * 5 + 7 + 2 + 0</answer>", FORMAT_REWARD),
            ("<answer>3 + 5 + 7 + 2</answer>", FORMAT_REWARD),
            ("<answer>3 * 5 + 7 + 2 is it</answer>", 0.0),
            ("The answer is 3 * 5 + 7 + 2.", 0.0),
            ("<answer></answer>", 0.0),
            ("<answer>2**3 * 3</answer>", 0.0),
            ("", 0.0),
        ],
    )
    def test_an_answer_is_correct_if_it_reaches_the_target_by_the_rules(self, text: str, reward: float) -> None:
        score = TASK.score(PUZZLE, text)
        assert (score.reward, score.correct) == (reward, reward == 1.0)
        assert (score.status == "no_answer") == (reward == 0.0)
        assert TASK.signal(PUZZLE, text) == reward

    @given(st.text())
    def test_every_text_has_a_deterministic_score(self, text: str) -> None:
        assert TASK.score(PUZZLE, text) == TASK.score(PUZZLE, text)

    def test_the_signal_does_not_use_the_solution(self) -> None:
        example = SPLIT.test[0]
        bare = Example(example.id, {k: example.fields[k] for k in ("numbers", "target")})
        texts = [TASK.gold(example) or "", "<answer>1</answer>", ""]
        assert [TASK.signal(example, text) for text in texts] == [TASK.signal(bare, text) for text in texts]


def test_the_category_is_how_many_numbers_are_given() -> None:
    assert {(len(e.fields["numbers"]), TASK.category(e)) for e in ALL} == {(3, "3 numbers"), (4, "4 numbers")}


def test_expressions_of_equal_value_share_a_vote_and_invalid_ones_do_not_vote() -> None:
    keys = [TASK.vote_key(PUZZLE, text) for text in ("3*5+7+2", "2+7+5*3", "7*3+5-2", "3+5+7+2", "24", "3*5+7+2+0", "")]
    assert keys[0] == keys[1] == keys[2] is not None
    assert keys[3] is not None
    assert keys[3] != keys[0]
    assert keys[4:] == [None, None, None]


@given(TERMS, TERMS)
def test_answers_that_share_a_vote_are_right_or_wrong_together(one: Term, other: Term) -> None:
    example = Example("p", {"numbers": one[2], "target": 24})
    texts = [one[0], other[0]]
    votes = [TASK.vote_key(example, text) for text in texts]
    if None not in votes and votes[0] == votes[1]:
        assert len({TASK.score(example, text).correct for text in texts}) == 1


@pytest.mark.parametrize("prompt", PROMPTS)
def test_every_prompt_states_the_puzzle_and_the_form(prompt: str) -> None:
    (turn,) = TASK.messages(PUZZLE, prompt)
    assert "the numbers 3, 5, 7, 2," in turn["content"]
    assert "equals 24" in turn["content"]
    assert "<answer>" in turn["content"]


def test_the_reward_has_a_part_for_the_expression_its_numbers_and_its_value() -> None:
    texts = ["6 * 7 - 2", "6 * 7", "40", "6 + 7 + 2", "6 *", ""]
    examples = [Example("e", {"numbers": [2, 6, 7], "target": 40})] * len(texts)
    found = TASK.rewards(examples, texts, TASK.score_many(examples, texts))
    assert [tuple((parts or {}).values()) for parts in found] == [
        *((1, 1, 1), (1, 0, 0), (1, 0, 1), (1, 1, 0), (0, 0, 0), (0, 0, 0))
    ]
