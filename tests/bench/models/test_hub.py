import json

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from bench.errors import BenchError
from bench.models.source import resolve

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def local_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def snapshot(local_cache):
    repository = local_cache / "models--owner--name"
    folder = repository / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    save_file({"a": torch.zeros(1)}, folder / "model.safetensors")
    return folder


def test_without_a_network_the_error_is_one_line_and_names_alternatives():
    with pytest.raises(BenchError, match=r"--model owner/name: cannot be fetched from the hub \(.*\)") as caught:
        resolve("owner/name").prepare()
    assert "\n" not in str(caught.value)
    assert "smollm2-135m, tiny-adder, a checkpoint folder, a GGUF file" in str(caught.value)
    assert caught.value.exit_code == 1


def test_a_cached_model_needs_no_network_and_is_pinned(snapshot):
    prepared = resolve("owner/name").prepare()
    assert prepared.path == str(snapshot)
    assert prepared.revision == COMMIT
    assert prepared.provenance.origin == f"hub owner/name@{COMMIT}"


def test_a_cached_configuration_is_returned(snapshot):
    assert resolve("owner/name").config() == {"model_type": "llama"}
    assert resolve(f"owner/name@{COMMIT}").config() == {"model_type": "llama"}
    assert resolve("owner/other").config() is None


def test_a_repository_without_safetensors_is_refused(snapshot):
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(BenchError, match=r"holds no model\.safetensors"):
        resolve("owner/name").prepare()


def test_a_repository_with_an_adapter_says_how_to_use_it(snapshot):
    (snapshot / "config.json").rename(snapshot / "adapter_config.json")
    (snapshot / "model.safetensors").rename(snapshot / "adapter_model.safetensors")
    with pytest.raises(BenchError, match=r"an adapter; download it \(`hf download owner/name --local-dir FOLDER`\)"):
        resolve("owner/name").prepare()
