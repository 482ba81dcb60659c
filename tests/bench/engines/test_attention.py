import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.compute.profile import attended_in_layer
from bench.engines import attention, attention_numba
from bench.engines.attention import among_prompts, computed_among_prompts, to_stored, to_stored_by_torch

SCALE = 0.3
WIDTH, VALUE_WIDTH = 8, 6


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_definition(query, keys, values, position, window):
    """Attention of one token in float64. Query [heads, width], keys and values [key-value heads, columns, width]."""
    first = 0 if window is None else max(0, position + 1 - window)
    shared = len(query) // len(keys)
    found = []
    for head, one in enumerate(query.double().numpy()):
        key, value = (x[head // shared, first : position + 1].double().numpy() for x in (keys, values))
        scores = np.exp(SCALE * key @ one)
        found.append(scores / scores.sum() @ value)
    return np.array(found)


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("tokens", [1, 31, 32, 70])
@pytest.mark.parametrize("window", [None, 1, 20, 70, 200])
def test_tokens_of_prompts_attend_to_themselves_and_those_before(tokens, window):
    query, key, value = drawn(2, 6, tokens, WIDTH), drawn(2, 2, tokens, WIDTH, seed=1), drawn(2, 2, tokens, 6, seed=2)
    found = among_prompts(query, key, value, SCALE, window)
    for sequence in range(2):
        for token in range(tokens):
            expected = by_definition(query[sequence, :, token], key[sequence], value[sequence], token, window)
            np.testing.assert_allclose(found[sequence, :, token].numpy(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("window", [None, 20])
def test_blocks_compute_little_more_than_what_is_attended_to(window):
    for tokens in (1, 32, 100, 500):
        needed = attended_in_layer(window, 0, tokens)
        computed = computed_among_prompts(torch.device("cpu"), tokens, window)
        assert needed <= computed <= needed + attention.BLOCK * tokens


@pytest.mark.parametrize("window", [None, 1, 5])
@pytest.mark.parametrize("heads", [2, 6])
def test_single_tokens_attend_to_the_columns_of_their_rows(threads, window, heads):
    keys, values = drawn(4, 2, 30, WIDTH), drawn(4, 2, 30, VALUE_WIDTH, seed=1)
    row, position = torch.tensor([0, 0, 3, 1, 2]), torch.tensor([7, 8, 29, 0, 15])
    query = drawn(5, heads, WIDTH, seed=2)
    found = to_stored(query, keys, values, row, position, SCALE, window)
    for token in range(5):
        own = row[token]
        expected = by_definition(query[token], keys[own], values[own], int(position[token]), window)
        np.testing.assert_allclose(found[token].numpy(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("window", [None, 1, 5])
def test_compiled_loops_and_torch_s_attention_agree(window):
    keys, values, position = drawn(4, 2, 20, WIDTH), drawn(4, 2, 20, WIDTH, seed=1), torch.tensor([4, 0, 17])
    given = drawn(3, 6, WIDTH, seed=2), keys, values, torch.arange(3), position, SCALE, window
    torch.testing.assert_close(to_stored_by_torch(*given), to_stored(*given), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_prompts_are_about_as_exact_as_with_torch_s_kernel(dtype):
    query, key, value = (3 * drawn(2, 4, 90, 64, seed=n).to(dtype) for n in range(3))
    exact, ours, torchs = (
        among_prompts(query.double(), key.double(), value.double(), 0.125, None),
        among_prompts(query, key, value, 0.125, None),
        torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True),
    )
    assert (ours - exact).norm() < 1.5 * (torchs - exact).norm()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 19)), min_size=1, max_size=8))
@settings(max_examples=25, deadline=None)
def test_a_token_s_result_does_not_depend_on_the_others_of_its_pass(places):
    keys, values = drawn(4, 1, 20, WIDTH), drawn(4, 1, 20, WIDTH, seed=1)
    query = drawn(8, 2, WIDTH, seed=2)[: len(places)]
    row, position = torch.tensor(places).unbind(-1)
    together = to_stored(query, keys, values, row, position, SCALE, None)
    for i in range(len(places)):
        alone = to_stored(query[i : i + 1], keys, values, row[i : i + 1], position[i : i + 1], SCALE, None)
        torch.testing.assert_close(together[i], alone[0], rtol=0, atol=1e-6)


def test_bfloat16_is_read_exactly_and_summed_in_float32():
    keys, query = drawn(1, 1, 9, WIDTH).bfloat16(), drawn(1, 1, WIDTH, seed=1)
    out = np.empty((1, 1, 9), np.float32)
    zero = np.zeros(1, np.int64)
    attention_numba.scores(query.numpy(), keys.view(torch.uint16).numpy(), zero, zero, zero + 8, out)
    np.testing.assert_allclose(out[0, 0], (keys[0, 0].double() @ query[0, 0].double()).numpy(), rtol=0, atol=1e-5)


def test_columns_that_are_not_attended_to_may_hold_anything():
    keys, values = drawn(1, 1, 9, WIDTH), drawn(1, 1, 9, WIDTH, seed=1)
    query, row, position = drawn(1, 2, WIDTH, seed=2), torch.tensor([0]), torch.tensor([4])
    expected = to_stored(query, keys, values, row, position, SCALE, None)
    keys[:, :, 5:] = values[:, :, 5:] = torch.nan
    assert torch.equal(to_stored(query, keys, values, row, position, SCALE, None), expected)
