import re
from pathlib import Path

import pytest

from bench.errors import BenchError, UsageError
from tasks import reasoning_gym_worker
from tasks.interface import SPLITS, Example
from tasks.process import CPU_SECONDS, TooSlow, Unanswerable
from tasks.reasoning_gym import PROMPTS, ReasoningGym

TASK = ReasoningGym("chain_sum")
SPLIT = TASK.load()
ALL = [example for name in SPLITS for example in getattr(SPLIT, name)]


def test_examples_are_drawn_once_and_cut_into_disjoint_splits() -> None:
    assert SPLIT.sizes["test"] >= sum(SPLIT.sizes.values()) // 2
    assert 900 < len(ALL) == len({e.fields["question"] for e in ALL}) <= 1000
    assert ReasoningGym("chain_sum").load() == SPLIT


def test_the_librarys_own_answers_are_right_and_each_others_are_not() -> None:
    some = ALL[:50]
    assert all(TASK.score(e, TASK.gold(e) or "").correct for e in some)
    others = [(a, b) for a, b in zip(some, [*some[1:], some[0]], strict=True) if TASK.gold(a) != TASK.gold(b)]
    assert not any(TASK.score(a, TASK.gold(b) or "").correct for a, b in others)


@pytest.mark.parametrize(
    ("form", "correct"),
    [
        ("<answer>{}</answer>", True),
        ("I think: <answer> {}\n</answer> done", True),
        ("<answer>0</answer> no, <answer>{}</answer>", True),
        ("<answer>{}", True),
        ("{}</answer>", True),
        (" {} ", True),
        ("The answer is {}.", False),
        ("<answer></answer>", False),
        ("", False),
        ("<answer>1{}</answer>", False),
    ],
)
def test_the_answer_is_between_tags_or_the_whole_text(form: str, correct: bool) -> None:
    example = ALL[0]
    assert TASK.score(example, form.format(example.fields["answer"])).correct is correct


def test_the_category_is_the_generator() -> None:
    assert TASK.category(ALL[0]) == "chain_sum"


def test_a_partial_score_is_a_reward_but_not_correct() -> None:
    score = TASK.score(ALL[0], f"It is {ALL[0].fields['answer']}, I think")
    assert 0.0 < score.reward < 1.0
    assert not score.correct


@pytest.mark.parametrize("text", ["\0", "\ud800", "9" * 10_001, "(" * 1_000_000, "<answer>" * 100_000])
def test_every_text_has_a_score(text: str) -> None:
    score = TASK.score(ALL[0], text)
    assert not score.correct
    assert score.reward < 1.0


def test_equal_texts_are_equal_votes() -> None:
    keys = [TASK.vote_key(ALL[0], text) for text in ("<answer>7</answer>", "so <answer> 7 ", "<answer>8</answer>", "")]
    assert keys[0] == keys[1] != keys[2]
    assert keys[3] is None


@pytest.mark.parametrize("prompt", PROMPTS)
def test_every_prompt_asks_the_question_and_for_the_tags(prompt: str) -> None:
    (turn,) = TASK.messages(ALL[0], prompt)
    assert ALL[0].fields["question"] in turn["content"]
    assert "<answer>" in turn["content"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("chain_sums", "--task rg:chain_sums: reasoning-gym has no generator 'chain_sums'; did you mean 'chain_sum'?"),
        ("zzz", "expected one of ab, acre, "),
        ("composite", "the generator has no default settings that work"),
        ("countdown", "its scorer rejects 20 of the library's own answers when it may not run them as code"),
    ],
)
def test_a_generator_that_cannot_be_used_is_an_error_that_says_why(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        ReasoningGym(name).load()


def test_a_data_file_is_refused_with_its_name() -> None:
    with pytest.raises(UsageError, match=r"--data rows\.jsonl: the task rg:chain_sum is generated"):
        TASK.load(Path("rows.jsonl"))


def test_another_version_of_the_library_is_noticed() -> None:
    stale = Example("not its id", dict(ALL[0].fields))
    with pytest.raises(BenchError, match="rg:chain_sum: the library now draws other examples"):
        TASK.score(stale, "<answer>1</answer>")


class TestNoCode:
    """The scorers of these generators evaluate answers as Python. No part of an answer may be executed."""

    @pytest.mark.parametrize("generator", ["spiral_matrix", "binary_matrix", "string_insertion", "n_queens"])
    def test_answers_are_not_executed(self, generator: str, tmp_path: Path) -> None:
        task = ReasoningGym(generator)
        example = task.load().test[0]
        mark = tmp_path / "ran"
        score = task.score(example, f"<answer>[open({str(mark)!r}, 'w').close()]</answer>")
        assert not score.correct
        assert not mark.exists()
        assert task.score(example, task.gold(example) or "").correct

    def test_code_of_the_library_is_executed(self) -> None:
        """The scorer evaluates the library's own answer, not the model's."""
        task = ReasoningGym("number_sorting")
        assert all(task.score(e, task.gold(e) or "").correct for e in task.load().test[:5])

    def test_a_generator_without_answers_has_a_scorer(self) -> None:
        task = ReasoningGym("propositional_logic")
        example = task.load().test[0]
        assert task.gold(example) is None
        assert not task.score(example, "<answer>no</answer>").correct


def test_a_scorer_whose_process_dies_is_a_timeout_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: object) -> float:
        raise TooSlow(f"more than {CPU_SECONDS} s")

    monkeypatch.setattr(reasoning_gym_worker, "score", lost)
    score = TASK.score(ALL[0], "<answer>1</answer>")
    assert (score.reward, score.correct, score.status) == (0.0, False, "timeout")


def test_a_generator_that_takes_too_long_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(_: str) -> list[dict[str, object]]:
        raise TooSlow("more than 60 s")

    def declined(_: str) -> list[dict[str, object]]:
        raise Unanswerable("no")

    monkeypatch.setattr(reasoning_gym_worker, "draw", slow)
    with pytest.raises(BenchError, match="rg:chain_sum: drawing 1000 examples takes more than 60 s"):
        ReasoningGym("chain_sum").load()
    monkeypatch.setattr(reasoning_gym_worker, "draw", declined)
    with pytest.raises(UsageError, match="--task rg:chain_sum: no"):
        ReasoningGym("chain_sum").load()
