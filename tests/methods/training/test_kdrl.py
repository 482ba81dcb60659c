"""KDRL: its weights and estimator, its plan, and the methods that it reduces to."""

import math
from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from bench.compute.meter import Meter
from bench.engines.transformers import TransformersEngine
from bench.models.source import resolve
from bench.records.config import RunConfig
from bench.records.journal import Journal
from bench.run.evaluator import Evaluator
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from bench.run.training import TrainingSession
from methods.training.grpo import Grpo
from methods.training.kdrl import Kdrl, KdrlConfig, annealed
from methods.training.kdrl_trainer import TaughtGroupTrainer, k2
from methods.training.loop import Finished, Loop
from methods.training.trainers import GroupTrainer
from tasks.addition import Addition
from tasks.interface import TaskTraits

QUIET = ProgressDisplay(quiet=True)
TRAITS = TaskTraits({"support": 100, "select": 10, "gate": 10})
FAST = {"lr": 1e-4, "batch": 16}


def start(folder, method="kdrl", **settings):
    config = {
        "task": "addition",
        "model": "tiny-adder",
        "budget": "400",
        "limit": 60,
        "dtype": "float32",
        "gate": "off",
    }
    return prepare(RunConfig(method=method, method_config=FAST | settings, **config), folder, QUIET)


def run(folder, method="kdrl", **settings):
    prepared = start(folder, method, **settings)
    result = execute(prepared, QUIET)
    assert result.status == "ok", result.traceback
    return result, load_file(prepared.folder / "artifact" / "model.safetensors")


def same(one, other):
    return all(one[name].equal(other[name]) for name in one)


def test_the_weight_falls_linearly_to_the_last_planned_step_and_stays_there():
    weights = [annealed(2e-3, 1e-3, step, 11) for step in (0, 5, 10, 20)]
    assert weights == pytest.approx([2e-3, 1.5e-3, 1e-3, 1e-3], rel=1e-12)
    assert annealed(2e-3, 1e-3, 0, 1) == 2e-3


def test_the_estimate_is_half_the_squared_log_ratio():
    policy, teacher = torch.tensor([[0.5, 0.25]]).log(), torch.tensor([[0.25, 0.25]]).log()
    torch.testing.assert_close(k2(policy, teacher), torch.tensor([[math.log(2) ** 2 / 2, 0.0]]))


def test_its_gradient_is_that_of_the_divergence_on_average_over_the_policys_tokens():
    logits = torch.tensor([0.3, -1.0, 0.9, 0.0], dtype=torch.double, requires_grad=True)
    teacher = torch.tensor([1.0, 0.2, -0.4, 0.1], dtype=torch.double).log_softmax(-1)
    policy = logits.log_softmax(-1)
    (exact,) = torch.autograd.grad((policy.exp() * (policy - teacher)).sum(), logits, retain_graph=True)
    (expected,) = torch.autograd.grad((policy.detach().exp() * k2(policy, teacher)).sum(), logits)
    torch.testing.assert_close(expected, exact)


def test_a_setting_without_effect_is_refused():
    none = {"beta": 0, "beta_end": 0}
    assert not KdrlConfig(**none).distils
    with pytest.raises(
        ValidationError, match="teacher=tiny-adder: beta and beta_end are 0, so no teacher would be run"
    ):
        KdrlConfig(**none, teacher="tiny-adder")
    with pytest.raises(ValidationError, match="on_wrong=True: beta and beta_end are 0"):
        KdrlConfig(**none, on_wrong=True)


def test_the_plan_counts_the_teachers_pass_and_says_what_it_does_not_know():
    plan = Kdrl(KdrlConfig()).plan(3072, TRAITS)
    assert plan.lines[0].what == "about 38 steps of 16 answers, in groups"
    assert plan.notes == ()
    named = Kdrl(KdrlConfig(teacher="tiny-adder"))
    assert named.models == ("tiny-adder",)
    assert (
        named.plan(3072, TRAITS).notes[0].startswith("the plan counts the teacher tiny-adder as if it had the size of")
    )
    alone = Kdrl(KdrlConfig(beta=0, beta_end=0))
    assert (alone.models, alone.plan(3072, TRAITS)) == ((), Grpo(Grpo.Config()).plan(3072, TRAITS))


class Recorded(TaughtGroupTrainer):
    """Trainer that keeps what each pass adds to the loss of GRPO, and by hand what it should add."""

    def _compute_loss(self, model, inputs):
        loss, plain = super()._compute_loss(model, inputs), GroupTrainer._compute_loss(self, model, inputs)
        kept = (inputs["completion_mask"] * inputs["taught"][:, None]).bool()
        ratio = (self._logprobs.detach() - inputs["teacher_logprobs"])[kept]
        self.added.append((float(loss - plain), float((ratio**2).sum() / 2)))
        self.tokens.append(int(inputs["completion_mask"].sum()))
        return loss


@pytest.mark.parametrize("on_wrong", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_loss_is_that_of_grpo_and_the_weighted_mean_of_the_estimate_over_all_tokens(tmp_path, on_wrong):
    engine, task = TransformersEngine(resolve("tiny-adder").prepare(lambda *_: None).path, dtype="float32"), Addition()
    evaluator = Evaluator(engine, task, "chat", Meter(engine.profile, 10**12), Journal(tmp_path / "journal.jsonl"))
    session = TrainingSession(evaluator, task.load().support, tmp_path / "training", 10**12, 0)
    session.batch_size = 8  # the batch takes two passes
    config = KdrlConfig(beta=0.5, beta_end=0.5, on_wrong=on_wrong)
    schedule = SimpleNamespace(batch=16, train=64, save_every=9, step=32, steps=4)
    loop = Loop(SimpleNamespace(seed=0), session, config, schedule, [(session.model, 1e-4)])
    trainer = Recorded(config, loop, str(tmp_path / "trl"))
    trainer.added, trainer.tokens = [], []
    with torch.no_grad():
        trainer._teacher.lm_head.weight.mul_(0.9)  # another model than the policy

    def stop(*_, **__):
        raise Finished

    loop.run(SimpleNamespace(advance=stop), trainer.train)
    assert len(trainer.added) == 2
    for added, squares in trainer.added:
        assert added == pytest.approx(0.5 * squares / sum(trainer.tokens), rel=1e-3, abs=1e-9)
    total = sum(squares for _, squares in trainer.added)
    assert loop.rows[0]["divergence"] == pytest.approx(total / sum(trainer.tokens), rel=1e-4)
    assert loop.rows[0]["divergence"] > 0


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Results and weights of grpo, and of kdrl with the base as teacher."""
    folder = tmp_path_factory.mktemp("runs")
    return {"grpo": run(folder, "grpo"), "kdrl": run(folder, beta=0.1)}


@pytest.mark.slow
def test_without_a_weight_it_is_grpo_bit_for_bit_and_runs_no_teacher(finished, tmp_path):
    plain, weights = finished["grpo"]
    alone, equal = run(tmp_path, beta=0.0, beta_end=0.0)
    assert plain.report["training"]["steps"] > 3
    assert alone.report == plain.report
    assert alone.ledger["train"] == plain.ledger["train"]
    assert same(weights, equal)
    assert not same(weights, finished["kdrl"][1])


@pytest.mark.slow
def test_the_base_by_its_name_teaches_the_same_as_without_one_also_after_an_interruption(
    finished, tmp_path, monkeypatch
):
    base, weights = finished["kdrl"]
    end_step = Loop.end_step

    def interrupted(loop, row):
        end_step(loop, row)
        if loop.step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Loop, "end_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        execute(start(tmp_path, beta=0.1, teacher="tiny-adder"), QUIET)
    monkeypatch.undo()
    named, equal = run(tmp_path, beta=0.1, teacher="tiny-adder")
    assert same(weights, equal)
    training = named.report["training"]
    assert training.pop("teachers") == {"tiny-adder": named.model.digest}
    assert training == base.report["training"]
    assert named.ledger["train"] == base.ledger["train"]
    assert set(training["phases"]) == {"reference", "rollout", "update"}
    # The policy is the base in the first step, and has left it in the last one.
    divergence = training["curve"]["divergence"]
    assert divergence[0] < 1e-9 < 1e-6 < divergence[-1]


@pytest.mark.slow
def test_a_teacher_reads_wrong_answers_alone_if_it_is_told_so(finished, tmp_path):
    every = finished["kdrl"][0].report["training"]
    some = run(tmp_path, on_wrong=True, beta=0.1)[0].report["training"]
    shares = [found["phases"]["reference"] / found["phases"]["rollout"] for found in (every, some)]
    # About half of the answers are wrong, and answers are of nearly equal length.
    correct = sum(some["curve"]["correct"]) / some["steps"]
    assert shares[1] / shares[0] == pytest.approx(1 - correct, rel=0.1)
