"""Adapter folders: merged into their base on purpose."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.errors import BenchError, UsageError
from bench.models.adapter import Adapter, merge
from bench.models.opening import open_model, open_tokenizer
from bench.models.source import resolve

SCALE = 8.0


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def adapter(copy):
    """An adapter of rank 2 on all query projections of a copy of tiny-adder, with random values."""
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    config = peft.LoraConfig(
        r=2, lora_alpha=2 * SCALE, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM"
    )
    model = peft.get_peft_model(open_model(copy.folder, "float32"), config)
    model.save_pretrained(copy.folder.parent / "adapter")
    return copy.folder.parent / "adapter"


def settings(adapter, **fields):
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def test_an_adapter_folder_names_its_base(adapter, copy):
    source = resolve(str(adapter))
    assert isinstance(source, Adapter)
    assert source.base == resolve(str(copy.folder))
    assert source.label == "adapter"
    assert source.config() == resolve(str(copy.folder)).config()


def test_the_base_s_config_beside_the_adapter_does_not_make_it_a_model(adapter, copy):
    shutil.copy(copy.folder / "config.json", adapter)
    assert isinstance(resolve(str(adapter)), Adapter)
    shutil.copy(copy.folder / "model.safetensors", adapter)
    with pytest.raises(UsageError, match="an adapter lies beside the weights of a model"):
        resolve(str(adapter)).prepare()


def test_merging_adds_the_scaled_product_and_nothing_else(adapter, copy, tmp_path):
    merge(copy.folder, adapter, tmp_path / "merged")
    base, merged = (open_model(folder, "float32").state_dict() for folder in (copy.folder, tmp_path / "merged"))
    stored = load_file(adapter / "adapter_model.safetensors")
    assert base.keys() == merged.keys()
    for name, tensor in base.items():
        parts = [stored.get(f"base_model.model.{name.removesuffix('weight')}lora_{i}.weight") for i in "BA"]
        added = 0 if parts[0] is None else SCALE * parts[0] @ parts[1]
        assert ("q_proj" in name) == (parts[0] is not None)
        torch.testing.assert_close(merged[name], tensor + added)


def test_the_merged_model_keeps_the_dtype_that_the_base_is_stored_in(adapter, copy, tmp_path):
    copy.edit("config.json", dtype="bfloat16")
    merge(copy.folder, adapter, tmp_path / "merged")
    assert {t.dtype for t in load_file(tmp_path / "merged" / "model.safetensors").values()} == {torch.float32}


def test_the_adapter_s_tokenizer_is_taken_and_else_the_base_s(adapter, copy, tmp_path):
    merge(copy.folder, adapter, tmp_path / "first")
    assert open_tokenizer(tmp_path / "first").chat_template == open_tokenizer(copy.folder).chat_template
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(copy.folder / name, adapter)
    (adapter / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    merge(copy.folder, adapter, tmp_path / "second")
    assert open_tokenizer(tmp_path / "second").chat_template == "{{ messages[0]['content'] }}"


@pytest.mark.slow
def test_preparing_merges_once_and_records_both_with_their_hashes(adapter, copy):
    said = []
    source = resolve(str(adapter))
    prepared = source.prepare(lambda stage, done, total: said.append(stage))
    base = resolve(str(copy.folder)).prepare().provenance
    assert f"merging {adapter} into model" in said
    assert prepared.provenance.origin.startswith(f"adapter {adapter} (sha256 ")
    assert prepared.provenance.origin.endswith(f") merged into {copy.folder} (sha256 {base.sha256[:16]})")
    assert prepared.provenance.sha256 != base.sha256
    assert (Path(prepared.path) / "tokenizer.json").exists()
    said.clear()
    assert source.prepare(lambda stage, done, total: said.append(stage)) == prepared
    assert not any("merging" in stage for stage in said)


def test_the_identity_follows_both_folders(adapter, copy, monkeypatch):
    monkeypatch.setattr("bench.models.adapter.run_alone", lambda module, arguments, failed, size: None)
    source = resolve(str(adapter))
    found = {source.prepare().provenance.sha256}
    settings(adapter, lora_alpha=3)
    found.add(source.prepare().provenance.sha256)
    copy.edit("config.json", rms_norm_eps=1e-5)
    found.add(source.prepare().provenance.sha256)
    assert len(found) == 3


@pytest.mark.parametrize(
    ("base", "reason"),
    [
        (None, "base_model_name_or_path is null; put the folder or hub id of the base there"),
        ("./nowhere", 'base_model_name_or_path is "./nowhere", and no model'),
    ],
)
def test_an_adapter_without_its_base_is_refused(adapter, base, reason):
    settings(adapter, base_model_name_or_path=base)
    with pytest.raises(UsageError) as caught:
        resolve(str(adapter))
    assert f"adapter_config.json: {reason}" in str(caught.value)


def test_the_base_s_revision_is_taken_from_the_hub_only(adapter, copy):
    settings(adapter, revision="abc")
    assert resolve(str(adapter)).base == resolve(str(copy.folder))
    settings(adapter, base_model_name_or_path="owner/name")
    assert resolve(str(adapter)).base == resolve("owner/name@abc")


def test_an_adapter_of_an_adapter_is_refused(adapter, tmp_path):
    shutil.copytree(adapter, tmp_path / "second")
    settings(tmp_path / "second", base_model_name_or_path=str(adapter))
    with pytest.raises(UsageError, match="an adapter too; merge that one first"):
        resolve(str(tmp_path / "second"))


def test_a_base_that_is_refused_is_named(adapter, copy):
    copy.edit("config.json", quantization_config={"quant_method": "bitsandbytes"})
    with pytest.raises(UsageError, match=r"model/config\.json: the model is quantised"):
        resolve(str(adapter)).prepare()


def test_an_adapter_without_its_weights_or_with_truncated_ones_is_refused(adapter):
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UsageError, match=r"adapter_model\.safetensors: has \d+ bytes"):
        resolve(str(adapter)).prepare()
    file.rename(adapter / "adapter_model.bin")
    with pytest.raises(UsageError, match=r"no adapter_model\.safetensors"):
        resolve(str(adapter)).prepare()


def test_an_adapter_that_names_a_module_to_import_is_refused(adapter):
    settings(adapter, megatron_config={"a": 1}, megatron_core="evil")
    with pytest.raises(UsageError, match="megatron_config names a module to import"):
        resolve(str(adapter)).prepare()


@pytest.mark.parametrize("field", ["adapters", "shadow_model"])
def test_an_adapter_that_names_other_models_is_refused(adapter, field):
    settings(adapter, **{field: {"0": "elsewhere"}})
    with pytest.raises(UsageError, match=f"{field} names (other adapters|another model), which"):
        resolve(str(adapter)).prepare()


def test_an_adapter_s_files_must_be_in_its_folder(adapter, tmp_path):
    (adapter / "adapter_model.safetensors").rename(tmp_path / "a")
    (adapter / "adapter_model.safetensors").symlink_to(tmp_path / "a")
    with pytest.raises(UsageError, match=r"adapter_model\.safetensors: a link to .*, outside the folder"):
        resolve(str(adapter)).prepare()


def test_an_adapter_that_does_not_fit_its_base_is_refused(adapter, copy, tmp_path):
    tensors = load_file(adapter / "adapter_model.safetensors")
    save_file(dict(list(tensors.items())[1:]), adapter / "adapter_model.safetensors")
    with pytest.raises(BenchError, match=r"1 weights missing \(base_model\.model\.model\.layers\.0\.self_attn"):
        merge(copy.folder, adapter, tmp_path / "merged")
    other = {name.replace("layers.2", "layers.7"): tensor for name, tensor in tensors.items()}
    save_file(other, adapter / "adapter_model.safetensors")
    with pytest.raises(BenchError, match=r"2 weights missing .*, 2 unexpected \(.*layers\.7"):
        merge(copy.folder, adapter, tmp_path / "merged")


def test_an_adapter_that_changes_the_prompt_cannot_be_merged(copy, tmp_path):
    peft = pytest.importorskip("peft")
    config = peft.PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM")
    peft.get_peft_model(open_model(copy.folder, "float32"), config).save_pretrained(tmp_path / "soft")
    with pytest.raises(BenchError, match="PROMPT_TUNING changes the prompt and not the weights"):
        merge(copy.folder, tmp_path / "soft", tmp_path / "merged")


def test_an_adapter_on_weights_that_another_layer_shares_cannot_be_merged(copy, tmp_path):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["embed_tokens"], task_type="CAUSAL_LM")
    peft.get_peft_model(open_model(copy.folder, "float32"), config).save_pretrained(tmp_path / "tied")
    with pytest.raises(BenchError, match=r"adapts model\.embed_tokens, whose weights another layer uses too"):
        merge(copy.folder, tmp_path / "tied", tmp_path / "merged")


def test_without_peft_the_error_names_the_extra(adapter, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(BenchError, match=r"needs peft: pip install 'bench-post-training\[train\]'"):
        resolve(str(adapter)).prepare()


@pytest.mark.slow
def test_a_merge_that_fails_leaves_nothing_behind(adapter, tmp_path):
    settings(adapter, target_modules=["no_such_module"])
    with pytest.raises(BenchError, match=r"adapter could not be merged into model: .*no_such_module") as caught:
        resolve(str(adapter)).prepare()
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
