"""The bandit over categories: its formula, its order within a category, and that it equals grpo with one category."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from trained_run import trained

from bench.run.progress import ProgressDisplay
from methods.training.curriculum import endless_order
from methods.training.dump import CategoryBandit, Dump, DumpConfig, chances
from tasks.addition import Addition
from tasks.interface import TaskTraits

QUIET = ProgressDisplay(quiet=True)
SIZES = {"support": 100, "select": 10, "gate": 10}
NAN = float("nan")


class OneCategory(Dump):
    """The method where all examples are of one category, which it refuses otherwise."""

    def supports(self, task):
        assert task.categories == 1
        return


def bandit(categories, *, group=8, window=300):
    return CategoryBandit(categories, 0, group, window, 0.1)


def test_the_chances_are_those_worked_out_by_hand():
    # ln 25 = 3.21888; scores 0.5 + sqrt(6.43775 / 17) = 1.11538 and 0.25 + sqrt(6.43775 / 9) = 1.09576.
    np.testing.assert_allclose(chances([0.5, 0.25], [16, 8], 0.1), [0.5489, 0.4511], atol=5e-5)
    np.testing.assert_allclose(chances([0.0, 0.0], [0, 0], 0.1), 0.5)
    assert chances([5.0, 0.0], [10_000, 10_000], 0.1)[0] == pytest.approx(1)


def test_with_one_category_the_prompts_are_in_the_order_of_grpo():
    one = bandit([None] * 10)
    assert [i for step in range(9) for i in one.choose(step, 3)] == list(islice(endless_order(0, 10, 0), 27))


def test_each_category_passes_over_all_of_its_prompts_before_it_begins_again():
    categories = ["a", "b", "b", "a", "b"] * 4
    chooser = bandit(categories)
    drawn = [i for step in range(60) for i in chooser.choose(step, 2)]
    for name, size in Counter(categories).items():
        own = [i for i in drawn if categories[i] == name]
        assert len(own) > 2 * size
        assert set(own[:size]) == set(own[size : 2 * size])
        assert own[:size] != own[size : 2 * size]


def test_the_window_forgets_and_answers_without_a_score_do_not_count():
    chooser = bandit(["a", "b"], group=4, window=10)  # three groups of four
    for advantage in (9.0, 0.5, 0.5, 0.2):
        chooser.learn([0, 1], [0.5, NAN], [advantage, 0.0])
    expected = chances([0.4, 0.0], [16, 0], 0.1)
    first, second = chooser.report()["categories"]
    assert (first["advantage"], second["advantage"]) == (0.4, 0.0)
    assert (first["chance"], second["chance"]) == pytest.approx(tuple(expected), rel=1e-5)


def test_a_restored_bandit_goes_on_as_the_other_does():
    categories = ["a", "b", None] * 5
    chooser, resumed = bandit(categories), bandit(categories)
    for step in range(4):
        chosen = chooser.choose(step, 4)
        chooser.learn(chosen, [0.5] * 4, [0.1 * i for i in chosen])
    resumed.restore(chooser.state())
    assert resumed.report() == chooser.report()
    assert [resumed.choose(step, 4) for step in range(4, 9)] == [chooser.choose(step, 4) for step in range(4, 9)]


def test_a_task_with_one_category_is_refused_with_what_to_do():
    reason = Dump(DumpConfig()).supports(TaskTraits(SIZES))
    assert "the support split has one only; take grpo, or a task with several" in reason
    assert Dump(DumpConfig()).supports(TaskTraits(SIZES, categories=2)) is None
    assert "leave out" in Dump(DumpConfig()).supports(TaskTraits(SIZES, categories=2, refused_rollouts="no"))


def run(folder, method):
    return trained(folder, method, {"lr": 1e-4, "batch": 16}, gate="off", budget="300", limit=20)


@pytest.mark.slow
def test_with_one_category_it_ends_in_the_weights_of_grpo(tmp_path, monkeypatch):
    categories, _ = run(tmp_path, "dump")
    monkeypatch.setattr(Addition, "category", lambda *_: "all")
    plain, weights = run(tmp_path, "grpo")
    one, same = run(tmp_path, f"{__name__}:OneCategory")
    assert one.report["training"]["steps"] == plain.report["training"]["steps"] > 3
    assert one.report["training"]["curve"] == plain.report["training"]["curve"]
    assert one.ledger == plain.ledger
    assert all(weights[name].equal(same[name]) for name in weights)
    assert categories.report["training"]["curve"] != plain.report["training"]["curve"]
    found = categories.report["training"]["curriculum"]["categories"]
    assert {each["category"] for each in found} == {"no carry", "one carry", "two carries"}
    assert sum(each["drawn"] for each in found) == 2 * categories.report["training"]["steps"]
