import pytest

from tasks.interface import Example
from tasks.successor import Successor
from tasks.tenfold import Tenfold

EXAMPLE = Example("347", {"n": 347})


@pytest.mark.parametrize(
    ("reply", "correct", "signal"),
    [
        ("348", True, 1.0),
        ("The number after 347 is 348.", True, 1.0),
        ("348 comes after 347.", False, 0.0),
        ("349", False, 1.0),
        ("three hundred and forty-eight", False, 0.0),
        ("", False, 0.0),
    ],
)
def test_the_last_number_counts(reply: str, correct: bool, signal: float) -> None:
    assert Successor().score(EXAMPLE, reply).correct == correct
    assert Successor().signal(EXAMPLE, reply) == signal


def test_tenfold_expects_ten_times_the_number() -> None:
    assert Tenfold().score(EXAMPLE, "It is 3,470.").correct
    assert not Tenfold().score(EXAMPLE, "347").correct


def test_the_category_is_the_number_of_digits() -> None:
    assert Successor().category(EXAMPLE) == Tenfold().category(EXAMPLE) == "3 digits"
    assert {Tenfold().category(example) for example in Tenfold().load().support} == {f"{n} digits" for n in (2, 3, 4)}


@pytest.mark.parametrize("task", [Successor(), Tenfold()])
def test_every_question_is_asked_once_in_each_form(task: Successor) -> None:
    splits = task.load()
    examples = (*splits.support, *splits.select, *splits.gate, *splits.test)
    questions = {task.messages(example, prompt)[0]["content"] for example in examples for prompt in task.prompts}
    assert len(questions) == len(task.prompts) * len(examples) == 2600
    assert all(task.score(example, task.gold(example)).correct for example in examples)


def test_the_tasks_draw_their_own_numbers() -> None:
    assert {e.id for e in Successor().load().test} != {e.id for e in Tenfold().load().test}
