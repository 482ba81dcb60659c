from pathlib import Path
from types import SimpleNamespace

import numpy as np

from bench.weights.checkpoint import Checkpoint
from bench.weights.points import Point
from methods.interface import Evaluation
from methods.training.config import GrpoConfig
from methods.training.grpo import Grpo
from tasks.interface import TaskTraits

TRAINED = Checkpoint(Path("anywhere"), "digest")


def adapted(base, trained):
    """Return the point deployed and the gate's report for these rewards of base and trained model; NaN if unscored."""

    def evaluate(place, *_, **__):
        rewards = np.array(trained if place == TRAINED else base)
        return Evaluation(rewards, rewards == 1.0, flops=1)

    context = SimpleNamespace(
        budget=1000,
        remaining=500,
        evaluation_flops=1.0,
        task=TaskTraits({"support": 9, "select": 9, "gate": 20}),
        report={},
        evaluate=evaluate,
        train=lambda *_: SimpleNamespace(finished=(TRAINED, {})),
    )
    return Grpo(GrpoConfig()).adapt(context).point, context.report["gate"]


def test_the_gate_counts_examples_scored_for_both_models():
    point, gate = adapted([0.0] * 12 + [1.0] * 8, [1.0] * 20)
    assert point == TRAINED
    assert (gate["examples"], gate["fixes"]) == (20, 12)
    # The base's answers are unscored, so correct answers of the trained model are no gain.
    point, gate = adapted([float("nan")] * 12 + [1.0] * 8, [1.0] * 20)
    assert point == Point()
    assert (gate["examples"], gate["fixes"], gate["accepted"]) == (8, 0, False)
