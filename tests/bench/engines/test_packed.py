import copy

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from bench.engines.packed import PackedLinears

packs = torch.ops.mkldnn._is_mkldnn_bf16_supported()


def model(dtype: torch.dtype) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=96,
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attention_bias=True,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).to(dtype).eval().requires_grad_(False)


def logits(network: LlamaForCausalLM, rows: int, length: int) -> torch.Tensor:
    ids = torch.randint(0, 96, (rows, length), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return network(input_ids=ids, use_cache=False).logits


@pytest.mark.parametrize(("rows", "length"), [(1, 1), (16, 1), (3, 17), (64, 2)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_packing_leaves_the_output_bit_identical(dtype: torch.dtype, rows: int, length: int) -> None:
    plain = model(dtype)
    packed = copy.deepcopy(plain)
    PackedLinears(packed)
    torch.testing.assert_close(logits(packed, rows, length), logits(plain, rows, length), rtol=0, atol=0)


def test_after_a_drop_new_weights_are_used() -> None:
    network = model(torch.bfloat16)
    linears = PackedLinears(network)
    before = logits(network, 2, 5)
    with torch.no_grad():
        network.model.layers[0].self_attn.q_proj.weight.mul_(2)
    linears.drop()
    after = logits(network, 2, 5)
    assert not torch.equal(after, before)
    torch.testing.assert_close(after, logits(moved(), 2, 5), rtol=0, atol=0)


def moved() -> LlamaForCausalLM:
    network = model(torch.bfloat16)
    network.model.layers[0].self_attn.q_proj.weight.mul_(2)
    return network


def test_only_bfloat16_is_packed_and_only_where_the_processor_has_kernels_for_it() -> None:
    def taken(network: nn.Module) -> int:
        PackedLinears(network)
        return sum("forward" in vars(module) for module in network.modules())

    assert taken(model(torch.float32)) == 0
    assert taken(model(torch.bfloat16)) == (15 if packs else 0)
