"""FLOPs of complete steps of TRL's trainers, compared with PyTorch's own counter."""

import importlib

import pytest

from bench.compute.ledger import hardware_flops, model_flops

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def training(measurements):
    """Module of the measurement that prints these ratios."""
    return importlib.import_module("measurements.training")


PLAIN = {
    "grpo": {"rollout", "logprobs", "reference", "update"},
    "ppo": {"rollout", "reference", "value", "update"},
    "sft": {"update"},
}


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
        ("sft", "llama", "none", False),
        ("sft", "qwen2", "early stop", True),
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
    assert set(found.phases) == (expected - {"reference"} | {"logprobs"} if lora and method != "sft" else expected)
