import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import UsageError
from bench.models.embedded import EMBEDDED, InWheel, Shipped
from bench.models.hub import HubModel
from bench.models.interface import ModelSource
from bench.models.local import Folder, GgufFile
from bench.models.source import DEFAULT_MODEL, resolve


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "my model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 8}))
    (folder / "model.safetensors").write_bytes(weights(b"1"))
    return folder


def weights(values):
    """A safetensors file with one tensor of bytes."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [len(values)], "data_offsets": [0, len(values)]}}).encode()
    return len(header).to_bytes(8, "little") + header + values


def test_the_default_is_embedded_and_can_be_planned_before_it_is_fetched():
    source = resolve(DEFAULT_MODEL)
    assert isinstance(source, InWheel)
    assert (source.slug, source.label) == ("smollm2-135m", "smollm2-135m")
    config = source.config()
    assert (config["hidden_size"], config["num_hidden_layers"], config["vocab_size"]) == (576, 30, 49152)


def test_the_shipped_model_is_in_the_package():
    source = resolve("tiny-adder")
    assert isinstance(source, Shipped)
    prepared = source.prepare()
    assert json.loads((Path(prepared.path) / "config.json").read_text()) == source.config()
    assert len(prepared.provenance.sha256) == 64


def test_a_folder_is_used_in_place(checkpoint):
    source = resolve(str(checkpoint))
    assert isinstance(source, Folder)
    assert source.label == "my model"
    assert source.config() == {"model_type": "llama", "hidden_size": 8}
    prepared = source.prepare()
    assert (prepared.path, prepared.revision) == (str(checkpoint), None)
    assert prepared.provenance.origin == str(checkpoint)


def test_a_folder_s_hash_follows_its_content(checkpoint):
    before = resolve(str(checkpoint)).prepare().provenance.sha256
    (checkpoint / "notes.md").write_text("not part of the checkpoint")
    assert resolve(str(checkpoint)).prepare().provenance.sha256 == before
    (checkpoint / "model.safetensors").write_bytes(weights(b"2"))
    assert resolve(str(checkpoint)).prepare().provenance.sha256 != before


def test_a_path_may_be_relative_or_in_the_home_folder(checkpoint, monkeypatch):
    absolute = resolve(str(checkpoint))
    monkeypatch.chdir(checkpoint)
    assert resolve(".") == absolute
    monkeypatch.setenv("HOME", str(checkpoint.parent))
    assert resolve("~/my model") == absolute


def test_folders_of_one_name_have_different_slugs(checkpoint, tmp_path):
    other = tmp_path / "elsewhere" / checkpoint.name
    other.parent.mkdir()
    checkpoint_slug = resolve(str(checkpoint)).slug
    checkpoint.rename(other)
    assert resolve(str(other)).slug != checkpoint_slug
    assert resolve(str(other)).slug.startswith("my-model-")


def test_a_gguf_file_is_identified_by_its_content(tmp_path):
    first, second = tmp_path / "m.gguf", tmp_path / "sub" / "m.gguf"
    second.parent.mkdir()
    first.write_bytes(b"GGUF and more")
    second.write_bytes(b"GGUF and more")
    source = resolve(str(first))
    assert isinstance(source, GgufFile)
    assert source.slug == resolve(str(second)).slug
    second.write_bytes(b"GGUF and less")
    assert source.slug != resolve(str(second)).slug
    assert source.label == "m"


def test_the_configuration_of_an_unconverted_gguf_file_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    assert resolve(str(tmp_path / "m.gguf")).config() is None
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("name", "model_id", "revision", "slug"),
    [
        ("owner/name", "owner/name", None, "owner--name"),
        ("gpt2", "gpt2", None, "gpt2"),
        ("Qwen/Qwen2.5-3B@abc123", "Qwen/Qwen2.5-3B", "abc123", "Qwen--Qwen2.5-3B--abc123"),
        ("o/n@refs/pr/1", "o/n", "refs/pr/1", "o--n--refs--pr--1"),
    ],
)
def test_hub_ids(name, model_id, revision, slug):
    source = resolve(name)
    assert isinstance(source, HubModel)
    assert (source.id, source.revision, source.slug, source.label) == (model_id, revision, slug, name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("smollm2", "smollm2-135m"), ("SmolLM2-135M", "smollm2-135m"), ("tinyadder", "tiny-adder")],
)
def test_a_near_miss_gets_a_suggestion(name, meant):
    with pytest.raises(UsageError, match=rf"--model {name}: no such model; did you mean {meant}\?"):
        resolve(name)


@pytest.mark.parametrize(
    "name",
    ["./none", "/none/at/all", "~/none-such", "a/b/c", "none.gguf", "models/", r"a\b", "~nobody-here/x"],
)
def test_a_path_that_does_not_exist_is_refused(name):
    with pytest.raises(UsageError, match="no such file or folder; expected smollm2-135m, tiny-adder, "):
        resolve(name)


@pytest.mark.parametrize("name", ["", "two words", "owner/name@", "ümlaut/x"])
def test_an_invalid_name_is_refused_with_the_accepted_forms(name):
    with pytest.raises(UsageError, match="neither a path nor a hub id; expected smollm2-135m"):
        resolve(name)


def test_a_folder_without_a_checkpoint_is_refused_with_what_is_missing(checkpoint):
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"holds no model\.safetensors; expected a checkpoint folder"):
        resolve(str(checkpoint))
    (checkpoint / "config.json").write_text("{")
    with pytest.raises(UsageError, match=r"config\.json: not valid JSON"):
        resolve(str(checkpoint))


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"PK\3\4")
    with pytest.raises(UsageError, match="not a GGUF file"):
        resolve(str(tmp_path / "m.gguf"))


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "m.gguf")
    with pytest.raises(UsageError, match=r"m\.gguf: a device, pipe or socket in place of a file"):
        resolve(str(tmp_path / "m.gguf"))


@given(st.text(max_size=300))
def test_every_string_is_a_source_or_a_usage_error(name):
    try:
        source = resolve(name)
    except UsageError:
        return
    assert isinstance(source, ModelSource)


@given(st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=40))
def test_slugs_are_plain_file_names(name):
    slug = Folder.at(Path("/models") / name).slug
    assert slug == Folder.at(Path("/models") / name).slug
    assert slug.isascii()
    assert not set(slug) & set("/\\: *?\"<>|'$`\n")
    assert slug not in (".", "..")
    assert not slug.startswith((".", "-"))


def test_embedded_names_take_precedence_over_folders(checkpoint, monkeypatch):
    checkpoint.rename(checkpoint.parent / "tiny-adder")
    monkeypatch.chdir(checkpoint.parent)
    assert resolve("tiny-adder") is EMBEDDED["tiny-adder"]
    assert isinstance(resolve("./tiny-adder"), Folder)


def test_resolving_loads_no_torch():
    program = "import sys; from bench.models.source import resolve; resolve('tiny-adder').prepare()"
    program += "; sys.exit(bool({'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
