import pytest
import torch
from tiny_families import make, make_multimodal
from torch import nn
from transformers import DynamicCache

from bench.compute.modules import cache_name, cached_tokens, find_decoder, foreign_cost, named_module
from bench.compute.scans import Foreign
from bench.errors import UsageError
from bench.run.adapters import with_adapters
from methods.interface import Lora


@pytest.mark.parametrize(("family", "tokens"), [("qwen3", 7), ("gemma3", 30), ("qwen3_next", 7), ("mamba2", 1)])
@torch.no_grad()
def test_a_cache_says_how_many_tokens_it_holds(family, tokens):
    model = make(family)
    cache = DynamicCache(config=model.config)
    assert cached_tokens(cache) == 0
    name = cache_name(model)
    assert name == cache_name(model.base_model) == ("cache_params" if family == "mamba2" else "past_key_values")
    model(torch.full((2, 30 if family == "gemma3" else 7), 5), **{name: cache}, use_cache=True)
    assert cached_tokens(cache) == tokens  # states alone do not count theirs


@pytest.mark.parametrize(("family", "name"), [("qwen2_5_vl", "model.language_model"), ("smolvlm", "model.text_model")])
def test_the_decoder_of_a_multimodal_model_is_that_of_text(family, name):
    model = make_multimodal(family)
    decoder, layers = find_decoder(model)
    assert decoder is model.get_submodule(name)
    assert layers is decoder.layers


def test_as_many_experts_as_layers_are_no_decoder_and_another_model_is_one():
    model = make("llama")
    model.model.layers[1].mlp.config = model.config
    model.model.layers[1].mlp.experts = nn.ModuleList(nn.Linear(2, 2) for _ in model.model.layers)
    model.model.beside = nn.ModuleList(nn.Linear(2, 2) for _ in model.model.layers)
    assert find_decoder(model) == (model.model, model.model.layers)
    with pytest.raises(UsageError, match="holds 2 decoders"):
        find_decoder(nn.ModuleList([model, make("qwen3")]))


def test_modules_are_found_below_adapters():
    model = make("mixtral")
    decoder, _ = find_decoder(model)
    experts = decoder.layers[1].mlp.experts
    adapted, _ = find_decoder(with_adapters(model, Lora(rank=2)))
    assert named_module(adapted, "layers.1.mlp.experts") is experts
    assert named_module(adapted, "") is adapted
    with pytest.raises(UsageError, match=r"no module layers\.1\.mlp\.kernel, which its configuration promises"):
        named_module(adapted, "layers.1.mlp.kernel")


class Router(nn.Module):
    """One matrix, which is multiplied with the module's input."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 4))


@pytest.mark.parametrize(("trained", "enters", "gradients"), [(True, True, 2), (True, False, 1), (False, True, 1)])
def test_a_product_has_a_gradient_for_each_factor_that_needs_one(trained, enters, gradients):
    router = Router().requires_grad_(trained)
    given = torch.zeros(5, 4, requires_grad=enters)
    output = given @ router.weight.T
    cost = foreign_cost(Foreign(products=24, states=10), router, (given,), output, tokens=5)
    assert cost.products == 5 * (12 + 5)
    assert cost.gradients == 5 * (gradients * 12 + 2 * 5)
    assert cost.output is output


def test_the_gradient_of_weights_counts_for_those_that_are_trained():
    router = Router()
    router.other = nn.Parameter(torch.ones(4, 6), requires_grad=False)
    given = torch.zeros(5, 4)
    cost = foreign_cost(Foreign(products=2 * 36), router, (given,), given @ router.weight.T, tokens=5)
    assert cost.gradients == 5 * 12  # 12 of the 36 weights


def test_a_product_of_two_activations_has_two_gradients():
    given = torch.zeros(5, 4, requires_grad=True)
    assert foreign_cost(Foreign(products=24), nn.Identity(), (given,), given * 1, tokens=5).gradients == 2 * 5 * 12


def test_a_single_product_that_was_stopped_has_not_run():
    given = torch.zeros(5, 4, requires_grad=True)
    assert foreign_cost(Foreign(products=24), Router(), (given,), None, tokens=5) == (0, 0, None)
    experts = nn.Module()
    experts.stack = nn.Parameter(torch.ones(2, 3, 4))
    assert foreign_cost(Foreign(products=24), experts, (given,), None, tokens=5) == (60, 0, None)
