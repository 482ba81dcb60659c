"""The gate's bounds against a full enumeration of fair coins, its decisions, and its power against simulation."""

import itertools
import math
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bench.stats.gate import (
    GateDesign,
    _bound,
    decide,
    detectable_gain,
    expected_items,
    keep_probability,
)

SMALL = [GateDesign(items, level) for items in (1, 2, 3, 5, 6, 8) for level in (0.05, 0.3)]
designs = st.builds(GateDesign, st.integers(1, 120), st.sampled_from([0.01, 0.05, 0.2]))


def sequences(looks):
    """Every sequence of cumulative discordant pairs."""
    steps = [range(b - a + 1) for a, b in itertools.pairwise((0, *looks))]
    return [tuple(itertools.accumulate(path)) for path in itertools.product(*steps)]


def bounds(design, discordant):
    return [_bound(design, discordant[:look]).needed for look in range(1, len(discordant) + 1)]


def spent(needed, discordant):
    """Probability of having been kept by each look, as exact fractions, from every sequence of fair coins."""
    kept = [0] * len(discordant)
    for coins in itertools.product((0, 1), repeat=discordant[-1]):
        crossed = [b is not None and sum(coins[:m]) >= b for m, b in zip(discordant, needed, strict=True)]
        kept = [k + any(crossed[: look + 1]) for look, k in enumerate(kept)]
    return [Fraction(k, 2 ** discordant[-1]) for k in kept]


def within(probability, design, items):
    """Whether a probability is at most level * share^1.5, compared as squares of exact fractions."""
    return probability**2 <= Fraction(design.level) ** 2 * Fraction(items, design.items) ** 3


def play(design, steps):
    """Decide look by look, from the (fixes, regressions) of each look alone, until the gate has decided."""
    fixes, regressions = np.cumsum(steps, axis=0).T.tolist()
    counts = list(zip(fixes, regressions, strict=True))
    for look in range(1, len(counts) + 1):
        decision = decide(design, counts[:look])
        if decision is not None:
            return decision
    return None


@st.composite
def outcomes(draw):
    """A design, and the (fixes, regressions) of each of its looks."""
    design = draw(designs)
    steps = []
    for size in np.diff((0, *design.looks)).tolist():
        fixes = draw(st.integers(0, size))
        steps.append((fixes, draw(st.integers(0, size - fixes))))
    return design, steps


@pytest.mark.parametrize("design", SMALL, ids=str)
def test_bounds_spend_at_most_their_share_of_the_level_and_none_could_be_lower(design):
    for discordant in sequences(design.looks):
        needed = bounds(design, discordant)
        for probability, items in zip(spent(needed, discordant), design.looks, strict=True):
            assert within(probability, design, items)
        for look, bound in enumerate(needed):
            lower = discordant[look] if bound is None else bound - 1
            if lower >= 0:
                trial = spent([*needed[:look], lower], discordant[: look + 1])[look]
                assert not within(trial, design, design.looks[look])


@given(outcomes())
def test_the_error_rate_holds_for_sequences_of_any_length(outcome):
    design, steps = outcome
    discordant = tuple(np.cumsum(np.sum(steps, axis=1)).tolist())
    needed, open_, before, kept = bounds(design, discordant), {0: 1}, 0, 0  # number of coin sequences by fixes
    for items, pairs, bound in zip(design.looks, discordant, needed, strict=True):
        coins = pairs - before
        following: dict[int, int] = {}
        for fixes, ways in open_.items():
            for more in range(coins + 1):
                following[fixes + more] = following.get(fixes + more, 0) + ways * math.comb(coins, more)
        crossed = {f for f in following if bound is not None and f >= bound}
        kept = kept * 2**coins + sum(following[f] for f in crossed)
        open_, before = {f: ways for f, ways in following.items() if f not in crossed}, pairs
        assert within(Fraction(kept, 2**pairs), design, items)


@given(outcomes())
def test_every_gate_decides_at_its_last_look_at_the_latest_and_says_why(outcome):
    design, steps = outcome
    decision = play(design, steps)
    assert decision is not None
    last = decision.looks[-1]
    assert (last.items, last.fixes, last.regressions) == (decision.items, decision.fixes, decision.regressions)
    assert decision.accepted == (last.needed is not None and last.fixes >= last.needed)
    assert all(look.needed is None or look.fixes < look.needed for look in decision.looks[:-1])
    assert decision.gain == (decision.fixes - decision.regressions) / decision.items
    assert decision.reason.startswith("kept" if decision.accepted else "rejected")
    if decision.accepted:
        assert decision.gain > 0


@given(outcomes(), st.data())
def test_one_more_fix_in_place_of_a_regression_never_rejects_a_kept_change(outcome, data):
    design, steps = outcome
    look = data.draw(st.integers(0, len(steps) - 1))
    assume(steps[look][1] > 0)
    better = [(f + 1, r - 1) if k == look else (f, r) for k, (f, r) in enumerate(steps)]
    if play(design, steps).accepted:
        assert play(design, better).accepted


def test_a_clear_gain_is_kept_early():
    design = GateDesign(128)
    decision = decide(design, [(3, 1), (11, 1)])
    assert decision.accepted
    assert (decision.items, decision.fixes, decision.regressions, decision.level) == (64, 11, 1, 0.05)
    assert decision.gain == 10 / 64
    assert decision.reason == "kept at look 2 of 4: 11 fixes against 1 regression, 11 were needed"
    assert [look.needed for look in decision.looks] == [None, 11]


def test_a_loss_is_rejected_early():
    decision = decide(GateDesign(128), [(1, 6)])
    assert (decision.accepted, decision.items) == (False, 32)
    assert decision.reason == (
        "rejected at look 1 of 4: 1 fix against 6 regressions, too few to show a gain on the remaining 96 items"
    )


def test_a_small_gain_needs_more_items():
    assert decide(GateDesign(128), [(3, 1)]) is None
    assert decide(GateDesign(128), [(3, 1), (6, 2)]) is None


def test_an_unchanged_model_is_rejected_at_the_last_look():
    decision = decide(GateDesign(16), [(0, 0)] * 4)
    assert (decision.accepted, decision.items, decision.gain) == (False, 16, 0)
    assert decision.reason == (
        "rejected at look 4 of 4: 0 fixes against 0 regressions, too few changed answers to show a gain"
    )


@pytest.mark.parametrize(
    ("items", "looks"),
    [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (4, (1, 2, 3, 4)), (10, (3, 5, 8, 10)), (544, (136, 272, 408, 544))],
)
def test_looks_are_after_each_quarter_of_the_items(items, looks):
    assert GateDesign(items).looks == looks


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([], "0 looks: 1 to 4"),
        ([(1, 0)] * 5, "5 looks: 1 to 4"),
        ([(2, 1), (1, 1)], "never fall"),
        ([(-1, 0)], "at least 0"),
        ([(5, 4)], "more items changed"),
        ([(0, 0), (5, 4)], "more items changed"),
        ([(0, 8), (0, 9)], "decided at look 1"),
    ],
)
def test_counts_that_cannot_be_are_refused(counts, message):
    with pytest.raises(ValueError, match=message):
        decide(GateDesign(32), counts)


def test_designs_and_shares_out_of_range_are_refused():
    with pytest.raises(ValueError, match="items is 0"):
        GateDesign(0)
    with pytest.raises(ValueError, match="level is 1"):
        GateDesign(8, 1.0)
    with pytest.raises(ValueError, match=r"fixes is 0\.6, regressions is 0\.5"):
        keep_probability(GateDesign(8), 0.6, 0.5)
    with pytest.raises(ValueError, match="power is 1"):
        detectable_gain(GateDesign(8), power=1.0)


@pytest.mark.parametrize(
    ("items", "fixes", "regressions"),
    [(8, 0.9, 0.0), (32, 0.23, 0.03), (48, 0.1, 0.0), (128, 0.1, 0.05), (272, 0.02, 0.02), (544, 0.13, 0.07)],
)
def test_power_and_cost_agree_with_simulation(items, fixes, regressions):
    design, runs = GateDesign(items), 4000
    rng = np.random.default_rng(items)
    shares = [fixes, regressions, 1 - fixes - regressions]
    sizes = np.diff((0, *design.looks))
    played = [play(design, steps) for steps in rng.multinomial(sizes, shares, (runs, sizes.size))[:, :, :2]]
    kept, used = np.array([(decision.accepted, decision.items) for decision in played]).T
    probability = keep_probability(design, fixes, regressions)
    assert kept.mean() == pytest.approx(probability, abs=0.005 + 4 * math.sqrt(probability * (1 - probability) / runs))
    spread = 4 * used.std() / math.sqrt(runs)
    assert used.mean() == pytest.approx(expected_items(design, fixes, regressions), abs=0.005 * items + spread)


@pytest.mark.parametrize("items", [16, 32, 64, 136, 272, 544, 1000])
@pytest.mark.parametrize("rate", [0.06, 0.3, 1.0])
def test_a_change_without_a_gain_is_kept_in_at_most_five_percent_of_runs(items, rate):
    assert keep_probability(GateDesign(items), rate / 2, rate / 2) <= 0.05


def test_twice_the_items_keep_more_gains_than_one_exact_test_at_less_than_twice_the_cost():
    design = GateDesign(544)
    assert keep_probability(design, 0.13, 0.07) > 0.88  # one exact test on 272 items: 0.68
    assert expected_items(design, 0.13, 0.07) < 1.31 * 272
    assert keep_probability(GateDesign(32), 0.23, 0.03) > 0.63  # on 16 items: 0.21


def test_the_detectable_gain_is_kept_with_the_power_asked_for():
    for items in (32, 128, 544):
        design = GateDesign(items)
        gain = detectable_gain(design)
        assert keep_probability(design, 0.05 + gain, 0.05) == pytest.approx(0.8, abs=0.01)
    assert detectable_gain(GateDesign(128)) < detectable_gain(GateDesign(128), regressions=0.1)
    assert detectable_gain(GateDesign(128), power=0.5) < detectable_gain(GateDesign(128))


def test_four_items_detect_no_gain():
    assert detectable_gain(GateDesign(4)) is None
    assert detectable_gain(GateDesign(100), regressions=0.5) is None
    assert keep_probability(GateDesign(4), 1.0, 0.0) == 0
    assert expected_items(GateDesign(4), 0.0, 0.0) == 4


def test_certain_fixes_are_kept():
    assert keep_probability(GateDesign(16), 1.0, 0.0) == pytest.approx(1)
    assert keep_probability(GateDesign(16), 0.0, 1.0) == 0
    assert expected_items(GateDesign(16), 0.0, 1.0) == pytest.approx(4)


def test_decisions_take_milliseconds():
    design = GateDesign(2000)
    _bound.cache_clear()
    start = time.process_time()
    decide(design, [(130, 120), (260, 240), (390, 360), (510, 480)])
    assert time.process_time() - start < 0.05
