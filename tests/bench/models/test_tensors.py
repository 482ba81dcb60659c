import pytest
import torch
from tiny_families import configuration, make, make_multimodal
from transformers import AutoModelForCausalLM

from bench.compute.flops import closed_form
from bench.models.digest import digest
from bench.models.embedded import EMBEDDED
from bench.models.opening import open_model, save_model
from bench.models.tensors import (
    as_filed,
    deployed_dtypes,
    files_hold_tensors_of_model,
    held,
    movable,
    read_held,
)
from bench.weights.checkpoint import saved_digest
from bench.weights.layers import layout_of
from bench.weights.noise import PLAIN


def on_meta(family):
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(configuration(family))


@pytest.mark.parametrize("family", ["gemma2", "zamba2"])
def test_tied_heads_and_shared_blocks_have_one_name(family):
    model = on_meta(family)
    names, parameters = list(movable(model)), dict(model.named_parameters(remove_duplicate=False))
    assert len(names) < len(parameters)
    assert len({id(parameters[name]) for name in names}) == len(names) == len({*map(id, parameters.values())})


@pytest.mark.parametrize(("family", "part"), [("deepseek_v3", "e_score_correction_bias"), ("afmoe", "expert_bias")])
def test_what_transformers_does_not_train_is_held_and_does_not_move(family, part):
    model = on_meta(family)
    still = held(model).keys() - movable(model).keys()
    assert len(still) == 3
    assert all(name.endswith(part) for name in still)


def test_a_model_s_digest_covers_what_decides_its_answers_and_does_not_move():
    model = make("deepseek_v3")
    before = digest(held(model))
    model.model.layers[2].mlp.gate.e_score_correction_bias[3] += 1
    assert digest(held(model)) != before


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3", "gemma3"])
def test_weights_of_matrices_are_those_of_the_closed_form(family):
    shape = closed_form(configuration(family))
    assert shape is not None
    assert layout_of(on_meta(family)).noise_values(PLAIN) == shape.matrix_parameters


@pytest.mark.parametrize("family", ["llama", "mixtral", "nemotron_h"])
def test_tensors_come_back_from_the_form_that_files_have(family, tmp_path):
    model = make(family)
    model.save_pretrained(tmp_path)
    assert files_hold_tensors_of_model(tmp_path) == (family == "llama")
    found = read_held(tmp_path)
    assert found.keys() == held(model).keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in held(model).items())


def test_each_expert_has_its_own_tensors_in_the_files():
    model = make("mixtral")
    filed, experts = as_filed(model, held(model)), model.model.layers[1].mlp.experts
    assert torch.equal(filed["model.layers.1.block_sparse_moe.experts.7.w2.weight"], experts.down_proj[7])
    gate, up = experts.gate_up_proj[7].chunk(2)
    assert torch.equal(filed["model.layers.1.block_sparse_moe.experts.7.w1.weight"], gate)
    assert torch.equal(filed["model.layers.1.block_sparse_moe.experts.7.w3.weight"], up)


def test_a_text_model_within_a_multimodal_one_is_saved_and_read_with_its_dtypes(tmp_path):
    make_multimodal("qwen2_5_vl").save_pretrained(tmp_path / "whole")
    model = open_model(tmp_path / "whole", torch.bfloat16)
    assert deployed_dtypes(model, torch.bfloat16) == {name: tensor.dtype for name, tensor in held(model).items()}
    before = digest(held(model))
    for parameter in movable(model).values():
        parameter.mul_(1.5)
    save_model(model, tmp_path / "moved")
    assert not files_hold_tensors_of_model(tmp_path / "moved")
    assert digest(read_held(tmp_path / "moved")) == saved_digest(tmp_path / "moved") == digest(held(model)) != before


def test_the_embedded_model_is_filed_as_it_is():
    assert files_hold_tensors_of_model(EMBEDDED["tiny-adder"].folder)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_parts_that_transformers_keeps_in_float32_are_deployed_in_it(dtype, tmp_path):
    model = make("olmo_hybrid")
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype)
    found = deployed_dtypes(model, dtype)
    assert found == {name: tensor.dtype for name, tensor in held(loaded).items()}
    assert found["model.layers.0.linear_attn.A_log"] == torch.float32
    assert found["model.embed_tokens.weight"] == dtype
