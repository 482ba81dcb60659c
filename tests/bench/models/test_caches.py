"""Sizes of caches without values, against the caches that the models make."""

import pytest
import torch
from tiny_families import FAMILIES, configuration, make
from transformers import DynamicCache

from bench.models.caches import cached_layers, cached_values

TOKENS = 60
"""Length of the sequences, beyond all windows."""
QUICK = ("gemma2", "qwen3_next", "falcon", "deepseek_v3", "qwen2_5_vl")
STATES_ELSEWHERE = ("minimax", "recurrent_gemma")
"""Families whose states are not in layers of the cache."""
OTHERS = [name for name in FAMILIES if name not in (*QUICK, *STATES_ELSEWHERE)]


def values(found):
    """Return the number of values of all states in a nest of lists and dicts."""
    if isinstance(found, torch.Tensor):
        return found.numel() if found.ndim > 1 else 0
    nested = found.values() if isinstance(found, dict) else found if isinstance(found, list | tuple) else ()
    return sum(map(values, nested))


@pytest.mark.parametrize("family", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_a_cache_has_as_many_values_as_its_model_makes(family):
    model = make(family)
    with torch.no_grad():
        output = model(input_ids=torch.full((1, TOKENS), 5), use_cache=True)
        cache = output.get("past_key_values") or output.get("cache_params")
        if cache is None:
            cache = DynamicCache(config=model.config)
            model(input_ids=torch.full((1, TOKENS), 5), use_cache=True, past_key_values=cache)
    expected = sum(values(vars(layer)) for layer in cache.layers)
    assert cached_values(cached_layers(configuration(family)), TOKENS) == expected > 0


def test_states_beside_the_layers_of_a_cache_count_too():
    states = {name: [layer.fixed for layer in cached_layers(configuration(name))] for name in STATES_ELSEWHERE}
    assert states["minimax"] == [0, 0, 0, 2 * 4 * 16 * 16]
    assert states["recurrent_gemma"] == [0, 0, 0, 0, 0, 0, 4 * (64 + 64 * 3)]


def test_a_window_can_be_kept_whole():
    layers = cached_layers(configuration("mistral"))
    assert [cached_values(layers, TOKENS, windows=kept) for kept in (True, False)] == [4 * 64 * 23, 4 * 64 * TOKENS]
