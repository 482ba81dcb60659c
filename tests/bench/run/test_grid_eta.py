from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.run.grid_eta import CellTime, cell_left, grid_left

TIMES = st.floats(0, 1e6)


@st.composite
def grids(draw):
    """Cells of a grid in the middle of it."""
    cells = []
    for method in draw(st.lists(st.sampled_from(["base", "corp", "es"]), min_size=1, max_size=6)):
        planned, state = draw(st.sampled_from([300, 4096])), draw(st.sampled_from(["ended", "running", "waiting"]))
        elapsed = 0.0 if state == "waiting" else draw(TIMES)
        left = draw(st.none() | TIMES) if state == "running" else None
        cells.append(CellTime((f"{method} {planned}", method, "evaluations"), planned, state, elapsed, left))
    return cells


def corp(state, elapsed=0.0, left=None, planned=600):
    return CellTime((f"corp {planned}", "corp", "evaluations"), planned, state, elapsed, left)


@given(grids())
def test_the_time_left_is_known_as_soon_as_any_cell_tells_and_never_negative(cells):
    found = grid_left(cells)
    unfinished = [cell for cell in cells if cell.state != "ended"]
    assert (found is not None) == (not unfinished or any(cell.total is not None for cell in cells))
    assert found is None or found >= 0


@given(grids(), st.floats(0.01, 100))
def test_it_is_in_the_unit_of_time(cells, unit):
    scaled = [replace(c, elapsed=c.elapsed * unit, left=c.left and c.left * unit) for c in cells]
    found = grid_left(cells)
    assert grid_left(scaled) == (None if found is None else pytest.approx(found * unit, abs=1e-6 * unit))


@given(st.floats(1, 1e4), st.integers(1, 5), st.integers(0, 5))
def test_at_equal_times_it_is_exact(seconds, ended, waiting):
    cells = [corp("ended", seconds)] * ended + [corp("running", seconds / 4), *[corp("waiting")] * waiting]
    assert grid_left(cells) == pytest.approx(seconds * (0.75 + waiting))


def test_cells_at_once_share_the_rest_but_the_longest_is_waited_for():
    cells = [corp("running", left=10.0), corp("running", left=30.0)]
    assert grid_left(cells) == 30
    assert grid_left([*cells, *[corp("waiting")] * 3]) == pytest.approx((40 + 3 * 20) / 2)


def test_a_cell_that_takes_longer_than_its_kind_follows_its_own_estimate():
    slow, usual = corp("running", 90.0, left=5.0), corp("ended", 60.0)
    assert cell_left(slow, [slow, usual]) == 5
    assert cell_left(replace(slow, elapsed=20.0), [usual]) == 40


def test_other_budgets_of_the_method_count_in_proportion_and_before_other_methods():
    ended = corp("ended", 60.0, planned=600)
    other = CellTime(("es 600", "es", "evaluations"), 600, "ended", 6.0)
    larger = corp("waiting", planned=1200)
    assert cell_left(larger, [ended, other, larger]) == 120
    assert cell_left(larger, [other, larger]) == 12
    assert grid_left([larger]) is None
