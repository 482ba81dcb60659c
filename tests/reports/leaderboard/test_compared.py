"""Differences from another row than the base, by the procedure of those from the base."""

from dataclasses import replace

import numpy as np
import pytest

from bench.stats import RowAnswers, difference_over_seeds, pairwise_difference
from reports.leaderboard.compared import compared
from reports.leaderboard.group import LeaderboardRow, SeedRun
from reports.leaderboard.rows import ScoredRow, as_trained

ITEMS = 200


def answers(rate, seeds=5, seed=0):
    """Return correctness of shape [items, seeds], on items of which the first are easiest."""
    rng = np.random.default_rng(seed)
    easy = np.linspace(1.5, 0.5, ITEMS)[:, None] * rate
    return (rng.random((ITEMS, seeds)) < easy).astype(float)


BASE = answers(0.4, seeds=1)


def row(name, correct, changed=None, **fields):
    changed = np.ones(correct.shape[1], dtype=bool) if changed is None else changed
    runs = tuple(SeedRun(name, seed, "ok", accuracy=0.5) for seed in range(correct.shape[1]))
    line = LeaderboardRow(name, name, returned_base=not changed.any(), runs=runs, **fields)
    before = np.repeat(BASE, correct.shape[1], axis=1)
    trained = as_trained(before, correct, changed) if changed.any() else None
    return ScoredRow(line, np.ones(ITEMS, dtype=bool), correct, trained)


def base():
    return ScoredRow(LeaderboardRow("base", "base", bound=True, is_base=True), np.ones(ITEMS, dtype=bool), BASE)


def lines(rows, against, same_rules=True):
    found, count, notes = compared(rows, against, None, same_rules=same_rules)
    return {each.line.name: each.line for each in found}, count, notes


ROWS = (
    base(),
    row("good", answers(0.65, seed=1)),
    row("same", answers(0.65, seed=2)),
    row("poor", answers(0.2, seed=3)),
)


def test_each_row_is_better_or_worse_than_the_other_one_or_cannot_be_told_apart():
    found, count, notes = lines(ROWS, "good")
    assert {name: line.verdict for name, line in found.items()} == {
        "base": "worse",
        "good": None,
        "same": "cannot be told",
        "poor": "worse",
    }
    assert (count, notes) == (3, ())
    found, _, _ = lines(ROWS, "poor")
    assert found["good"].verdict == "better"


def test_the_base_is_as_far_from_a_row_as_the_row_from_the_base():
    against, count, _ = lines(ROWS, "good")
    usual, same_count, _ = lines(ROWS, "")
    assert count == same_count
    one, two = against["base"].difference, usual["good"].difference
    assert (one.value, one.low, one.high, one.p_value) == (-two.value, -two.high, -two.low, two.p_value)
    assert usual["base"].difference is None


def test_an_interval_is_that_of_the_pair_with_bonferronis_correction():
    found, count, _ = lines(ROWS, "good")
    changed = np.ones(5, dtype=bool)
    one, two = (RowAnswers(each.correct, BASE, changed) for each in (ROWS[1], ROWS[2]))
    alone = pairwise_difference(one, two, confidence=1 - 0.05 / count)
    line = found["same"].difference
    assert (line.low, line.high) == (alone.low, alone.high)
    assert line.p_value == min(count * alone.p_value, 1)
    assert line.value == pytest.approx(ROWS[2].correct.mean() - ROWS[1].correct.mean())


def test_rows_with_the_same_answers_are_one_comparison_and_a_copy_is_none():
    rows = (*ROWS, row("twin", ROWS[3].correct), row("copy", ROWS[1].correct))
    found, count, _ = lines(rows, "good")
    assert count == 3
    assert found["twin"].difference == found["poor"].difference
    assert (found["copy"].difference.interval, found["copy"].verdict) == (None, "cannot be told")


def test_what_has_no_letters_has_no_interval():
    few = row("few", answers(0.9, seeds=3))
    failed = row("failed", answers(0.9, seed=5))
    lost = SeedRun("failed", 9, "failed", "out of memory")
    failed = ScoredRow(
        LeaderboardRow("failed", "failed", runs=(*failed.line.runs, lost)),
        failed.judged,
        failed.correct,
        failed.trained,
    )
    back = row("back", np.repeat(BASE, 5, axis=1), np.zeros(5, dtype=bool))
    found, count, _ = lines((*ROWS, few, failed, back), "good")
    assert count == 3
    assert (found["few"].difference.interval, found["few"].verdict) == (None, "cannot be told")
    assert (found["failed"].difference.interval, found["failed"].verdict) == (None, None)
    assert found["back"].difference is None
    for name in ("few", "failed", "back"):
        found, count, notes = lines((*ROWS, few, failed, back), name)
        assert (count, notes) == (0, (f"{name} has no letters, so no difference from it has an interval",))
        assert {line.verdict for line in found.values()} <= {"cannot be told", None}


def test_a_table_without_the_row_or_without_common_rules_compares_nothing():
    found, count, notes = lines(ROWS, "es")
    assert (count, notes) == (0, ("no row is named es here, so nothing is compared",))
    assert {line.difference for line in found.values()} == {None}
    found, count, notes = lines(ROWS, "good", same_rules=False)
    assert (count, notes) == (0, ("rows by rules of their own are compared with the base alone",))
    assert {line.difference for line in found.values()} == {None}


def test_items_that_were_not_judged_for_one_of_the_two_are_left_out():
    judged = np.arange(ITEMS) % 2 == 0
    good = ROWS[1]
    of_base = np.repeat(BASE, 5, axis=1)[judged]
    trained = as_trained(of_base, good.correct[judged], np.ones(5, dtype=bool))
    half = replace(good, judged=judged, trained=trained)
    found, _, _ = lines((base(), half, ROWS[3]), "poor")
    expected = (good.correct - ROWS[3].correct)[judged].mean()
    assert found["good"].difference.value == pytest.approx(expected)


def test_two_rows_of_one_seed_have_the_interval_of_one_seed():
    one, two = answers(0.4, seeds=1, seed=6), answers(0.6, seeds=1, seed=7)
    assert pairwise_difference(RowAnswers(one), RowAnswers(two)) == difference_over_seeds(one, two)
    assert pairwise_difference(RowAnswers(one), RowAnswers(two), clusters=np.arange(ITEMS) // 4) != (
        difference_over_seeds(one, two)
    )


def test_a_row_that_can_abstain_is_told_apart_by_less_and_from_the_base_as_ever():
    good, poor, changed = answers(0.65, seed=1), answers(0.3, seed=3), np.ones(5, dtype=bool)
    sure = pairwise_difference(RowAnswers(poor), RowAnswers(good))
    wide = pairwise_difference(RowAnswers(poor), RowAnswers(good, BASE, changed))
    assert wide.low < sure.low < sure.high == pytest.approx(wide.high)
    assert wide.p_value >= sure.p_value
    from_base = pairwise_difference(RowAnswers(BASE), RowAnswers(good, BASE, changed))
    usual = difference_over_seeds(np.repeat(BASE, 5, axis=1), good, changed=changed)
    assert (from_base.low, from_base.high) == pytest.approx((usual.low, usual.high), abs=0.02)


@pytest.mark.parametrize("seeds", [(5, 5), (1, 5), (8, 5)])
def test_two_rows_that_are_equally_good_are_told_apart_in_at_most_one_of_twenty_tables(seeds):
    rng = np.random.default_rng(sum(seeds))
    apart = 0
    for _ in range(300):
        easy = rng.beta(1, 1, ITEMS)[:, None]
        one, two = ((rng.random((ITEMS, count)) < easy).astype(float) for count in seeds)
        found = pairwise_difference(RowAnswers(one), RowAnswers(two))
        assert (found.low <= 0 <= found.high) == (found.p_value > 0.05)
        apart += found.p_value <= 0.05
    assert apart <= 24  # 5 % of 300 is 15, with a standard deviation of 3.8
