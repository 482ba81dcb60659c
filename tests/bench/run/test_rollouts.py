"""Nothing in a checkpoint's folder but its weights and tokens changes what a model in training samples."""

import json
import shutil

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GPT2Config, GPT2LMHeadModel

from bench.models.source import resolve
from bench.run.rollouts import Sampler, with_positions, without_own_settings

PROMPTS = ["12+34=", "1+2="]

SAMPLING = {
    "bad_words_ids": [[5]],
    "begin_suppress_tokens": [5],
    "do_sample": False,
    "encoder_repetition_penalty": 1.5,
    "epsilon_cutoff": 0.3,
    "eta_cutoff": 0.3,
    "exponential_decay_length_penalty": [1, 3.0],
    "forced_bos_token_id": 5,
    "forced_eos_token_id": 5,
    "guidance_scale": 3.0,
    "max_length": 1,
    "max_time": 1e-9,
    "min_length": 12,
    "min_new_tokens": 4,
    "min_p": 0.9,
    "no_repeat_ngram_size": 1,
    "num_beams": 3,
    "prompt_lookup_num_tokens": 2,
    "renormalize_logits": True,
    "repetition_penalty": 1.5,
    "sequence_bias": [[[5], 9.0]],
    "stop_strings": ["1", "2"],
    "suppress_tokens": [4, 5, 6],
    "temperature": 9.0,
    "top_h": 0.2,
    "top_k": 1,
    "top_p": 0.01,
    "typical_p": 0.1,
    "use_cache": False,
    "watermarking_config": {"greenlist_ratio": 0.5, "bias": 9.0},
}
"""Fields of generation_config.json, each with a value that would change the answers or end with an error."""


@pytest.fixture(scope="module")
def path():
    return resolve("tiny-adder").prepare(lambda *_: None).path


def sampled(folder):
    """Return sampled ids, their log-probabilities, and whether the checkpoint asks for something of its own."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    sampler = Sampler(without_own_settings(model, pad_id=0), lambda prompt, ids: "length" if len(ids) == 4 else None)
    inputs = tokenizer(PROMPTS, return_tensors="pt", padding=True, padding_side="left", return_token_type_ids=False)
    torch.manual_seed(0)
    # top_k=0 as in both trainers, because 50 is the default of `generate`
    config = GenerationConfig(do_sample=True, max_new_tokens=4, temperature=2.0, top_p=1.0, top_k=0)
    model.train().generate(**inputs, generation_config=config)
    return [(r.answer, r.logprobs.tolist(), r.truncated) for r in sampler.rollouts]


@pytest.fixture(scope="module")
def plain(path):
    return sampled(path)


def edited(path, folder, file, **fields):
    copy = shutil.copytree(path, folder / "model")
    (copy / file).write_text(json.dumps(json.loads((copy / file).read_text()) | fields))
    return copy


@pytest.mark.parametrize("field", SAMPLING)
def test_no_field_of_the_generation_config_changes_what_is_sampled(path, plain, tmp_path, field):
    assert sampled(edited(path, tmp_path, "generation_config.json", **{field: SAMPLING[field]})) == plain


def test_no_dropout_of_the_configuration_acts_in_training_mode(path, plain, tmp_path):
    folder = edited(path, tmp_path, "config.json", attention_dropout=0.5)
    ids = torch.tensor([[1, 4, 5, 6]])
    noisy = AutoModelForCausalLM.from_pretrained(folder).train()
    assert not torch.equal(noisy(ids).logits, noisy(ids).logits)
    quiet = without_own_settings(noisy, 0)
    torch.testing.assert_close(quiet(ids).logits, AutoModelForCausalLM.from_pretrained(path)(ids).logits)
    assert sampled(folder) == plain


def test_dropout_is_found_however_a_model_writes_it():
    names = {"resid_pdrop": 0.5, "embd_pdrop": 0.5, "attn_pdrop": 0.5, "summary_first_dropout": 0.5}
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=16, n_positions=8, **names))
    model.part = nn.LSTM(4, 4, num_layers=2, dropout=0.5)
    model.own = nn.MultiheadAttention(4, 1, dropout=0.5)
    without_own_settings(model, 0)
    assert {getattr(model.config, name) for name in names} == {0.0}
    assert {module.p for module in model.modules() if isinstance(module, nn.Dropout)} == {0.0}
    assert model.part.dropout == model.own.dropout == 0.0


def test_ends_that_only_the_generation_config_names_are_kept(path, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(edited(path, tmp_path, "generation_config.json", eos_token_id=[2, 5]))
    assert without_own_settings(model, 0).generation_config.eos_token_id == [2, 5]


@torch.no_grad()
def test_padding_does_not_shift_learned_positions():
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_positions=16, n_embd=8, n_layer=1, n_head=2)).eval()
    ids, mask = torch.tensor([[0, 0, 5, 6, 7]]), torch.tensor([[0, 0, 1, 1, 1]])
    alone = model(ids[:, 2:]).logits
    assert not torch.allclose(model(ids, attention_mask=mask).logits[:, 2:], alone)
    with_positions(model)
    torch.testing.assert_close(model(ids, attention_mask=mask).logits[:, 2:], alone)


def test_models_that_attend_by_distances_are_left_as_they_are(path):
    model = with_positions(AutoModelForCausalLM.from_pretrained(path))
    assert not model._forward_pre_hooks


def test_an_answer_may_begin_with_given_tokens_which_count_as_its_own(path):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    seen = []

    def finish(prompt, ids):
        seen.append((prompt, tuple(ids)))
        return "length" if len(ids) == 4 else None

    sampler = Sampler(without_own_settings(model, pad_id=0), finish)
    prompts = [tokenizer.encode(text) for text in PROMPTS]
    prefixes = [[], tokenizer.encode("77", add_special_tokens=False)]
    rows = [[*prompt, *prefix] for prompt, prefix in zip(prompts, prefixes, strict=True)]
    inputs = tokenizer.pad({"input_ids": rows}, padding_side="left", return_tensors="pt")
    config = GenerationConfig(do_sample=False, max_new_tokens=4)
    model.generate(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        prefix_lengths=torch.tensor([0, 2]),
        generation_config=config,
    )
    whole, begun = sampler.rollouts
    assert [rollout.prompt for rollout in sampler.rollouts] == [tuple(prompt) for prompt in prompts]
    assert (whole.prefix, begun.prefix) == (0, 2)
    assert begun.answer[:2] == tuple(prefixes[1])
    assert len(whole.answer) == len(whole.logprobs)
    assert (len(begun.answer), len(begun.logprobs), len(begun.entropies)) == (4, 2, 2)
    assert begun.truncated  # after two sampled tokens
    assert (tuple(prompts[1]), (*prefixes[1], begun.answer[2])) in seen
