import pytest
import torch
from safetensors.torch import save_file

from bench.models.source import resolve
from bench.weights.rounding import SAMPLE, kept


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_estimate_is_that_of_moving_and_rounding_every_weight(tmp_path, stored, dtype):
    kind = getattr(torch, dtype)
    torch.manual_seed(0)
    # Values on both grids, so that the weights begin where the type can hold them.
    weights = [(scale * torch.randn(300)).bfloat16().to(kind).to(stored) for scale in (0.02, 1.0)]
    save_file({"a": weights[0], "b": weights[1].view(3, 100)}, tmp_path / "model.safetensors", metadata={"x": "y"})
    base = torch.cat(weights).to(kind).float()
    for distance in (1e-5, 1e-4, 1e-3):
        # Away from zero, as the grid is finer below a power of two than above.
        moved = (base + distance * base.sign()).to(kind).float()
        move, rest = distance * base.sign(), moved - base
        cosine = float(torch.nn.functional.cosine_similarity(move, rest, dim=0))
        found = kept(tmp_path, distance, dtype)
        assert found.changed == pytest.approx(float((rest != 0).float().mean()), abs=0.02)
        assert found.cosine == pytest.approx(cosine, abs=0.02)


def test_one_weight_changes_from_half_a_step_of_its_grid_on(tmp_path):
    save_file({"a": torch.tensor([1.0])}, tmp_path / "model.safetensors")
    step = 2.0**-7
    below, above = kept(tmp_path, 0.49 * step, "bfloat16"), kept(tmp_path, 0.51 * step, "bfloat16")
    assert (below.changed, below.cosine) == (0.0, 0.0)
    assert (above.changed, above.cosine) == (1.0, pytest.approx(1.0))


def test_large_tensors_are_sampled_and_count_by_their_size(tmp_path):
    save_file({"large": torch.full((3 * SAMPLE,), 1.0), "small": torch.zeros(SAMPLE)}, tmp_path / "model.safetensors")
    assert kept(tmp_path, 1e-4, "bfloat16").changed == pytest.approx(0.25)


def test_float32_and_a_folder_without_weights_give_no_estimate(tmp_path):
    assert kept(tmp_path, 1e-5, "bfloat16") is None
    assert kept(resolve("tiny-adder").local(), 1e-5, "float32") is None
