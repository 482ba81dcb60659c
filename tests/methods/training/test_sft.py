"""Fine-tuning on gold answers: what it needs, its plan, its loss, and that cat reduces to it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from trained_run import trained

from bench.run.progress import ProgressDisplay
from methods.training.config import SftConfig
from methods.training.grpo import Grpo
from methods.training.sft import Sft
from methods.training.tuner import IGNORED, gold_loss
from tasks.interface import TaskTraits

QUIET = ProgressDisplay(quiet=True)
SIZES = {"support": 100, "select": 10, "gate": 10}


def run(folder, method, settings, **fields):
    return trained(folder, method, settings, **{"budget": "300", "limit": 60} | fields)


def test_it_needs_gold_answers():
    method = Sft(SftConfig())
    assert method.supports(TaskTraits(SIZES)) is None
    refused = TaskTraits(SIZES, refused_golds="the task has none")
    assert method.supports(refused) == "it trains on gold answers, and the task has none"


def test_the_plan_spends_the_whole_budget_and_says_how_often_it_passes_over_the_split():
    plan = Sft(SftConfig()).plan(3072, TaskTraits(SIZES))
    assert plan.evaluations == Grpo(Grpo.Config()).plan(3072, TaskTraits(SIZES)).evaluations == 3072
    assert plan.lines[0].what == "about 32 steps of 32 gold answers"
    assert plan.notes == ("the steps pass over the support split about 10 times",)


def test_the_loss_is_the_cross_entropy_of_the_gold_answer_alone():
    torch.manual_seed(0)
    logits, labels = (
        torch.randn(2, 5, 7),
        torch.tensor([[IGNORED, IGNORED, 3, 4, 1], [IGNORED, 2, 1, IGNORED, IGNORED]]),
    )
    expected = torch.nn.functional.cross_entropy(logits[:, :-1].reshape(-1, 7), labels[:, 1:].reshape(-1))
    torch.testing.assert_close(gold_loss(None)(SimpleNamespace(logits=logits), labels), expected)
    halves = [gold_loss(None)(SimpleNamespace(logits=logits[i : i + 1]), labels[i : i + 1], 5) for i in (0, 1)]
    torch.testing.assert_close(sum(halves), expected)  # the parts of a batch that needs two passes
    doubled = gold_loss(lambda p: np.full_like(p, 2.0))(SimpleNamespace(logits=logits), labels)
    torch.testing.assert_close(doubled, 2 * expected)


@pytest.mark.slow
def test_cat_on_gold_answers_at_pass_at_1_gives_the_same_weights_step_for_step(tmp_path):
    settings = {"lr": 1e-4, "batch": 8}
    plain, weights = run(tmp_path, "sft", settings)
    aligned, same = run(tmp_path, "cat", settings | {"on": "sft", "objective": "pass@1"})
    _, different = run(tmp_path, "cat", settings | {"on": "sft", "objective": "pass@8"})
    assert plain.report["training"]["steps"] > 5
    assert plain.report["training"] == aligned.report["training"]
    assert plain.report["schedule"] == aligned.report["schedule"]
    assert plain.ledger["train"] == aligned.ledger["train"]
    assert all(weights[name].equal(same[name]) for name in weights)
    assert not all(weights[name].equal(different[name]) for name in weights)


@pytest.mark.slow
def test_a_batch_that_needs_several_passes_gives_the_same_training(tmp_path):
    settings = {"lr": 1e-4, "batch": 8}
    whole, _ = run(tmp_path, "sft", settings)
    parts, _ = run(tmp_path, "sft", settings, batch_size=2)
    curves = [result.report["training"]["curve"] for result in (whole, parts)]
    assert curves[0]["loss"] == pytest.approx(curves[1]["loss"], rel=1e-3)
    assert curves[0]["loss"][-1] < curves[0]["loss"][0]


@pytest.mark.slow
def test_it_trains_with_adapters(tmp_path):
    result, _ = run(tmp_path, "sft", {"lr": 1e-3, "batch": 8, "lora": {"rank": 2}})
    assert result.artifacts[0].changed
