from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.records.schema import RunConfig
from bench.run.data import load_task_data
from tasks.interface import SPLITS

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
    assert [(task.max_new_tokens, task.expected_new_tokens) for task in task_data.tasks] == [(8, 8), (8, 8)]
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


def test_adapt_data_needs_adapt_on():
    with pytest.raises(UsageError, match=r"--adapt-data rows.jsonl: name the task .* with --adapt-on"):
        load_task_data(config(adapt_data="rows.jsonl"))
