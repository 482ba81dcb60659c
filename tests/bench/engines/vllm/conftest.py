"""Fixtures for the tests of the vLLM engine. They run only in the environment of `tox -e vllm`."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

import bench.models

if importlib.util.find_spec("vllm") is None:
    collect_ignore_glob = ["test_*.py"]

TOKENIZER = Path(bench.models.__path__[0]) / "tiny_adder"
SIZES = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,  # vLLM's attention on a CPU has no kernel for the 24 of tiny-adder
    "max_position_embeddings": 64,
    "initializer_range": 0.3,  # large enough for answers to differ
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@pytest.fixture(scope="session")
def device():
    from vllm.platforms import current_platform

    return current_platform.device_type


def write_model(folder, kind, **more):
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **SIZES, **more)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    model.generation_config.eos_token_id = config.eos_token_id
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))  # norms and biases must differ from their defaults too
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def llama(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("llama"), "llama", tie_word_embeddings=True)


@pytest.fixture(scope="session")
def qwen(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("qwen"), "qwen2", tie_word_embeddings=False)


@pytest.fixture(scope="session")
def rows(tmp_path_factory):
    """Return a file of prompts on which the answers of a random model differ in reward."""
    file = tmp_path_factory.mktemp("data") / "rows.jsonl"
    rows = ({"prompt": f"{i}+{j}=", "answer": "^[0-4]", "check": "regex"} for i in range(10, 26) for j in range(10, 20))
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return file


@pytest.fixture
def fed(monkeypatch):
    """Return a function that calls another, and returns the tensors passed to vLLM's loader meanwhile, by name."""

    def loaded(engine, call):
        found = {}
        runner = engine._vllm.model_executor.driver_worker.worker.model_runner
        reload = runner.reload_weights

        def noted(weights_iterator):
            for name, tensor in weights_iterator:
                found[name] = tensor.clone()
                yield name, tensor

        with monkeypatch.context() as patched:
            patched.setattr(runner, "reload_weights", lambda weights_iterator: reload(noted(weights_iterator)))
            call()
        return found

    return loaded
