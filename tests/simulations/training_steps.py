"""Steps of a group trainer on the tiny model, with rewards that a test gives."""

from contextlib import suppress
from types import SimpleNamespace

import torch

from bench.compute.meter import Meter
from bench.engines.transformers import TransformersEngine
from bench.models.source import resolve
from bench.records.journal import Journal
from bench.run.evaluator import Evaluator
from bench.run.training import TrainingSession
from methods.training.config import TrainingSchedule
from methods.training.loop import Finished, Loop
from tasks.addition import Addition
from tasks.interface import Score

PATH = resolve("tiny-adder").prepare(lambda *_: None).path
SCHEDULE = TrainingSchedule(train=64, batch=8, step=32, steps=2, save_every=100)
REWARDS = [1.0, 0.0, 0.25, 0.0, 0.5, 1.0, 1.0, 0.75]
LR = 1e-3


def open_session(folder, rewards=REWARDS):
    """Return a training session whose answers get these rewards; None for one that is not judged."""
    engine = TransformersEngine(PATH, dtype="float32")
    task = Addition()
    evaluator = Evaluator(engine, task, "chat", Meter(engine.profile, 10**12), Journal(folder / "journal.jsonl"))
    session = TrainingSession(evaluator, task.load().support, folder / "training", 10**12, 0)
    session.judge = lambda *_: [  # type: ignore[method-assign]
        Score(reward=reward or 0.0, correct=reward == 1.0, status="infrastructure" if reward is None else "ok")
        for reward in rewards
    ]
    return session


def train(session, trainer, config, folder, steps=1, before_update=lambda trainer, loop: None):
    """Train for a number of steps, and return the loop. `before_update` is called before each optimiser step."""
    loop = Loop(SimpleNamespace(seed=0), session, config, SCHEDULE, [(session.model, config.lr)])
    end_step = loop.end_step

    def end(row):
        end_step(row)
        if loop.step == steps:
            raise Finished

    loop.end_step = end  # type: ignore[method-assign]
    made = trainer(config, loop, str(folder / "trl"))
    loop.optimizer.register_step_pre_hook(lambda *_: before_update(made, loop))
    loop.run(SimpleNamespace(advance=lambda *_, **__: None), made.train)
    return loop


def gradient(session, trainer, config, folder):
    """Return the gradient of the first update, whose weights stay as they are."""
    found = []

    def keep(*_):
        found.append(torch.cat([p.grad.flatten() for p in session.model.parameters()]))
        raise Finished

    with suppress(Finished):
        train(session, trainer, config, folder, before_update=keep)
    session.model.zero_grad()
    return found[0]


def weights(session):
    """Return all weights of the model as one vector."""
    return torch.cat([p.detach().flatten() for p in session.model.parameters()])
