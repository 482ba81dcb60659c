"""Values that a task returned: refused before a run, or where they come in; the run goes on once the task is mended."""

import json
from dataclasses import replace

import pytest

from bench.conformance import check_task
from bench.errors import BenchError, UsageError
from bench.records.samples import Turn, read_samples
from bench.records.schema import RunConfig
from bench.run.data import load_task_data
from bench.run.grid import resume_run
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.returned import measures_of, prompt_problems, rewards_of, scores_of
from bench.run.runner import execute
from tasks.addition import Addition
from tasks.interface import DEFAULT_PROMPT, Example, Score

QUIET = ProgressDisplay(quiet=True)
ONE = Example("3+4", {"a": 3, "b": 4})


class Sums(Addition):
    """Addition whose reference answers are numbers."""

    def gold(self, example):
        return example.fields["a"] + example.fields["b"]


class Sorted(Addition):
    """Addition whose categories are numbers."""

    def category(self, example):
        return (example.fields["a"] + example.fields["b"]) // 100


class Turns(Addition):
    """Addition whose chat prompts are no texts."""

    def messages(self, example, prompt=DEFAULT_PROMPT):
        return [{"role": "user", "content": 7}]


class Completes(Addition):
    """Addition whose second text to complete is none."""

    def completion(self, example, prompt=DEFAULT_PROMPT):
        return super().completion(example, prompt) if prompt == DEFAULT_PROMPT else None

    def messages(self, example, prompt=DEFAULT_PROMPT):
        return super().messages(example)


class Named(Addition):
    """Addition whose users have names."""

    def messages(self, example, prompt=DEFAULT_PROMPT):
        return [{**turn, "name": "Ada"} for turn in super().messages(example, prompt)]


class Reads(Addition):
    """Addition whose scorer reads a number, and not its text."""

    mended = False

    def score(self, example, text):
        score = super().score(example, text)
        return score if self.mended else replace(score, answer=7)


class Forgets(Addition):
    """Addition whose reference answers are texts only until the answers are scored."""

    mended = scored = False

    def score(self, example, text):
        type(self).scored = True
        return super().score(example, text)

    def gold(self, example):
        return 7 if self.scored and not self.mended else super().gold(example)


def config_of(task, **fields):
    return RunConfig(task=f"{__name__}:{task.__name__}", model="tiny-adder", method="base", limit=8, **fields)


@pytest.mark.parametrize(
    ("task", "where", "returned"),
    [
        (Sums, "gold of example ", "; expected text, or None if no reference answer is known"),
        (
            Turns,
            "messages of example ",
            ' returned [{"role": "user", "content": 7}]: 0.content: expected text (given 7)',
        ),
        (Completes, "completion of example ", " and prompt swapped returned null; expected text"),
        (Sorted, "category of example ", "; expected text, or None if the example has no category"),
    ],
)
def test_what_is_no_text_is_refused_before_the_run_with_one_sentence(task, where, returned):
    with pytest.raises(UsageError) as refused:
        load_task_data(config_of(task))
    message = str(refused.value)
    assert message.startswith(f"task {task.name}: {where}")
    assert returned in message
    assert "\n" not in message


def test_the_task_that_is_adapted_on_is_checked_too():
    with pytest.raises(UsageError, match="gold of example"):
        load_task_data(config_of(Addition, adapt_on=f"{__name__}:{Sums.__name__}"))


@pytest.mark.parametrize(
    ("task", "check"), [(Sums, "gold answers"), (Turns, "prompts"), (Completes, "prompts"), (Sorted, "prompts")]
)
def test_the_conformance_checks_name_the_function_and_the_value(task, check):
    report = check_task(f"{__name__}:{task.__name__}", task(), examined=4)
    details = {finding.check: finding.detail for finding in report.findings if finding.passed is False}
    assert " returned " in details[check]
    assert "expected text" in details[check]


@pytest.mark.parametrize(
    "messages", [None, "What is 3+4?", [["user", "3+4"]], [{"role": "user"}], [{"role": 1, "content": "a"}]]
)
def test_a_conversation_of_another_form_is_a_problem(monkeypatch, messages):
    monkeypatch.setattr(Addition, "messages", lambda self, example, prompt: messages)
    assert "messages of example 3+4 returned" in next(prompt_problems(Addition(), ONE))


def test_further_keys_of_a_turn_are_kept():
    assert not list(prompt_problems(Named(), ONE))
    turn = {"role": "user", "content": "3+4", "name": "Ada", "parts": [1, None]}
    assert json.loads(Turn.model_validate(turn).model_dump_json()) == turn


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (Score(1.0, True, 7), "answer: expected text (given 7)"),
        (Score(float("nan"), True), "reward: expected a finite number"),
        (Score("much", True), 'reward: expected a number (given "much")'),
        (Score(1.0, True, "7", "fine"), "status: expected 'ok'"),
        (True, "returned true; expected a Score"),
    ],
)
def test_a_score_that_no_record_holds_names_example_field_and_value(monkeypatch, score, message):
    monkeypatch.setattr(Addition, "score_many", lambda self, examples, texts: [score])
    with pytest.raises(Exception, match=r"^task addition: score of an answer to example 3\+4") as wrong:
        scores_of(Addition(), [ONE], ["7"])
    assert message in str(wrong.value)


def test_a_metric_that_is_no_number_is_named(monkeypatch):
    monkeypatch.setattr(Addition, "measures", lambda self, examples, texts, scores: {"close": "very"})
    with pytest.raises(Exception, match=r'^task addition: measures: close: expected a number \(given "very"\)$'):
        measures_of(Addition(), [ONE], ["7"], [Score(1.0, True)])


def test_one_score_is_wanted_for_each_answer(monkeypatch):
    monkeypatch.setattr(Addition, "score_many", lambda self, examples, texts: [])
    with pytest.raises(Exception, match="score_many returned 0 scores of 1 answers"):
        scores_of(Addition(), [ONE], ["7"])


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (Reads, "answer: expected text (given 7)"),
        (Forgets, "samples.jsonl cannot hold its gold: expected text (given 7)"),
    ],
)
def test_a_run_that_failed_at_its_end_goes_on_once_the_task_is_mended(tmp_path, monkeypatch, task, message):
    monkeypatch.setattr(task, "scored", False, raising=False)
    prepared = prepare(config_of(task), tmp_path, QUIET)
    failed = execute(prepared, QUIET)
    assert failed.status == "failed"
    assert failed.reason.startswith(f"task {task.name}")
    assert failed.reason.endswith(message)
    journal = (prepared.folder / "journal.jsonl").read_bytes()
    monkeypatch.setattr(task, "mended", True)
    result = resume_run(prepared.folder, QUIET).result
    assert result.status == "ok"
    assert len(read_samples(prepared.folder)) == 2 * 8
    assert (prepared.folder / "journal.jsonl").read_bytes().startswith(journal)


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        ([{"number": 1.5}], r"rewards of an answer to example 3\+4: number: expected 1 or less \(given 1\.5\)"),
        ([{"number": "one"}], r"rewards of an answer to example 3\+4: number: expected a number \(given \"one\"\)"),
        ([{}], r"rewards of an answer to example 3\+4: value: expected at least 1 entry"),
        ([], "rewards returned 0 items for 1 answers; return one each"),
    ],
)
def test_parts_of_a_reward_that_are_not_from_0_to_1_are_an_error(monkeypatch, found, problem):
    monkeypatch.setattr(Addition, "rewards", lambda self, examples, texts, scores: found)
    with pytest.raises(BenchError, match=f"task addition: {problem}"):
        rewards_of(Addition(), [ONE], ["7"], [Score(1.0, True)])


def test_parts_may_be_unknown_for_an_answer(monkeypatch):
    monkeypatch.setattr(Addition, "rewards", lambda self, examples, texts, scores: [None, {"number": 1}])
    assert rewards_of(Addition(), [ONE] * 2, ["7"] * 2, [Score(1.0, True)] * 2) == [None, {"number": 1.0}]
