"""F-TIS: its settings, its loss in numbers, the gradients of all peers, and that one peer is GRPO."""

import math
from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError
from trained_run import trained

from bench.compute.meter import Meter
from bench.engines.transformers import TransformersEngine
from bench.errors import Refused
from bench.models.source import resolve
from bench.records.journal import Journal
from bench.run.evaluator import Evaluator
from bench.run.progress import ProgressDisplay
from bench.run.training import TrainingSession
from methods.interface import Lora
from methods.training.ftis import Ftis, FtisConfig
from methods.training.ftis_trainer import SharedGroupTrainer
from methods.training.loop import Finished, Loop
from tasks.addition import Addition
from tasks.interface import Score, TaskTraits

PATH = resolve("tiny-adder").prepare(lambda *_: None).path
SCHEDULE = SimpleNamespace(batch=8, train=64, save_every=100, step=32)
REWARDS = [1.0, 0.0, 0.25, 0.0, 0.5, 1.0, 1.0, 0.75]
QUIET = ProgressDisplay(quiet=True)


def open_session(folder, lora=None):
    engine = TransformersEngine(PATH, dtype="float32")
    task = Addition()
    evaluator = Evaluator(engine, task, "chat", Meter(engine.profile, 10**12), Journal(folder / "journal.jsonl"))
    return TrainingSession(evaluator, task.load().support, folder / "training", 10**12, 0, lora)


def open_trainer(session, config, folder):
    method = Ftis(config)
    loop = Loop(SimpleNamespace(seed=0), session, config, SCHEDULE, method.learners(session))
    return loop, SharedGroupTrainer(config, loop, str(folder / "trl"), method._peers)


def test_a_group_is_shared_equally_and_copies_must_be_able_to_differ():
    assert FtisConfig(peers=4).peers == 4
    with pytest.raises(ValidationError, match=r"peers=3: each model samples an equal share of a group of 8 answers"):
        FtisConfig(peers=3)
    with pytest.raises(ValidationError, match=r"sigma=0.0: copies that learn from the same answers stay equal"):
        FtisConfig(sigma=0.0)
    assert FtisConfig(sigma=0.0, lora=Lora(rank=2)).sigma == 0.0
    assert FtisConfig.model_validate(FtisConfig(peers=1).model_dump()).peers == 1
    for name in ("sigma", "cap", "threshold"):
        with pytest.raises(ValidationError, match=rf"{name}=4.0: with peers=1 no other model answers, .* leave it out"):
            FtisConfig(peers=1, **{name: 4.0})
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        FtisConfig(cap=0.5)


def test_every_peer_is_updated_with_every_answer_which_one_of_them_samples():
    traits = TaskTraits({"support": 100, "select": 10, "gate": 10})
    line = Ftis(FtisConfig(batch=16)).plan(7 * 16 * 5, traits).lines[0]
    assert line.what == "about 5 steps of 16 answers, in groups shared by peers"
    assert Ftis(FtisConfig(peers=1)).cost == 4


def test_several_processes_are_refused_for_several_peers_only():
    Ftis(FtisConfig(peers=1)).spread(2)
    with pytest.raises(Refused, match=r"trains 2 models in one step.*--set peers=1"):
        Ftis(FtisConfig()).spread(2)


def test_the_loss_caps_weights_and_drops_bad_answers_that_the_learner_would_not_give(tmp_path, monkeypatch):
    """Answers a, b, c of two tokens. Weights of a: min(.6 / .2, 2) = 2 and 1. The mean log-ratio of b, ln(5) / 2, and
    that of c, ln(1.1) / 2 = .048, are above and below .1, and both have negative advantages."""
    _, trainer = open_trainer(open_session(tmp_path), FtisConfig(), tmp_path)
    learner = torch.tensor([[0.6, 0.5], [0.1, 0.4], [0.5, 0.5]]).log().requires_grad_()
    monkeypatch.setattr(
        trainer, "_get_per_token_logps_and_entropies", lambda *_, **__: (learner, learner.detach(), None)
    )
    monkeypatch.setattr(trainer, "_others", [])
    trainer.current_gradient_accumulation_steps = trainer.args.steps_per_generation
    ones = torch.ones(3, 2, dtype=torch.long)
    sampler = torch.tensor([[0.2, 0.5], [0.5, 0.4], [0.55, 0.5]]).log()
    batch = {"prompt_ids": ones, "prompt_mask": ones, "completion_ids": ones, "completion_mask": ones}
    batch |= {"advantages": torch.tensor([1.0, -1.0, -0.5]), "num_items_in_batch": torch.tensor(6)}
    batch |= {"old_per_token_logps": sampler, "sampling_per_token_logps": sampler}
    loss = trainer.compute_loss(None, batch)
    a = 2 * math.log(0.6) + math.log(0.5)
    c = -0.5 * (0.5 / 0.55 * math.log(0.5) + math.log(0.5))
    assert loss.item() == pytest.approx(-(a + c) / 6, rel=1e-6)
    loss.backward()
    expected = [[-2 / 6, -1 / 6], [0, 0], [0.5 * 0.5 / 0.55 / 6, 0.5 / 6]]
    torch.testing.assert_close(learner.grad, torch.tensor(expected))
    assert trainer._metrics["train"]["dropped"] == [pytest.approx(1 / 3)]


@pytest.mark.slow
def test_each_peer_gets_the_gradient_of_all_answers_by_its_own_probabilities(tmp_path):
    session = open_session(tmp_path)
    session.batch_size = 2  # a pass of at most 2 of the 8 answers accumulates gradients over 4 passes
    config = FtisConfig(group=4, temperature=3.0, sigma=0.02, clip=1e9, cap=1.1, threshold=0.01)
    loop, trainer = open_trainer(session, config, tmp_path)
    session.judge = lambda *_: [Score(reward=reward, correct=reward == 1.0) for reward in REWARDS]
    first, second = loop.modules
    start = {model: {n: p.detach().clone() for n, p in model.named_parameters()} for model in loop.modules}
    assert not all(start[first][name].equal(start[second][name]) for name in start[first])
    gradients, rows = {}, []

    def keep(*_):
        gradients.update({model: {n: p.grad.clone() for n, p in model.named_parameters()} for model in loop.modules})

    def end(row):
        rows.append(row)
        raise Finished

    loop.optimizer.register_step_pre_hook(keep)
    loop.end_step = end
    loop.run(SimpleNamespace(advance=lambda *_, **__: None), trainer.train)
    assert all(p.grad is None for model in loop.modules for p in model.parameters())

    def logprobs(model, rollout):
        logits = model(input_ids=torch.tensor([[*rollout.prompt, *rollout.answer]])).logits[
            0, len(rollout.prompt) - 1 : -1
        ]
        return torch.log_softmax(logits / 3.0, dim=-1).gather(-1, torch.tensor([rollout.answer]).T)[:, 0]

    rewards = torch.tensor(REWARDS).view(2, 4)
    advantages = ((rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)).flatten()
    tokens = sum(len(rollout.answer) for rollout in loop.rollouts)
    dropped, capped = [], []
    with session.metered():
        for model in loop.modules:
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    parameter.copy_(start[model][name])
            loss = 0.0
            for row, (rollout, advantage) in enumerate(zip(loop.rollouts, advantages, strict=True)):
                found = logprobs(model, rollout)
                if loop.modules[row % 4 // 2] is model:  # its own: rows 0, 1 of each group are the first model's
                    torch.testing.assert_close(found.detach(), rollout.logprobs, rtol=1e-4, atol=1e-5)
                ratio = (found.detach() - rollout.logprobs).exp()
                capped.append(bool((ratio > config.cap).any()))
                dropped.append(bool(advantage < 0 and -ratio.log().mean() > config.threshold))
                loss = (
                    loss - (0 if dropped[-1] else 1) * advantage * (ratio.clamp(max=config.cap) * found).sum() / tokens
                )
            model.zero_grad()
            loss.backward()
            for name, parameter in model.named_parameters():
                torch.testing.assert_close(gradients[model][name], parameter.grad, rtol=1e-3, atol=1e-5)
            if model is first:
                assert rows[0]["loss"] == pytest.approx(loss.item(), abs=1e-5)
    assert rows[0]["dropped"] == pytest.approx(sum(dropped) / 16)
    assert any(dropped)
    assert any(capped)


def run(folder, method, settings):
    return trained(folder, method, settings, gate="off", budget="300", limit=10)


@pytest.mark.slow
def test_one_peer_is_grpo_bit_for_bit(tmp_path):
    settings = {"lr": 1e-4, "batch": 16}
    plain, weights = run(tmp_path, "grpo", settings)
    alone, same = run(tmp_path, "f-tis", settings | {"peers": 1})
    assert plain.report["training"]["steps"] >= 3
    assert all(weights[name].equal(same[name]) for name in weights)
    assert plain.ledger == alone.ledger
    assert plain.report["schedule"] == alone.report["schedule"]
    curves = [result.report["training"]["curve"] for result in (plain, alone)]
    assert set(curves[1].pop("dropped")) == {0.0}
    for curve in curves:
        del curve["loss"]  # the same gradient, but the value of another expression
    assert curves[0] == curves[1]


class Interrupt(KeyboardInterrupt):
    pass


@pytest.mark.slow
def test_peers_are_billed_and_resume_to_the_same_weights(tmp_path, monkeypatch):
    settings = {"lr": 1e-4, "batch": 8, "sigma": 0.01}
    expected, weights = run(tmp_path / "unbroken", "f-tis", settings)
    training, schedule = expected.report["training"], expected.report["schedule"]
    assert training["steps"] >= 3
    assert expected.ledger["train"].work.evaluations == 8 * training["steps"]  # one model samples each answer
    assert expected.ledger["train"].work.backward_passes == 2 * 8 * training["steps"]  # and both learn from it
    planned = schedule["step"] * training["steps"] * expected.budget.evaluation_flops
    assert training["flops"] == pytest.approx(planned, rel=0.15)
    end_step = Loop.end_step

    def interrupted(loop, row):
        end_step(loop, row)
        if loop.step == 2:
            raise Interrupt

    monkeypatch.setattr(Loop, "end_step", interrupted)
    with pytest.raises(Interrupt):
        run(tmp_path / "broken", "f-tis", settings)
    monkeypatch.undo()
    again, same = run(tmp_path / "broken", "f-tis", settings)
    assert all(weights[name].equal(same[name]) for name in weights)
    assert again.report == expected.report
    assert again.ledger == expected.ledger
