import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from bench.compute.flops import (
    compute_profile,
    decode_flops,
    flops_rule,
    forward_flops,
    generation_flops,
    is_present_rule,
    prefill_flops,
)
from bench.compute.profile import AttentionLayer, ComputeProfile, attended_in_layer
from bench.errors import UsageError

WINDOWS = st.tuples(st.none() | st.integers(1, 30), st.booleans())
LAYERS = st.builds(
    lambda pair, window, late, layer: AttentionLayer(pair, window[0], window[1] and window[0] is not None, late, layer),
    st.sampled_from([6, 8, 20, 96]),
    WINDOWS,
    st.booleans(),
    st.integers(0, 3),
)
PROFILES = st.builds(
    ComputeProfile,
    token=st.integers(0, 100),
    head=st.integers(0, 100),
    context=st.sampled_from([0, 0, 12, 50]),
    layers=st.lists(LAYERS, max_size=4).map(tuple),
)
LENGTHS = st.integers(0, 60)


def seen(layer: AttentionLayer, position: int) -> int:
    """Return the number of positions that the token at a position attends to, itself included, one by one."""
    first = 0
    if layer.window is not None:
        first = position // layer.window * layer.window if layer.chunked else max(0, position + 1 - layer.window)
    return len(range(first, position + 1))


def by_definition(profile: ComputeProfile, context: int, new: int, kept: int) -> int:
    """Return the FLOPs of one call, one position at a time."""
    total = profile.token * new + profile.head * kept + (profile.context * (context + new) if new else 0)
    for layer in profile.layers:
        queries = kept if layer.late else new
        positions = range(context + new - queries, context + new)
        total += layer.pair * sum(seen(layer, position) for position in positions)
    return total


@given(PROFILES, LENGTHS, LENGTHS, st.data())
def test_a_call_costs_what_its_definition_says(
    profile: ComputeProfile, context: int, new: int, data: st.DataObject
) -> None:
    kept = data.draw(st.integers(0, new))
    attended = profile.attended(context, new, kept)
    found = forward_flops(profile, tokens=new, head_tokens=kept, attended=attended)
    assert found == by_definition(profile, context, new, kept)
    assert decode_flops(profile, context, new) == by_definition(profile, context, new, new)


@given(PROFILES, LENGTHS, LENGTHS)
def test_calls_of_one_token_add_up(profile: ComputeProfile, context: int, new: int) -> None:
    steps = sum(profile.attended(context + step, 1) for step in range(new))
    assert profile.attended_singly(context, new) == steps
    if not profile.context:
        assert profile.attended(context, new) == steps


@given(PROFILES, st.integers(1, 40), st.integers(1, 20))
def test_generation_is_one_pass_of_the_prompt_and_one_of_each_token(
    profile: ComputeProfile, prompt: int, new: int
) -> None:
    passes = [(0, prompt, 1)] + [(prompt + step, 1, 1) for step in range(new - 1)]
    assert generation_flops(profile, prompt, new) == sum(by_definition(profile, *each) for each in passes)


@given(PROFILES)
def test_a_profile_survives_json(profile: ComputeProfile) -> None:
    adapter = TypeAdapter(ComputeProfile)
    assert adapter.validate_python(json.loads(adapter.dump_json(profile)), strict=False) == profile


def test_units_by_hand() -> None:
    alike = ComputeProfile(10, 5, layers=(AttentionLayer(24), AttentionLayer(24, window=2)))
    assert alike.unit == 24
    assert alike.attended(0, 3) == (1 + 2 + 3) + (1 + 2 + 2)  # positions, as all layers cost the same
    assert prefill_flops(alike, 3) == 45 + 24 * 11
    latent = ComputeProfile(10, 5, context=16, layers=(AttentionLayer(24), AttentionLayer(40, window=2, chunked=True)))
    assert latent.unit == 8
    assert latent.attended(3, 2) == 2 * 5 + 3 * (4 + 5) + 5 * (2 + 1)
    assert ComputeProfile(10, 5).unit == 1
    assert ComputeProfile(10, 5).attended(7, 9) == 0


def test_a_late_layer_attends_from_kept_positions_alone() -> None:
    profile = ComputeProfile(10, 5, layers=(AttentionLayer(8), AttentionLayer(8, late=True)))
    assert profile.attended(0, 4, kept=1) == (1 + 2 + 3 + 4) + 4
    assert profile.attended(0, 4) == 2 * (1 + 2 + 3 + 4)


def test_impossible_values_are_refused() -> None:
    profile = ComputeProfile(1, 1)
    with pytest.raises(ValueError, match="context is -1"):
        profile.attended(-1, 2)
    with pytest.raises(ValueError, match="kept is 3: at most new, 2"):
        profile.attended(0, 2, kept=3)
    with pytest.raises(UsageError, match="token is -1"):
        replace(profile, token=-1)
    with pytest.raises(UsageError, match=r"context is 0\.5"):
        replace(profile, context=0.5)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="pair is 0"):
        AttentionLayer(0)
    with pytest.raises(UsageError, match="window is 0"):
        AttentionLayer(4, window=0)
    with pytest.raises(UsageError, match="the size of the chunks"):
        AttentionLayer(4, chunked=True)


def test_positions_in_chunks_by_hand() -> None:
    assert [attended_in_layer(3, context, 1, chunked=True) for context in range(7)] == [1, 2, 3, 1, 2, 3, 1]


def test_versions_of_the_formula_with_the_same_numbers_have_one_rule() -> None:
    assert [flops_rule(version) for version in (1, 2, 3)] == [1, 2, 2]
    assert [is_present_rule(version) for version in (1, 2, 3, 4)] == [False, True, True, False]


def test_a_model_type_that_transformers_lacks_is_refused() -> None:
    with pytest.raises(UsageError, match="model_type is 'rwkv9': not one of the installed version"):
        compute_profile({"model_type": "rwkv9"})
