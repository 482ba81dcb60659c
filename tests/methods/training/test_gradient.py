from pathlib import Path
from types import SimpleNamespace

from bench.weights.checkpoint import Checkpoint
from methods.interface import SingleModel
from methods.training.config import GrpoConfig
from methods.training.grpo import Grpo
from tasks.interface import TaskTraits

TRAINED = Checkpoint(Path("anywhere"), "digest")


def test_training_gets_all_that_remains_and_its_result_is_returned_as_it_is():
    allowed = []

    def train(allowance, lora):
        allowed.append((allowance, lora))
        return SimpleNamespace(finished=(TRAINED, {"steps": 3}))

    context = SimpleNamespace(
        budget=1000,
        remaining=500,
        evaluation_flops=1.0,
        task=TaskTraits({"support": 9, "select": 9, "gate": 20}),
        report={},
        train=train,
    )
    assert Grpo(GrpoConfig()).adapt(context) == SingleModel(TRAINED)
    assert allowed == [(500, None)]
    assert context.report["training"] == {"steps": 3}
