"""Prompts of a run: a named prompt, worked examples and a system message."""

import json
import shutil
from hashlib import sha256

import numpy as np
import pytest
from pydantic import ValidationError

from bench.engines.decoding import StopStrings
from bench.errors import UsageError
from bench.models.source import resolve
from bench.records.config import RunConfig
from bench.records.samples import read_samples
from bench.run.data import load_task_data
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.prompting import PLAIN, SHOTS_VERSION, Prompting, Shot
from bench.run.runner import execute
from tasks.addition import Addition
from tasks.countdown import Countdown
from tasks.interface import Example
from tasks.successor import Successor

QUIET = ProgressDisplay(quiet=True)
ONE, TWO, THREE = (Example(f"{n}+1", {"a": n, "b": 1}) for n in (1, 2, 3))
SHOTS = tuple(Shot(Addition(), example) for example in (ONE, TWO))


def config(**fields):
    return RunConfig(**({"method": "base", "task": "addition", "model": "tiny-adder", "budget": "300"} | fields))


def run(folder, **fields):
    prepared = prepare(config(limit=30, dtype="float32", **fields), folder, QUIET)
    return prepared, execute(prepared, QUIET)


class Guided(Addition):
    """Addition whose prompt has a system message of its own."""

    def messages(self, example, prompt="default"):
        return [{"role": "system", "content": "Add."}, *super().messages(example, prompt)]


@pytest.mark.parametrize("style", ["chat", "completion"])
def test_without_options_a_prompt_is_the_tasks_own(style):
    task = Guided()
    own = task.messages(THREE, "swapped") if style == "chat" else task.completion(THREE, "swapped")
    assert PLAIN.format(task, style, THREE, "swapped") == own


def test_a_named_prompt_stands_for_the_default_one_and_is_the_only_one():
    fixed = Prompting("swapped")
    assert fixed.format(Addition(), "completion", THREE) == "1+3="
    assert fixed.names(Addition.prompts) == ("default",)
    assert fixed.fixed(Addition.prompts) == {"swapped": "--template swapped fixes the prompt"}
    assert PLAIN.names(Addition.prompts) == Addition.prompts
    assert PLAIN.fixed(Addition.prompts) == {}


def test_worked_examples_are_turns_before_the_question_and_the_example_asked_is_not_among_them():
    def turns(example):
        messages = Prompting(shots=SHOTS).format(Guided(), "chat", example)
        return [(message["role"][0], message["content"]) for message in messages]

    assert turns(THREE) == [("s", "Add."), ("u", "1+1="), ("a", "2"), ("u", "3+1=")]
    assert turns(ONE) == [("s", "Add."), ("u", "2+1="), ("a", "3"), ("u", "1+1=")]  # the next one takes its place
    assert turns(TWO) == [("s", "Add."), ("u", "1+1="), ("a", "2"), ("u", "2+1=")]


def test_in_a_text_to_complete_worked_examples_are_paragraphs():
    def text(task, *examples):
        shots = tuple(Shot(task, example) for example in examples)
        return Prompting(shots=shots).format(task, "completion", examples[-1])

    assert text(Addition(), ONE, THREE) == "1+1=2\n\n3+1="
    numbers = [Example(str(n), {"n": n}) for n in (7, 8)]
    assert text(Successor(), *numbers).count("Reply with the number only.\nAnswer: 8\n\nQuestion: ") == 1
    puzzles = [Example(str(n), {"numbers": [n, 1], "target": n + 1, "solution": f"{n} + 1"}) for n in (3, 4)]
    assert "\n<answer>3 + 1</answer>\n\n" in text(Countdown(), *puzzles)  # the question opened the tag


def test_a_system_message_stands_before_the_prompts_own():
    def system(task):
        return [m["content"] for m in Prompting(system="Be brief.").format(task, "chat", ONE) if m["role"] == "system"]

    assert system(Addition()) == ["Be brief."]
    assert system(Guided()) == ["Be brief.\n\nAdd."]


def test_worked_examples_are_drawn_by_their_seed_from_the_support_split():
    def drawn(**fields):
        return [shot.example.id for shot in load_task_data(config(**fields)).prompting.shots]

    assert len(set(drawn(shots=3))) == 4
    assert drawn(shots=3) == drawn(shots=3, seed=5) == drawn(shots=5)[:4]
    assert drawn(shots=3) != drawn(shots=3, shots_seed=1)
    assert set(drawn(shots=3)) <= {example.id for example in Addition().load().support}
    assert drawn() == []


def test_more_shots_than_the_support_split_has_are_an_error_that_says_how_many_there_are():
    size = len(Addition().load().support)
    assert len(load_task_data(config(shots=size - 1)).prompting.shots) == size
    with pytest.raises(UsageError, match=rf"--shots {size}: .*addition has {size} examples, .* at most {size - 1}"):
        load_task_data(config(shots=size))


def test_examples_without_a_reference_answer_are_not_shown(monkeypatch):
    gold = Addition.gold
    monkeypatch.setattr(Addition, "gold", lambda task, e: gold(task, e) if e.fields["a"] % 2 else None)
    assert {shot.example.fields["a"] % 2 for shot in load_task_data(config(shots=20)).prompting.shots} == {1}
    monkeypatch.setattr(Addition, "gold", lambda *_: None)
    with pytest.raises(UsageError, match=r"--shots 2: .* of which 0 can be worked ones .*; give at most 0"):
        load_task_data(config(shots=2))


WORDS = [f"{a}{b}" for a in "bcdfghjklmnpr" for b in ("ado", "erit", "ilun", "opas", "ukev", "yrim", "anto", "egul")]


def rows(path, count):
    """Write questions in words of their own. Of four, one has a near duplicate, and one is in a group of two."""
    lines = []
    for n in range(count):
        words = " ".join(np.random.default_rng(n).permutation(WORDS)[:20])
        row = {"prompt": f"{words}: how many?", "answer": n, "check": "number"}
        if n % 4 == 0:
            lines += [row, row | {"prompt": f"{words}, how many?"}]
        elif n % 4 == 1:
            lines += [row | {"group": str(n)}, row | {"prompt": f"And how many of {n}?", "group": str(n)}]
        else:
            lines.append(row)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_no_prompt_shows_another_example_of_the_group_or_a_near_duplicate(tmp_path):
    file = rows(tmp_path / "rows.jsonl", 120)
    together = 0
    for seed in range(8):
        data = load_task_data(config(task="jsonl", data=file, shots=12, shots_seed=seed))
        assert len({shot.example.fields["answer"] for shot in data.prompting.shots}) == 13  # one per family
        shown = {shot.example.fields["answer"] for shot in data.prompting.shots[:-1]}
        for task, examples in data.asked:
            for example in examples:
                messages = data.prompting.format(task, "chat", example)
                answers = [message["content"] for message in messages if message["role"] == "assistant"]
                assert len(answers) == 12
                assert str(example.fields["answer"]) not in answers
                together += example.fields["answer"] in shown
    assert together > 8 * 12  # with the twins of those shown


def test_a_completion_ends_where_the_next_worked_example_would_begin():
    def stop(style="completion", **fields):
        return load_task_data(config(shots=2, **fields)).prompting.stop(style)

    assert stop() == ("\n\n",)  # sums have no word in common
    assert stop("chat") == load_task_data(config()).prompting.stop("completion") == ()
    assert stop(task="successor") == stop(task="successor", template="brief") == ("\n\nQuestion:",)
    assert stop(task="successor", adapt_on="addition") == ("\n\n", "\n\nQuestion:")


def test_the_stop_of_code_is_no_blank_line_within_a_function():
    data = load_task_data(config(task="humaneval", shots=2))
    (end,) = data.prompting.stop("completion")
    bodies = [data.task.worked(example, "completion") for _, examples in data.asked for example in examples]
    assert any("\n\n" in body for body in bodies)
    assert not any(end in body for body in bodies)
    assert end in data.prompting.format(data.task, "completion", data.splits.test[0])


def test_a_worked_example_of_code_continues_its_prompt():
    data = load_task_data(config(task="humaneval", shots=1))
    text = data.prompting.format(data.task, "completion", data.splits.test[0])
    shot = data.prompting.shots[0].example.fields
    assert text.startswith(shot["prompt"] + shot["canonical_solution"].rstrip() + "\n\n\n")
    assert "```" not in text
    turn = data.prompting.format(data.task, "chat", data.splits.test[0])[1]
    assert turn["content"] == data.task.gold(data.prompting.shots[0].example)


def test_an_invented_next_question_is_no_part_of_an_answer(tmp_path):
    _, result = run(tmp_path, shots=2, prompt="completion", task="successor")
    assert (result.stop, result.versions.shots) == (("\n\nQuestion:",), SHOTS_VERSION)
    ends = StopStrings(result.stop, lambda ids: "".join(map(chr, ids)))
    assert ends.cut(" 173\n\nQuestion: Which number comes after 277") == " 173"
    _, plain = run(tmp_path, prompt="completion", task="successor")
    assert (plain.stop, plain.versions.shots) == ((), None)


def test_an_unknown_prompt_is_an_error_that_names_the_known_ones():
    with pytest.raises(UsageError, match="--template terse: addition has no such prompt; expected one of default"):
        load_task_data(config(template="terse"))


def test_a_seed_without_shots_is_an_error():
    with pytest.raises(ValidationError, match="no worked examples to draw; expected 0, or shots of 1 or more"):
        config(shots_seed=1)


def test_an_empty_system_message_is_an_error():
    with pytest.raises(ValidationError, match=r"system\n.* at least 1 character"):
        config(system="")


def test_all_rows_of_a_run_answer_the_same_prompts_and_their_tokens_are_billed(tmp_path):
    plain, result = run(tmp_path)
    shown, behind = run(tmp_path, shots=2, system="1+1=2", template="swapped")
    assert behind.status == "ok"
    assert len({plain.id, shown.id, run(tmp_path, shots=2, shots_seed=1)[0].id}) == 3
    assert behind.config.controls == ("prompt swapped", "2 shots", f"system message {sha256(b'1+1=2').hexdigest()[:8]}")
    tokens, before = behind.ledger["evaluation"].work.prefill_tokens, result.ledger["evaluation"].work.prefill_tokens
    added = 5 + sum(len(f"{a}+{b}={a + b}") for a, b in _pairs(shown)[:2])
    assert tokens == before + 30 * added  # no test example is among those shown
    assert behind.budget.evaluation_flops > 2 * result.budget.evaluation_flops
    asked = {sample.id: sample.prompt_sha256 for sample in read_samples(shown.folder)}
    assert asked.keys() == {sample.id for sample in read_samples(plain.folder)}
    assert not set(asked.values()) & {sample.prompt_sha256 for sample in read_samples(plain.folder)}


def _pairs(prepared):
    return [tuple(map(int, shot.example.id.split("+"))) for shot in prepared.task_data.prompting.shots]


def test_prompt_search_is_refused_under_a_named_prompt_with_the_reason(tmp_path):
    _, result = run(tmp_path, method="prompt-search", template="swapped")
    assert result.status == "refused"
    assert result.reason.endswith("leaves no choice (--template swapped fixes the prompt)")


def test_texts_to_complete_have_no_system_message(tmp_path):
    _, result = run(tmp_path, system="Add.", prompt="completion")
    assert result.status == "refused"
    assert result.reason == "--system: prompts for this model are texts to complete, which have no system message"


@pytest.mark.parametrize("shots", [0, 1])
def test_a_template_without_a_system_message_gets_it_with_the_first_question(tmp_path, monkeypatch, shots):
    folder = shutil.copytree(resolve("tiny-adder").folder, tmp_path / "model")
    said = []
    monkeypatch.setattr(QUIET, "say", lambda text, **style: said.append(text))
    template = "{% for m in messages %}{{ m.content.replace('\n', '=') }}{% endfor %}"
    (folder / "chat_template.jinja").write_text(
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + template
    )
    prepared, result = run(tmp_path, system="1+1", shots=shots, model=str(folder))
    assert result.status == "ok"
    assert result.versions.system_merged == 1
    note = f"the chat template of {result.model.name} has no place for a system message: its text stands before that"
    assert [text for text in said if "system message" in text] == [f"{note} of the user's first message"]
    sample = read_samples(prepared.folder)[0]
    assert [turn.role for turn in sample.prompt] == ["user", "assistant"] * shots + ["user"]
    texts = [turn.content for turn in sample.prompt]
    assert texts[0].startswith("1+1\n\n")
    assert texts[-1].endswith(f"{sample.id}=")
    assert sample.prompt_tokens == len("".join(texts))
    plain = run(tmp_path, model=str(folder))[1]
    assert plain.versions.system_merged is None
    assert len([text for text in said if "system message" in text]) == 1


def test_the_record_has_the_text_of_the_system_message_and_not_its_path(tmp_path):
    prepared, _ = run(tmp_path, system="1+1=2")
    assert json.loads((prepared.folder / "config.json").read_text())["system"] == "1+1=2"
