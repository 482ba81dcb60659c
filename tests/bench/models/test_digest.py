import pytest
import torch

from bench.models.digest import digest


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(0)
    return {
        "a.weight": torch.randn(8, 6, generator=generator),
        "b.weight": torch.randn(6, generator=generator).bfloat16(),
        "c.scale": torch.tensor(2.5),
        "d.empty": torch.empty(0, 3),
    }


def test_is_a_known_value():
    # The sha256 of the concatenation, in order of names, of sha256(name NUL dtype NUL shape NUL bytes).
    assert (
        digest({"w": torch.tensor([[1.0, 2.0]]), "b": torch.tensor([0.5], dtype=torch.bfloat16)})
        == "56cb3c1317ade7bdcac46f6cac53bb7ab2b2e1b977b6f1413d9bc82e392bfd86"
    )


def test_ignores_the_order_of_tensors(tensors):
    assert digest(dict(reversed(tensors.items()))) == digest(tensors)


def test_ignores_the_layout_in_memory(tensors):
    turned = {**tensors, "a.weight": tensors["a.weight"].t().contiguous().t()}
    assert not turned["a.weight"].is_contiguous()
    assert digest(turned) == digest(tensors)


@pytest.mark.parametrize("name", ["a.weight", "b.weight", "c.scale"])
def test_sees_one_changed_bit(tensors, name):
    changed = {key: value.clone() for key, value in tensors.items()}
    changed[name].view(-1).view(torch.uint8)[0] ^= 1
    assert digest(changed) != digest(tensors)


def test_sees_name_shape_and_dtype(tensors):
    weight = tensors["a.weight"]
    variants = [
        {"a.weight": weight},
        {"b.weight": weight},
        {"a.weight": weight.reshape(6, 8)},
        {"a.weight": weight.view(torch.int32)},
        {"a.weight": weight[:4].clone(), "a.weight2": weight[4:].clone()},
    ]
    assert len({digest(variant) for variant in variants}) == len(variants)


def test_rejects_a_tensor_under_two_names(tensors):
    with pytest.raises(ValueError, match=r"a\.weight and head\.weight are one tensor"):
        digest({**tensors, "head.weight": tensors["a.weight"]})
