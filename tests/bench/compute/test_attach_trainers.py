"""FLOPs of complete steps of TRL's trainers, compared with PyTorch's own counter."""

import importlib.util
import sys
from pathlib import Path

import pytest

from bench.compute.ledger import hardware_flops, model_flops

pytestmark = pytest.mark.slow

PATH = Path(__file__).parents[3] / "measurements" / "training.py"


@pytest.fixture(scope="module")
def training():
    """Module of the measurement that prints these ratios; it is not part of a package."""
    spec = importlib.util.spec_from_file_location("measurements.training", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


PLAIN = {"grpo": {"rollout", "logprobs", "reference", "update"}, "ppo": {"rollout", "reference", "value", "update"}}


@pytest.mark.parametrize(
    ("method", "family", "checkpointing", "lora"),
    [
        ("grpo", "llama", "none", False),
        ("grpo", "qwen2", "none", False),
        ("ppo", "llama", "none", False),
        ("ppo", "qwen2", "none", False),
        ("grpo", "qwen2", "early stop", False),
        ("ppo", "llama", "whole layers", False),
        ("grpo", "llama", "none", True),
        ("ppo", "qwen2", "early stop", True),
    ],
)
def test_the_flops_of_a_step_are_those_of_the_counter(training, tmp_path, method, family, checkpointing, lora):
    trainer = training.METHODS[method](family, tmp_path, training.CHECKPOINTING[checkpointing], lora)
    found = training.count(trainer)
    assert hardware_flops(found.profile, found.work) == found.counter - found.masked
    # Masked attention is a small part of such short steps.
    assert hardware_flops(found.profile, found.work) == pytest.approx(found.counter, rel=0.03)
    assert model_flops(found.profile, found.work) < hardware_flops(found.profile, found.work)
    expected = PLAIN[method] | ({"recompute"} if checkpointing != "none" else set())
    # With adapters the policy serves as its own reference.
    assert set(found.phases) == (expected - {"reference"} | {"logprobs"} if lora else expected)
