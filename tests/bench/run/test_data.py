import json
from itertools import combinations
from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.records.schema import Duplicates, RunConfig
from bench.run.data import load_task_data
from tasks.gsm8k import Gsm8k
from tasks.interface import SPLITS, Example, cut

MBPP = Path(__file__).parents[2] / "tasks" / "data" / "mbpp.jsonl"


def config(task="humaneval", **fields):
    return RunConfig(task=task, model="tiny-adder", **fields)


CROSSING = config(adapt_on="mbpp", adapt_data=str(MBPP))


def test_one_task_is_adapted_on_and_tested_on():
    task_data = load_task_data(config())
    assert task_data.task is task_data.adapted_on
    assert task_data.tasks == (task_data.task,)
    assert task_data.splits == task_data.task.load()


def test_with_two_tasks_all_examples_of_the_second_are_test_examples():
    task_data = load_task_data(CROSSING)
    assert [task.name for task in task_data.tasks] == ["mbpp", "humaneval"]
    assert task_data.splits.sizes == {"support": 4, "select": 2, "gate": 3, "test": 164}
    assert {e.id for e in task_data.splits.test} == {f"HumanEval/{n}" for n in range(164)}
    adapted_on = task_data.adapted_on.load(MBPP)
    assert all(getattr(task_data.splits, name) == getattr(adapted_on, name) for name in SPLITS[:3])


def test_max_new_tokens_overrides_the_tasks_limit_for_this_run_only():
    task_data = load_task_data(CROSSING.model_copy(update={"max_new_tokens": 8}))
    assert [task.max_new_tokens for task in task_data.tasks] == [8, 8]
    assert load_task_data(config()).task.max_new_tokens == 512


def test_the_content_hash_covers_both_tasks(tmp_path):
    found = {load_task_data(CROSSING).splits.content_hash, load_task_data(config()).splits.content_hash}
    changed = MBPP.read_text().replace("common elements", "shared elements")
    (tmp_path / "mbpp.jsonl").write_text(changed)
    found.add(load_task_data(config(adapt_on="mbpp", adapt_data=str(tmp_path / "mbpp.jsonl"))).splits.content_hash)
    back = load_task_data(config("mbpp", data=str(MBPP), adapt_on="humaneval")).splits
    assert back.sizes == {"support": 28, "select": 16, "gate": 56, "test": 8}
    assert len({*found, back.content_hash}) == 4


def test_a_method_sees_the_traits_that_both_tasks_have():
    both = load_task_data(CROSSING).traits
    assert both.sizes == {"support": 4, "select": 2, "gate": 3}
    assert both.prompts == ("default", "bare", "expert", "examples")
    assert both.vote_by
    assert both.signal_by
    sums = load_task_data(config(adapt_on="rg:chain_sum")).traits
    assert (sums.prompts, sums.signal_by) == (("default",), None)


@pytest.mark.parametrize("name", ["humaneval", "tasks.humaneval:HumanEval"])
def test_adapt_on_the_test_task_itself_is_refused(name):
    with pytest.raises(UsageError, match=f"--adapt-on {name}: has examples in common with humaneval"):
        load_task_data(config(adapt_on=name))


WORDS = ("one", "ace", "ark", "elk", "imp", "oak", "urn", "yew", "ash", "ivy", "rye", "oat", "fir")
QUESTIONS = [
    f"{('Ann', 'Bo', 'Cleo')[n % 3]} has {n} birds. {' '.join(chr(97 + n // 9) + 'n' * (n % 9) + w for w in WORDS)}?"
    for n in range(54)
]


def rows(path, questions, names=("question", "answer")):
    """Write rows for gsm8k."""
    lines = [json.dumps(dict(zip(names, (text, f"#### {n}"), strict=True))) for n, text in enumerate(questions)]
    path.write_text("\n".join(lines))
    return str(path)


def test_examples_that_nearly_equal_a_test_example_of_the_other_task_are_left_out_and_counted(tmp_path):
    others = [text.replace(" has ", " has 1000 and ") for text in QUESTIONS if "Bo" not in text]
    asked = [*others, *(text.replace("Bo ", "Zoe ").upper() for text in QUESTIONS if "Bo" in text)]
    lines = [{"prompt": text, "answer": n, "check": "number"} for n, text in enumerate(asked)]
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, lines)))
    given = rows(tmp_path / "adapt.jsonl", QUESTIONS, ("Frage", "Antwort"))
    run = config("jsonl", data=str(tmp_path / "test.jsonl"), adapt_on="gsm8k", adapt_data=given)
    run = run.model_copy(update={"adapt_fields": "question=Frage,answer=Antwort"})
    found = load_task_data(run)
    adaptation = [e for name in SPLITS[:3] for e in getattr(found.splits, name)]
    whole = found.adapted_on.load(Path(given))
    left = {e.id for name in SPLITS[:3] for e in getattr(whole, name)} - {e.id for e in adaptation}
    assert left
    assert not [e for e in adaptation if e.fields["question"].startswith("Bo")]
    assert found.duplicates == Duplicates(left_out=len(left))
    assert found.notes == (
        f"left out of adaptation: {len(left)} examples of gsm8k that nearly equal test examples of jsonl",
    )
    assert found.splits.left_out == len(left)


def test_a_split_that_is_left_without_examples_is_refused(tmp_path):
    lines = [{"prompt": text, "answer": n, "check": "number"} for n, text in enumerate(QUESTIONS)]
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, lines)))
    given = rows(tmp_path / "adapt.jsonl", QUESTIONS)
    with pytest.raises(UsageError, match="--adapt-on gsm8k: all 7 examples of its support split nearly equal test ex"):
        load_task_data(config("jsonl", data=str(tmp_path / "test.jsonl"), adapt_on="gsm8k", adapt_data=given))


class Careless(Gsm8k):
    """Task that cuts a file without looking at its questions."""

    name = "careless"

    def load(self, data=None):
        examples = [Example(str(n), {"question": text, "answer": "#### 1"}) for n, text in enumerate(QUESTIONS[:8] * 2)]
        return cut(examples, salt="careless", support=4, select=3, gate=3, test=6)


def test_near_duplicates_in_two_splits_are_counted_by_pair_of_splits_and_said():
    found = load_task_data(config(f"{__name__}:Careless"))
    assert sum(found.duplicates.across.values()) > 4
    assert set(found.duplicates.across) <= {f"{a} and {b}" for a, b in combinations(SPLITS, 2)}
    listed = ", ".join(f"{names} {count}" for names, count in found.duplicates.across.items())
    (note,) = found.notes
    assert f"are near duplicates ({listed}): accuracies may be too high" in note


@pytest.mark.parametrize("task", ["addition", "humaneval"])
def test_data_without_near_duplicates_says_nothing(task):
    found = load_task_data(config(task))
    assert (found.duplicates, found.notes) == (Duplicates(left_out=0), ())


def test_the_groups_of_two_tasks_may_have_the_same_names(tmp_path):
    texts = [*QUESTIONS, *(text.replace(text.split()[0], "Zoe") for text in QUESTIONS[:4])]
    given = rows(tmp_path / "rows.jsonl", texts)
    assert any(e.group for name in SPLITS for e in getattr(Gsm8k().load(Path(given)), name))
    found = load_task_data(config("humaneval", adapt_on="gsm8k", adapt_data=given))
    assert not any(e.group for name in SPLITS for e in getattr(found.splits, name))


def test_adapt_fields_need_adapt_data(tmp_path):
    with pytest.raises(UsageError, match=r"--adapt-fields a=b: names fields of a file; give .* with --adapt-data"):
        load_task_data(config(adapt_on="mbpp", adapt_fields="a=b"))
    with pytest.raises(UsageError, match=r"--adapt-fields a=b: name the task .* with --adapt-on"):
        load_task_data(config(adapt_fields="a=b"))
    with pytest.raises(UsageError, match=r"--adapt-fields a: expected FIELD=NAME"):
        load_task_data(CROSSING.model_copy(update={"adapt_fields": "a"}))


def test_adapt_data_needs_adapt_on():
    with pytest.raises(UsageError, match=r"--adapt-data rows.jsonl: name the task .* with --adapt-on"):
        load_task_data(config(adapt_data="rows.jsonl"))
