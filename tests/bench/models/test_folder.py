"""Checks of a checkpoint folder by its files alone."""

import json
import os
import shutil

import pytest
import torch

from bench.errors import UsageError
from bench.models.folder import check_files

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1337\n"


def message(folder):
    with pytest.raises(UsageError) as caught:
        check_files(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_whole_folder_passes_in_one_file_or_in_shards(copy):
    check_files(copy.folder)
    copy.shards()
    check_files(copy.folder)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{}", "model_type is null"),
        ("[1]", "[1] is no JSON object"),
        ("{", "not valid JSON"),
        ('{"model_type": 1}', "model_type is 1"),
    ],
)
def test_an_empty_or_unreadable_config_is_refused(copy, text, reason):
    copy.write("config.json", text)
    assert f"config.json: {reason}" in message(copy.folder)


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "fp8", "compressed-tensors", "mxfp4"])
def test_a_quantised_folder_is_refused(copy, method):
    copy.edit("config.json", quantization_config={"quant_method": method})
    assert f'config.json: the model is quantised ("{method}")' in message(copy.folder)
    assert "use the original model" in message(copy.folder)


@pytest.mark.parametrize(
    ("dtype", "name"), [(torch.int8, "I8"), (torch.uint8, "U8"), (torch.int32, "I32"), (torch.float8_e4m3fn, "F8_E4M3")]
)
def test_quantised_tensors_are_refused_even_if_the_config_is_silent(copy, dtype, name):
    copy.weights(lambda t: t | {"model.layers.0.mlp.up_proj.weight": torch.zeros(256, 96).to(dtype)})
    assert f"up_proj.weight is stored as {name}, so the model is quantised" in message(copy.folder)


def test_masks_and_positions_of_old_checkpoints_are_no_quantisation(copy):
    copy.weights(lambda t: t | {"h.0.attn.bias": torch.ones(4, 4).bool(), "position_ids": torch.arange(4)})
    check_files(copy.folder)


def test_an_adapter_beside_base_weights_is_not_applied_in_silence(copy):
    copy.write("adapter_config.json", json.dumps({"peft_type": "LORA"}))
    assert "adapter_config.json: an adapter lies beside the weights of a model" in message(copy.folder)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json", "tokenizer_config.json"])
def test_a_git_lfs_pointer_is_refused_in_any_file(copy, name):
    copy.write(name, POINTER)
    assert message(copy.folder) == (
        f"{copy.folder / name}: a Git LFS pointer in place of the file; run `git lfs pull` in the folder"
    )


@pytest.mark.parametrize("name", ["generation_config.json", "tokenizer_config.json"])
def test_settings_that_cannot_be_read_are_refused_and_not_left_out(copy, name):
    copy.write(name, "[]")
    assert f"{name}: [] is no JSON object" in message(copy.folder)


def test_a_link_out_of_the_folder_is_refused_and_one_within_it_is_not(copy, tmp_path):
    file = copy.folder / "model.safetensors"
    file.rename(copy.folder / "stored")
    file.symlink_to("stored")
    check_files(copy.folder)
    file.unlink()
    (copy.folder / "stored").rename(tmp_path / "stored")
    file.symlink_to(tmp_path / "stored")
    assert message(copy.folder) == (
        f"{file}: a link to {tmp_path / 'stored'}, outside the folder; copy the file into the folder in its place"
    )


def test_a_folder_of_templates_that_is_a_link_is_refused(copy, tmp_path):
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "default.jinja").write_text("{{ messages }}")
    (copy.folder / "additional_chat_templates").symlink_to(tmp_path / "templates")
    assert "default.jinja: a link to" in message(copy.folder)


def test_a_link_to_nothing_is_refused(copy):
    (copy.folder / "vocab.txt").symlink_to("gone")
    assert (
        message(copy.folder)
        == f"{copy.folder / 'vocab.txt'}: a link to gone, which does not exist; copy the file there"
    )


@pytest.mark.parametrize("shared", [False, True])
def test_the_links_of_the_hub_s_cache_are_allowed(copy, tmp_path, shared):
    repository = tmp_path / "hub" / "models--owner--name"
    snapshot = repository / "snapshots" / "0123"
    shutil.copytree(copy.folder, snapshot)
    blob = repository / "blobs" / "ab"
    blob.parent.mkdir()
    (snapshot / "model.safetensors").rename(blob)
    if shared:  # one store for all repositories
        store = tmp_path / "hub" / "blobs" / "cd" / "ef"
        store.parent.mkdir(parents=True)
        blob.rename(store)
        blob.symlink_to(store)
    (snapshot / "model.safetensors").symlink_to("../../blobs/ab")
    check_files(snapshot)
    (snapshot / "vocab.txt").symlink_to(copy.folder / "config.json")
    assert "outside the folder" in message(snapshot)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "chat_template.jinja", "notes.txt"])
def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(copy, name):
    (copy.folder / name).unlink(missing_ok=True)
    os.mkfifo(copy.folder / name)
    assert f"{copy.folder / name}: a device, pipe or socket in place of a file" in message(copy.folder)


def test_a_device_in_place_of_the_weights_is_refused(copy):
    (copy.folder / "model.safetensors").unlink()
    (copy.folder / "model.safetensors").symlink_to("/dev/zero")
    assert "a device, pipe or socket in place of a file" in message(copy.folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "chat_template.jinja"])
def test_a_file_that_is_parsed_has_a_limit_of_size(copy, name):
    os.truncate(copy.folder / name, 200_000_001)
    assert f"{copy.folder / name}: has 200000001 bytes" in message(copy.folder)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"transformers_weights": "b.safetensors"}, 'transformers_weights is "b.safetensors", and names weights of'),
        ({"configuration_files": ["config.4.0.0.json"]}, "configuration_files is"),
        ({"attn_implementation": "owner/kernel"}, 'attn_implementation is "owner/kernel", code on the hub'),
        ({"text_config": {"_attn_implementation": "owner/kernel:f"}}, "_attn_implementation is"),
    ],
)
def test_a_configuration_that_names_other_files_or_code_is_refused(copy, fields, reason):
    copy.edit("config.json", **fields)
    assert f"{copy.folder / 'config.json'}: {reason}" in message(copy.folder)
    assert "remove the field" in message(copy.folder)


def test_a_tokenizer_s_settings_may_not_name_files_outside(copy, tmp_path):
    other = shutil.copy(copy.folder / "tokenizer.json", tmp_path / "tokenizer.4.0.0.json")
    copy.edit("tokenizer_config.json", fast_tokenizer_files=["../tokenizer.4.0.0.json"])
    assert 'fast_tokenizer_files has "../tokenizer.4.0.0.json"' in message(copy.folder)
    copy.edit("tokenizer_config.json", fast_tokenizer_files=None, vocab_file=str(other))
    assert "vocab_file is" in message(copy.folder)
    assert ", outside the folder; copy that file" in message(copy.folder)
    for harmless in (None, "/home/someone/tokenizer.json", str(copy.folder / "tokenizer.json"), "a\0b", "a" * 5000):
        copy.edit("tokenizer_config.json", vocab_file=harmless, tokenizer_file=harmless)
        check_files(copy.folder)
