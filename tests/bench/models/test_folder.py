"""Checks of a checkpoint folder by its files alone."""

import json

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
