"""Short versions of the tables of docs/statistics.md. `python -m measurements.statistics` prints the full tables."""

import numpy as np
import pytest
from simulated_seeds import WORLDS, World, accuracy, clustered_coverage, former, joint_coverage, present, rates
from synthetic_board import run

from reports.leaderboard.build import make_board

ABSTAINING = [name for name in WORLDS if name.startswith("kept")]


@pytest.mark.parametrize("name", WORLDS)
def test_tables_have_the_true_mean_of_their_world(name):
    world, found = WORLDS[name], []
    for before, after, _ in world.tables(1000, 5, 200):
        found.append(float(after.mean() - before.mean()))
    assert np.mean(found) == pytest.approx(world.mean, abs=4 * np.std(found) / np.sqrt(200) + 1e-9)


@pytest.mark.parametrize("name", ABSTAINING)
def test_intervals_that_are_shown_cover_in_worlds_with_abstention(name):
    for seeds in (5, 8):
        assert rates(WORLDS[name], 164, seeds, 200).covered >= 0.93
    assert rates(WORLDS[name], 1000, 5, 200).covered >= 0.93
    assert rates(WORLDS[name], 1000, 5, 200, accuracy).covered >= 0.93


@pytest.mark.parametrize("name", ["always kept, +5", "kept 5/6, +15"])
def test_the_simulated_intervals_are_those_of_the_board(name):
    for before, after, kept in WORLDS[name].tables(200, 5, 12):
        texts = ["".join(map(str, column.astype(int))) for column in (before[:, 0], *after.T)]
        pairs = enumerate(zip(texts[1:], kept, strict=True))
        (group,) = make_board([run(s, text, base=texts[0], changed=bool(k)) for s, (text, k) in pairs]).groups
        line = group.lines[1]
        expected, own = present(before, after, kept), accuracy(before, after, kept)
        assert line.difference is not None
        assert expected is not None
        assert own is not None
        assert line.accuracy is not None
        assert line.accuracy.low is not None
        assert line.accuracy.high is not None
        assert (line.difference.low, line.difference.high) == (expected.low, expected.high)
        assert (line.accuracy.low - 0.5, line.accuracy.high - 0.5) == (own.low, own.high)


@pytest.mark.parametrize("name", ["weak base (.02)", "weak base (.1)", "rare changes, +0.2", "always kept, 0"])
def test_intervals_cover_if_few_items_can_change(name):
    for n in (50, 164):
        found = rates(WORLDS[name], n, 8, 200)
        assert found.covered >= 0.91  # two standard errors below 95 %
        assert found.significant <= 0.09


def test_the_former_interval_collapsed_where_all_seeds_abstained():
    world = WORLDS["kept 1/6, +5"]
    assert rates(world, 1000, 3, 200, former).covered < 0.5
    assert rates(world, 1000, 5, 200, former).covered < 0.7
    assert rates(WORLDS["weak base (.02)"], 164, 8, 200, former).covered < 0.9


def test_two_to_four_seeds_show_no_interval():
    for seeds in (2, 3, 4):
        assert rates(World((0.05,)), 50, seeds, 20).shown == 0
    assert rates(World((0.05,)), 50, 5, 20).shown == 1


def test_two_outcomes_are_covered_from_five_seeds_on():
    world = WORLDS["+15 or -15"]
    assert rates(world, 164, 3, 200, former).covered < 0.8
    assert rates(world, 164, 5, 400).covered >= 0.91
    assert rates(world, 164, 10, 200).covered >= 0.91


def test_unknown_clusters_cost_coverage_and_known_ones_do_not():
    unknown, known = (clustered_coverage(50, 5, 5, 200, known=each) for each in (False, True))
    assert unknown[1] < 0.9
    assert min(known) >= 0.91


@pytest.mark.parametrize(("spread", "seeds"), [(0.0, 1), (0.02, 5)])
def test_all_intervals_of_a_table_cover_together(spread, seeds):
    world = World((-spread, spread), between=True, lost=0.05)
    assert joint_coverage(world, 164, seeds, rows=10, count=150) >= 0.91  # two standard errors below 95 %
