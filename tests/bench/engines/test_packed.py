import copy

import pytest
import torch
from tiny_families import make
from transformers import LlamaConfig, LlamaForCausalLM

from bench.engines.packed import PackedLinears, kernels_for

DTYPES = [
    torch.float32,
    pytest.param(
        torch.bfloat16,
        marks=pytest.mark.skipif(
            not torch.ops.mkldnn._is_mkldnn_bf16_supported(),
            reason="no bfloat16 kernels on this processor",
        ),
    ),
]


def model(dtype: torch.dtype, activation: str = "silu") -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=96,
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attention_bias=True,
        hidden_act=activation,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).to(dtype).eval().requires_grad_(False)


def logits(network: LlamaForCausalLM, rows: int, length: int) -> torch.Tensor:
    ids = torch.randint(0, 96, (rows, length), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return network(input_ids=ids, use_cache=False).logits


@pytest.mark.parametrize(("rows", "length"), [(1, 1), (16, 1), (3, 17), (64, 2)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_packed_layers_compute_the_same_logits_but_for_rounding(dtype: torch.dtype, rows: int, length: int) -> None:
    plain = model(dtype)
    packed = copy.deepcopy(plain)
    PackedLinears(packed)
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 5e-2, "atol": 5e-3}
    torch.testing.assert_close(logits(packed, rows, length), logits(plain, rows, length), **tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_number_of_threads_does_not_change_a_bit(dtype: torch.dtype) -> None:
    network = model(dtype)
    PackedLinears(network)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(logits(network, 13, 5))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_a_gated_mlp_is_fused_and_one_with_another_activation_keeps_its_own_forward_pass() -> None:
    def fused(activation: str) -> list[bool]:
        network = model(torch.float32, activation)
        expected = logits(copy.deepcopy(network), 3, 7)
        PackedLinears(network)
        torch.testing.assert_close(logits(network, 3, 7), expected, rtol=1e-4, atol=1e-5)
        return ["forward" in vars(layer.mlp) for layer in network.model.layers]

    assert fused("silu") == [True, True]
    assert fused("gelu") == [False, False]


@pytest.mark.parametrize("dtype", DTYPES)
def test_after_a_drop_new_weights_are_used(dtype: torch.dtype) -> None:
    network = model(dtype)
    linears = PackedLinears(network)
    before = logits(network, 2, 5)
    with torch.no_grad():
        network.model.layers[0].self_attn.q_proj.weight.mul_(2)
    linears.drop()
    after = logits(network, 2, 5)
    assert not torch.equal(after, before)
    torch.testing.assert_close(after, logits(moved(dtype), 2, 5), rtol=0, atol=0)


def moved(dtype: torch.dtype) -> LlamaForCausalLM:
    network = model(dtype)
    network.model.layers[0].self_attn.q_proj.weight.mul_(2)
    PackedLinears(network)
    return network


def test_the_kernels_are_a_rule_of_device_and_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernels_for("cpu", torch.float32, small=False) == "onednn-packed"
    assert kernels_for("cpu", torch.float32, small=True) == "torch"
    assert kernels_for("cuda:0", torch.float32, small=False) == "torch"
    assert kernels_for("cpu", torch.float16, small=False) == "torch"
    for native, kernels in ((True, "onednn-packed"), (False, "torch")):
        monkeypatch.setattr("bench.engines.packed.native_bfloat16", lambda native=native: native)
        assert kernels_for("cpu", torch.bfloat16, small=False) == kernels


@pytest.mark.parametrize("family", ["mamba", "zamba2", "kimi_linear", "gemma3n"])
def test_logits_of_models_that_use_weights_in_other_ways_stay(family):
    network = make(family)
    ids = torch.arange(3, 43)[None]
    with torch.inference_mode():
        expected = network(input_ids=ids, use_cache=False).logits
        packed = PackedLinears(network)
        found = network(input_ids=ids, use_cache=False).logits
    assert packed._packed
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-4)
