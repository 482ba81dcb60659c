"""The front's area over a fixed range of compute; tests/reports/leaderboard/test_board.py has the curves of boards."""

import pytest

from reports.leaderboard.curves import curves_of
from reports.leaderboard.group import Group, LeaderboardRow, OverSeeds


def line(name, accuracy, flops, answer=1.0):
    bounds = OverSeeds(accuracy, accuracy - 0.1, accuracy + 0.1)
    return LeaderboardRow(name, name, accuracy=bounds, is_base=name == "base", flops=flops, answer_flops=answer)


def group(*lines, budget="small"):
    return Group("addition", "tiny-adder", budget, 1e6, "greedy", "items", 10, (line("base", 0.5, 0.0), *lines))


def area(*lines, answers=None):
    return curves_of([group(*lines)], answers)[0].area


def test_the_area_does_not_depend_on_rows_that_are_dearer_and_no_better():
    rows = [line("es", 0.7, 90)]
    found = area(*rows)
    assert found == pytest.approx(0.6)  # .5 from 10 to 100 FLOPs, .7 from there to 1000
    dear = [line("corp", 0.7, 91), line("grpo", 0.6, 500), line("ppo", 0.9, 1e9), line("vote", 0.7, 90, answer=5.0)]
    assert area(*rows, *dear) == pytest.approx(found, rel=1e-12)
    assert area(*rows, line("cat", 0.8, 400)) > found


def test_the_more_answers_are_deployed_the_less_adaptation_counts():
    rows = [line("es", 0.7, 90)]
    areas = [area(*rows, answers=n) for n in (1, 10, 100, 10_000)]
    assert areas == sorted(areas)
    assert areas[-1] == pytest.approx(0.7, abs=0.001)
