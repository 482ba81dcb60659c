"""The files and headers of a checkpoint's weights."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.errors import UsageError
from bench.models.headers import (
    differing_dtypes,
    file_headers,
    read_headers,
    stored_dtype,
    weight_files,
    weights_dtype,
)
from bench.models.source import resolve


def message(read, *given):
    with pytest.raises(UsageError) as caught:
        read(*given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_headers_are_the_names_dtypes_and_shapes_of_the_weights(copy):
    tensors = load_file(copy.folder / "model.safetensors")
    headers = read_headers(copy.folder)
    assert {name: header.shape for name, header in headers.items()} == {n: tuple(t.shape) for n, t in tensors.items()}
    assert {header.dtype for header in headers.values()} == {"F32"}


def test_shards_give_the_same_headers_as_one_file(copy):
    whole = read_headers(copy.folder)
    copy.shards()
    assert [file.name for file in weight_files(copy.folder)] == [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    parts = read_headers(copy.folder)
    assert {n: (h.dtype, h.shape) for n, h in parts.items()} == {n: (h.dtype, h.shape) for n, h in whole.items()}


@pytest.mark.parametrize("size", [0, 5, 100, -1000, -1])
def test_a_truncated_file_is_refused(copy, size):
    file = copy.folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    assert message(read_headers, copy.folder).startswith(f"{file}: ")
    assert message(read_headers, copy.folder).endswith("copy or download the file again")


def test_a_file_with_bytes_after_the_weights_is_refused(copy):
    file = copy.folder / "model.safetensors"
    file.write_bytes(file.read_bytes() + b"more")
    assert "its header describes" in message(read_headers, copy.folder)


@pytest.mark.parametrize(
    "entry",
    [
        '{"dtype": 5, "shape": [1], "data_offsets": [0, 4]}',
        '{"dtype": "F32", "shape": ["a"], "data_offsets": [0, 4]}',
        '{"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}',
        '{"dtype": "F32", "shape": [true], "data_offsets": [0, 4]}',
        '{"dtype": "F32", "shape": [1], "data_offsets": [0, Infinity]}',
        '{"dtype": "F32", "shape": [1], "data_offsets": [0]}',
        '{"dtype": "F32", "shape": [1], "data_offsets": [0, -4]}',
    ],
)
def test_an_entry_with_impossible_values_is_refused(tmp_path, entry):
    header = f'{{"a": {entry}}}'.encode()
    file = tmp_path / "model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    assert "header cannot be read" in message(file_headers, file)


@pytest.mark.parametrize("header", [b"[1]", b"{", b'{"a": 1}', b'{"a": {"dtype": "F32"}}', b"\xff\xfe", b"[" * 5000])
def test_a_damaged_header_is_refused(tmp_path, header):
    file = tmp_path / "model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    assert "header cannot be read" in message(file_headers, file)


def test_a_git_lfs_pointer_is_refused(copy):
    copy.write("model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1337\n")
    assert message(read_headers, copy.folder) == (
        f"{copy.folder / 'model.safetensors'}: a Git LFS pointer in place of the file; run `git lfs pull` in the folder"
    )


def test_an_index_that_names_a_missing_shard_is_refused(copy):
    copy.shards()
    (copy.folder / "model-00002-of-00002.safetensors").unlink()
    assert "names model-00002-of-00002.safetensors, and the folder has no such file" in message(
        weight_files, copy.folder
    )


@pytest.mark.parametrize(
    "name", ["../model-00002-of-00002.safetensors", "sub/a.safetensors", "/a.safetensors", "a.bin"]
)
def test_a_shard_outside_the_folder_is_refused(copy, name):
    copy.write("model.safetensors.index.json", json.dumps({"metadata": {}, "weight_map": {"a": name}}))
    (copy.folder / "model.safetensors").unlink()
    assert f'names "{name}"; expected the name of a *.safetensors file in the folder' in message(
        weight_files, copy.folder
    )


@pytest.mark.parametrize(
    "index",
    [
        "{",
        "[]",
        "{}",
        '{"weight_map": {"a": "model-00001-of-00002.safetensors"}}',
        '{"metadata": {}, "weight_map": {}}',
        '{"metadata": {}, "weight_map": {"a": 1}}',
        '{"metadata": {}, "weight_map": 1}',
        '{"weight_map":' * 100_000,
    ],
)
def test_an_unreadable_index_is_refused(copy, index):
    copy.shards()
    copy.write("model.safetensors.index.json", index)
    assert message(weight_files, copy.folder).startswith(f"{copy.folder / 'model.safetensors.index.json'}: ")


def test_a_tensor_in_two_shards_is_refused(copy):
    copy.shards()
    first, second = sorted(copy.folder.glob("*.safetensors"))
    save_file(load_file(second) | load_file(first), second)
    assert f"is also in {first.name}; remove one of the two" in message(read_headers, copy.folder)


def test_two_sets_of_weights_are_refused(copy):
    whole = (copy.folder / "model.safetensors").read_bytes()
    copy.shards()
    (copy.folder / "model.safetensors").write_bytes(whole)
    assert "remove those that are not meant" in message(weight_files, copy.folder)


def test_weights_under_another_name_are_refused(copy):
    (copy.folder / "model.safetensors").rename(copy.folder / "weights.safetensors")
    assert "weights.safetensors: expected weights in model.safetensors" in message(weight_files, copy.folder)


def test_a_part_of_a_distributed_checkpoint_is_refused(copy):
    shutil.copy(copy.folder / "model.safetensors", copy.folder / "shard-00000-model-00001-of-00001.safetensors")
    assert "distributed checkpoint" in message(weight_files, copy.folder)


def test_pickled_weights_alone_are_refused_and_beside_safetensors_ignored(copy):
    torch.save({}, copy.folder / "pytorch_model.bin")
    assert [file.name for file in weight_files(copy.folder)] == ["model.safetensors"]
    (copy.folder / "model.safetensors").unlink()
    torch.save({}, copy.folder / "training_args.bin")
    assert "pytorch_model.bin: weights in pickle files can run code and are not read" in message(
        weight_files, copy.folder
    )


@pytest.mark.parametrize("name", ["model.pt", "last.ckpt", "consolidated.00.pth"])
def test_pickled_weights_that_transformers_cannot_load_are_refused_too(copy, name):
    (copy.folder / "model.safetensors").rename(copy.folder / name)
    assert f"{name}: weights in pickle files can run code and are not read; save the model with" in message(
        weight_files, copy.folder
    )


@pytest.mark.slow
def test_the_command_in_the_message_converts_pickled_weights(copy, tmp_path):
    folder = copy.folder.rename(tmp_path / "it's mine")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    command = message(weight_files, folder).partition("the new folder: ")[2]
    subprocess.run(["bash", "-c", command.replace("python", sys.executable, 1)], check=True)
    converted = load_file(tmp_path / "it's mine-safetensors" / "model.safetensors")
    assert converted.keys() == weights.keys()
    assert all(torch.equal(converted[name], weights[name]) for name in weights)
    resolve(str(tmp_path / "it's mine-safetensors")).prepare()


def test_the_dtype_of_the_weights_is_that_of_most_values(tmp_path):
    tensors = {"norm": torch.zeros(4), "matrix": torch.zeros(4, 4, dtype=torch.bfloat16), "ids": torch.zeros(99).long()}
    save_file(tensors, tmp_path / "model.safetensors")
    assert weights_dtype(tmp_path) == "bfloat16"


@pytest.mark.parametrize(
    ("config", "dtype"),
    [
        ({"dtype": "bfloat16"}, "bfloat16"),
        ({"torch_dtype": "float16"}, "float16"),
        ({"dtype": "torch.float32"}, "float32"),
        ({"text_config": {"dtype": "bfloat16"}}, "bfloat16"),
    ],
)
def test_the_configuration_names_the_dtype(tmp_path, config, dtype):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert stored_dtype(tmp_path) == dtype


def test_without_a_name_the_tensors_tell(tmp_path):
    save_file({"a": torch.zeros(2, dtype=torch.bfloat16)}, tmp_path / "model.safetensors")
    assert stored_dtype(tmp_path) == "bfloat16"


def test_without_both_the_error_names_the_option(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    save_file({"a": torch.zeros(2).long()}, tmp_path / "model.safetensors")
    assert "set --dtype" in message(stored_dtype, tmp_path)


def test_where_weights_and_configuration_differ_a_sentence_names_both(copy):
    assert differing_dtypes(copy.folder) is None
    copy.edit("config.json", dtype="bfloat16")
    assert differing_dtypes(copy.folder) == "config.json names bfloat16, and the weights are stored in float32"
    copy.edit("config.json", dtype=None)
    assert differing_dtypes(copy.folder) is None
