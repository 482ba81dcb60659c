import pytest
import torch
from tiny_families import make

from bench.models.tensors import held
from bench.run.adapters import adapter_products, merged, with_adapters
from methods.interface import Lora

TARGETS = {
    "llama": {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
    "llama4": {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
    "mamba": {"in_proj"},
    "jamba": {"in_proj", "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
    "zamba2": {"in_proj", "linear"},
}


def adapted(model):
    """Return the names of a model's modules that have an adapter."""
    return {
        name.removeprefix("base_model.model.") for name, module in model.named_modules() if hasattr(module, "lora_A")
    }


def test_every_linear_layer_but_the_head_has_an_adapter():
    model = make("qwen3")
    linear = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    assert adapted(with_adapters(model, Lora(rank=2))) == linear - {"lm_head"}


@pytest.mark.parametrize("family", ["qwen3", "gpt2", "afmoe"])
def test_merged_tensors_are_those_of_the_merged_model_and_the_model_stays_as_it_was(family):
    model = make(family)
    trained = with_adapters(model, Lora(rank=2))
    for name, parameter in trained.named_parameters():
        if ".lora_" in name:
            torch.nn.init.normal_(parameter)
    before = {name: tensor.clone() for name, tensor in held(model).items()}
    found = merged(model)
    assert all(torch.equal(held(model)[name], tensor) for name, tensor in before.items())
    expected = held(trained.merge_and_unload())
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
    assert merged(model).keys() == expected.keys()  # a model without adapters


def test_dense_layers_beside_experts_have_adapters_and_experts_have_none():
    names = adapted(with_adapters(make("afmoe"), Lora(rank=2)))
    assert {"model.layers.0.mlp.gate_proj", "model.layers.1.mlp.shared_experts.up_proj"} <= names
    assert "model.layers.1.self_attn.gate_proj" in names
    assert not any(name.endswith("experts") for name in names)


@pytest.mark.parametrize(
    ("family", "left_out"),
    [("mamba2", "backbone.layers.0.mixer.out_proj"), ("llama4", "model.layers.1.feed_forward.router")],
)
def test_layers_that_an_adapter_would_break_have_none(family, left_out):
    model = make(family)
    assert isinstance(model.get_submodule(left_out), torch.nn.Linear)
    assert left_out not in adapted(with_adapters(model, Lora(rank=2)))


def test_a_layer_whose_name_only_ends_like_one_that_a_scan_reads_has_an_adapter():
    model = make("mamba2")
    mixer = model.backbone.layers[0].mixer
    mixer.layout_proj = torch.nn.Linear(4, 4)
    names = adapted(with_adapters(model, Lora(rank=2)))
    assert "backbone.layers.0.mixer.layout_proj" in names
    assert "backbone.layers.0.mixer.out_proj" not in names


def test_a_model_without_plain_linear_layers_has_adapters_on_its_own():
    assert "transformer.h.0.mlp.dense_h_to_4h" in adapted(with_adapters(make("falcon"), Lora(rank=2)))


def test_adapters_add_the_products_of_their_factors():
    model = make("qwen3")
    ranks = sum(m.in_features + m.out_features for m in model.model.modules() if isinstance(m, torch.nn.Linear))
    assert adapter_products(model) == 0
    assert adapter_products(with_adapters(model, Lora(rank=3))) == 3 * ranks


@pytest.mark.parametrize("family", TARGETS)
@torch.no_grad()
def test_an_adapted_model_computes_what_the_merged_one_does(family):
    base = make(family)
    model = with_adapters(make(family), Lora(rank=2)).eval()
    trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in trained} == TARGETS[family]
    generator = torch.Generator().manual_seed(0)
    for each in trained.values():
        each.add_(0.1 * torch.randn(each.shape, generator=generator))
    tokens = torch.arange(3, 23)[None]
    before, found = (each(input_ids=tokens, use_cache=False).logits for each in (base, model))
    merged = model.merge_and_unload()(input_ids=tokens, use_cache=False).logits
    assert (found - before).abs().max() > 0.5
    torch.testing.assert_close(merged, found, rtol=1e-3, atol=1e-3)
