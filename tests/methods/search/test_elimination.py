import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from methods.search.elimination import chances_of_top, predict, race, slice_ends, survivors

ANY_REWARDS = st.tuples(st.integers(2, 30), st.integers(1, 40)).flatmap(
    lambda shape: st.one_of(
        arrays(np.float64, shape, elements=st.sampled_from([0.0, 1.0])),
        arrays(np.float64, shape, elements=st.floats(0, 1)),
        arrays(np.float64, shape, elements=st.sampled_from([0.0, 0.5, 1.0, np.nan])),
    )
)
CONFIDENCE = st.floats(0.05, 1.0)


def population(rng, *, items=False, candidates=500, examples=200):
    """Return rewards and true accuracies, spread by 3 points around .3; with `items`, examples differ in difficulty."""
    true = np.clip(rng.normal(0.3, 0.03, candidates), 0, 1)
    odds = np.broadcast_to(true[:, None], (candidates, examples))
    if items:
        odds = np.clip(odds - 0.3 + rng.beta(0.3, 0.7, examples), 0, 1)
    return (rng.random(odds.shape) < odds).astype(np.float64), odds.mean(axis=1)


def best(scores, top):
    return np.argsort(-scores, kind="stable")[:top]


@given(ANY_REWARDS, st.integers(1, 10))
def test_at_confidence_one_no_candidate_is_eliminated(rewards, top):
    np.testing.assert_array_equal(race(rewards, top=top, confidence=1.0), rewards.shape[1])


@given(ANY_REWARDS, st.integers(1, 40), CONFIDENCE)
def test_at_least_top_candidates_finish(rewards, top, confidence):
    scored = race(rewards, top=top, confidence=confidence)
    assert np.count_nonzero(scored == rewards.shape[1]) >= min(top, rewards.shape[0])
    assert set(scored.tolist()) <= set(slice_ends(rewards.shape[1]))


@pytest.mark.slow
@given(
    arrays(np.float64, (20, 24), elements=st.sampled_from([0.0, 1.0])),
    CONFIDENCE,
    st.permutations(range(20)),
    st.data(),
)
def test_the_order_of_candidates_does_not_matter(rewards, confidence, order, data):
    top = data.draw(st.integers(1, 19))
    scored = race(rewards, top=top, confidence=confidence)
    np.testing.assert_array_equal(race(rewards[order], top=top, confidence=confidence), scored[order])


@given(arrays(np.float64, st.integers(2, 40), elements=st.floats(0, 1)), st.integers(1, 10), CONFIDENCE)
def test_without_noise_a_race_finds_the_same_top_as_full_scoring(rates, top, confidence):
    rewards = np.repeat(rates[:, None], 60, axis=1)
    scored = race(rewards, top=top, confidence=confidence)
    scores = np.where(scored == 60, rates, -1.0)
    np.testing.assert_array_equal(best(scores, top), best(rates, top))


def test_without_noise_the_first_elimination_leaves_the_top_alone():
    rewards = np.repeat(np.linspace(0, 1, 50)[:, None], 200, axis=1)
    scored = race(rewards, top=5, confidence=0.95)
    assert sorted(scored.tolist()) == [25] * 45 + [200] * 5


@pytest.mark.slow
@pytest.mark.parametrize("items", [False, True])
def test_45_percent_of_the_evaluations_suffice_for_a_top_within_0_2_points(items):
    rng = np.random.default_rng(0)
    shares, losses = [], []
    for _ in range(200):
        rewards, true = population(rng, items=items)
        scored = race(rewards, top=50, confidence=0.95)
        scores = rewards.mean(axis=1)
        shares.append(scored.mean() / 200)
        losses.append(true[best(scores, 50)].mean() - true[best(np.where(scored == 200, scores, -1), 50)].mean())
    assert np.mean(shares) <= 0.45
    assert np.mean(losses) <= 0.002


def test_a_higher_confidence_eliminates_fewer_candidates():
    rewards, _ = population(np.random.default_rng(1))
    cost = [race(rewards, top=50, confidence=c).sum() for c in (0.8, 0.9, 0.95, 0.99, 0.999)]
    assert cost == sorted(cost)


@pytest.mark.slow
def test_predictions_are_calibrated():
    """Predict from 50 of 200 examples of varying difficulty; compare with the full scores."""
    rng = np.random.default_rng(2)
    errors = []
    for _ in range(20):
        rewards, _ = population(rng, items=True)
        seen = np.where(np.arange(200) < 50, rewards, np.nan)
        prediction = predict(seen, np.full(500, 50), slice_ends(200))
        full = rewards.mean(axis=1) - rewards.mean()
        errors.append((full - prediction.mean + prediction.mean.mean()) / prediction.deviation)
    assert np.mean(errors) == pytest.approx(0.0, abs=0.05)
    assert np.std(errors) == pytest.approx(1.0, abs=0.05)


def test_harder_slices_do_not_bias_the_predictions():
    """Score some candidates on easy examples, and others on hard ones too; predictions must differ by merit alone."""
    rng = np.random.default_rng(3)
    true = rng.normal(0, 0.05, 400)
    odds = np.where(np.arange(200) < 100, 0.8, 0.3) + true[:, None]
    rewards = (rng.random((400, 200)) < odds).astype(np.float64)
    scored = np.where(rewards[:, :100].mean(axis=1) > 0.8, 200, 100)
    full = rewards.mean(axis=1)
    rewards[scored == 100, 100:] = np.nan
    prediction = predict(rewards, scored, slice_ends(200))
    bias = [np.mean(full[scored == n] - prediction.mean[scored == n]) for n in (100, 200)]
    assert np.nanmean(rewards[scored == 200]) < np.nanmean(rewards[scored == 100])  # the naive comparison misleads
    assert bias[0] == pytest.approx(bias[1], abs=0.01)


def test_chances_add_up_to_the_size_of_the_top():
    rng = np.random.default_rng(4)
    chances = chances_of_top(rng.normal(size=100), rng.uniform(0, 2, 100), 7)
    assert chances.sum() == pytest.approx(7)


def test_a_finished_candidate_stays_in_the_race():
    rewards = np.full((4, 16), np.nan)
    rewards[0], rewards[1, :8], rewards[2:, :8] = 1.0, 1.0, 0.0
    active = survivors(rewards, np.array([16, 8, 8, 8]), np.ones(4, bool), [8, 16], top=2, confidence=0.95)
    np.testing.assert_array_equal(active, [True, True, False, False])


@pytest.mark.parametrize(("top", "confidence"), [(0, 0.9), (1, 0.0), (1, 1.1)])
def test_impossible_arguments_are_refused(top, confidence):
    with pytest.raises(ValueError, match=f"top is {top} and confidence {confidence}"):
        survivors(np.zeros((3, 8)), np.full(3, 8), np.ones(3, bool), [8], top=top, confidence=confidence)


@given(st.integers(1, 2000))
def test_slices_grow_and_cover_the_split(examples):
    ends = slice_ends(examples)
    assert ends[-1] == examples
    assert ends == sorted(set(ends))
    assert ends[0] >= min(8, examples)
    assert slice_ends(200) == [25, 35, 50, 71, 100, 141, 200]
