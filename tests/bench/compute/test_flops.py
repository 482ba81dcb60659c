from dataclasses import replace

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.checkpoint import set_checkpoint_early_stop
from torch.utils.flop_counter import FlopCounterMode

from bench.compute.flops import (
    ModelShape,
    decode_flops,
    forward_flops,
    generation_flops,
    prefill_flops,
    training_flops,
)
from bench.errors import UsageError

SMALL = {"hidden_size": 256, "num_hidden_layers": 3, "intermediate_size": 1024, "num_attention_heads": 8}
MODELS = {
    "llama": {"model_type": "llama", **SMALL, "vocab_size": 512},
    "llama grouped, tied": {
        "model_type": "llama",
        **SMALL,
        "num_key_value_heads": 2,
        "vocab_size": 4096,
        "tie_word_embeddings": True,
    },
    "qwen2": {"model_type": "qwen2", **SMALL, "num_key_value_heads": 4, "vocab_size": 1024},
    "qwen2 tied, half windowed": {
        "model_type": "qwen2",
        **SMALL,
        "num_hidden_layers": 4,
        "num_key_value_heads": 1,
        "vocab_size": 2048,
        "tie_word_embeddings": True,
        "use_sliding_window": True,
        "sliding_window": 24,
        "max_window_layers": 2,
    },
    "qwen3": {"model_type": "qwen3", **SMALL, "head_dim": 48, "num_key_value_heads": 2, "vocab_size": 1024},
    "mistral": {"model_type": "mistral", **SMALL, "sliding_window": 20, "vocab_size": 1024},
    "gemma 3": {
        "model_type": "gemma3_text",
        **SMALL,
        "num_hidden_layers": 7,
        "head_dim": 64,
        "num_key_value_heads": 2,
        "vocab_size": 3000,
        "sliding_window": 16,
    },
    "gemma 3 untied": {
        "model_type": "gemma3_text",
        **SMALL,
        "head_dim": 16,
        "vocab_size": 1000,
        "sliding_window": 30,
        "sliding_window_pattern": 2,
        "tie_word_embeddings": False,
    },
    "SmolLM2-135M": {
        "model_type": "llama",
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "intermediate_size": 1536,
        "vocab_size": 49152,
        "tie_word_embeddings": True,
    },
}
TINY = ModelShape(
    layers=2, hidden_size=4, heads=2, kv_heads=1, head_dim=3, intermediate_size=5, vocab_size=7, tied=True
)


def build(config):
    """Return the model of a configuration on the meta device, with eager attention, which the counter sees."""
    values = dict(config)
    parsed = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
    with torch.device("meta"):
        return transformers.AutoModelForCausalLM.from_config(parsed, attn_implementation="eager")


@pytest.fixture(scope="module", params=MODELS, ids=lambda name: name.replace(" ", "-"))
def case(request):
    config = MODELS[request.param]
    return build(config), ModelShape.from_config(config)


def tokens(length):
    ids = torch.zeros(1, length, dtype=torch.long, device="meta")
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def count(work):
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def masked(shape, length):
    """Return the FLOPs of masked attention that the counter includes in one eager forward pass."""
    return 4 * shape.heads * shape.head_dim * (shape.layers * length**2 - shape.profile().attended(0, length))


def backward(model, length):
    model(**tokens(length), labels=tokens(length)["input_ids"], use_cache=False).loss.backward()


def test_parameter_counts_are_those_of_the_model(case):
    model, shape = case
    linear = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear))
    matrices = sum(p.numel() for p in model.parameters() if p.dim() == 2)
    assert shape.matmul_parameters == linear
    assert shape.matrix_parameters == matrices
    assert shape.tied == (model.lm_head.weight is model.get_input_embeddings().weight)


def test_short_sequences_agree_with_the_counter_within_one_percent(case):
    model, shape = case
    length = 12
    counted = count(lambda: model(**tokens(length), use_cache=False))
    assert prefill_flops(shape.profile(), length) == pytest.approx(counted, rel=0.01)
    counted = count(lambda: backward(model, length))
    assert training_flops(shape.profile(), length) == pytest.approx(counted, rel=0.01)


def test_long_prefill_agrees_with_the_counter_except_for_masked_attention(case):
    model, shape = case
    length = 512
    counted = count(lambda: model(**tokens(length), use_cache=False))
    assert masked(shape, length) > 0.01 * counted
    assert prefill_flops(shape.profile(), length) == pytest.approx(counted - masked(shape, length), rel=1e-3)


def test_cached_decoding_agrees_with_the_counter(case):
    model, shape = case
    prompt, new = 40, 5
    cache = transformers.DynamicCache(config=model.config)
    model(**tokens(prompt), past_key_values=cache)

    def decode():
        for _ in range(new):
            model(tokens(1)["input_ids"], past_key_values=cache)

    assert decode_flops(shape.profile(), prompt, new) == pytest.approx(count(decode), rel=1e-3)


def test_generation_agrees_with_the_counter(case):
    model, shape = case
    prompt, new = 40, 5

    def answer():
        cache = transformers.DynamicCache(config=model.config)
        model(**tokens(prompt), past_key_values=cache, logits_to_keep=1)
        for _ in range(new - 1):
            model(tokens(1)["input_ids"], past_key_values=cache)

    counted = count(answer) - masked(shape, prompt)
    assert generation_flops(shape.profile(), prompt, new) == pytest.approx(counted, rel=1e-3)


def test_training_agrees_with_the_counter_except_for_masked_attention(case):
    model, shape = case
    length = 128
    counted = count(lambda: backward(model, length))
    assert training_flops(shape.profile(), length) == pytest.approx(counted - 3 * masked(shape, length), rel=1e-3)


@pytest.mark.parametrize("name", ["llama", "qwen2", "gemma 3"])
def test_recompute_adds_a_forward_pass_and_checkpointing_adds_less(name):
    shape, model, length = ModelShape.from_config(MODELS[name]), build(MODELS[name]), 64
    model.train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    with set_checkpoint_early_stop(False):
        whole_layers = count(lambda: backward(model, length))
    stopped_early = count(lambda: backward(model, length))
    ours = training_flops(shape.profile(), length, recompute=True)
    head = 2 * shape.head_matmul_parameters * length
    assert ours == pytest.approx(whole_layers - 4 * masked(shape, length) + head, rel=1e-3)
    assert training_flops(shape.profile(), length) < stopped_early - 4 * masked(shape, length) < ours


def test_by_hand():
    # A layer: q 4*6, k 4*3, v 4*3, o 6*4, three MLP matrices of 4*5.
    assert TINY.layer_matmul_parameters == 24 + 12 + 12 + 24 + 60
    assert TINY.matmul_parameters == 2 * 132 + 28 == 292
    assert TINY.matrix_parameters == 292
    assert replace(TINY, tied=False).matrix_parameters == 320
    # Contexts 1, 2, 3 in two layers; 4 * 2 heads * head_dim 3 per position.
    assert prefill_flops(TINY.profile(), 3) == 2 * 292 * 3 + 24 * 2 * (1 + 2 + 3) == 2040
    assert decode_flops(TINY.profile(), 3, 2) == 2 * 292 * 2 + 24 * 2 * (4 + 5) == 1600
    # A prompt of 3 tokens and an answer of 2: four tokens pass the layers and two the head.
    assert generation_flops(TINY.profile(), 3, 2) == 2 * (264 * 4 + 28 * 2) + 24 * 2 * (1 + 2 + 3 + 4) == 2704
    assert training_flops(TINY.profile(), 3) == 6120
    assert training_flops(TINY.profile(), 3, recompute=True) == 8160
    windowed = replace(TINY, windows=(2, None))
    assert prefill_flops(windowed.profile(), 3) == 2 * 292 * 3 + 24 * ((1 + 2 + 2) + (1 + 2 + 3)) == 2016
    assert decode_flops(windowed.profile(), 3, 2) == 2 * 292 * 2 + 24 * ((2 + 2) + (4 + 5)) == 1480


def test_published_parameters():
    # 134,515,008 with the norms: two per layer and one at the end, each of width 576.
    shape = ModelShape.from_config(MODELS["SmolLM2-135M"])
    assert shape.matrix_parameters + 61 * 576 == 134_515_008


WINDOWS = st.lists(st.none() | st.integers(1, 40), min_size=1, max_size=5)
SHAPES = WINDOWS.map(lambda windows: replace(TINY, layers=len(windows), windows=tuple(windows)))
LENGTHS = st.integers(0, 80)


@given(SHAPES, LENGTHS, LENGTHS)
def test_attended_agrees_with_its_definition(shape, context, new):
    assert shape.profile().attended(context, new) == sum(
        position if window is None else min(position, window)
        for window in shape.windows
        for position in range(context + 1, context + new + 1)
    )


@given(SHAPES, LENGTHS, LENGTHS)
def test_decoding_token_by_token_costs_as_much_as_decoding_all_at_once(shape, context, new):
    steps = sum(decode_flops(shape.profile(), context + step, 1) for step in range(new))
    assert steps == decode_flops(shape.profile(), context, new)
    assert prefill_flops(shape.profile(), context + new) == prefill_flops(shape.profile(), context) + steps


@given(SHAPES, st.integers(1, 80), st.integers(1, 80))
def test_generation_needs_the_head_at_one_prompt_position(shape, prompt, new):
    spared = 2 * shape.head_matmul_parameters * (prompt - 1)
    whole = prefill_flops(shape.profile(), prompt) + decode_flops(shape.profile(), prompt, new - 1)
    assert generation_flops(shape.profile(), prompt, new) == whole - spared


@given(SHAPES, LENGTHS)
def test_prefill_is_decoding_without_a_cache(shape, length):
    assert prefill_flops(shape.profile(), length) == decode_flops(shape.profile(), 0, length)
    if not any(shape.windows):
        mean_context = (length + 1) / 2
        attention = 4 * shape.layers * shape.heads * shape.head_dim * mean_context * length
        assert prefill_flops(shape.profile(), length) == 2 * shape.matmul_parameters * length + attention


@given(SHAPES, LENGTHS, LENGTHS)
def test_more_tokens_or_context_cost_more(shape, context, new):
    here = decode_flops(shape.profile(), context, new)
    assert decode_flops(shape.profile(), context, new + 1) > here
    assert decode_flops(shape.profile(), context + 1, new) >= here
    without_windows = replace(shape, windows=())
    assert decode_flops(without_windows.profile(), context, new) >= here


COUNTS = st.fixed_dictionaries(dict.fromkeys(("tokens", "head_tokens", "attended"), st.integers(0, 10**12)))


@given(SHAPES, st.lists(COUNTS, max_size=5))
def test_flops_of_sums_are_sums_of_flops(shape, steps):
    sums = {name: sum(step[name] for step in steps) for name in ("tokens", "head_tokens", "attended")}
    assert forward_flops(shape.profile(), **sums) == sum(forward_flops(shape.profile(), **step) for step in steps)


@pytest.mark.parametrize("name", ["tokens", "head_tokens", "attended"])
def test_negative_counts_are_refused(name):
    with pytest.raises(ValueError, match=f"^{name} is -1"):
        forward_flops(TINY.profile(), **{"tokens": 2, "head_tokens": 2, "attended": 2, name: -1})
    with pytest.raises(ValueError, match="is -1"):
        TINY.profile().attended(-1, 2)


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3", "gemma3_text"])
def test_defaults_are_those_of_transformers(family):
    silent = ModelShape.from_config({"model_type": family})
    assert silent == ModelShape.from_config(transformers.AutoConfig.for_model(family))


@pytest.mark.parametrize("name", MODELS)
def test_object_and_dictionary_agree(name):
    assert ModelShape.from_config(build(MODELS[name]).config) == ModelShape.from_config(MODELS[name])


def test_windows_of_a_gemma():
    shape = ModelShape.from_config(MODELS["gemma 3"])
    assert shape.windows == (16, 16, 16, 16, 16, None, 16)
    listed = {
        **MODELS["gemma 3"],
        "layer_types": ["full_attention", "sliding_attention"] * 3 + ["full_attention"],
    }
    assert ModelShape.from_config(listed).windows == (None, 16) * 3 + (None,)


def test_multimodal_gemma_counts_its_text_model():
    text = {k: v for k, v in MODELS["gemma 3"].items() if k != "model_type"}
    config = transformers.Gemma3Config(text_config=text)
    assert ModelShape.from_config(config) == ModelShape.from_config(MODELS["gemma 3"])
    # The published 4B configuration leaves heads, head_dim and vocab_size to the defaults.
    sparse = {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", "hidden_size": 2560}}
    shape = ModelShape.from_config(sparse)
    assert (shape.heads, shape.kv_heads, shape.head_dim, shape.vocab_size) == (8, 4, 256, 262208)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (transformers.MixtralConfig(), "model_type is 'mixtral'.*llama, mistral, qwen2, qwen3"),
        (transformers.Qwen2MoeConfig(), "model_type is 'qwen2_moe'"),
        (transformers.GPT2Config(), "model_type is 'gpt2'"),
        ({"hidden_size": 8}, "model_type is None"),
        ({"model_type": "llama", "num_local_experts": 8}, "num_local_experts is 8"),
        ({"model_type": "qwen3", "layer_types": ["linear_attention"]}, "linear_attention"),
        ({"model_type": "gemma3_text", "layer_types": ["full_attention"]}, "layer_types has 1 entries"),
        ({"model_type": "gemma3_text", "use_bidirectional_attention": True}, "only causal"),
        ({"model_type": "llama", "hidden_size": None}, "hidden_size is None"),
        ({"model_type": "llama", "num_attention_heads": 0}, "num_attention_heads is 0"),
        ({"model_type": "llama", "intermediate_size": [8, 8]}, "intermediate_size is"),
        ({"model_type": "llama", "num_key_value_heads": 5}, "kv_heads is 5"),
    ],
)
def test_unsupported_configurations_are_refused(config, message):
    with pytest.raises(UsageError, match=message):
        ModelShape.from_config(config)


def test_windows_have_one_entry_per_layer():
    with pytest.raises(UsageError, match="windows has 1 entries"):
        replace(TINY, windows=(4,))
    with pytest.raises(UsageError, match="windows is 0"):
        replace(TINY, windows=(0, None))
