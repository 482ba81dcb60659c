import math
import re

import pytest

from reports.html.leaderboard import INTERVALS, board_page
from reports.html.page import page_name
from reports.leaderboard.board import Rate
from reports.leaderboard.build import make_board
from reports.leaderboard.columns import columns


@pytest.fixture(scope="module")
def board(records):
    return make_board(records)


@pytest.fixture(scope="module")
def page(board, parse):
    return parse(board_page(board))


def rows(table):
    (body,) = table.all("tbody")
    return [[c for c in row.children if not isinstance(c, str)] for row in body.all("tr")]


def group_table(page):
    return next(s for s in page.all("section") if (s.attributes.get("id") or "").startswith("group-")).all("table")[0]


def test_rows_have_the_order_and_numbers_of_the_board(board, page):
    table = group_table(page)
    (group,) = board.groups
    assert [row[0].text for row in rows(table)] == [line.name for line in group.lines]
    headings = [th.text for th in table.all("thead")[0].all("th")]
    for column in columns(make_board([])):
        if column.key in (*INTERVALS.values(), "seeds", "name"):
            continue
        small = {"accuracy": " (95 %)", "difference": " (simultaneous 95 %)"}.get(column.key, "")
        place = headings.index(column.heading + small)
        for line, row in zip(group.lines, rows(table), strict=True):
            shown, value = row[place].attributes.get("data-value"), column.value(line)
            assert shown == (None if value is None else str(value)), (column.key, line.name)
            assert row[place].text.startswith(column.text(line))


def test_intervals_are_shown_with_their_estimates(board, page):
    es = next(row for row in rows(group_table(page)) if row[0].text == "es")
    line = next(line for line in board.groups[0].lines if line.name == "es")
    assert es[1].text == f"22.5 % {100 * line.accuracy.low:.1f} to {100 * line.accuracy.high:.1f}"
    assert f"{100 * line.difference.low:+.1f} to {100 * line.difference.high:+.1f}" in es[3].text
    assert len(es[2].all("svg", cls="whisker")) == 1


def test_two_seeds_are_shown_in_place_of_an_interval(board, page):
    corp = next(row for row in rows(group_table(page)) if row[0].text == "corp")
    assert corp[1].text == "62.5 %"
    assert corp[3].text == "+22.5 seeds: +27.5, +17.5"
    assert corp[2].all("svg", cls="whisker") == []


def test_a_run_that_failed_is_a_row_with_its_reason_and_no_accuracy(page):
    failed = next(row for row in rows(group_table(page)) if row[0].text == "grpo")
    assert failed[1].text == "failed"
    assert "data-value" not in failed[1].attributes
    assert "seed 0: failed: out of memory" in failed[-1].text


def test_every_table_has_a_caption_and_heads_with_scope(page):
    assert page.all("table")
    for table in page.all("table"):
        assert table.all("caption")[0].text
        assert all(th.attributes.get("scope") == "col" for th in table.all("thead")[0].all("th"))
        assert all(len(tr.all("th", scope="row")) == 1 for tr in table.all("tbody")[0].all("tr"))
        assert len(table.all("button")) >= 5


def invert(ticks, axis, log):
    """Return a function from a position on an axis to its value, computed from the outermost ticks."""
    first, last = ticks[0], ticks[-1]
    places = [float(tick.attributes[axis]) for tick in (first, last)]
    values = [float(tick.attributes["data-value"]) for tick in (first, last)]
    low, high = (math.log10(v) if log else v for v in values)

    def value(at):
        found = low + (at - places[0]) / (places[1] - places[0]) * (high - low)
        return 10**found if log else found

    return value


def test_points_are_at_their_numbers_on_the_axes(board, page):
    (figure,) = page.all("figure")
    flops = invert(figure.all("text", cls="x")[:-1], "x", log=True)
    accuracy = invert(figure.all("text", cls="y"), "y", log=False)
    (curve,) = board.curves
    marks = figure.all("g", cls="mark")
    assert len(marks) == len(curve.points) == 5
    for mark, point in zip(marks, curve.points, strict=True):
        (dot,) = mark.all("circle")
        assert flops(float(dot.attributes["cx"])) == pytest.approx(point.flops, rel=1e-3)
        assert accuracy(float(dot.attributes["cy"])) == pytest.approx(point.accuracy.value, abs=1e-4)
        ends = re.match(r"M\S+ (\S+)V(\S+)M", mark.all("path", cls="interval")[0].attributes["d"]).groups()
        # Without an interval the mark has no height.
        bounds = list(point.accuracy.interval or [point.accuracy.value] * 2)
        assert [accuracy(float(end)) for end in ends] == pytest.approx(bounds, abs=1e-4)
        assert [float(mark.attributes[f"data-{name}"]) for name in ("flops", "accuracy", "low", "high")] == [
            point.flops,
            point.accuracy.value,
            *bounds,
        ]
        assert mark.all("title")[0].text.startswith(f"{point.name} {point.budget}".strip() + ":")
        assert ("strong" in mark.attributes["class"]) is point.front


def test_points_equal_what_the_records_say(records, board):
    points = {point.name: point for point in board.curves[0].points}
    corp = [record.result for record in records if record.result.config.method == "corp"]
    spent = sum(result.ledger["sample"].flops for result in corp) / 2
    assert points["corp"].flops == spent + 40 * corp[0].rows[0].cost.flops
    assert points["corp"].accuracy.value == (27 + 23) / 80


def test_the_front_is_drawn_through_its_points(board, page):
    (path,) = page.all("path", cls="line")
    dots = [mark.all("circle")[0].attributes for mark in page.all("g", cls="strong")]
    x, y = dots[0]["cx"], dots[0]["cy"]
    assert path.attributes["d"].startswith(f"M{float(x):g} {float(y):g}")
    assert path.attributes["d"].count("V") == len(dots) - 1


def test_seeds_link_to_existing_pages(records, board, parse):
    known = records[2].result.id
    links = [a.attributes["href"] for a in group_table(parse(board_page(board, {known}))).all("a")]
    assert links == [f"runs/{page_name(known)}"]


def test_the_page_is_a_function_of_the_board(records, board):
    assert board_page(board) == board_page(make_board(records[::-1]))


def test_a_rate_adds_columns_of_prices(records):
    assert "USD 1000 answers" in board_page(make_board(records, rate=Rate(0.1, "USD")))


def test_an_empty_board_is_a_page(parse):
    assert parse(board_page(make_board([]))).all("main")


def test_text_of_records_is_escaped(hostile, parse):
    record, _ = hostile
    page = parse(board_page(make_board([record]), {record.result.id}))
    assert not page.all("img")
    assert len(page.all("script")) == len(page.all("style")) == 1
    assert record.result.config.model in page.text
    assert not re.search(r'[<>"/]', page_name(record.result.id))


def test_the_page_loads_nothing(board):
    page = board_page(board, {"0" * 16})
    assert not re.search(r"(src|srcset|action)=|@import|url\(|<link|<iframe|https?:", page)
    assert "default-src 'none'" in page


def test_five_tasks_have_a_profile_table(make_record):
    runs = [
        make_record(method, right=right, task=task).model_copy(update={"items": task})
        for method, right in (("corp", 20), ("es", 10))
        for task in "abcde"
    ]
    assert "Share of the 5 tasks" in board_page(make_board(runs))
    four = board_page(make_board([record for record in runs if record.items != "e"]))
    assert "Share of the" not in four
    assert "no profile across tasks: it needs 5 tasks with different items" in four
    assert "there are 4 at most" in four
