import pytest
import torch
from tiny_families import configuration
from transformers import AutoConfig, AutoModelForCausalLM

from bench.weights.layers import layer_kinds
from bench.weights.masks import LAYER_KINDS

SMALL = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 48,
    "max_position_embeddings": 32,
}
LLAMA = {**SMALL, "num_key_value_heads": 1}
MODELS = {
    "llama": LLAMA,
    "qwen3": {**LLAMA, "head_dim": 8},
    "gemma3_text": {**LLAMA, "head_dim": 8},
    "gpt_neox": SMALL,
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 48, "n_positions": 32},
    "opt": {**SMALL, "ffn_dim": 32, "word_embed_proj_dim": 16},
}


def kinds(family, **changes):
    return layer_kinds(AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **MODELS[family], **changes)))


@pytest.mark.parametrize("family", MODELS)
def test_every_parameter_has_a_kind_in_models_of_any_family(family):
    found = kinds(family, tie_word_embeddings=False)
    assert {"embedding", "attention", "norm", "head"} <= set(found.values()) <= set(LAYER_KINDS)
    for name, kind in found.items():
        assert kind == "norm" or not name.split(".")[-2].endswith(("norm", "ln_1", "ln_2", "ln_f"))


def test_the_module_that_owns_a_parameter_decides_before_those_around_it():
    found = kinds("qwen3", tie_word_embeddings=False)
    layer = {name.removeprefix("model.layers.1."): kind for name, kind in found.items() if ".1." in name}
    assert layer == {
        "self_attn.q_proj.weight": "attention",
        "self_attn.k_proj.weight": "attention",
        "self_attn.v_proj.weight": "attention",
        "self_attn.o_proj.weight": "attention",
        "self_attn.q_norm.weight": "norm",
        "self_attn.k_norm.weight": "norm",
        "mlp.gate_proj.weight": "mlp",
        "mlp.up_proj.weight": "mlp",
        "mlp.down_proj.weight": "mlp",
        "input_layernorm.weight": "norm",
        "post_attention_layernorm.weight": "norm",
    }
    assert found["lm_head.weight"] == "head"
    assert found["model.embed_tokens.weight"] == "embedding"


def test_a_tied_head_is_the_embedding():
    found = kinds("llama", tie_word_embeddings=True)
    assert [name for name, kind in found.items() if kind in ("embedding", "head")] == ["model.embed_tokens.weight"]
    assert found["model.embed_tokens.weight"] == "embedding"


def test_layers_without_a_module_of_their_own_are_other():
    found = kinds("opt", tie_word_embeddings=False)
    assert {name.split(".")[-2] for name, kind in found.items() if kind == "other"} == {"fc1", "fc2"}


@pytest.mark.parametrize(
    ("family", "kind", "parts"),
    [
        ("mixtral", "mlp", {"experts.gate_up_proj", "experts.down_proj", "gate.weight"}),
        ("gemma4_moe", "mlp", {"experts.gate_up_proj", "experts.down_proj", "router.scale", "proj.weight"}),
        ("jamba", "recurrence", {"mamba.A_log", "mamba.D", "conv1d.weight", "x_proj.weight"}),
        ("qwen3_next", "recurrence", {"linear_attn.A_log", "conv1d.weight", "in_proj_qkvz.weight"}),
        ("kimi_linear", "recurrence", {"forget_gate.A_log", "conv1d.weight"}),
        ("minimax", "recurrence", {"qkv_proj.weight", "output_gate.weight"}),
        ("recurrent_gemma", "recurrence", {"rg_lru.recurrent_param", "conv_1d.weight"}),
        ("recurrent_gemma", "attention", {"q_proj.weight"}),
        ("lfm2", "recurrence", {"conv.weight"}),
        ("gpt_oss", "attention", {"self_attn.sinks"}),
        ("gpt2", "embedding", {"wpe.weight", "wte.weight"}),
        ("gemma3n", "embedding", {"embed_tokens_per_layer.weight"}),
    ],
)
def test_experts_are_mlps_and_scans_are_recurrences(family, kind, parts):
    with torch.device("meta"):
        found = layer_kinds(AutoModelForCausalLM.from_config(configuration(family)))
    assert set(found.values()) <= set(LAYER_KINDS)
    for part in parts:
        kinds_of_part = {each for name, each in found.items() if name.endswith(f".{part}")}
        assert kinds_of_part == {kind}, part
