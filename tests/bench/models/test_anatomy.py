"""Kinds of layers, experts and parameters of models without weights."""

import pytest
from tiny_families import configuration

from bench.compute.flops import compute_profile
from bench.models.anatomy import active_parameters, experts, layers_by_kind, packed_parameters
from bench.models.multimodal import meta_model


def model(family):
    return meta_model(configuration(family))


@pytest.mark.parametrize(
    ("family", "kinds"),
    [
        ("olmo3", {"sliding window of 24": 2, "full attention": 2}),
        ("jamba", {"state space": 3, "full attention": 1}),
        ("minimax", {"full attention": 2, "linear attention": 2}),
        ("falcon", {"full attention": 4}),
        ("deepseek_v2", {"latent attention": 4}),
    ],
)
def test_layers_are_counted_by_what_mixes_tokens_in_them(family, kinds):
    assert layers_by_kind(model(family), compute_profile(configuration(family))) == kinds


@pytest.mark.parametrize(("family", "layers"), [("mixtral", 4), ("gemma4_moe", 4), ("jamba", 2), ("deepseek_v2", 3)])
def test_experts_that_a_token_is_not_sent_to_are_not_active(family, layers):
    found = model(family)
    assert experts(found) == {"2 of 8": layers}
    routed = sum(p.numel() for name, p in found.named_parameters() if ".experts." in name)
    assert active_parameters(found) == sum(p.numel() for p in found.parameters()) - routed * 6 // 8


def test_a_dense_model_has_no_experts():
    found = model("llama")
    assert experts(found) == {}
    assert active_parameters(found) == sum(p.numel() for p in found.parameters())


def test_a_tied_head_is_packed_and_an_embedding_is_not():
    tied, untied = model("gemma"), model("llama")
    matrices = {m: sum(p.numel() for p in m.parameters() if p.ndim == 2) for m in (tied, untied)}
    assert packed_parameters(tied) == matrices[tied]
    assert packed_parameters(untied) == matrices[untied] - untied.get_input_embeddings().weight.numel()
