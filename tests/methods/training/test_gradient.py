import warnings
from pathlib import Path
from types import SimpleNamespace

from bench.weights.checkpoint import Checkpoint
from methods.interface import SingleModel
from methods.training.config import GrpoConfig
from methods.training.grpo import Grpo
from methods.training.loop import without_renames
from tasks.interface import TaskTraits

TRAINED = Checkpoint(Path("anywhere"), "digest")


def test_training_gets_all_that_remains_and_its_result_is_returned_as_it_is():
    allowed = []

    def train(allowance, lora, start):
        allowed.append((allowance, lora, start))
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
    assert allowed == [(500, None, None)]
    assert context.report["training"] == {"steps": 3}


def test_of_transformers_warnings_only_the_two_new_names_are_left_out():
    texts = [
        "`gradient_checkpointing` is deprecated and will be removed in v6. Use `activation_checkpointing` instead.",
        "`is_gradient_checkpointing` is deprecated and will be removed in v6.",
        "`gradient_checkpointing_kwargs` is deprecated and will be removed in v6.",
    ]
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with without_renames():
            for text in texts:
                warnings.warn(text, FutureWarning, stacklevel=1)
            warnings.warn(texts[0], UserWarning, stacklevel=1)
        warnings.warn(texts[0], FutureWarning, stacklevel=1)
    assert [(str(each.message), each.category) for each in shown] == [
        (texts[2], FutureWarning),
        (texts[0], UserWarning),
        (texts[0], FutureWarning),
    ]
