"""Tiny models of the families of transformers, with random weights: each kind of layer of the family, and windows.

    model = make("gemma2")

The sizes are those of the smallest model that still has several heads, experts, states and chunks, so that a count or
a cache that confuses two of them is wrong.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    PreTrainedConfig,
    PreTrainedModel,
)

from bench.models.multimodal import text_model

VOCABULARY, WINDOW = 211, 24

_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_HEADS = {**_SIZES, "head_dim": 16}
_WINDOW = {"sliding_window": WINDOW}
_ALTERNATING = {"layer_types": ["sliding_attention", "full_attention"] * 2}
_SLIDING = {**_WINDOW, **_ALTERNATING}
_GEMMA = {**_HEADS, **_SLIDING, "query_pre_attn_scalar": 16}
_GEMMA_PER_LAYER = {**_HEADS, **_SLIDING, "vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 16}
_LINEAR = {"layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"]}
_DELTA = {
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
_LOCAL_EXPERTS = {"num_local_experts": 8, "num_experts_per_tok": 2}
_EXPERTS = {"moe_intermediate_size": 48, "num_experts": 8, "num_experts_per_tok": 2}
_SHARED_EXPERT = {**_EXPERTS, "shared_expert_intermediate_size": 64}
_ROUTED = {
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 48,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
}
_LATENT = {
    "kv_lora_rank": 24,
    "q_lora_rank": 32,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    "num_key_value_heads": 4,
}
_MAMBA = {
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_n_groups": 1,
    "mamba_d_state": 16,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_chunk_size": 32,
}
_GPT2 = {"vocab_size": VOCABULARY, "n_positions": 512, "n_embd": 64, "n_layer": 4, "n_head": 4}
_ENDS = {"bos_token_id": 1, "eos_token_id": 2}
_ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}
_MINIMAL = {name: _SIZES[name] for name in ("vocab_size", "hidden_size", "num_hidden_layers")} | _ENDS
_PADDED = {**_MINIMAL, "pad_token_id": 0}


def _without(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", _HEADS),
    "mistral": ("mistral", {**_HEADS, **_WINDOW}),
    "ministral": ("ministral", {**_HEADS, **_SLIDING}),
    "ministral3": ("ministral3", _HEADS),
    "qwen2": ("qwen2", {**_SIZES, **_SLIDING, "use_sliding_window": True}),
    "qwen3": ("qwen3", _HEADS),
    "qwen2_moe": ("qwen2_moe", {**_SIZES, **_SHARED_EXPERT, "decoder_sparse_step": 1}),
    "qwen3_moe": ("qwen3_moe", {**_HEADS, **_EXPERTS, "decoder_sparse_step": 1}),
    "qwen3_next": ("qwen3_next", {**_HEADS, **_DELTA, **_SHARED_EXPERT, **_LINEAR}),
    "qwen3_5": ("qwen3_5_text", {**_HEADS, **_DELTA, **_LINEAR}),
    "qwen3_5_moe": ("qwen3_5_moe_text", {**_HEADS, **_DELTA, **_SHARED_EXPERT, **_LINEAR}),
    "gemma": ("gemma", _HEADS),
    "gemma2": ("gemma2", _GEMMA),
    "gemma3": ("gemma3_text", _GEMMA),
    "gemma3n": (
        "gemma3n_text",
        {
            **_GEMMA_PER_LAYER,
            "intermediate_size": [128] * 4,
            "laurel_rank": 8,
            "num_kv_shared_layers": 2,
            "activation_sparsity_pattern": [0.5, 0.5, 0.0, 0.0],
        },
    ),
    "gemma4": ("gemma4_text", {**_GEMMA_PER_LAYER, "num_kv_shared_layers": 0}),
    "gemma4_moe": (
        "gemma4_text",
        {
            **_GEMMA_PER_LAYER,
            **_without(_EXPERTS, "num_experts_per_tok"),
            "num_kv_shared_layers": 2,
            "enable_moe_block": True,
            "top_k_experts": 2,
        },
    ),
    "vaultgemma": ("vaultgemma", _GEMMA),
    "phi": ("phi", _SIZES),
    "phi3": ("phi3", {**_SIZES, **_WINDOW}),
    "olmo": ("olmo", _SIZES),
    "olmo2": ("olmo2", _SIZES),
    "olmo3": ("olmo3", {**_SIZES, **_SLIDING}),
    "olmo_hybrid": ("olmo_hybrid", {**_SIZES, **_DELTA, **_LINEAR, "linear_num_key_heads": 4}),
    "smollm3": ("smollm3", {**_SIZES, "no_rope_layers": [1, 1, 1, 0]}),
    "granite": ("granite", _SIZES),
    "granitemoe": ("granitemoe", {**_SIZES, **_LOCAL_EXPERTS}),
    "granitemoehybrid": (
        "granitemoehybrid",
        {**_SIZES, **_MAMBA, **_LOCAL_EXPERTS, **_LINEAR, "shared_intermediate_size": 64},
    ),
    "starcoder2": ("starcoder2", {**_SIZES, **_WINDOW}),
    "stablelm": ("stablelm", _SIZES),
    "cohere": ("cohere", _SIZES),
    "cohere2": ("cohere2", {**_SIZES, **_SLIDING}),
    "gpt2": ("gpt2", {**_GPT2, **_ENDS}),
    "gpt_neox": ("gpt_neox", _SIZES),
    "gptj": ("gptj", {**_GPT2, **_ENDS, "rotary_dim": 8}),
    "opt": (
        "opt",
        {
            **_PADDED,
            "ffn_dim": 128,
            "max_position_embeddings": 512,
            "num_attention_heads": 4,
            "word_embed_proj_dim": 64,
        },
    ),
    "bloom": ("bloom", {**_without(_PADDED, "num_hidden_layers"), "n_layer": 4, "n_head": 4}),
    "falcon": (
        "falcon",
        {
            **_MINIMAL,
            "num_attention_heads": 4,
            "num_kv_heads": 2,
            "new_decoder_architecture": True,
            "max_position_embeddings": 512,
        },
    ),
    "falcon_alibi": (
        "falcon",
        {
            **_MINIMAL,
            "num_attention_heads": 4,
            "alibi": True,
            "multi_query": False,
            "new_decoder_architecture": False,
            "max_position_embeddings": 512,
        },
    ),
    "mixtral": ("mixtral", {**_HEADS, **_LOCAL_EXPERTS}),
    "gpt_oss": ("gpt_oss", {**_HEADS, **_SLIDING, **_LOCAL_EXPERTS, **_ROPE}),
    "deepseek_v2": ("deepseek_v2", {**_SIZES, **_LATENT, **_ROUTED, "topk_method": "greedy"}),
    "deepseek_v3": ("deepseek_v3", {**_SIZES, **_LATENT, **_ROUTED}),
    "glm": ("glm", _HEADS),
    "glm4": ("glm4", _HEADS),
    "glm4_moe": ("glm4_moe", {**_HEADS, **_ROUTED}),
    "exaone4": ("exaone4", {**_SIZES, **_WINDOW, "sliding_window_pattern": 4}),
    "ernie4_5": ("ernie4_5", _HEADS),
    "hunyuan_v1_dense": ("hunyuan_v1_dense", _HEADS),
    "lfm2": ("lfm2", {**_SIZES, "layer_types": ["conv", "full_attention"] * 2, "block_auto_adjust_ff_dim": False}),
    "lfm2_moe": (
        "lfm2_moe",
        {**_SIZES, **_EXPERTS, "num_dense_layers": 1, "layer_types": ["conv", "full_attention"] * 2},
    ),
    "mamba": ("mamba", {**_PADDED, "state_size": 16, "expand": 2, "conv_kernel": 4, "time_step_rank": 4}),
    "mamba2": (
        "mamba2",
        {
            **_PADDED,
            "state_size": 16,
            "expand": 2,
            "conv_kernel": 4,
            "num_heads": 8,
            "head_dim": 16,
            "n_groups": 1,
            "chunk_size": 32,
        },
    ),
    "falcon_h1": ("falcon_h1", {**_HEADS, **_MAMBA, "mamba_d_ssm": 128}),
    "bamba": ("bamba", {**_SIZES, **_MAMBA, "attn_layer_indices": [1, 3]}),
    "jamba": (
        "jamba",
        {
            **_SIZES,
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "attn_layer_period": 4,
            "attn_layer_offset": 2,
            "mamba_d_state": 16,
            "mamba_d_conv": 4,
            "mamba_expand": 2,
            "mamba_dt_rank": 4,
        },
    ),
    "zamba2": (
        "zamba2",
        {
            **_SIZES,
            "num_hidden_layers": 6,
            "num_key_value_heads": 4,
            "layers_block_type": ["linear_attention", "linear_attention", "hybrid"] * 2,
            "mamba_d_state": 16,
            "mamba_d_conv": 4,
            "mamba_expand": 2,
            "n_mamba_heads": 8,
            "mamba_ngroups": 1,
            "chunk_size": 32,
            "num_mem_blocks": 1,
            "adapter_rank": 8,
        },
    ),
    "recurrent_gemma": (
        "recurrent_gemma",
        {
            **_PADDED,
            "num_hidden_layers": 6,
            "intermediate_size": 128,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "lru_width": 64,
            "attention_window_size": WINDOW,
            "head_dim": 16,
        },
    ),
    "nemotron": ("nemotron", _HEADS),
    "nemotron_h": (
        "nemotron_h",
        {
            **_without(_HEADS, "num_hidden_layers"),
            "layers_block_type": ["linear_attention", "moe", "full_attention", "mlp"],
            "ssm_state_size": 16,
            "mamba_num_heads": 8,
            "mamba_head_dim": 16,
            "n_groups": 1,
            "conv_kernel": 4,
            "chunk_size": 32,
            "n_routed_experts": 8,
            "moe_intermediate_size": 48,
            "moe_shared_expert_intermediate_size": 48,
            "num_experts_per_tok": 2,
        },
    ),
    "seed_oss": ("seed_oss", _HEADS),
    "minimax": (
        "minimax",
        {**_HEADS, **_LOCAL_EXPERTS, "layer_types": ["full_attention", "linear_attention"] * 2, "block_size": 32},
    ),
    "arcee": ("arcee", _HEADS),
    "apertus": ("apertus", {**_SIZES, **_ROPE}),
    "helium": ("helium", _HEADS),
    "diffllama": ("diffllama", _HEADS),
    "kimi_linear": (
        "kimi_linear",
        {
            **_without(_SIZES, "max_position_embeddings"),
            **_LATENT,
            **_LINEAR,
            "q_lora_rank": None,
            "moe_intermediate_size": 48,
            "num_experts": 8,
            "num_experts_per_token": 2,
            "num_shared_experts": 1,
            "model_max_length": 512,
            "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"],
            "linear_head_dim": 16,
            "linear_num_heads": 4,
            "linear_conv_kernel_dim": 4,
        },
    ),
    "afmoe": (
        "afmoe",
        {
            **_HEADS,
            **_SLIDING,
            **_EXPERTS,
            "num_dense_layers": 1,
            "num_shared_experts": 1,
            "global_attn_every_n_layers": 2,
        },
    ),
    "dots1": ("dots1", {**_HEADS, **_ROUTED, **_WINDOW, "max_window_layers": 2}),
    "llama4": (
        "llama4_text",
        {
            **_HEADS,
            "intermediate_size_mlp": 128,
            "num_local_experts": 8,
            "num_experts_per_tok": 1,
            "interleave_moe_layer_step": 2,
            "attention_chunk_size": WINDOW,
            "moe_layers": [1, 3],
        },
    ),
}
"""Name of each family: its model type, and the values of its configuration."""


_TOWER: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
_QWEN_TOWER = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64}
_IMAGE = {"image_token_id": VOCABULARY - 1}


def _text(family: str) -> dict[str, Any]:
    model_type, values = FAMILIES[family]
    return {"model_type": model_type, **values}


MULTIMODAL: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2_5_vl": (
        "qwen2_5_vl",
        {
            "text_config": {**_SIZES, "rope_parameters": {**_ROPE["rope_parameters"], "mrope_section": [2, 3, 3]}},
            "vision_config": {**_QWEN_TOWER, "fullatt_block_indexes": [1]},
        },
    ),
    "smolvlm": ("smolvlm", {"text_config": _text("llama"), "vision_config": _TOWER, "scale_factor": 2, **_IMAGE}),
    "gemma3": ("gemma3", {"text_config": _text("gemma3"), "vision_config": _TOWER, "mm_tokens_per_image": 4}),
    "gemma4": (
        "gemma4",
        {
            "text_config": _text("gemma4"),
            "vision_config": {
                **_without(_TOWER, "image_size"),
                "num_key_value_heads": 2,
                "head_dim": 16,
                "patch_size": 4,
                "position_embedding_size": 64,
                "pooling_kernel_size": 2,
            },
            "audio_config": None,
            **_IMAGE,
        },
    ),
    "mistral3": (
        "mistral3",
        {"text_config": _text("mistral"), "vision_config": {"model_type": "pixtral", **_TOWER, "head_dim": 16}},
    ),
    "qwen3_5": (
        "qwen3_5",
        {"text_config": _text("qwen3_5"), "vision_config": {**_QWEN_TOWER, "num_position_embeddings": 16}},
    ),
    "qwen3_5_moe": (
        "qwen3_5_moe",
        {"text_config": _text("qwen3_5_moe"), "vision_config": {**_QWEN_TOWER, "num_position_embeddings": 16}},
    ),
    "llama4": (
        "llama4",
        {
            "text_config": _text("llama4"),
            "vision_config": {
                **_TOWER,
                "vision_output_dim": 32,
                "projector_input_dim": 32,
                "projector_output_dim": 32,
            },
        },
    ),
}
"""Multimodal models with the text model of a family and a small tower for images. Two have no name in `FAMILIES`."""


def configuration(family: str) -> PreTrainedConfig:
    """Return a family's tiny configuration: that of a text model, or else a multimodal one."""
    return _configuration(*(FAMILIES.get(family) or MULTIMODAL[family]))


def _configuration(model_type: str, values: dict[str, Any]) -> PreTrainedConfig:
    config: PreTrainedConfig = CONFIG_MAPPING[model_type](**copy.deepcopy(values))
    return config


def make(family: str, seed: int = 0, **options: Any) -> PreTrainedModel:
    """Return a family's tiny model with random weights, in float32, on the CPU.

    Matrices are drawn wide enough that texts vary, and differ between prompts: with transformers' own initial weights
    every answer repeats one token, and a wrong cache would go unnoticed.

    Args:
        family: A key of `FAMILIES`, or one that `MULTIMODAL` alone has, for the text model that `bench` opens.
        seed: Seed of the weights.
        options: Further arguments of transformers' `from_config`.
    """
    if family not in FAMILIES:
        return text_model(make_multimodal(family, seed, **options))[0]
    return _drawn(AutoModelForCausalLM, configuration(family), seed, **options)


def make_multimodal(name: str, seed: int = 0, **options: Any) -> PreTrainedModel:
    """Return the whole tiny model of a key of `MULTIMODAL`, with its tower. See `make`."""
    return _drawn(AutoModelForMultimodalLM, _configuration(*MULTIMODAL[name]), seed, **options)


def _drawn(auto: Any, config: PreTrainedConfig, seed: int, **options: Any) -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: PreTrainedModel = auto.from_config(config, dtype=torch.float32, **options)
        head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
        for name, weights in model.named_parameters():
            if weights.dim() < 2 or any(part in name for part in _KEPT):
                continue
            if weights is embedding.weight:
                tied = head is not None and head.weight is weights
                spread = 0.1 if tied else 1.0  # a wide embedding that is the head too repeats its input
            elif head is not None and weights is head.weight:
                spread = 3 / weights.shape[-1] ** 0.5
            else:
                spread = 1.5 / weights.shape[-1] ** 0.5
            weights.data.normal_(0, spread)
    return model.eval()


_KEPT = ("A_log", "altup", "conv", "dt_proj", "lambda", "norm", "per_layer", "recurrent_param", "rg_lru")
"""Parts of the names of parameters whose own initial values keep states finite."""
