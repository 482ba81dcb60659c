"""Multimodal checkpoints answer with their text model, and their towers stay out."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_families import MULTIMODAL, VOCABULARY, make, make_multimodal
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    SmolVLMForConditionalGeneration,
)

from bench.cli.analyze import _parameters
from bench.compute.attach import attach
from bench.compute.flops import compute_profile
from bench.compute.measured import measure
from bench.compute.meter import Meter
from bench.engines.interface import Sampling
from bench.engines.transformers import TransformersEngine
from bench.errors import UsageError
from bench.models.adapter import merge
from bench.models.digest import digest
from bench.models.multimodal import meta_model, what_is_left_out
from bench.models.opening import check_opens, open_config, open_model, save_model
from bench.models.tensors import held, movable
from bench.records.config import RunConfig
from bench.run.prepare import prepare
from bench.run.prepare_test import _differences
from bench.run.progress import ProgressDisplay
from bench.run.value_model import ValueModel
from bench.weights.checkpoint import saved_digest
from bench.weights.noise import PLAIN
from bench.weights.points import Point
from bench.weights.sketch import layout_of_checkpoint

TINY = Path(__file__).parents[2] / "bench" / "models" / "tiny_adder"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in MULTIMODAL if name not in ("qwen2_5_vl", "smolvlm")]
NAMES = ["qwen2_5_vl", "smolvlm", *SLOW]
"""One model without a text class of its own, one with another name for its weights, and the others."""


def saved(folder, model):
    model.save_pretrained(folder)
    for name in TOKENIZER:
        shutil.copy(TINY / name, folder)
    return folder


def logits(model, ids):
    with torch.inference_mode():
        return model(input_ids=ids).logits


def parameters(model):
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


@pytest.mark.parametrize("name", NAMES)
def test_a_multimodal_checkpoint_opens_as_its_text_model_and_reads_text_as_the_whole_model(name, tmp_path):
    whole = make_multimodal(name)
    folder = saved(tmp_path / "whole", whole)
    check_opens(folder, name)
    model = open_model(folder, torch.float32)
    ids = torch.randint(3, VOCABULARY - 1, (2, 60), generator=torch.Generator().manual_seed(0))
    assert torch.equal(logits(model, ids), logits(whole, ids))
    assert not any("vision" in key or "visual" in key or "projector" in key for key in parameters(model))
    assert sum(p.numel() for p in model.parameters()) < sum(p.numel() for p in whole.parameters())
    assert parameters(model) == parameters(meta_model(open_config(folder)))
    tensors = layout_of_checkpoint(str(folder)).tensors
    assert {key: each.size for key, each in tensors.items()} == {key: p.numel() for key, p in model.named_parameters()}


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_text_model_opens_in_transformers_and_here_with_the_same_weights(name, tmp_path):
    model = open_model(saved(tmp_path / "whole", make_multimodal(name)), torch.float32)
    before = digest(dict(model.named_parameters()))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.full_like(parameter, 2**-8))
    save_model(model, tmp_path / "moved")
    for file in TOKENIZER:
        shutil.copy(TINY / file, tmp_path / "moved")
    check_opens(tmp_path / "moved", name)
    assert _differences(tmp_path / "moved", tmp_path / "whole") == ""
    assert saved_digest(tmp_path / "moved") == digest(held(model))
    again = open_model(tmp_path / "moved", torch.float32)
    assert digest(dict(again.named_parameters())) == digest(dict(model.named_parameters())) != before
    opener = AutoModelForCausalLM if what_is_left_out(again.config) is None else AutoModelForMultimodalLM
    theirs, report = opener.from_pretrained(tmp_path / "moved", output_loading_info=True)
    assert not any(report.values())
    ids = torch.randint(3, VOCABULARY - 1, (1, 40), generator=torch.Generator().manual_seed(0))
    assert torch.equal(logits(theirs, ids), logits(model, ids))


def test_towers_are_saved_as_they_are_where_transformers_needs_them(tmp_path):
    whole = make_multimodal("qwen2_5_vl")
    model = open_model(saved(tmp_path / "whole", whole), torch.float32)
    with torch.no_grad():
        model.lm_head.weight.zero_()
    save_model(model, tmp_path / "moved")
    again = AutoModelForMultimodalLM.from_pretrained(tmp_path / "moved")
    assert not again.lm_head.weight.any()
    towers = [name for name in whole.state_dict() if ".visual." in name]
    assert towers
    assert all(torch.equal(again.state_dict()[name], whole.state_dict()[name]) for name in towers)


@pytest.mark.slow
@pytest.mark.parametrize("name", MULTIMODAL)
def test_the_engine_answers_as_the_whole_model_generates(name, tmp_path):
    whole = make_multimodal(name)
    engine = TransformersEngine(str(saved(tmp_path, whole)), dtype="float32")
    generator = torch.Generator().manual_seed(0)
    prompts = [tuple(torch.randint(4, 16, (n,), generator=generator).tolist()) for n in (3, 30, 11)]
    meter = Meter(engine.profile)
    with meter.account("inference"):
        found = engine.generate(prompts, Sampling(max_new_tokens=12), meter)
    for prompt, completion in zip(prompts, found, strict=True):
        given = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": sorted(engine._ends)}
        expected = whole.generate(torch.tensor([prompt]), **given)[0, len(prompt) :]
        assert completion.token_ids == tuple(expected.tolist())


def test_a_tower_put_on_tiny_adder_changes_no_digest_no_answer_and_no_export(tmp_path):
    text = AutoModelForCausalLM.from_pretrained(TINY)
    values = {**MULTIMODAL["smolvlm"][1], "text_config": text.config.to_dict(), "image_token_id": 3}
    whole = SmolVLMForConditionalGeneration(CONFIG_MAPPING["smolvlm"](**values, tie_word_embeddings=True))
    whole.model.text_model.load_state_dict(text.model.state_dict())
    whole.tie_weights()
    folders = [saved(tmp_path / "whole", whole), TINY]
    engines = [TransformersEngine(str(folder), dtype="float32") for folder in folders]
    assert engines[0].digest == engines[1].digest
    assert engines[0].profile == engines[1].profile
    prompts = [engines[1].encode(f"{a}+17=") for a in range(10)]
    answers = []
    for engine in engines:
        engine.move_to(Point({1: 0.01}))
        meter = Meter(engine.profile)
        with meter.account("inference"):
            answers.append([each.text for each in engine.generate(prompts, Sampling(max_new_tokens=4), meter)])
    assert answers[0] == answers[1]
    engines[0].move_to(Point())
    engines[0].save(tmp_path / "saved")
    again = load_file(tmp_path / "saved" / "model.safetensors")
    assert {name: tuple(t.shape) for name, t in again.items()} == parameters(text)
    assert all(torch.equal(t, text.state_dict()[name]) for name, t in again.items())


def test_training_is_metered_by_the_same_profile_where_no_class_runs_the_text_part_alone():
    model = make("qwen2_5_vl")
    attachment = attach(model, lambda work, phase: None, role="policy", pad_id=0)
    assert attachment.profile == measure(model.config, type(model)).profile == compute_profile(model.config)
    value = ValueModel(make("qwen2_5_vl"))
    with attach(value, lambda work, phase: None, role="value", measured=attachment.measured) as attached:
        assert attached.profile == attachment.profile


def test_missing_weights_of_a_tower_are_no_reason_to_refuse_and_those_of_the_text_model_are(tmp_path):
    folder = saved(tmp_path, make_multimodal("smolvlm"))
    tensors = load_file(folder / "model.safetensors")
    change(folder, {name: tensor for name, tensor in tensors.items() if "vision_model.encoder" not in name})
    check_opens(folder, "a tower")
    open_model(folder, torch.float32)
    change(folder, {name: tensor for name, tensor in tensors.items() if "text_model.layers.1.mlp" not in name})
    for refused in (lambda: check_opens(folder, "text"), lambda: open_model(folder, torch.float32)):
        with pytest.raises(UsageError, match=r"not those of SmolVLMForConditionalGeneration: 3 missing \(model\.text"):
            refused()
    change(folder, {**tensors, "v_head.weight": torch.zeros(1, 64)})
    for refused in (lambda: check_opens(folder, "more"), lambda: open_model(folder, torch.float32)):
        with pytest.raises(UsageError, match=r"1 unexpected \(v_head.weight\)"):
            refused()


def test_a_tower_whose_library_is_missing_is_no_reason_to_refuse(tmp_path):
    """The tower of Gemma 3n needs timm. The class of its text model reads the whole model's names."""
    text = make("gemma3n")
    folder = saved(tmp_path, text)
    config = CONFIG_MAPPING["gemma3n"](text_config=text.config.to_dict())
    config.save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    named = {name.replace("model.", "model.language_model.", 1): tensor for name, tensor in tensors.items()}
    change(folder, {**named, "model.vision_tower.timm_model.stem.weight": torch.zeros(3)})
    check_opens(folder, "gemma3n")
    opened = open_model(folder, torch.float32)
    assert digest(dict(opened.named_parameters())) == digest(dict(text.named_parameters()))
    more = ("v_head.weight", "model.language_model.layers.0.self_attn.q_proj.lora_A.weight")
    change(folder, {**load_file(folder / "model.safetensors"), **{name: torch.zeros(2, 64) for name in more}})
    for refused in (lambda: check_opens(folder, "more"), lambda: open_model(folder, torch.float32)):
        with pytest.raises(UsageError, match=r"2 unexpected \(model.layers.0.self_attn.q_proj.lora_A.*, v_head.weight"):
            refused()


def test_towers_that_no_text_config_tells_from_the_text_model_are_refused():
    with pytest.raises(UsageError, match=r"Phi4MultimodalForCausalLM: has model\.embed_tokens_extend.*no text_config"):
        meta_model(CONFIG_MAPPING["phi4_multimodal"](num_hidden_layers=1))
    assert meta_model(CONFIG_MAPPING["mpt"](n_layers=1)).config.attn_config is not None


def test_a_text_model_that_reads_otherwise_than_the_whole_model_is_refused(monkeypatch, tmp_path):
    folder = saved(tmp_path, make_multimodal("smolvlm"))
    run = SmolVLMForConditionalGeneration.forward

    def bidirectional(self, input_ids, **given):
        return run(self, input_ids=input_ids.flip(-1), **given)

    monkeypatch.setattr(SmolVLMForConditionalGeneration, "forward", bidirectional)
    with pytest.raises(UsageError, match="LlamaForCausalLM: reads a text otherwise than the multimodal model"):
        open_model(folder, torch.float32)


def test_a_model_that_needs_more_than_text_is_refused(monkeypatch, tmp_path):
    folder = saved(tmp_path, make_multimodal("smolvlm"))

    def needs_images(self, input_ids, **given):
        raise ValueError("pixel_values are needed")

    monkeypatch.setattr(SmolVLMForConditionalGeneration, "forward", needs_images)
    with pytest.raises(UsageError, match=r"does not run on text alone \(pixel_values are needed\)"):
        open_model(folder, torch.float32)


def test_that_the_text_model_was_taken_out_is_part_of_the_id(tmp_path):
    folder = saved(tmp_path / "whole", make_multimodal("gemma3"))
    config = RunConfig(method="base", task="addition", model=str(folder), budget="64")
    display = ProgressDisplay(quiet=True)
    assert prepare(config, tmp_path / "runs", display).versions.text_model == 1
    plain = prepare(config.model_copy(update={"model": "tiny-adder"}), tmp_path / "runs", display)
    assert plain.versions.text_model is None


@pytest.mark.parametrize(
    ("name", "of_text", "target", "kept_whole"),
    [
        ("gemma3", True, ["q_proj", "v_proj"], False),
        ("gemma3", False, r".*language_model.*\.(q_proj|v_proj)", True),
        pytest.param("gemma3", False, ["q_proj", "v_proj"], True, marks=pytest.mark.slow),
        pytest.param("qwen2_5_vl", False, ["q_proj", "v_proj"], True, marks=pytest.mark.slow),
        ("qwen2_5_vl", False, "all-linear", True),
    ],
)
def test_an_adapter_is_merged_into_the_model_whose_modules_it_names(name, of_text, target, kept_whole, tmp_path):
    peft = pytest.importorskip("peft")
    folder = saved(tmp_path / "whole", make_multimodal(name))
    base = open_model(folder, torch.float32) if of_text else make_multimodal(name)
    torch.manual_seed(0)
    config = peft.LoraConfig(r=4, target_modules=target, task_type="CAUSAL_LM", init_lora_weights=False)
    adapted = peft.get_peft_model(base, config)
    adapted.save_pretrained(tmp_path / "adapter")
    merge(folder, tmp_path / "adapter", tmp_path / "merged")
    check_opens(tmp_path / "merged", f"{name} {target}")
    model = open_model(tmp_path / "merged", torch.float32)
    ids = torch.randint(3, VOCABULARY - 1, (1, 40), generator=torch.Generator().manual_seed(0))
    expected = logits(adapted, ids)
    torch.testing.assert_close(logits(model, ids), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(logits(open_model(folder, torch.float32), ids), expected, rtol=1e-2, atol=1e-2)
    towers = [key for file in (tmp_path / "merged").glob("*.safetensors") for key in load_file(file) if "vis" in key]
    assert bool(towers) == kept_whole


def test_what_is_left_out_is_said():
    said = "gemma3 is a multimodal model: its text model answers, without vision"
    assert what_is_left_out(CONFIG_MAPPING["gemma3"]()) == said
    assert what_is_left_out(CONFIG_MAPPING["llama"]()) is None


def test_density_counts_the_matrices_that_noise_moves(tmp_path):
    """The tower of the folder does not move, and neither do norms and biases."""
    folder = saved(tmp_path, make_multimodal("qwen2_5_vl"))
    moved = movable(open_model(folder, torch.float32))
    assert _parameters(str(folder), PLAIN) == sum(tensor.numel() for tensor in moved.values() if tensor.dim() > 1)


def change(folder, tensors):
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
