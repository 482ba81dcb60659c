"""Steps of the trainers on families that have caches, losses, positions or hidden states of their own."""

import copy
from types import SimpleNamespace

import pytest
from tiny_families import make

from bench.compute.measured import measure
from bench.compute.meter import Meter
from bench.engines.transformers import TransformersEngine
from bench.models.source import resolve
from bench.records.journal import Journal
from bench.run.evaluator import Evaluator
from bench.run.training import TrainingSession
from methods.interface import Lora
from methods.training.config import GrpoConfig, PpoConfig
from methods.training.loop import Finished, Loop
from methods.training.trainers import GroupTrainer, PolicyValueTrainer
from tasks.addition import Addition
from tasks.interface import Score

pytestmark = pytest.mark.slow

SCHEDULE = SimpleNamespace(batch=8, train=64, save_every=100, step=32)
REWARDS = [1.0, 0.0, 0.25, 0.0, 0.5, 1.0, 1.0, 0.75]


@pytest.fixture
def session(tmp_path):
    def session(family, lora=None):
        engine = TransformersEngine(resolve("tiny-adder").prepare(lambda *_: None).path, dtype="float32")
        (_, tokenizer), model = engine.trainable(), make(family)
        engine.trainable = lambda: (copy.deepcopy(model), copy.deepcopy(tokenizer))
        meter = Meter(measure(model.config, type(model)).profile, 10**15)
        task = Addition()
        evaluator = Evaluator(engine, task, "chat", meter, Journal(tmp_path / "journal.jsonl"))
        opened = TrainingSession(evaluator, task.load().support, tmp_path / "training", 10**15, 0, lora)
        opened.judge = lambda *_: [Score(reward=reward, correct=reward == 1.0) for reward in REWARDS]
        return opened

    return session


def one_step(session, config, trainer, folder):
    """Train for a step, which checks that answers were sampled from the distribution that they are trained under."""
    values = [(session.value_model(), 1e-4)] if trainer is PolicyValueTrainer else []
    loop = Loop(SimpleNamespace(seed=0), session, config, SCHEDULE, [(session.model, 1e-4), *values])
    end_step = loop.end_step

    def end(row):
        end_step(row)
        raise Finished

    loop.end_step = end
    loop.run(SimpleNamespace(advance=lambda *_, **__: None), trainer(config, loop, str(folder / "trl")).train)
    assert loop.rows[0]["norm"] > 0
    assert loop.report()["ratio"]["tokens"] > 8


# Positions that are learned, no loss for the balance of experts, states without attention, a cache of its own.
@pytest.mark.parametrize("family", ["gpt2", "deepseek_v3", "mamba2", "minimax"])
def test_grpo_trains(session, tmp_path, family):
    opened = session(family)
    one_step(opened, GrpoConfig(group=4), GroupTrainer, tmp_path)
    assert set(opened.phases) == {"rollout", "update"}


@pytest.mark.parametrize("family", ["llama4", "mamba2"])
def test_grpo_trains_adapters(session, tmp_path, family):
    one_step(session(family, Lora(rank=2)), GrpoConfig(group=4, lora=Lora(rank=2)), GroupTrainer, tmp_path)


# Hidden states of several streams, a base without a model for classification, a decoder within its model, one that no
# class runs alone.
@pytest.mark.parametrize("family", ["gemma3n", "lfm2_moe", "opt", "qwen2_5_vl"])
def test_ppo_trains(session, tmp_path, family):
    opened = session(family)
    one_step(opened, PpoConfig(mini_batches=2), PolicyValueTrainer, tmp_path)
    assert set(opened.phases) == {"rollout", "value", "update"}
