"""DPO: its pairs, the first step's loss and gradient by hand, and steps without a pair."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bench.compute.meter import Meter
from bench.engines.transformers import TransformersEngine
from bench.errors import BenchError, Refused
from bench.models.source import resolve
from bench.records.config import RunConfig
from bench.records.journal import Journal
from bench.run.evaluator import Evaluator
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from bench.run.training import TrainingSession
from methods.training.dpo import Dpo, DpoConfig, pairs
from methods.training.dpo_trainer import PairTrainer
from methods.training.loop import Finished, Loop
from tasks.addition import Addition
from tasks.interface import TaskTraits

QUIET = ProgressDisplay(quiet=True)
SCHEDULE = SimpleNamespace(batch=32, train=256, save_every=100, step=160)


def test_right_and_wrong_answers_of_a_group_are_paired_in_order():
    right = np.array([[0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0]], dtype=bool)
    assert pairs(right, ~right) == [(1, 0), (2, 3), (12, 13)]
    assert pairs(right, ~right & [True, True, True, False]) == [(1, 0), (12, 13)]


def test_it_trains_in_one_process():
    method = Dpo(DpoConfig())
    method.spread(1)
    with pytest.raises(Refused, match=r"dpo trains in one process.*leave out --launch"):
        method.spread(2)


def test_the_plan_counts_sampling_reference_and_update():
    plan = Dpo(DpoConfig()).plan(3072, TaskTraits({"support": 100, "select": 10, "gate": 10}))
    assert plan.lines[0].what == "about 38 steps of 16 answers, in groups"


@pytest.fixture(scope="module")
def engine():
    return TransformersEngine(resolve("tiny-adder").prepare(lambda *_: None).path, dtype="float32")


@pytest.fixture
def opened(engine, tmp_path):
    """Return a trainer with its loop and session, by settings of the method."""

    def opened(batch_size=64, **settings):
        task, meter = Addition(), Meter(engine.profile, 10**12)
        evaluator = Evaluator(engine, task, "chat", meter, Journal(tmp_path / "journal.jsonl"))
        session = TrainingSession(evaluator, task.load().support, tmp_path / "training", 10**12, 0)
        session.batch_size = batch_size
        config = DpoConfig(**settings)
        loop = Loop(SimpleNamespace(seed=0), session, config, SCHEDULE, [(session.model, 1e-4)])
        return PairTrainer(config, loop, str(tmp_path / "trl")), loop, session

    return opened


def step(trainer, session):
    """Sample and train on the pairs of one step. Return loss, gradients and pairs."""
    sampled, found = trainer._sampled, []

    def kept():
        found.extend(sampled())
        return found

    trainer._sampled = kept
    trainer.current_gradient_accumulation_steps = 1  # as TRL's loop sets it
    torch.manual_seed(0)
    with session.metered():
        loss = trainer.training_step(session.model, {})
    return loss, {name: p.grad for name, p in session.model.named_parameters()}, found


def log_likelihood(model, prompt, answer):
    ids = torch.tensor([prompt + answer])
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(-1, torch.tensor(answer)[:, None]).sum()


def test_the_first_step_has_the_loss_and_the_gradient_of_the_formula(opened):
    trainer, _, session = opened(beta=0.4)
    loss, gradients, found = step(trainer, session)
    assert len(found) > 3
    assert float(loss) == pytest.approx(math.log(2), abs=1e-6)
    gradients = {name: gradient.clone() for name, gradient in gradients.items()}
    session.model.zero_grad()
    with session.metered():
        differences = [
            log_likelihood(session.model, pair["prompt_ids"], pair["rejected_ids"])
            - log_likelihood(session.model, pair["prompt_ids"], pair["chosen_ids"])
            for pair in found
        ]
        (0.4 / 2 * torch.stack(differences).mean()).backward()
    for name, parameter in session.model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-6)


def test_several_passes_give_the_gradient_of_one(opened, tmp_path):
    trainer, _, session = opened()
    _, whole, found = step(trainer, session)
    trainer, _, session = opened(batch_size=6)
    assert len(found) % 3  # the last pass is smaller than the others
    _, parts, same = step(trainer, session)
    assert same == found
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-3, atol=1e-6)


def test_every_pair_is_of_one_prompt_and_its_first_answer_is_the_right_one(opened):
    trainer, _, session = opened()
    _, _, found = step(trainer, session)
    known = {prompt.token_ids: prompt.id for prompt in session.prompts}
    for pair in found:
        example = known[tuple(pair["prompt_ids"])]
        right, wrong = session.judge([example] * 2, [pair["chosen_ids"], pair["rejected_ids"]])
        assert (right.correct, wrong.correct) == (True, False)


def test_a_step_without_a_pair_is_billed_and_changes_nothing(opened, monkeypatch):
    trainer, loop, session = opened()
    judge = session.judge
    monkeypatch.setattr(session, "judge", lambda *given: [replace(s, correct=False) for s in judge(*given)])
    before = {name: parameter.detach().clone() for name, parameter in session.model.named_parameters()}

    def advance(*_, **__):
        if loop.step == 2:
            raise Finished

    loop.run(SimpleNamespace(advance=advance), trainer.train)
    assert all(torch.equal(before[name], parameter) for name, parameter in session.model.named_parameters())
    assert [(row["unpaired"], row["loss"], row["norm"]) for row in loop.rows] == [(1.0, 0.0, 0.0)] * 2
    assert set(session.phases) == {"rollout"}
    assert session.phases["rollout"] > 0


def test_the_first_step_with_a_pair_is_checked_to_be_trained_on_as_it_was_sampled(opened, monkeypatch):
    trainer, loop, session = opened()
    session.model.lm_head.register_forward_hook(lambda module, _, logits: logits * 1.01 if module.training else None)
    judge = session.judge

    def judged(*given):
        return [replace(score, correct=score.correct and loop.step > 0) for score in judge(*given)]

    monkeypatch.setattr(session, "judge", judged)
    with pytest.raises(BenchError, match="before the first update the probability ratio of sampled tokens has a mean"):
        loop.run(SimpleNamespace(advance=lambda *_, **__: None), trainer.train)
    assert [row["unpaired"] for row in loop.rows] == [1.0]


@pytest.mark.parametrize("truncated", ["train", "mask", "punish"])
def test_truncated_answers_are_like_others_or_in_no_pair_or_wrong(opened, monkeypatch, truncated):
    trainer, _, session = opened(truncated=truncated, temperature=2.0)
    sampled = session._sampler._sample

    def cut(*args, **kwargs):
        found = sampled(*args, **kwargs)
        session._sampler.rollouts = [replace(each, truncated=i % 2 == 0) for i, each in enumerate(session.rollouts)]
        return found

    monkeypatch.setattr(session.model, "generate", cut)
    _, _, found = step(trainer, session)
    truncated_ones = [rollout.answer for rollout in session.rollouts if rollout.truncated]
    scores = session.judge([trainer_id(session, r) for r in session.rollouts], [r.answer for r in session.rollouts])
    right = np.array([score.correct for score in scores]).reshape(-1, 8)
    even = np.arange(32).reshape(-1, 8) % 2 == 0
    good = right if truncated == "train" else right & ~even
    bad = ~right if truncated == "train" else ~right & ~even if truncated == "mask" else ~right | even
    assert truncated_ones
    assert len(found) == np.minimum(good.sum(axis=1), bad.sum(axis=1)).sum()


def trainer_id(session, rollout):
    return next(prompt.id for prompt in session.prompts if prompt.token_ids == rollout.prompt)


def run(folder, method, budget="400", **settings):
    config = {"task": "addition", "model": "tiny-adder", "budget": budget, "limit": 10, "dtype": "float32"}
    given = RunConfig(method=method, method_config={"lr": 1e-4} | settings, **config, gate="off")
    result = execute(prepare(given, folder, QUIET), QUIET)
    assert result.status == "ok", result.traceback
    return result.report["training"]


@pytest.mark.slow
def test_its_first_answers_are_those_of_grpo_bit_for_bit(tmp_path):
    found, grpo = run(tmp_path, "dpo", batch=32), run(tmp_path, "grpo", batch=32)
    for name in ("reward", "correct", "length", "entropy", "truncated"):
        assert found["curve"][name][0] == grpo["curve"][name][0]
    assert found["steps"] >= 3
    assert found["curve"]["loss"][0] == pytest.approx(math.log(2), abs=1e-5)
    assert set(found["phases"]) == {"reference", "rollout", "update"}
    assert found["ratio"]["distance"] < 1e-5


@pytest.mark.slow
def test_a_run_whose_first_steps_have_no_pair_is_checked_after_an_interruption_as_well(tmp_path, monkeypatch):
    judge, end_step, steps = TrainingSession.judge, Loop.end_step, 2
    short = {"budget": "160", "batch": 8, "saves": 100}

    def judged(session, *given):
        late = session._saved >= steps  # each step is saved
        return [replace(score, correct=score.correct and late) for score in judge(session, *given)]

    def interrupted(loop, row):
        end_step(loop, row)
        if loop.step == steps:
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainingSession, "judge", judged)
    whole = run(tmp_path / "whole", "dpo", **short)
    assert whole["curve"]["unpaired"][:steps] == [1.0] * steps
    assert whole["ratio"]["tokens"] > 0
    monkeypatch.setattr(Loop, "end_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", "dpo", **short)
    monkeypatch.setattr(Loop, "end_step", end_step)
    assert run(tmp_path / "broken", "dpo", **short) == whole
