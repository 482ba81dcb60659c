"""Prefix-RFT: schedule, tokens with a gradient, and that it is grpo at share 0 and resembles sft at share 1."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from trained_run import trained

from bench.run.progress import ProgressDisplay
from bench.run.training import TrainingSession
from methods.training.loop import Loop
from methods.training.prefix_rft import PrefixRft, PrefixRftConfig, prefix_share, with_gradient
from methods.training.prefix_trainer import PrefixTrainer
from methods.training.sft import Sft
from tasks.interface import TaskTraits

QUIET = ProgressDisplay(quiet=True)
SIZES = {"support": 100, "select": 10, "gate": 10}


def run(folder, method, settings, **fields):
    return trained(folder, method, {"lr": 1e-4} | settings, **{"budget": "400", "limit": 60} | fields)


def test_the_share_falls_by_a_cosine_over_the_planned_steps_and_stays():
    assert [prefix_share(step, 5, 0.95, 0.05) for step in range(7)] == pytest.approx(
        [0.95, 0.5 + 0.45 * 0.5**0.5, 0.5, 0.5 - 0.45 * 0.5**0.5, 0.05, 0.05, 0.05]
    )
    assert prefix_share(0, 1, 0.95, 0.05) == 0.95
    assert {prefix_share(step, 9, 1.0, 1.0) for step in range(9)} == {1.0}


def test_of_a_prefix_the_tokens_of_highest_entropy_get_a_gradient_and_of_the_rest_all():
    entropies = np.array([[0.1, 0.9, 0.5, 0.2, 0.3, 2.0, 0.0], [0.4, 0.4, 9.0, 0.0, 0.0, 0.0, 0.0], [1.0] * 7])
    prefix = np.array([[1, 1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0, 0], [0] * 7], dtype=bool)
    found = with_gradient(entropies, prefix, 0.2)  # one of five tokens; one of two, which are equal
    np.testing.assert_array_equal(found, np.array([[0, 1, 0, 0, 0, 1, 1], [1] * 7, [1] * 7], dtype=bool))
    found = with_gradient(entropies, prefix, 0.4)
    np.testing.assert_array_equal(found[0], np.array([0, 1, 1, 0, 0, 1, 1], dtype=bool))
    assert with_gradient(entropies, prefix, 1.0).all()


def test_it_needs_gold_answers_and_rollouts():
    method = PrefixRft(PrefixRftConfig())
    assert method.supports(TaskTraits(SIZES)) is None
    refused = method.supports(TaskTraits(SIZES, refused_golds="the task has none"))
    assert refused == "its prefixes are those of gold answers, and the task has none; grpo needs none"
    assert "it samples answers, and no" in method.supports(TaskTraits(SIZES, refused_rollouts="no"))


def test_the_first_answer_of_a_group_begins_with_whole_tokens_and_leaves_one_to_sample():
    trainer = PrefixTrainer.__new__(PrefixTrainer)
    trainer._golds, trainer._training = {"1+1": [5, 6, 7, 8, 9]}, SimpleNamespace(max_new_tokens=4)

    def begin(place, step=0, **shares):
        trainer._config = PrefixRftConfig(**shares)
        trainer._loop = SimpleNamespace(step=step, schedule=SimpleNamespace(steps=3))
        return trainer._begin("1+1", place)

    assert [begin(place) for place in (0, 1, 7)] == [[5, 6, 7], [], []]  # the limit of 4 leaves one of 4.75 tokens out
    assert begin(0, step=1) == [5, 6]  # 2.5 tokens
    assert begin(0, step=2) == []  # .25 tokens
    assert begin(0, first_share=0.6) == [5, 6, 7]


def test_padding_gets_no_gradient():
    trainer = PrefixTrainer.__new__(PrefixTrainer)
    trainer._config, trainer._prefix_mask = PrefixRftConfig(), torch.tensor([[True, True, False, False]])
    found = trainer.get_high_entropy_mask(torch.tensor([[0.1, 0.2, 0.0, 0.0]]), torch.tensor([[1, 1, 1, 0]]), 0.8)
    assert found.tolist() == [[False, True, True, False]]


@pytest.mark.slow
def test_at_share_0_the_weights_are_those_of_grpo(tmp_path):
    shape = {"batch": 16, "group": 4}
    none = {"first_share": 0.0, "last_share": 0.0}
    plain, weights = run(tmp_path, "grpo", shape)
    same, equal = run(tmp_path, "prefix-rft", shape | none)
    other, different = run(tmp_path, "prefix-rft", shape)
    assert plain.report["training"]["steps"] >= 3
    assert plain.report["training"] == same.report["training"]
    assert plain.ledger["train"] == same.ledger["train"]
    assert all(weights[name].equal(equal[name]) for name in weights)
    assert not all(weights[name].equal(different[name]) for name in weights)
    assert other.report["training"]["phases"].keys() == {"rollout", "update"}


@pytest.mark.slow
def test_one_answer_of_each_group_begins_with_the_gold_one_and_is_scored_whole_but_not_in_the_curve(
    tmp_path, monkeypatch
):
    judged, judge, end_step = [], TrainingSession.judge, Loop.end_step
    rows = []

    def logged(self, examples, answers):
        scores = judge(self, examples, answers)
        golds = {p.id: self.tokenizer.encode(p.gold, add_special_tokens=False) for p in self.prompts}
        judged.append([(golds[e], r, s) for e, r, s in zip(examples, self.rollouts, scores, strict=True)])
        assert [r.answer for r in self.rollouts] == [tuple(answer) for answer in answers]
        return scores

    def noted(self, row):
        end_step(self, row)
        rows.append(self.rows[-1])

    monkeypatch.setattr(TrainingSession, "judge", logged)
    monkeypatch.setattr(Loop, "end_step", noted)
    settings = {"batch": 16, "group": 4, "first_share": 1.0, "last_share": 0.0}
    result, _ = run(tmp_path, "prefix-rft", settings)
    lengths = []
    for answers, row in zip(judged, rows, strict=False):
        for place, (gold, rollout, _) in enumerate(answers):
            assert rollout.prefix == 0 or place % 4 == 0
            assert rollout.answer[: rollout.prefix] == tuple(gold[: rollout.prefix])
            assert len(rollout.logprobs) == len(rollout.entropies) == len(rollout.answer) - rollout.prefix > 0
            assert len(rollout.answer) <= 4
        lengths.append(sum(rollout.prefix for _, rollout, _ in answers))
        own = [score.reward for _, rollout, score in answers if not rollout.prefix]
        assert row["reward"] == pytest.approx(sum(own) / len(own))
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] == sum(len(gold) for gold, _, _ in judged[0][::4]) > lengths[-1]
    assert result.report["training"]["ratio"]["distance"] < 1e-5
    rollouts = [rollout for _, rollout, _ in judged[0]]
    known = {(*rollout.prompt, *rollout.answer): rollout for rollout in rollouts}  # of two equal answers the last one
    tokens = sum(len(known[(*rollout.prompt, *rollout.answer)].logprobs) for rollout in rollouts)
    assert result.report["training"]["ratio"]["tokens"] == tokens


GRADIENTS: dict[str, torch.Tensor] = {}


def keep_first_gradient(name, loop):
    def keep(*_):
        parts = [p.grad.flatten() for group in loop.optimizer.param_groups for p in group["params"]]
        GRADIENTS.setdefault(name, torch.cat(parts).clone())

    loop.optimizer.register_step_pre_hook(keep)


class TunedBySft(Sft):
    def train(self, loop, folder):
        keep_first_gradient("sft", loop)
        super().train(loop, folder)


class TunedByPrefixes(PrefixRft):
    """Prefix-RFT in which the answers without a prefix have no advantage."""

    def train(self, loop, folder):
        keep_first_gradient("prefixes", loop)
        trainer = PrefixTrainer(self.config, loop, folder)
        trainer._advantages = [lambda columns, given: np.where(np.arange(given.shape[1]) == 0, 1.0, 0.0) + 0 * given]
        trainer.train()


@pytest.mark.slow
def test_at_share_1_the_gradient_of_the_gold_answer_is_that_of_sft(tmp_path):
    run(tmp_path, f"{__name__}:TunedBySft", {"batch": 8}, budget="150")
    ones = {"first_share": 1.0, "last_share": 1.0, "entropy_share": 1.0}
    run(tmp_path, f"{__name__}:TunedByPrefixes", {"batch": 16, "group": 2} | ones, budget="150")
    one, other = GRADIENTS["sft"].double(), GRADIENTS["prefixes"].double()
    assert float(one @ other / one.norm() / other.norm()) == pytest.approx(1.0, abs=1e-6)
