import numpy as np
import pytest

from bench.models.source import resolve
from bench.weights import sketch as module
from bench.weights.layout import Layout, TensorLayout
from bench.weights.noise import Noise, draw
from bench.weights.sketch import layout_of_checkpoint, sketch


def sizes(**sizes):
    return Layout({name: TensorLayout((size,)) for name, size in sizes.items()})


SIZES = sizes(**{"a.weight": 3000, "b.weight": 5000})


def vectors(seeds, kind="iid"):
    found = np.empty((len(seeds), 8000), np.float32)
    for row, seed in zip(found, seeds, strict=True):
        draw(seed, "a.weight", row[:3000], kind=kind)
        draw(seed, "b.weight", row[3000:], kind=kind)
    return found / np.sqrt(8000)


@pytest.mark.parametrize("chunk", [module.CHUNK, 256])
def test_inner_products_have_the_documented_accuracy(chunk, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", chunk)  # noise that restarted in each chunk would change the products
    seeds = tuple(range(10))
    true = vectors(seeds)
    gram = true @ true.T
    for dimensions in (256, 4096):
        found = sketch(seeds, SIZES, dimensions)
        assert found.shape == (10, dimensions)
        errors = (found @ found.T - gram)[np.triu_indices(10)]
        assert np.sqrt(np.square(errors).mean()) < 1.5 * np.sqrt(2 / dimensions)


def test_a_sketch_is_linear_in_the_noise_and_the_same_for_every_population():
    seeds = (5, 6, 7, 8, 9, 10, 11, 12, 13)  # more than one group
    found = sketch(seeds, SIZES, 64)
    np.testing.assert_allclose(found[-1:], sketch((13,), SIZES, 64))
    # Each weight goes to one coordinate with one sign, so a tensor of one weight can be recovered from its sketch.
    (value,) = sketch((3,), sizes(one=1), 8)
    noise = np.empty(1, np.float32)
    draw(3, "one", noise)
    assert np.count_nonzero(value) == 1
    assert abs(value[value != 0][0]) == abs(noise[0])


def test_tied_noise_is_sketched_as_such():
    equal = sizes(**{"a.weight": 4000, "b.weight": 4000})
    found = sketch((1, 2), equal, 4096, noise=Noise("tied"))
    assert abs(found[0] @ found[0] - 1) < 0.1
    assert not np.allclose(found, sketch((1, 2), equal, 4096))


def test_weights_are_counted_once_each():
    tensors = layout_of_checkpoint(resolve("tiny-adder").prepare().path).tensors
    assert sum(each.size for each in tensors.values()) == 333_984
    assert "model.layers.0.self_attn.q_proj.weight" in tensors
