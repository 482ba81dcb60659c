import pytest
import weight_agreement
from text_agreement import save
from tiny_families import make
from transformers import MixtralForCausalLM
from weight_agreement import moves_exactly, saved_equal

from bench.engines.transformers import TransformersEngine
from bench.models.tensors import held
from bench.weights.points import Point
from bench.weights.sketch import layout_of_checkpoint

FAMILIES = ("mixtral", "deepseek_v3", "olmo_hybrid", "zamba2", "afmoe", "nemotron_h")
"""Experts in another form than in the files, buffers that decide, a part in float32, shared blocks, a frozen bias, and
names with another prefix than in the files."""


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_move_exactly_and_open_as_they_were_saved(family):
    assert moves_exactly(family, "bfloat16") == []
    assert saved_equal(family, "bfloat16") == []


def test_a_tensor_that_does_not_move_is_noticed(monkeypatch):
    movable = weight_agreement.movable
    monkeypatch.setattr(weight_agreement, "movable", lambda model: dict(list(movable(model).items())[1:]))
    assert moves_exactly("llama") == ["model.embed_tokens.weight should move"]


def test_noise_of_another_name_is_noticed(monkeypatch):
    draw = weight_agreement.draw
    monkeypatch.setattr(weight_agreement, "draw", lambda seed, name, out: draw(seed, name.replace("mlp", "ffn"), out))
    found = moves_exactly("llama")
    assert len(found) == 4 * 3
    assert "model.layers.3.mlp.up_proj.weight is not where its noise leads" in found


def test_files_that_hold_other_weights_are_noticed(monkeypatch):
    def negated(model, folder):
        model.model.layers[2].mlp.experts.down_proj.data.neg_()
        save(model, folder)
        model.model.layers[2].mlp.experts.down_proj.data.neg_()

    save = MixtralForCausalLM.save_pretrained
    monkeypatch.setattr(MixtralForCausalLM, "save_pretrained", negated)
    assert saved_equal("mixtral")[:2] == [
        "transformers opens other weights than were saved",
        "the digest of the files is not that of the weights",
    ]


def test_an_opened_model_moves_what_its_class_trains_and_nothing_else(tmp_path):
    save(make("afmoe"), tmp_path)
    engine = TransformersEngine(str(tmp_path))
    before = {name: tensor.clone() for name, tensor in held(engine._model).items()}
    engine.move_to(Point({7: 0.02}))
    moved = {name: tensor.numel() for name, tensor in held(engine._model).items() if not tensor.equal(before[name])}
    assert moved == {name: each.size for name, each in layout_of_checkpoint(str(tmp_path)).tensors.items()}
    assert sum(name.endswith("expert_bias") for name in before.keys() - moved.keys()) == 3
    trained = {name for name, parameter in engine.trainable()[0].named_parameters() if parameter.requires_grad}
    assert trained == moved.keys()
