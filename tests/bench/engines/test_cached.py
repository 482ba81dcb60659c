"""Batches on the cache of transformers, and the rule that says which batch serves a model."""

import dataclasses

import pytest
import torch
from text_agreement import Words, save, text_agreement
from tiny_families import VOCABULARY, WINDOW, configuration, make
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig

from bench.compute.ledger import Work, hardware_flops
from bench.compute.measured import measure
from bench.compute.meter import Meter, OverBudget
from bench.engines import ragged
from bench.engines.batches import choose_batch, new_batch, serves_ragged
from bench.engines.cached import CachedBatch
from bench.engines.interface import Sampling
from bench.engines.local import max_positions
from bench.engines.transformers import TransformersEngine
from bench.errors import BenchError, UsageError

SERVES = {
    "llama": "ragged",
    "qwen3_moe": "ragged",
    "gemma3n": "ragged",  # late layers attend to the keys of earlier ones
    "stablelm": "ragged",  # hands no keyword arguments to its attention
    "gemma2": "cached",  # scores have a soft cap
    "gpt_oss": "cached",  # attention has sinks
    "llama4": "cached",  # attends within chunks
    "deepseek_v3": "cached",  # expands a latent cache
    "diffllama": "cached",  # attends twice in a layer
    "falcon_alibi": "cached",  # attends by itself
    "lfm2": "cached",  # has convolutions
    "falcon_h1": "cached",  # has a scan beside each attention
    "mamba": "cached",  # has no attention
    "recurrent_gemma": "equal-length",  # keeps its states in its modules
    "minimax": "equal-length",  # has a cache of its own kind
}


@pytest.mark.parametrize("family", SERVES)
def test_the_batch_follows_from_the_model(family):
    model = make(family)
    measured = measure(model.config, type(model))
    assert choose_batch(model, ragged=serves_ragged(measured)) == SERVES[family]
    assert (model.config._attn_implementation == "bench_ragged") == (SERVES[family] == "ragged")


@pytest.mark.parametrize(
    "changed",
    [
        {"late": True},
        {"keywords": frozenset({"s_aux"})},
        {"sliding_window": 7},
        {"pattern": (7, False)},
        {"pattern": (7, True), "sliding_window": 7},
        {"layer_idx": 0},
    ],
    ids=str,
)
def test_a_model_with_another_attention_is_not_served_by_the_ragged_batch(changed):
    measured = measure(configuration("llama"))
    assert serves_ragged(measured)
    pattern = measured.calls[1].pattern
    changed = {**changed, "pattern": type(pattern)(*changed.get("pattern", pattern))}
    calls = (measured.calls[0], dataclasses.replace(measured.calls[1], **changed), *measured.calls[2:])
    assert not serves_ragged(dataclasses.replace(measured, calls=calls))
    assert not serves_ragged(dataclasses.replace(measured, mixers=frozenset({"a scan"})))


@pytest.mark.parametrize("family", ["mistral", "gemma3"])
@pytest.mark.parametrize("window", [511, 512, 700])
def test_a_window_as_long_as_the_model_s_positions_is_served_by_the_ragged_batch(family, window):
    config = configuration(family)
    assert config.max_position_embeddings == 512
    config.sliding_window = window
    measured = measure(config)
    assert measured.calls[0].pattern.window == window
    assert serves_ragged(measured)


def test_a_model_whose_cache_is_wrong_is_refused(monkeypatch):
    model = make("gemma2")
    forward = model.forward

    def forgetful(input_ids, attention_mask=None, position_ids=None, past_key_values=None, **given):
        return forward(input_ids=input_ids, past_key_values=past_key_values, **given)  # every prompt begins at 0

    def wrong(input_ids, attention_mask=None, position_ids=None, past_key_values=None, **given):
        ids = input_ids if input_ids.shape[1] > 1 else input_ids + 1
        return forward(input_ids=ids % VOCABULARY, past_key_values=past_key_values, **given)

    monkeypatch.setattr(model, "forward", forgetful)
    assert choose_batch(model, ragged=False) == "equal-length"  # without padding it is right
    monkeypatch.setattr(model, "forward", wrong)
    with pytest.raises(UsageError, match=r"Gemma2ForCausalLM: the cache .* changes its logits"):
        choose_batch(model, ragged=False)


HALVES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_a_wrong_batch_is_found_whatever_the_dtype_of_the_weights(dtype, monkeypatch):
    model = make("llama").to(dtype)
    weights = {name: (each.data_ptr(), each.dtype) for name, each in model.state_dict().items()}
    attend = ragged._attend

    def doubled(module, query, *given, scaling=None, **options):
        return attend(module, query, *given, scaling=2 * query.shape[-1] ** -0.5, **options)

    monkeypatch.setattr(ragged, "_attend", doubled)
    assert choose_batch(model, ragged=True) == "cached"
    assert weights == {name: (each.data_ptr(), each.dtype) for name, each in model.state_dict().items()}

    model = make("bamba").to(dtype)
    forward = model.forward

    def unplaced(input_ids, attention_mask=None, past_key_values=None, use_cache=None, logits_to_keep=0):
        return forward(input_ids, attention_mask, past_key_values=past_key_values, logits_to_keep=logits_to_keep)

    assert choose_batch(model, ragged=False) == "cached"
    monkeypatch.setattr(model, "forward", unplaced)
    with pytest.raises(UsageError, match=r"BambaForCausalLM: the cache .* changes its logits"):
        choose_batch(model, ragged=False)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("family", ["gemma3", "gemma4_moe", "nemotron_h", "minimax", "recurrent_gemma"])
def test_half_precision_does_not_change_the_batch(family, dtype):
    expected = {"gemma3": "ragged", "minimax": "equal-length", "recurrent_gemma": "equal-length"}
    model = make(family).to(dtype)
    assert choose_batch(model, ragged=family == "gemma3") == expected.get(family, "cached")


@pytest.mark.parametrize("value", [0.0, torch.nan, torch.inf])
def test_a_model_whose_logits_are_equal_or_not_finite_is_served(value):
    model = make("olmo3")  # its head is a matrix of its own
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(value)
    assert choose_batch(model, ragged=True) == "ragged"


def test_a_cache_that_raises_is_refused_with_its_error(monkeypatch):
    model = make("gemma2")
    forward = model.forward

    def raising(input_ids, use_cache, **given):
        if use_cache:
            raise KeyError("past_key_values")
        return forward(input_ids, use_cache=False, **given)

    monkeypatch.setattr(model, "forward", raising)
    with pytest.raises(UsageError, match=r"the cache .* cannot be used \(KeyError: 'past_key_values'\)"):
        choose_batch(model, ragged=False)


@pytest.mark.parametrize(
    "family", ["gemma2", "llama4", "deepseek_v3", "falcon_alibi", "lfm2", "falcon_h1", "qwen3_next", "mamba", "bamba"]
)
@torch.inference_mode()
def test_logits_are_those_of_the_model_itself_whatever_enters_and_leaves(family):
    model = make(family)
    generator = torch.Generator().manual_seed(1)
    texts = torch.randint(3, VOCABULARY, (4, WINDOW + 40), generator=generator).tolist()
    known = [model(torch.tensor([text]), use_cache=False).logits[0] for text in texts]
    batch = CachedBatch(model, joins=True)
    rows, at = [], [WINDOW + 8, 2, 11, WINDOW + 30]

    def check(which, found):
        torch.testing.assert_close(found, torch.stack([known[i][at[i] - 1] for i in which]), rtol=1e-3, atol=1e-3)

    def enter(*which):
        check(which, batch.run(batch.enter([texts[i][: at[i]] for i in which], [at[i] for i in rows])))
        rows.extend(which)

    def step(count):
        for _ in range(count):
            running = batch.step([[texts[i][at[i]]] for i in rows], [at[i] for i in rows])
            for i in rows:
                at[i] += 1
            check(rows, batch.run(running))

    def leave(row):
        batch.move(len(rows) - 1, row)
        rows[row] = rows[-1]
        rows.pop()

    enter(0, 1)
    step(3)
    enter(2)
    step(2)
    leave(0)  # the longest: columns of padding go
    step(WINDOW)  # the others pass the window
    enter(3)
    step(2)
    leave(1)
    step(1)
    leave(1)
    step(1)
    leave(0)
    enter(0)
    step(1)


@torch.inference_mode()
def test_columns_that_are_padding_in_all_rows_go():
    model = make("gemma2")
    batch = CachedBatch(model, joins=True)
    batch.run(batch.enter([[5] * 40, [6] * 4], []))
    batch.move(1, 0)
    running = batch.step([[7]], [4])
    assert running.mask.tolist() == [[True] * 5]
    batch.run(running)
    assert [layer.keys.shape[2] for layer in batch._cache.layers] == [5] * 4
    assert [layer.get_seq_length() for layer in batch._cache.layers] == [5] * 4


@pytest.mark.parametrize("family", ["gemma2", "gptj"])
@torch.inference_mode()
def test_the_hardware_s_work_is_what_torch_counts(family):
    model = make(family, attn_implementation="eager")
    profile = measure(model.config, type(model)).profile
    batch = CachedBatch(model, joins=True)

    def check(running):
        with FlopCounterMode(display=False) as counter:
            batch.run(running)
        computed = Work(
            padded_tokens=running.computed,
            head_tokens=len(running.rows),
            padded_attended=batch.attended(running, profile),
            discarded_head_tokens=running.spare_heads,
        )
        assert counter.get_total_flops() == hardware_flops(profile, computed)

    check(batch.enter([[5] * (WINDOW + 6), [6] * 4], []))
    check(batch.step([[7], [8]], [WINDOW + 6, 4]))
    check(batch.enter([[5] * 3], [WINDOW + 7, 5]))
    check(batch.step([[7], [8], [9]], [WINDOW + 7, 5, 3]))


@torch.inference_mode()
def test_all_logits_are_the_hardware_s_work_where_a_model_cannot_leave_some_out(monkeypatch):
    model = make("gemma2")
    prompts = [[5] * 7, [6] * 4]
    expected = CachedBatch(model, joins=True)
    logits = expected.run(expected.enter(prompts, []))
    forward = model.forward

    def every(input_ids, attention_mask, position_ids, past_key_values, use_cache):
        return forward(input_ids, attention_mask, position_ids, past_key_values, use_cache=use_cache)

    monkeypatch.setattr(model, "forward", every)
    batch = CachedBatch(model, joins=True)
    running = batch.enter(prompts, [])
    assert running.spare_heads == 14 - 2
    torch.testing.assert_close(batch.run(running), logits)


def test_prompts_of_one_length_stay_together_and_rows_that_ended_are_the_hardware_s_work():
    batch = CachedBatch(make("recurrent_gemma"), joins=False)
    with torch.inference_mode():
        batch.run(batch.enter([[5, 6], [7, 8], [9, 5]], []))
        batch.move(2, 0)
        running = batch.step([[3], [4]], [2, 2])
        assert running.ids[:, 0].tolist() == [0, 4, 3]
        assert running.computed == 3
        assert running.spare_heads == 1
        assert len(batch.run(running)) == 2
        with pytest.raises(AssertionError, match="takes no sequence in"):
            batch.enter([[1, 2]], [3, 3])
        joining = new_batch("cached", make("minimax"), 2)
        running = joining.enter([[5, 6]], [])
        with pytest.raises(BenchError, match="cannot enter or leave MiniMaxCache"):
            joining.run(running)


@pytest.mark.parametrize("family", ["gpt_oss", "lfm2_moe", "recurrent_gemma"])
def test_texts_are_those_of_generate(family, tmp_path):
    agreement = text_agreement(family, tmp_path, batch_sizes=(3,))
    assert agreement.complete
    assert agreement.distinct > 30


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gemma4_moe", "kimi_linear", "mamba", "minimax", "qwen3_moe"])
def test_texts_are_those_of_generate_with_every_batch_size(family, tmp_path):
    agreement = text_agreement(family, tmp_path)
    assert agreement.complete
    assert agreement.distinct > 30


PROMPTS = [tuple(range(5, 5 + n)) for n in (4, 9, 4, 4, 12, 9)]
SAMPLING = Sampling(max_new_tokens=6)


@pytest.fixture(scope="module", params=["lfm2", "recurrent_gemma"])
def folder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param)
    save(make(request.param), path)
    return str(path)


def answers(engine, rules=()):
    meter = Meter(engine.profile)
    with meter.account("setup"):
        return engine.generate(PROMPTS, SAMPLING, meter, rules), meter.ledger["setup"]


def test_a_run_s_settings_name_the_batch_and_its_work_counts_no_padding(folder):
    engine = TransformersEngine(folder, batch_size=3)
    assert engine.settings["batch"] == ("equal-length" if "recurrent_gemma" in folder else "cached")
    rules = [Words(n) for n in (2, 6, 3, 6, 4, 1)]
    completions, work = answers(engine, rules)
    pairs = [(len(prompt), len(answer.token_ids)) for prompt, answer in zip(PROMPTS, completions, strict=True)]
    assert work.prefill_tokens == sum(prompt for prompt, _ in pairs)
    assert work.decode_tokens == sum(new - 1 for _, new in pairs)
    assert work.head_tokens == sum(new for _, new in pairs)
    assert work.attended == sum(engine.profile.attended(0, p + n - 1) for p, n in pairs)
    assert work.padded_tokens > work.prefill_tokens + work.decode_tokens
    assert work.padded_attended > work.attended
    assert (work.discarded_head_tokens > 0) == (engine.settings["batch"] == "equal-length")


def test_out_of_memory_halves_the_batch(folder, monkeypatch):
    engine = TransformersEngine(folder, batch_size=4)
    expected, _ = answers(engine)
    forward = engine._model.forward

    def limited(*, input_ids, **given):
        if len(input_ids) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(input_ids=input_ids, **given)

    monkeypatch.setattr(engine._model, "forward", limited)
    assert answers(engine)[0] == expected
    assert engine.settings["batch_size"] == 1


def test_nothing_runs_that_the_budget_does_not_cover(folder, monkeypatch):
    engine = TransformersEngine(folder, batch_size=3)
    total = Meter(engine.profile).flops(answers(engine)[1])
    computed = []
    forward = engine._model.forward
    monkeypatch.setattr(
        engine._model, "forward", lambda **given: (computed.append(given["input_ids"].numel()), forward(**given))[1]
    )
    for limit in (0, total // 3, total - 1):
        computed.clear()
        meter = Meter(engine.profile, limit)
        with meter.account("sample"), pytest.raises(OverBudget):
            engine.generate(PROMPTS, SAMPLING, meter)
        assert meter.spent <= limit
        assert sum(computed) == meter.ledger["sample"].padded_tokens


def test_a_model_is_used_up_to_the_length_at_which_its_rotary_embedding_changes_for_the_whole_batch():
    rope = {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8, "rope_type": "longrope", "rope_theta": 10000.0}
    sizes = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 4, "pad_token_id": 0}
    config = AutoConfig.for_model(
        "phi3",
        **sizes,
        max_position_embeddings=512,
        original_max_position_embeddings=64,
        rope_parameters={**rope, "original_max_position_embeddings": 64},
    )
    assert max_positions(config) == 64
    config.rope_parameters = {"rope_type": "default", "rope_theta": 10000.0}
    assert max_positions(config) == 512
    assert max_positions(configuration("gpt2")) == 512
    assert max_positions(configuration("mamba")) is None
