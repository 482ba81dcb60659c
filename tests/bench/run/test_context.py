import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_families import make
from transformers import AutoModelForCausalLM

import bench.models
from bench.engines.transformers import TransformersEngine
from bench.models.tensors import held
from bench.run.context import DeploymentContext
from bench.weights.checkpoint import FILE, open_checkpoint, write_checkpoint

TOKENIZER = Path(bench.models.__path__[0]) / "tiny_adder"


@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_a_trained_model_is_saved_as_transformers_opens_it(family, tmp_path):
    make(family).save_pretrained(tmp_path / "base")
    for file in TOKENIZER.glob("*token*.json"):
        shutil.copy(file, tmp_path / "base")
    engine = TransformersEngine(str(tmp_path / "base"))
    trained = make(family, seed=1)
    checkpoint = write_checkpoint(tmp_path / "trained", held(trained))
    deployment = DeploymentContext(SimpleNamespace(engine=engine), [], None)
    deployment.save_checkpoint(checkpoint, tmp_path / "saved")
    opened = held(AutoModelForCausalLM.from_pretrained(tmp_path / "saved"))
    assert all(torch.equal(opened[name], tensor) for name, tensor in held(trained).items())
    assert open_checkpoint(tmp_path / "saved") == checkpoint
    assert deployment.weights({checkpoint})[0] == checkpoint.digest
    # Both folders hold one file where its form is the same, and so take the disk's space once.
    assert (tmp_path / "saved" / FILE).samefile(tmp_path / "trained" / FILE) == (family == "llama")
