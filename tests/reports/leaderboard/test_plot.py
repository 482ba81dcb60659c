import pytest

from bench.stats import Estimate
from reports.leaderboard.board import Curve, CurvePoint
from reports.leaderboard.plot import GUTTER, draw


def point(name, flops, value, front=True):
    return CurvePoint(name, "small", flops, Estimate(value, value - 0.1, value + 0.1), front)


CURVE = Curve(
    task="addition",
    model="m",
    strategy="greedy",
    item_set="i",
    items=20,
    points=(point("base", 10.0, 0.2), point("es", 1000.0, 0.6), point("x", 1e3, 0.4, False)),
    area=0.3,
)


def at(lines, letter):
    ((y, x),) = [(y, line.index(letter)) for y, line in enumerate(lines) if letter in line[GUTTER:]]
    return y, x


@pytest.mark.parametrize(("width", "height"), [(40, 8), (80, 16), (100, 21)])
def test_points_stand_where_their_numbers_are(width, height):
    plot = [line for line in draw(CURVE, width, height) if line[GUTTER : GUTTER + 1] == "|"]
    assert len(plot) == height
    (y_base, x_base), (y_es, x_es), (y_x, x_x) = (at(plot, letter) for letter in "ABc")
    assert (x_base, x_es, x_x) == (GUTTER + 1, width - 1, width - 1)
    rows = [round((0.7 - value) / 0.6 * (height - 1)) for value in (0.2, 0.6, 0.4)]
    assert [y_base, y_es, y_x] == rows


def test_no_line_is_wider_than_asked_and_the_legend_names_every_point():
    lines = draw(CURVE, 60, 10)
    assert max(map(len, lines)) <= 60
    assert "A base small   B es small   c x small" in lines
    assert lines[-1].endswith("30.0 %")
    assert any("10" in line and "1e+03" in line for line in lines)


def test_points_of_one_accuracy_and_cost_are_drawn():
    same = Curve("t", "m", "greedy", "i", 5, (point("a", 5.0, 0.5), point("b", 5.0, 0.5)), None)
    assert "A" in "".join(draw(same, 60, 5)[1:6])
