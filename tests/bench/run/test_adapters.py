import pytest
import torch
from tiny_families import make

from bench.run.adapters import with_adapters
from methods.interface import Lora

TARGETS = {
    "llama": {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
    "llama4": {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
    "mamba": {"in_proj"},
    "jamba": {"in_proj", "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
    "zamba2": {"in_proj", "linear"},
}


@pytest.mark.parametrize("family", TARGETS)
@torch.no_grad()
def test_an_adapted_model_computes_what_the_merged_one_does(family):
    base = make(family)
    adapted = with_adapters(make(family), Lora(rank=2)).eval()
    trained = {name: each for name, each in adapted.named_parameters() if each.requires_grad}
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in trained} == TARGETS[family]
    generator = torch.Generator().manual_seed(0)
    for each in trained.values():
        each.add_(0.1 * torch.randn(each.shape, generator=generator))
    tokens = torch.arange(3, 23)[None]
    before, found = (model(input_ids=tokens, use_cache=False).logits for model in (base, adapted))
    merged = adapted.merge_and_unload()(input_ids=tokens, use_cache=False).logits
    assert (found - before).abs().max() > 0.5
    torch.testing.assert_close(merged, found, rtol=1e-3, atol=1e-3)


def test_experts_have_adapters_too():
    names = [name for name, _ in with_adapters(make("qwen3_moe"), Lora(rank=2)).named_parameters() if "lora_" in name]
    assert any("experts" in name for name in names)
