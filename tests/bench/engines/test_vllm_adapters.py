"""Products of adapters on a CPU, which run without vLLM."""

from types import SimpleNamespace

import pytest
import torch

from bench.engines.vllm.adapters import add_products, padded_rank

ADAPTERS, INPUTS, WIDTHS = 3, 6, (4, 2, 2)


def factors(rank):
    drawn = torch.Generator().manual_seed(0)
    inner = tuple(torch.randn(ADAPTERS, 1, rank, INPUTS, generator=drawn) for _ in WIDTHS)
    return inner, tuple(torch.randn(ADAPTERS, 1, width, rank, generator=drawn) for width in WIDTHS)


@pytest.mark.parametrize("rank", [1, 8])
def test_each_token_gets_the_product_of_its_own_adapter_in_every_part_of_the_outputs(rank):
    (inner, outer), owners = factors(rank), [2, 0, 0, 1, 2]
    x = torch.randn(len(owners), INPUTS, generator=torch.Generator().manual_seed(1))
    y = torch.ones(len(owners), sum(WIDTHS))
    wrapper = SimpleNamespace(no_lora=False, token_lora_indices=torch.tensor(owners))
    add_products(wrapper, y, x, inner, outer, 1.0, WIDTHS)
    for row, owner in enumerate(owners):
        expected = torch.cat([b[owner, 0] @ (a[owner, 0] @ x[row]) for a, b in zip(inner, outer, strict=True)])
        assert torch.allclose(y[row], 1 + expected, atol=1e-5)


def test_an_overflow_of_one_adapter_stays_in_its_own_tokens():
    inner, outer = factors(1)
    inner[0][2] = torch.inf
    y = torch.zeros(2, sum(WIDTHS))
    wrapper = SimpleNamespace(no_lora=False, token_lora_indices=torch.tensor([0, 2]))
    add_products(wrapper, y, torch.ones(2, INPUTS), inner, outer, 1.0, WIDTHS)
    assert y[0].isfinite().all()
    assert not y[1].isfinite().all()


def test_a_batch_without_adapters_is_left_as_it_is():
    inner, outer = factors(1)
    y = torch.ones(2, sum(WIDTHS))
    wrapper = SimpleNamespace(no_lora=True, token_lora_indices=torch.tensor([-1, -1]))
    add_products(wrapper, y, torch.ones(2, INPUTS), inner, outer, 1.0, WIDTHS)
    assert torch.equal(y, torch.ones_like(y))


def test_a_rank_is_filled_up_to_the_next_one_that_vllm_knows():
    assert [padded_rank(rank) for rank in (1, 2, 4, 8, 16)] == [1, 8, 8, 8, 16]
