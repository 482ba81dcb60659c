import math
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reports.html.svg import LETTER, LINE, Mark, Scale, labels, spanning, staircase

VALUES = st.lists(st.floats(1e-6, 1e18), min_size=1, max_size=8)


@given(VALUES, st.booleans())
@example([1e18, 1e18 + 128], False)
@example([1.0, 1.0 + 1e-12], True)
def test_positions_are_proportional_to_values_or_to_their_logarithms(values, log):
    scale = spanning(values, 50, 650, log=log)
    shown = math.log10 if log else float
    for value in values:
        share = (scale(value) - 50) / 600
        inverse = shown(scale.low) + share * (shown(scale.high) - shown(scale.low))
        assert inverse == pytest.approx(shown(value), abs=1e-4 * (shown(scale.high) - shown(scale.low)))
        assert 50 < scale(value) < 650


@given(VALUES, st.booleans(), st.integers(3, 9))
@example([1e18, 1e18 + 128], False, 5)
@example([1.0, 1.0 + 1e-12], True, 5)
@example([1.0, 1.0000002], False, 5)
def test_ticks_are_few_rising_within_the_scale_and_apart(values, log, most):
    scale = spanning(values, 0, 100, log=log)
    ticks = scale.ticks(most)
    assert 1 <= len(ticks) <= most + 1
    assert all(a.value < b.value and a.at < b.at for a, b in pairwise(ticks))
    assert all(-0.01 <= tick.at <= 100.01 for tick in ticks)
    assert all(tick.at == scale(tick.value) for tick in ticks)


def test_ticks_are_round_numbers():
    assert [t.text for t in Scale(0.38, 0.83, 0, 1, percent=True).ticks(5)] == ["40 %", "50 %", "60 %", "70 %", "80 %"]
    assert [t.text for t in Scale(5e9, 3e11, 0, 1, log=True).ticks(4)] == ["10¹⁰", "3·10¹⁰", "10¹¹", "3·10¹¹"]
    assert [t.text for t in Scale(-0.5, 2.5, 0, 1).ticks(4)] == ["0", "1", "2"]


def test_a_staircase_goes_on_level_until_the_next_step():
    assert staircase([(1, 9), (4, 5)], 8) == "M1 9H4V5H8"
    assert staircase([], 8) == ""


@given(st.lists(st.tuples(st.floats(60, 640), st.floats(20, 340)), min_size=1, max_size=12))
def test_labels_cover_neither_each_other_nor_a_mark_nor_the_margin(places):
    marks = [Mark(x, y, y + 20, y - 20, "", name=f"method {i}") for i, (x, y) in enumerate(places)]
    found = labels(marks, (50, 10, 650, 350))
    boxes = [
        (label.x, label.y - 0.75 * LINE, label.x + LETTER * len(mark.name), label.y + 0.25 * LINE)
        for mark, label in zip(marks, found, strict=True)
        if label
    ]
    for i, (left, top, right, bottom) in enumerate(boxes):
        assert left >= 49.9
        assert right <= 650.1
        assert top >= 9.9
        assert bottom <= 350.1
        assert not any(left < m.x < right and top < m.y < bottom for m in marks)
        for other in boxes[i + 1 :]:
            assert (
                left >= other[2] - 0.02
                or other[0] >= right - 0.02
                or top >= other[3] - 0.02
                or other[1] >= bottom - 0.02
            )


def test_a_single_mark_has_its_label_beside_it():
    (label,) = labels([Mark(100, 100, 120, 80, "", name="base")], (0, 0, 300, 300))
    assert (label.x, label.leader) == (109, "")
