"""Where noise goes: masks of modules, the modular scale, and the same values wherever they are computed."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_families import configuration
from transformers import AutoModelForCausalLM, RwkvConfig

from bench.errors import Refused
from bench.models.opening import open_model
from bench.models.source import resolve
from bench.run.export import read_point
from bench.weights import slices
from bench.weights.layers import layout_of
from bench.weights.layout import Layout, TensorLayout
from bench.weights.noise import PLAIN, Noise, draw, draw_lowrank
from bench.weights.points import Point
from bench.weights.sketch import sketch
from bench.weights.space import WeightSpace
from methods.interface import describe_point

LAYOUT = Layout(
    {
        "embed.weight": TensorLayout((50, 16), "embedding"),
        "attn.weight": TensorLayout((16, 16), "attention", (16, 16), True),
        "up.weight": TensorLayout((64, 16), "mlp", (64, 16), True),
        "up.bias": TensorLayout((64,), "mlp"),
        "turned.weight": TensorLayout((16, 64), "mlp", (64, 16), True),
        "norm.weight": TensorLayout((16,), "norm"),
        "head.weight": TensorLayout((50, 16), "head", (50, 16)),
    }
)
NOISES = [
    Noise(kind, scale, modules)
    for kind in ("iid", "tied", "lowrank", "lowrank-2")
    for scale in ("plain", "modular")
    for modules in ("all", "mlp", r"^(attn|up)\.")
]


def tensors(dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    found = {name: torch.randn(each.shape, generator=generator).to(dtype) for name, each in LAYOUT.tensors.items()}
    found["norm.weight"][3] = -0.0
    return found


def reference(seed, name, noise):
    """Return noise by NumPy alone."""
    shape = LAYOUT.tensors[name].shape
    if noise.rank is not None:
        return draw_lowrank(seed, name, shape, noise.kind)
    draw(seed, name, out := np.empty(shape, np.float32), kind=noise.kind)
    return out


@pytest.mark.parametrize(
    ("modules", "kind", "selected"),
    [
        ("all", "iid", "embed attn up.w up.b turned norm head"),
        ("all", "lowrank", "attn up.w turned"),
        ("attention", "iid", "attn"),
        ("mlp", "iid", "up.w up.b turned"),
        ("mlp", "lowrank", "up.w turned"),
        ("embeddings", "iid", "embed head"),
        ("bias|norm", "iid", "up.b norm"),
        (r"^(?!up)", "lowrank", "attn turned"),
        ("attention|mlp", "iid", "attn up.w up.b turned"),
        ("mlp|recurrence", "lowrank", "up.w turned"),  # this model has no recurrence
        ("q_proj|attn|^turned", "lowrank", "attn turned"),  # nor a tensor of the first name
        (r"(at)|(t)\2n|(no)\3", "lowrank", "attn"),  # a part names a group of another one
        ("(?x)attn # not norm|norm", "lowrank", "attn"),
        (r"^(up|mlp|norm)", "iid", "up.w up.b norm"),  # within a group, a name is a pattern
        (r"^[h|mlp|]", "iid", "head"),
    ],
)
def test_a_mask_selects_by_kind_of_layer_or_by_name(modules, kind, selected):
    found = LAYOUT.scales(Noise(kind, modules=modules))
    assert [any(name.startswith(part) for part in selected.split()) for name in LAYOUT.tensors] == [
        name in found for name in LAYOUT.tensors
    ]
    assert set(found.values()) == {1.0}


def test_a_mask_that_selects_nothing_is_refused_with_what_would_select_something():
    with pytest.raises(
        Refused, match=r"modules 'atention': selects no .* take all, attention, mlp, embeddings, or a .*"
    ):
        LAYOUT.scales(Noise(modules="atention"))
    with pytest.raises(Refused, match=r"modules 'embeddings': .* noise lowrank moves; take all, attention, mlp, or a "):
        LAYOUT.scales(Noise("lowrank", modules="embeddings"))
    with pytest.raises(Refused, match="noise lowrank: this model has no linear layer that it can move; take noise iid"):
        Layout({"w": TensorLayout((4, 4))}).scales(Noise("lowrank"))


@pytest.mark.parametrize(
    ("modules", "lost"),
    [
        ("mlp|embeddings", r"'embeddings' selects tensors such as embed"),
        ("embeddings|mlp", r"'embeddings' selects tensors such as embed"),
        ("attn|norm", r"'norm' selects tensors such as norm"),
        ("(?i)ATTN|NORM", r"'\(\?i\)NORM' selects tensors such as norm"),
    ],
)
def test_a_part_of_a_mask_that_noise_cannot_move_is_refused(modules, lost):
    with pytest.raises(Refused, match=rf"{lost}.*, none of which noise lowrank moves; leave it out, or take noise iid"):
        LAYOUT.scales(Noise("lowrank", modules=modules))
    assert LAYOUT.scales(Noise("iid", modules=modules))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "pink"}, "noise is 'pink'; it must be one of iid, tied, lowrank"),
        ({"scale": "spectral"}, "scale is 'spectral'; it must be one of plain, modular"),
        (
            {"modules": "("},
            r"modules is '\(', which is no regular expression .* give a name such as mlp, or correct it",
        ),
        (
            {"modules": "attention|up"},
            r"modules is 'attention\|up': attention is a name; give only names, or a pattern",
        ),
        ({"modules": r"(x|y)\.w|all"}, "all is a name; give only names, or a pattern without them"),
        ({"modules": "mlp|"}, "mlp is a name; give only names, or a pattern without them"),
        ({"modules": ""}, "modules is empty; it must be a name such as mlp, or a regular expression"),
    ],
)
def test_noise_that_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Noise(**fields)


def test_the_normals_of_a_seed_are_those_of_the_tensors_that_move():
    assert LAYOUT.noise_values(PLAIN) == 2 * 50 * 16 + 16 * 16 + 2 * 64 * 16
    assert LAYOUT.noise_values(Noise(modules="mlp")) == 2 * 64 * 16
    assert LAYOUT.noise_values(Noise("lowrank-2", "modular", "mlp")) == 2 * 2 * (64 + 16)
    assert LAYOUT.values_of(Point({1: 0.1, 2: 0.1}, Noise("lowrank", modules="attention"))) == 2 * (16 + 16)


def test_the_modular_scale_has_the_values_of_this_version():
    """If these change, saved points no longer mean the same weights."""
    raw = {
        "embed.weight": 1.0,
        "attn.weight": 1 / (4 + 4),
        "up.weight": 2 / (8 + 4),
        "up.bias": 1.0,
        "turned.weight": 2 / (8 + 4),  # 16 inputs x 64 outputs
        "norm.weight": 1.0,
        "head.weight": math.sqrt(50 / 16) / (math.sqrt(50) + 4),
    }
    energy = sum(c**2 * LAYOUT.tensors[name].size for name, c in raw.items())
    matched = math.sqrt(sum(each.size for each in LAYOUT.tensors.values()) / energy)
    found = LAYOUT.scales(Noise("iid", "modular"))
    assert found == {name: float(np.float32(matched * c)) for name, c in raw.items()}
    assert found["embed.weight"] == pytest.approx(2.0357921, rel=1e-5)
    low = LAYOUT.scales(Noise("lowrank-2", "modular"))
    assert low["attn.weight"] == pytest.approx(low["up.weight"])  # both are sqrt(2) / 16 before energies match


@settings(deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=6),
    kind=st.sampled_from(["iid", "tied", "lowrank", "lowrank-4"]),
    linear=st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_the_modular_scale_keeps_the_expected_energy(shapes, kind, linear):
    layout = Layout(
        {
            str(i): TensorLayout(shape, linear=shape if maps else None, low_rank=True)
            for i, (shape, maps) in enumerate(zip(shapes, linear, strict=False))
        }
    )
    scales = layout.scales(Noise(kind, "modular"))
    energy = sum(scales[name] ** 2 * each.size for name, each in layout.tensors.items())
    assert energy == pytest.approx(sum(each.size for each in layout.tensors.values()), rel=1e-5)


@pytest.mark.parametrize("shape", [(1200, 800), (800, 1200)])
@pytest.mark.parametrize("kind", ["iid", "lowrank", "lowrank-2", "lowrank-4"])
def test_modular_noise_of_a_linear_layer_has_operator_norm_one_up_to_the_common_factor(kind, shape):
    noise, other = Noise(kind, "modular"), TensorLayout((10, 10), linear=(10, 10), low_rank=True)
    layout = Layout({"w": TensorLayout(shape, linear=shape, low_rank=True), "other": other})
    scales = layout.scales(noise)
    drawn = draw_lowrank(3, "w", shape, kind) if noise.rank else np.empty(shape, np.float32)
    if noise.rank is None:
        draw(3, "w", drawn)
    rows, columns = shape
    norm = (
        scales["w"] * np.linalg.norm(drawn, 2) * math.sqrt(columns / rows)
    )  # of inputs to outputs, by root mean square
    spectral = math.sqrt(10) + math.sqrt(10) if noise.rank is None else 10 / math.sqrt(noise.rank)
    assert norm == pytest.approx(scales["other"] * spectral, rel=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("noise", NOISES, ids=str)
def test_moves_follow_the_scales_and_leave_other_tensors_bit_for_bit(noise, dtype, monkeypatch):
    monkeypatch.setattr(slices, "SLICE", 128)
    point, scales, base = Point({5: 0.25, 9: -0.5}, noise), LAYOUT.scales(noise), tensors(dtype)
    found = []
    for views, announced in ((slices.NUMPY_VIEWS, False), ({}, False), (slices.NUMPY_VIEWS, True)):
        monkeypatch.setattr(slices, "NUMPY_VIEWS", views)
        live = tensors(dtype)
        space = WeightSpace(live, 2, layout=LAYOUT)
        space.prepare([point, Point({5: 1.0, 11: 1.0}, noise)] if announced else [])
        space.move_to(point)
        found.append(live)
        for name, value in base.items():
            if name not in scales:
                assert torch.equal(live[name].view(torch.uint8), value.view(torch.uint8))
                continue
            c = np.float32(scales[name])
            total = (np.float32(-0.5) * c) * reference(5, name, noise) + c * reference(9, name, noise)
            expected = (value.float() + torch.from_numpy(total) * -0.5).to(dtype)
            torch.testing.assert_close(live[name], expected, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-5)
            assert not torch.equal(live[name], value)
        space.move_to(Point())
        assert all(torch.equal(live[name].view(torch.uint8), base[name].view(torch.uint8)) for name in live)
        space.move_to(point)
    for other in found[1:]:  # compiled, in torch, and from announced sums
        assert all(torch.equal(found[0][name], other[name]) for name in base)


def test_a_walk_of_centres_keeps_what_the_mask_leaves_out():
    noise, live = Noise("iid", "modular", "mlp"), tensors(torch.bfloat16)
    space = WeightSpace(live, 1, layout=LAYOUT)
    theta = Point().step(Point({1: 0.1}, noise)).step(Point({2: 0.2}, noise))
    space.move_to(theta.step(Point({3: 0.3}, noise)))
    other = tensors(torch.bfloat16)
    WeightSpace(other, 1, layout=LAYOUT).move_to(Point({1: 0.1, 2: 0.2, 3: 0.3}, noise))
    for name, value in tensors(torch.bfloat16).items():
        torch.testing.assert_close(live[name], other[name], rtol=1e-2, atol=1e-2)
        assert torch.equal(live[name].view(torch.uint8), value.view(torch.uint8)) == (
            not name.startswith(("up", "turn"))
        )


def test_a_measured_move_says_what_it_left_out_and_where_its_energy_went():
    space = WeightSpace(tensors(), 1, layout=LAYOUT)
    sizes = {name: each.size for name, each in LAYOUT.tensors.items()}
    found = space.measure(Point({1: 0.1}, Noise("iid", modules="up|turned")))
    untouched = sum(size for name, size in sizes.items() if not name.startswith(("up", "turned")))
    assert found.untouched == pytest.approx(untouched / sum(sizes.values()), rel=1e-5)
    assert LAYOUT.untouched(Noise(modules="up|turned")) == pytest.approx(untouched / sum(sizes.values()))
    assert found.energy == {"embedding": 0.0, "attention": 0.0, "mlp": 1.0, "norm": 0.0, "head": 0.0}
    whole = space.measure(Point({1: 0.1}))
    assert whole.untouched == 0
    assert sum(whole.energy.values()) == pytest.approx(1, abs=1e-5)
    assert whole.energy["embedding"] == pytest.approx(sizes["embed.weight"] / sum(sizes.values()), rel=0.1)
    near = space.measure(Point({1: 0.1}, Noise(modules="mlp")).step(Point({2: 0.1}, Noise(modules="mlp"))))
    assert near.energy["mlp"] == 1.0


@pytest.mark.parametrize(
    "noise", [Noise("tied"), Noise("lowrank", "modular", "mlp"), Noise(modules=r"\.up|x")], ids=str
)
def test_noise_is_part_of_a_point_s_identity_and_of_what_describes_it(noise):
    point = Point({1: 0.5}, noise)
    others = {Point({1: 0.5}, other).digest for other in (*NOISES, Noise(modules=r"\.up")) if other != noise}
    assert point.digest not in others
    assert (Point() + point).noise == (point + point).noise == point.noise == noise
    with pytest.raises(ValueError, match=re.escape(f"points of iid and of {noise} noise do not combine")):
        point + Point({1: 0.5})
    origin = describe_point(point.step(Point({2: 0.5}, noise)))
    assert read_point(Path("point.json"), origin) == point.step(Point({2: 0.5}, noise))
    assert origin.keys() - {"noise", "kind", "amplitudes", "centre"} == noise.described.keys() - {"kind"}


def test_a_kind_alone_is_plain_noise_with_the_identity_that_it_always_had():
    assert Point({1: 0.5}, "tied") == Point({1: 0.5}, Noise("tied"))
    assert describe_point(Point({1: 0.5})).keys() == {"noise", "kind", "amplitudes"}
    assert Point({7: 0.5}).digest[:16] == "14ebfcbe6f4ffd54"
    assert Point({7: 0.5}, "lowrank").digest[:16] == "f5e20b3059b04ce5"


def test_a_sketch_has_unit_length_and_sees_the_moving_tensors_alone():
    for noise in NOISES:
        found = sketch((1, 2, 3), LAYOUT, 4096, noise=noise)
        assert np.square(found).sum(axis=1) == pytest.approx(np.ones(3), abs=0.75)
    alone = Layout({name: each for name, each in LAYOUT.tensors.items() if each.kind == "mlp"})
    np.testing.assert_array_equal(
        sketch((1,), LAYOUT, 64, noise=Noise(modules="mlp")), sketch((1,), alone, 64, noise=PLAIN)
    )


FAMILIES = {
    "llama": {"self_attn.q_proj.weight": (64, 64), "mlp.up_proj.weight": (128, 64), "lm_head.weight": (211, 64)},
    "qwen3": {"self_attn.k_proj.weight": (32, 64), "self_attn.q_norm.weight": None},
    "gemma3": {"embed_tokens.weight": (211, 64), "input_layernorm.weight": None},  # a tied head is a linear layer
    "gpt2": {
        "attn.c_attn.weight": (192, 64),
        "mlp.c_proj.weight": (64, 256),
        "attn.c_attn.bias": None,
        "wpe.weight": None,
    },
    "olmo2": {"self_attn.o_proj.weight": (64, 64)},
    "phi": {"mlp.fc1.weight": (128, 64), "lm_head.bias": None},
    "falcon": {"self_attention.dense.weight": (64, 64)},
    "bloom": {"self_attention.query_key_value.weight": (192, 64)},
    "mixtral": {"experts.gate_up_proj": (256, 64), "experts.down_proj": (64, 128), "mlp.gate.weight": (8, 64)},
    "gpt_oss": {"experts.gate_up_proj": (256, 64), "experts.down_proj": (64, 128), "experts.gate_up_proj_bias": None},
    "llama4": {"experts.gate_up_proj": (256, 64), "experts.down_proj": (64, 128)},
    "mamba": {"mixer.A_log": None, "mixer.conv1d.weight": (128, 4), "mixer.in_proj.weight": (256, 64)},
    "zamba2": {"mamba.in_proj.weight": (296, 64)},
    "qwen2_moe": {"shared_expert_gate.weight": (1, 64)},  # a linear layer of one output
    "deepseek_v3": {"self_attn.kv_b_proj.weight": (128, 24), "self_attn.q_a_proj.weight": (32, 64)},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_layout_of_a_family_has_outputs_and_inputs_of_each_linear_map(family):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(configuration(family))
    layout = layout_of(model)
    for part, linear in FAMILIES[family].items():
        found = {each.linear for name, each in layout.tensors.items() if name.endswith(f".{part}") or name == part}
        assert found == {linear}, (part, found)
    scales = layout.scales(Noise(scale="modular"))
    assert scales.keys() == layout.tensors.keys()
    masks = ("recurrence",) if family == "mamba" else ("attention", "mlp")
    for mask in (*masks, "embeddings"):
        selected = layout.scales(Noise(modules=mask)).keys()
        assert 0 < len(selected) < len(layout.tensors)


def with_query_norms():
    config = configuration("cohere")
    config.use_qk_norm = True
    return config


@pytest.mark.parametrize(
    ("config", "part"),
    [(with_query_norms(), "q_norm.weight"), (RwkvConfig(num_hidden_layers=1), "time_mix_key")],
    ids=("cohere", "rwkv"),
)
def test_gains_with_two_or_three_dimensions_hold_no_linear_map(config, part):
    with torch.device("meta"):
        layout = layout_of(AutoModelForCausalLM.from_config(config))
    found = {name: each for name, each in layout.tensors.items() if name.endswith(part)}
    assert found
    assert all(len(each.shape) > 1 and each.linear is None for each in found.values())
    scales = layout.scales(Noise(scale="modular"))
    (vector,) = {scales[name] for name, each in layout.tensors.items() if each.kind == "norm" and len(each.shape) == 1}
    assert {scales[name] for name in found} == {vector}


def test_modules_of_a_model_share_its_weights_out():
    layout = layout_of(open_model(Path(resolve("tiny-adder").prepare().path), torch.float32))
    parts = [set(layout.scales(Noise(modules=mask))) for mask in ("attention", "mlp", "embeddings", "norm")]
    assert sum(map(len, parts)) == len(layout.tensors)
    assert set.union(*parts) == set(layout.tensors)
