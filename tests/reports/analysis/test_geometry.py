import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reports.analysis import geometry
from reports.analysis.geometry import MoveSums, along, divergences, drift


def sums(base, *moved):
    """Sums of hand-made checkpoints: lists of weights by kind of layer."""
    found = MoveSums(len(moved))
    for kind in base:
        found.add(kind, np.float32(base[kind]), [np.float32(each[kind]) for each in moved])
    return found


def test_norms_shares_and_cosines_of_hand_made_checkpoints():
    base = {"attention": [3.0, 0.0], "mlp": [4.0, 0.0, 0.0]}
    one = {"attention": [3.0, 3.0], "mlp": [4.0, 4.0, 0.0]}  # moves by (0, 3) and (0, 4, 0)
    two = {"attention": [3.0, 0.0], "mlp": [4.0, 0.0, 2.0]}  # moves by (0, 0) and (0, 0, 2)
    three = {"attention": [3.0, 3.0], "mlp": [4.0, 0.0, 0.0]}  # moves by (0, 3) and (0, 0, 0)
    found = sums(base, one, two, three)
    assert found.weights == 5
    move = found.move(0, "corp", "abc", "addition")
    assert (move.name, move.run, move.task) == ("corp", "abc", "addition")
    assert (move.norm, move.relative) == (5.0, 1.0)
    assert [(part.kind, part.weights, part.norm, part.relative) for part in move.layers] == [
        ("attention", 2, 3.0, 1.0),
        ("mlp", 3, 4.0, 1.0),
    ]
    assert [part.share for part in move.layers] == pytest.approx([9 / 25, 16 / 25])
    assert [part.share for part in found.move(1, "es", "", "").layers] == [0.0, 1.0]
    assert np.array(found.cosines()) == pytest.approx(np.array([[1, 0, 0.6], [0, 1, 0], [0.6, 0, 1]]))


def test_a_kind_whose_base_is_zero_has_no_relative_norm():
    move = sums({"other": [0.0, 0.0]}, {"other": [0.0, 1.0]}).move(0, "es", "", "")
    assert (move.relative, move.layers[0].relative) == (None, None)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 50))
def test_shares_sum_to_one_and_tensors_may_come_in_parts(seed, artifacts, chunk):
    rng = np.random.default_rng(seed)
    tensors = [(kind, rng.normal(size=(1 + artifacts, 40)).astype(np.float32)) for kind in ("mlp", "norm", "mlp")]
    whole, parts = MoveSums(artifacts), MoveSums(artifacts)
    for kind, values in tensors:
        whole.add(kind, values[0], list(values[1:]))
        for start in range(0, 40, chunk):
            part = values[:, start : start + chunk]
            parts.add(kind, part[0], list(part[1:]))
    flat = np.concatenate([values for _, values in tensors], axis=1).astype(np.float64)
    changes = flat[1:] - flat[0]
    for i in range(artifacts):
        move = whole.move(i, "es", "", "")
        assert math.fsum(part.share for part in move.layers) == pytest.approx(1)
        assert move.norm == pytest.approx(np.linalg.norm(changes[i]))
        assert parts.move(i, "es", "", "").norm == pytest.approx(move.norm)
    unit = changes / np.linalg.norm(changes, axis=1, keepdims=True)
    assert np.array(whole.cosines()) == pytest.approx(unit @ unit.T, abs=1e-12)


def test_large_tensors_are_added_in_chunks(monkeypatch):
    monkeypatch.setattr(geometry, "CHUNK", 3)
    base = {"mlp": np.arange(10.0)}
    moved = {"mlp": np.arange(10.0) + 2}
    assert sums(base, moved).move(0, "es", "", "").norm == pytest.approx(2 * math.sqrt(10))


def test_random_directions_have_the_cosines_of_the_null():
    base = np.zeros(4096, dtype=np.float32)
    found = MoveSums(60)
    found.add("mlp", base, list(np.random.default_rng(0).normal(size=(60, 4096)).astype(np.float32)))
    cosines = np.array(found.cosines())[np.triu_indices(60, 1)]
    assert cosines.std() == pytest.approx(1 / math.sqrt(4096), rel=0.1)


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 30))
def test_divergences_are_those_of_torch(seed, scale):
    one, two = np.random.default_rng(seed).normal(size=(2, 5, 12)) * scale
    logs = [torch.log_softmax(torch.from_numpy(logits), dim=1) for logits in (one, two)]
    from_base, to_base = divergences(one, two)
    for found, (p, q) in ((from_base, logs), (to_base, logs[::-1])):
        wanted = torch.nn.functional.kl_div(q, p, reduction="none", log_target=True).sum(dim=1)
        assert found == pytest.approx(wanted.numpy(), rel=1e-9, abs=1e-12)


def test_equal_logits_do_not_diverge_and_an_impossible_token_counts_nothing():
    logits = np.float32([[0.0, 1.0, -np.inf], [2.0, 2.0, 5.0]])
    assert [each.tolist() for each in divergences(logits, logits + 1)] == [[0.0, 0.0], [0.0, 0.0]]


def test_drift_is_the_mean_over_prompts_of_the_mean_over_tokens():
    answers = [(np.array([1.0, 3.0]), np.array([0.0, 2.0])), (np.array([4.0]), np.array([3.0]))]
    found = drift("es", "gsm8k", on_task=False, answers=answers)
    assert (found.prompts, found.tokens) == (2, 3)
    assert (found.from_base.value, found.to_base.value) == (3.0, 2.0)
    assert found.from_base.low == 0.0  # a divergence is never negative
    assert found.from_base.high == pytest.approx(3 + 12.7062, rel=1e-4)  # t of one degree of freedom, error 1


def test_the_barrier_is_the_largest_drop_below_the_line_between_the_ends():
    correct = np.zeros((5, 100), dtype=bool)
    for row, right in zip(correct, (50, 60, 40, 66, 90), strict=True):  # the line is at 50, 60, 70, 80, 90
        row[:right] = True
    found = along("base", "es", "addition", (0.0, 0.25, 0.5, 0.75, 1.0), correct)
    assert found.accuracy == pytest.approx((0.5, 0.6, 0.4, 0.66, 0.9))
    assert (found.barrier.value, found.barrier_at) == (pytest.approx(0.3), 0.5)
    assert 0 < found.barrier.low < 0.3 < found.barrier.high


def test_a_line_without_a_change_has_no_barrier_and_its_interval_is_not_empty():
    found = along("corp", "es", "addition", (0.0, 0.5, 1.0), np.ones((3, 60), dtype=bool))
    assert found.barrier.value == 0
    assert found.barrier.low < -0.05 < 0.05 < found.barrier.high


def test_a_line_that_stays_above_the_ends_has_a_negative_barrier():
    correct = np.array([[0, 0, 1, 0], [1, 1, 1, 0], [1, 0, 0, 0]], dtype=bool)
    assert along("base", "es", "addition", (0.0, 0.5, 1.0), correct).barrier.value == pytest.approx(-0.5)


def test_chance_makes_a_barrier_on_few_lines():
    rng, places, found = np.random.default_rng(0), (0.0, 0.25, 0.5, 0.75, 1.0), 0
    for _ in range(400):
        base = rng.random(200) < 0.5
        # Each model changes answers of the base, better or worse alike, so all accuracies are equal on average.
        changed = [np.where(rng.random(200) < 0.3, rng.random(200) < 0.5, base) for _ in places[1:]]
        found += along("base", "es", "addition", places, np.array([base, *changed])).barrier.low > 0
    assert found / 400 <= 0.05  # 2.5 % are expected
