"""The reward of the adaptation splits: what a method sees, and what gate and test do not."""

import shutil

import numpy as np
import pytest

from bench.records.config import RunConfig
from bench.records.journal import read_entries
from bench.registry import load_method
from bench.run.data import load_task_data
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.reward import Reward
from bench.run.runner import execute
from methods.interface import Choices, Method, MethodConfig, Plan, PlanLine, Point, SingleModel, setting
from tasks.addition import Addition
from tasks.interface import Example, Score

QUIET = ProgressDisplay(quiet=True)
EXAMPLES = [Example(f"{n}+1", {"a": n, "b": 1}) for n in range(400)]
TEXTS = [str(n + 1 + n % 2) for n in range(400)]
SCORES = Addition().score_many(EXAMPLES, TEXTS)


def rewards(kind, seed=0, texts=TEXTS):
    return [score.reward for score in Reward(kind, seed).replace(EXAMPLES, texts, SCORES)]


def test_the_true_reward_is_the_tasks_own():
    assert Reward().replace(EXAMPLES, TEXTS, SCORES) == SCORES
    assert Reward().hides_golds is None


def test_a_coin_flip_follows_from_seed_example_and_answer_alone():
    found = rewards("random")
    assert set(found) == {0.0, 1.0}
    assert abs(np.mean(found) - 0.5) < 0.1
    assert abs(np.corrcoef(found, [score.reward for score in SCORES])[0, 1]) < 0.15
    assert found == rewards("random")
    assert found != rewards("random", seed=1)
    assert found != rewards("random", texts=[text + " " for text in TEXTS])
    alone = [Reward("random").replace([e], [t], [s])[0] for e, t, s in zip(EXAMPLES, TEXTS, SCORES, strict=True)]
    assert [score.reward for score in alone] == found
    assert all(score.correct == (score.reward >= 0.5) for score in alone)


def test_the_inverted_reward_is_the_opposite():
    found = Reward("inverted").replace(EXAMPLES[:2], TEXTS[:2], [Score(0.25, False, "7", detail="not 8"), SCORES[0]])
    assert found == [Score(0.75, True), Score(0.0, False)]  # and nothing else tells the true one


@pytest.mark.parametrize("kind", ["random", "inverted"])
def test_an_answer_that_could_not_be_judged_stays_so(kind):
    unscored = Score(0.0, False, status="infrastructure")
    assert Reward(kind).replace(EXAMPLES[:1], TEXTS[:1], [unscored]) == [unscored]


class Watching(Method):
    """Method that reports all it sees: the base's rewards on both splits, and the reward of one perturbation."""

    name, version = "watching", "1"

    def plan(self, evaluations, task):
        return Plan((PlanLine("sample", "two splits", evaluations),))

    def adapt(self, context):
        for split in ("support", "select"):
            found = context.evaluate(Point(), split, account="sample", examples=range(40))
            context.report[split] = [found.rewards.tolist(), found.correct.tolist()]
        context.report["golds"] = context.task.refused_golds
        return SingleModel(Point({1: 1e-3}))


def run(folder, **fields):
    fields = {"method": f"{__name__}:Watching", "task": "addition", "model": "tiny-adder", "budget": "600"} | fields
    prepared = prepare(RunConfig(limit=40, dtype="float32", **fields), folder, QUIET)
    return prepared, execute(prepared, QUIET)


def test_a_method_sees_the_replaced_reward_and_gate_and_test_the_tasks_own(tmp_path):
    _, true = run(tmp_path)
    _, inverted = run(tmp_path, reward="inverted")
    for split in ("support", "select"):
        rewards, correct = true.report[split]
        assert inverted.report[split] == [[1 - reward for reward in rewards], [not right for right in correct]]
    without = {"id", "config", "report", "timing"}
    assert inverted.model_dump(exclude=without) == true.model_dump(exclude=without)  # the gate's decision too
    assert inverted.id != true.id
    assert true.report["golds"] is None
    assert "--reward inverted replaces" in inverted.report["golds"]


def test_a_random_reward_depends_on_the_seed_and_is_the_same_after_a_resumption(tmp_path):
    prepared, first = run(tmp_path, reward="random")
    assert run(tmp_path, reward="random", seed=1)[1].report["support"] != first.report["support"]
    entries = len(read_entries(prepared.folder / "journal.jsonl")[0])
    lines = (prepared.folder / "journal.jsonl").read_text().splitlines(keepends=True)
    for kept in (2, entries // 2):  # as if killed there
        folder = tmp_path / str(kept)
        shutil.copytree(prepared.folder, folder / prepared.folder.relative_to(tmp_path))
        again = folder / prepared.folder.relative_to(tmp_path)
        (again / "result.json").unlink()
        (again / "journal.jsonl").write_text("".join(lines[:kept]))
        resumed = run(folder, reward="random")[1]
        assert resumed.model_dump(exclude={"timing"}) == first.model_dump(exclude={"timing"})


@pytest.mark.parametrize("settings", [{"method": "sft"}, {"method": "cat", "method_config": {"on": "sft"}}])
def test_a_method_that_reads_gold_answers_is_refused_with_the_reason(tmp_path, settings):
    _, result = run(tmp_path, reward="random", **settings)
    assert result.status == "refused"
    assert "trains on gold answers, and they are the true reward, which --reward random replaces" in result.reason


@pytest.mark.parametrize("method", ["grpo", "ppo", "cat"])
def test_a_reward_of_the_methods_own_is_refused_under_a_replaced_one(tmp_path, method):
    settings = {"method": method, "method_config": {"truncated": "punish"}}
    _, result = run(tmp_path, reward="inverted", **settings)
    assert result.status == "refused"
    assert "truncated=punish sets rewards to 0, and --reward inverted replaces every reward" in result.reason
    traits = load_task_data(RunConfig(task="addition", model="tiny-adder")).traits
    method_class = load_method(method)
    assert method_class(method_class.Config(truncated="punish")).supports(traits) is None


class Config(MethodConfig):
    mode: str = setting("one", "Either of two words.")


class Tunable(Watching):
    """Method with something to tune that changes nothing."""

    name, Config, space = "tunable", Config, {"mode": Choices(("one", "two"))}

    def adapt(self, context):
        return SingleModel()


def test_trials_are_judged_by_the_reward_that_the_method_sees(tmp_path):
    fields = {"method": f"{__name__}:Tunable", "budget": "512", "tune": 2, "gate": "off"}
    true, inverted = (run(tmp_path, **fields, reward=reward)[1].tuning.trials for reward in ("true", "inverted"))
    assert [trial.score for trial in inverted] == pytest.approx([1 - trial.score for trial in true])
    assert {trial.items for trial in (*true, *inverted)} == {true[0].items}
    assert true[0].score != 0.5


def test_gold_answers_are_hidden_from_training(tmp_path):
    task_data = load_task_data(RunConfig(task="addition", model="tiny-adder", reward="inverted", seed=3))
    assert task_data.reward == Reward("inverted", 3)
    assert task_data.traits.refused_golds == Reward("inverted").hides_golds
