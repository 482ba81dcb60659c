"""Measured profiles against direct counts of the same models with real weights, and against hand-made formulas."""

import pytest
import torch
from tiny_families import VOCABULARY, WINDOW, configuration, make, make_multimodal
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import CONFIG_MAPPING, DynamicCache
from transformers.masking_utils import (
    and_masks,
    causal_mask_function,
    chunked_causal_mask_function,
    sliding_window_bidirectional_mask_function,
    sliding_window_causal_mask_function,
)

from bench.compute import measured
from bench.compute.flops import ModelShape, closed_form, compute_profile
from bench.compute.measured import measure
from bench.compute.patterns import LONGEST, Mask, Pattern
from bench.compute.scans import Foreign
from bench.errors import UsageError

CLOSED = ["llama", "mistral", "qwen2", "qwen3", "gemma3"]
SCANS_FREE = ["olmo3", "gpt2", "diffllama", "llama4", "deepseek_v3", "qwen3_moe", "gemma4_moe", "gptj"]
"""One family of each kind without recurrences: windows, weights in no nn.Linear, two calls a layer, chunks, a latent
cache, experts, late layers, and attention outside the interface."""


@pytest.fixture(autouse=True)
def nothing_measured(monkeypatch):
    """Measure anew in each test."""
    monkeypatch.setattr(measured, "_MEASURED", {})


@pytest.mark.parametrize("family", CLOSED)
def test_the_closed_form_is_what_the_probe_measures(family, monkeypatch):
    config = configuration(family)
    known = measure(config)
    monkeypatch.setattr(measured, "closed_form", lambda config: None)
    assert measure(config) == known
    assert known.profile == ModelShape.from_config(config).profile() == compute_profile(config)
    assert known.foreign == {}


def squares(profile, context, new, kept):
    """Return the FLOPs of a call whose attention computes with all keys that its cache gives, masked or not."""
    total = profile.token * new + profile.head * kept + profile.context * (context + new)
    for layer in profile.layers:
        cached = context if layer.window is None else min(context, layer.window - 1)
        total += layer.pair * (kept if layer.late else new) * (cached + new)
    return total


@pytest.mark.parametrize("family", SCANS_FREE)
@torch.no_grad()
def test_profiles_agree_with_direct_counts(family):
    model = make(family, attn_implementation="eager", experts_implementation="eager")
    profile = measure(configuration(family)).profile
    cache, context = DynamicCache(config=model.config), 0
    for new, kept in ((WINDOW + 9, 1), (1, 1), (5, 5), (1, 1)):
        ids = torch.arange(new)[None] + 3
        with FlopCounterMode(display=False) as counter:
            model(ids, past_key_values=cache, logits_to_keep=kept)
        assert counter.get_total_flops() == squares(profile, context, new, kept)
        context += new


def linear(model, *without):
    """Return the FLOPs per token of a model's linear layers, shared weights once, without those of some names."""
    named = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    weights = {id(m.weight): m.weight for name, m in named if not any(part in name for part in without)}
    return 2 * sum(each.numel() for each in weights.values())


def test_scans_count_by_their_definition():
    model, found = make("mamba"), measure(configuration("mamba"))
    inner, states, kernel, rank = 128, 16, 4, 4
    # The weights of dt_proj are used without a call of the layer.
    each = Foreign(products=2 * inner * kernel + 2 * inner * rank, states=4 * inner * states)
    assert found.foreign == {f"layers.{index}.mixer": each for index in range(4)}
    assert found.profile.token == linear(model, "lm_head", "dt_proj") + 4 * (each.products + each.states)
    assert found.profile.head == 2 * 64 * VOCABULARY
    assert (found.profile.layers, found.calls) == ((), ())
    assert found.mixers >= {"causal_conv1d_fn", "mamba_selective_scan"}


@pytest.mark.slow
def test_a_delta_rule_and_attention_alternate():
    model, found = make("qwen3_5"), measure(configuration("qwen3_5"))
    # Four value heads of a state [16, 16]; the convolution is over queries and keys of two heads, and values.
    each = Foreign(products=2 * 4 * (2 * 2 * 16 + 4 * 16), states=6 * 4 * 16 * 16)
    assert found.foreign == {f"layers.{index}.linear_attn": each for index in range(3)}
    assert found.profile.token == linear(model, "lm_head") + 3 * (each.products + each.states)
    assert [(layer.layer, layer.window) for layer in found.profile.layers] == [(3, None)]


@pytest.mark.slow
def test_recurrences_within_a_modules_own_forward_count():
    found = measure(configuration("minimax"))
    assert found.foreign["layers.1.self_attn"] == Foreign(states=4 * 4 * 16**2)
    assert "layers.0.self_attn" not in found.foreign
    assert found.mixers == {"MiniMaxLightningAttention"}
    griffin = measure(configuration("recurrent_gemma"))
    assert griffin.foreign["layers.0.temporal_block"] == Foreign(products=2 * (64 * 4 + 2 * 4 * 16 * 16))
    assert griffin.profile.layers[0].window == WINDOW


def test_a_convolution_counts_its_kernel():
    found = measure(configuration("lfm2"))
    assert found.foreign == {f"layers.{index}.conv": Foreign(products=2 * 64 * 3) for index in (0, 2)}


def test_shared_blocks_count_each_time_they_run():
    model, found = make("zamba2"), measure(configuration("zamba2"))
    foreign = sum(each.products + each.states for each in found.foreign.values())
    assert found.profile.token > linear(model, "lm_head") + foreign
    assert [(layer.layer, layer.pair) for layer in found.profile.layers] == [(2, 512), (5, 512)]


def test_routed_experts_and_their_router_are_foreign():
    found = measure(configuration("qwen3_moe"))
    router, experts = Foreign(products=2 * 64 * 8), Foreign(products=2 * (2 * 3 * 64 * 48))
    expected = [{f"layers.{i}.mlp.gate": router, f"layers.{i}.mlp.experts": experts} for i in range(4)]
    assert found.foreign == {name: each for layer in expected for name, each in layer.items()}


def test_calls_name_what_they_pass():
    sinks = measure(configuration("gpt_oss")).calls
    assert [call.pattern for call in sinks] == [Pattern(WINDOW), Pattern()] * 2
    assert all("s_aux" in call.keywords for call in sinks)
    capped = measure(configuration("gemma2")).calls
    assert all("softcap" in call.keywords for call in capped)
    plain = measure(configuration("llama"))
    assert [(call.layer, call.layer_idx, call.kv_heads) for call in plain.calls] == [(i, i, 2) for i in range(4)]
    assert plain.cached_values == 2 * 4 * 2 * 16


def mask(function, length=4, **options):
    given = {"batch_size": 1, "q_length": length, "kv_length": length, "mask_function": function}
    return Mask(**given, **options)


@pytest.mark.parametrize("positions", [1, 512, 131072])
@pytest.mark.parametrize("window", [1, 2, 31, 4096, 200_000])
def test_windows_are_found_however_long_they_are(window, positions):
    sliding = mask(sliding_window_causal_mask_function(window), local_size=window)
    assert sliding.pattern(positions) == Pattern(window)
    chunked = mask(chunked_causal_mask_function(window, torch.zeros(1, dtype=torch.int)), local_size=window)
    assert chunked.pattern(positions) in (Pattern(window, chunked=True), Pattern(1))  # chunks of 1 are windows of 1
    assert (chunked.pattern(positions) == Pattern(1)) == (window == 1)
    assert mask(causal_mask_function).pattern(positions) == Pattern()
    if window < positions <= LONGEST:  # and without being named
        assert mask(sliding_window_causal_mask_function(window)).pattern(positions) == Pattern(window)


def every_second(batch, head, query, key):
    return (query - key) % 2 == 0


@pytest.mark.parametrize(
    "function",
    [
        and_masks(causal_mask_function, every_second),
        and_masks(sliding_window_causal_mask_function(40), every_second),
        sliding_window_bidirectional_mask_function(8),
    ],
)
def test_other_masks_are_refused(function):
    with pytest.raises(UsageError, match="neither causal nor a sliding window nor a chunk"):
        mask(function).pattern(512)


def test_a_closed_form_that_differs_is_refused_with_both_numbers(monkeypatch):
    config = configuration("llama")
    shape = ModelShape.from_config({**config.to_dict(), "intermediate_size": 256})
    monkeypatch.setattr(measured, "closed_form", lambda config: shape)
    with pytest.raises(UsageError, match=r"a prompt of 41 tokens costs [\d,]+ FLOPs, and its profile predicts [\d,]+"):
        measure(config)
    windowed = ModelShape.from_config(configuration("mistral"))
    monkeypatch.setattr(measured, "closed_form", lambda config: windowed)
    with pytest.raises(UsageError, match="its closed form says 0: 256 FLOPs, window 24"):
        measure(config)


def test_attention_outside_the_interface_is_refused_unless_it_is_known(monkeypatch):
    monkeypatch.setattr(measured, "ATTENDS_TO_ALL", ())
    with pytest.raises(UsageError, match="model_type is 'bloom': its FLOPs cannot be measured"):
        measure(configuration("bloom"))
    local = CONFIG_MAPPING["gpt_neo"](
        hidden_size=32, num_layers=2, num_heads=2, attention_types=[[["global", "local"], 1]]
    )
    with pytest.raises(UsageError, match=r"'gpt_neo': .* does not attend through transformers' attention interface"):
        measure(local)


def test_attention_to_chosen_blocks_is_refused():
    sizes = {"vocab_size": 99, "hidden_size": 32, "intermediate_size": 16, "num_attention_heads": 2, "head_dim": 16}
    kinds = {"num_hidden_layers": 1, "layer_types": ["minimax_m3_sparse"], "mlp_layer_types": ["dense"]}
    config = CONFIG_MAPPING["minimax_m3_vl_text"](**sizes, **kinds, num_key_value_heads=2, index_n_heads=2)
    with pytest.raises(UsageError, match="tensor block_indices, which may choose the positions"):
        measure(config)


def test_routing_by_data_is_refused():
    sizes = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 32}
    config = CONFIG_MAPPING["jetmoe"](**sizes, num_key_value_heads=2, kv_channels=8, num_local_experts=4)
    with pytest.raises(UsageError, match=r"does not run without values .* routing by data"):
        measure(config)


def test_code_that_fails_for_another_reason_is_refused_with_its_error():
    config = CONFIG_MAPPING["codegen"](vocab_size=99, n_embd=32, n_layer=2, n_head=4, n_positions=64, rotary_dim=4)
    with pytest.raises(UsageError, match=r"does not run on torch's meta device \(RuntimeError: ") as refused:
        measure(config)
    assert "routing" not in str(refused.value)


def test_a_model_that_mixes_tokens_in_an_unknown_way_is_refused():
    config = CONFIG_MAPPING["rwkv"](vocab_size=99, hidden_size=32, num_hidden_layers=2, context_length=64)
    with pytest.raises(UsageError, match=r"'rwkv': .* nor has a recurrence whose definition is known"):
        measure(config)


@pytest.mark.parametrize("family", CLOSED)
def test_rotary_frequencies_that_depend_on_positions_cost_nothing(family):
    config = configuration(family)
    dynamic = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    kinds = ["full_attention", "sliding_attention"]
    config.rope_parameters = dict.fromkeys(kinds, dynamic) if family == "gemma3" else dynamic
    assert measure(config) == measure(configuration(family))
    assert "dynamic" in str(config.rope_parameters)  # of the model itself


@pytest.mark.slow
def test_rotary_frequencies_of_a_nested_configuration_cost_nothing():
    config = make_multimodal("qwen2_5_vl").config
    model_class = type(make_multimodal("qwen2_5_vl"))
    known = measure(config, model_class)
    config.text_config.rope_parameters = {**config.text_config.rope_parameters, "rope_type": "dynamic", "factor": 2.0}
    assert measure(config, model_class) == known


def test_a_profile_needs_the_configuration_alone():
    config = configuration("gemma2")
    assert closed_form(config) is None
    assert compute_profile(config) == measure(config).profile
    assert compute_profile(config) is compute_profile(config.to_dict())
