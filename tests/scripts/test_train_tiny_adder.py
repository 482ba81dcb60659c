from pathlib import Path

import pytest
import torch
import train_tiny_adder as train
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench.models.digest import digest
from bench.models.source import resolve
from tasks.addition import Addition, pretraining_pairs

PROMPT = [{"role": "user", "content": "12+34="}]


@pytest.fixture(scope="module")
def folder():
    return Path(resolve("tiny-adder").prepare().path)


@pytest.fixture(scope="module")
def model(folder):
    return AutoModelForCausalLM.from_pretrained(folder)


@pytest.fixture(scope="module")
def tokenizer(folder):
    return AutoTokenizer.from_pretrained(folder)


def test_the_shipped_model_solves_about_half(model, tokenizer):
    splits = Addition().load()
    assert 0.45 <= train.accuracy(model, tokenizer, splits.support[:250] + splits.select[:250]) <= 0.55


def test_the_shipped_model_is_small_and_tied(model, folder):
    assert sum(parameter.numel() for parameter in model.parameters()) == 333_984
    assert model.dtype == torch.float32
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) < 2_000_000


def test_the_chat_template_gives_the_bos_token_and_the_characters(tokenizer):
    ids = tokenizer.apply_chat_template(PROMPT, add_generation_prompt=True, tokenize=True, return_dict=False)
    assert tokenizer.convert_ids_to_tokens(ids) == ["<bos>", *"12+34="]
    assert tokenizer("12+34=").input_ids == ids


def test_special_tokens_are_all_different(tokenizer, model):
    ids = [tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id]
    assert ids == [0, 1, 2, 3]
    assert len(tokenizer) == 16
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id


def test_known_text_survives_decoding_and_other_characters_are_unknown(tokenizer):
    ids = tokenizer("0123456789+=", add_special_tokens=False).input_ids
    assert tokenizer.decode(ids) == "0123456789+="
    assert set(tokenizer("x \n€", add_special_tokens=False).input_ids) == {tokenizer.unk_token_id}
    assert tokenizer.decode([5, 6, tokenizer.eos_token_id], skip_special_tokens=True) == "12"


def test_the_shipped_tokenizer_is_the_one_that_the_script_builds(tokenizer):
    built = train.build_tokenizer()
    assert built.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    assert built.chat_template == tokenizer.chat_template


def test_training_gives_the_same_losses_and_weights_twice():
    threads = torch.get_num_threads()
    first, losses = train.train(steps=3)
    second, again = train.train(steps=3)
    assert losses == again
    assert losses[2] < losses[0]
    assert digest(dict(first.named_parameters())) == digest(dict(second.named_parameters()))
    assert torch.get_num_threads() == threads


def test_only_the_answer_and_its_end_token_have_labels():
    inputs, labels = train.training_set([(7, 5), (90, 12)])
    assert inputs.tolist()[0] == [1, *train.encode("7+5=12"), 2, 0, 0, 0]
    assert labels.tolist()[0] == [-100] * 5 + [*train.encode("12"), 2] + [-100] * 3
    assert inputs.tolist()[1] == [1, *train.encode("90+12=102"), 2]


def test_no_split_contains_a_training_pair():
    splits = Addition().load()
    held_out = {(e.fields["a"], e.fields["b"]) for part in (splits.support, splits.test) for e in part}
    assert not held_out & set(pretraining_pairs())


def test_a_saved_checkpoint_can_be_loaded(tmp_path):
    model = train.build_model()
    train.save(model, train.build_tokenizer(), tmp_path / "new")
    opened = AutoModelForCausalLM.from_pretrained(tmp_path / "new")
    assert digest(dict(opened.named_parameters())) == digest(dict(model.named_parameters()))
    assert not [path for path in (tmp_path / "new").iterdir() if path.is_dir()]
