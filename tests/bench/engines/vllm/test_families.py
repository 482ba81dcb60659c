"""Models whose tensors in the files are not those of the model, or which vLLM runs by the class of transformers."""

import pytest
import torch

from bench.engines.transformers import TransformersEngine
from bench.engines.vllm.engine import VllmEngine
from bench.errors import BenchError
from bench.models.tensors import as_filed, held
from bench.weights.checkpoint import write_checkpoint
from bench.weights.points import Point
from tests.bench.engines.vllm.conftest import write_model

EXPERTS = {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "moe_intermediate_size": 64}
MODELS = {"glm4_moe": {**EXPERTS, "first_k_dense_replace": 1}, "olmo3": {"sliding_window": 24}}
PROMPT = tuple(range(3, 16)) * 2


@pytest.fixture(scope="module", params=MODELS)
def folder(request, tmp_path_factory):
    more = {"tie_word_embeddings": False, **MODELS[request.param]}
    return write_model(tmp_path_factory.mktemp(request.param), request.param, **more)


@pytest.fixture(scope="module")
def engines(folder, device):
    return VllmEngine(folder, max_model_len=40, device=device), TransformersEngine(folder, device=device)


def agree(engine, theirs, place):
    """Return the largest difference of log-probabilities at a place, relative to the largest change from the base."""
    found = []
    for each in (Point(), place):
        engine.move_to(each)
        theirs.move_to(each)
        ids = torch.tensor([PROMPT], device=theirs._model.device)
        with torch.inference_mode():
            logits = theirs._model(ids, use_cache=False).logits[0, :-1].log_softmax(-1)
        expected = logits.gather(-1, ids[0, 1:, None])[:, 0].cpu()
        found.append((torch.tensor(engine._logprobs(PROMPT)), expected))
    (_, before), (ours, expected) = found
    assert (expected - before).abs().max() > 1e-2
    return float((ours - expected).abs().max() / (expected - before).abs().max())


def test_the_loader_receives_the_tensors_of_the_transformers_engine_as_files_have_them(engines, fed):
    engine, theirs = engines
    assert engine.digest == theirs.digest
    theirs.move_to(place := Point({1: 0.05, 5: -0.03}))
    expected, found = as_filed(theirs._model, held(theirs._model)), fed(engine, lambda: engine.move_to(place))
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
    assert agree(engine, theirs, place) < 1e-3
    assert agree(engine, theirs, Point({1: 0.05, 5: -0.03}, "lowrank-2")) < 1e-3


def test_every_kind_of_tensor_of_vllm_is_updated(engines, tmp_path):
    engine, theirs = engines
    theirs.move_to(Point())
    base = {name: tensor.clone() for name, tensor in held(theirs._model).items()}
    last_layer = [name for name in base if ".layers.1." in name]
    for number, name in enumerate(last_layer):
        changed = base | {name: base[name] + 0.3 * torch.randn(base[name].shape, device=base[name].device)}
        assert agree(engine, theirs, write_checkpoint(tmp_path / str(number), changed)) < 0.02, name


def test_a_model_with_recurrent_states_is_refused(device, tmp_path):
    sizes = {"mamba_n_heads": 8, "mamba_d_head": 32, "mamba_d_state": 16, "mamba_d_ssm": 256}
    hybrid = write_model(tmp_path, "falcon_h1", **sizes)
    with pytest.raises(BenchError, match="some of its layers keep a state in place of keys and values"):
        VllmEngine(hybrid, max_model_len=40, device=device)
