"""The board in every width: which columns stand, in how many lines, and that costs never leave."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from bench.console import PlainConsole
from bench.errors import UsageError
from reports.html.leaderboard import board_page
from reports.leaderboard.board import Rate
from reports.leaderboard.build import make_board
from reports.leaderboard.columns import BELOW, FOLDED, columns, fitting
from reports.leaderboard.text import BoardOutput, as_csv, as_tsv, markdown, print_board
from reports.reading import find_records, read_records

ALWAYS = {"name", "accuracy", "interval", "difference", "difference_interval", "verdict", "flops", "answer_flops"}


@pytest.fixture(scope="module")
def committed():
    """Return the records of the committed board."""
    found, _ = find_records([Path(__file__).parents[3] / "reports" / "records"])
    records, unreadable = read_records(found)
    assert not unreadable
    return list(records.values())


@pytest.fixture(scope="module")
def board(committed):
    return make_board(committed)


def printed(board, width):
    console = PlainConsole(file=io.StringIO(), width=width)
    print_board(console, board)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_the_keys_of_special_columns_exist(board):
    keys = {column.key for column in columns(make_board([], rate=Rate(1.0, "USD")))} | {"gated", "gated_difference"}
    assert {*BELOW, *BELOW.values(), *FOLDED} <= keys


@pytest.mark.parametrize("width", [60, 80, 99, 100, 120, 200, 1000])
def test_accuracy_difference_verdict_and_both_costs_stand_in_every_width(board, width):
    for group in board.groups:
        made = fitting(columns(board), group.lines, width)
        shown = {heading for each in made.headings for heading in each.split("\n")}
        assert {column.heading for column in columns(board) if column.key in ALWAYS} <= shown
        texts = {text for row in made.rows for cell in row for text in cell.split("\n")}
        for line in group.lines:
            if line.accuracy:
                assert f"{line.answer_flops:.3g}" in texts
                assert line.bound or f"{line.flops:.3g}" in texts


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_no_line_of_the_committed_board_is_too_long_and_no_name_is_broken(board, width):
    lines = printed(board, width)
    assert max(map(len, lines)) <= width
    words = {word.strip(";,") for line in lines for word in line.split()}
    for group in board.groups:
        for line in group.lines:
            assert set(line.name.split()) <= words, line.name


def test_a_table_has_two_lines_a_row_in_80_columns_and_one_in_120(board):
    def height(width):
        made = fitting(columns(board), board.groups[0].lines, width)
        return max(cell.count("\n") for row in made.rows for cell in row) + 1

    assert [height(width) for width in (80, 100, 120, 240)] == [2, 2, 1, 1]


def test_a_pipe_shows_all_columns_in_one_line_each(board):
    console = PlainConsole(file=io.StringIO(), width=None)
    print_board(console, board)
    text = console.file.getvalue()
    headings = text.splitlines()[1]
    assert all(column.heading in headings for column in columns(board))
    assert "prompted-self-consistency greedy  " in text


def test_chosen_columns_stand_in_their_order_in_every_form(committed):
    board = make_board(committed[:20], columns=["verdict", "accuracy", "interval"])
    assert [column.key for column in columns(board)] == ["name", "verdict", "accuracy", "interval"]
    assert as_csv(board).splitlines()[0].split(",")[7:] == ["name", "verdict", "accuracy", "low", "high"]
    assert "| method | verdict | accuracy | 95 % |" in markdown(board)
    page = board_page(board)
    assert "accuracy (95 %)" in page
    assert "FLOPs per answer</button>" not in page
    only = make_board(committed[:20], columns=["interval"])
    assert ">95 %</button>" in board_page(only)
    for line in printed(board, 40)[:4]:
        assert len(line) <= 40


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("accurcy", "no such column; did you mean 'accuracy'?"),
        ("zzz", "no such column; expected some of name, accuracy,"),
        ("answer_price", "a price needs --rate"),
        ("ACCURACY", "no such column; did you mean 'accuracy'?"),
        ("low", "a field of CSV that belongs to the column 'interval'; give its name"),
        ("difference_seeds", "a field of CSV that belongs to the column 'difference_interval'; give its name"),
        ("gated_share_high", "a field of CSV that belongs to the column 'gated'; give its name"),
        ("task", "a field of CSV and no column; CSV has it whatever columns are chosen"),
        ("reason", "a field of CSV and no column; CSV has it where no columns are chosen"),
    ],
)
def test_an_unknown_column_is_an_error_with_a_remedy(name, message):
    with pytest.raises(UsageError, match=f"--columns {name}: ") as error:
        columns(make_board([], columns=[name]))
    assert message in str(error.value)


@pytest.mark.parametrize(("names", "given"), [(["accuracy", ""], "accuracy,"), ([""], "''")])
def test_an_empty_name_is_called_empty(names, given):
    with pytest.raises(UsageError, match=f"^--columns {given}: a name is empty; expected names"):
        columns(make_board([], columns=names))


@pytest.mark.parametrize("name", ["gated_difference", "gated_difference_low"])
def test_against_a_row_what_the_gate_made_of_the_others_is_not_compared(name):
    with pytest.raises(UsageError, match=f"--columns {name}: with --against, what the gate made of the rows is not"):
        columns(make_board([], columns=[name], against="corp"))


def test_each_field_of_csv_is_a_column_or_is_refused_with_its_reason(committed):
    board = make_board(committed[:20], rate=Rate(1.0, "USD"))
    named = {column.key for column in columns(board)}
    for field in as_csv(board).splitlines()[0].split(","):
        if field in named:
            assert field in as_csv(replace(board, columns=(field,))).splitlines()[0].split(",")
        else:
            with pytest.raises(UsageError, match="a field of CSV"):
                columns(replace(board, columns=(field,)))


def test_tsv_has_the_values_of_csv_without_quotes(board):
    rows = [line.split("\t") for line in as_tsv(board).splitlines()]
    assert len({len(row) for row in rows}) == 1
    assert len(rows) == 1 + sum(len(group.lines) for group in board.groups)
    assert rows[0] == as_csv(board).splitlines()[0].split(",")
    described = [row[:7] for row in rows[1:]]
    assert ["addition", "tiny-adder", "small", "published", "greedy", "ddf26b57e40c", "1000"] in described


def test_no_form_of_the_board_has_a_rank(board, committed):
    keys = str(TypeAdapter(BoardOutput).json_schema())
    headings = " ".join(printed(board, 1000)[:2])
    for text in (keys, headings, as_csv(board).splitlines()[0], *(column.heading for column in columns(board))):
        assert "rank" not in text.lower()
    legend = "The order of rows is no ranking"
    for text in (markdown(board), board_page(board), " ".join(printed(board, 80))):
        assert legend in text
    for sort in ("accuracy", "difference", "flops"):
        for group in make_board(committed, sort=sort).groups:
            assert [line.is_base for line in group.lines].index(True) == 0


def test_rows_are_sorted_by_their_difference(committed):
    for against in ("", "sft"):
        for group in make_board(committed, sort="difference", against=against).groups:
            gains = [line.difference.value for line in group.lines if line.difference and not line.bound]
            assert gains == sorted(gains, reverse=True)
            assert group.lines[0].is_base


def main_group(board):
    """Return the table of the main comparison on addition."""
    return next(group for group in board.groups if (group.task, group.budget) == ("addition", "small"))


def test_a_board_against_a_row_compares_all_others_with_it(committed):
    board = make_board(committed, against="sft")
    first, usual = (main_group(each) for each in (board, make_board(committed)))
    assert [line.name for line in first.lines if line.difference is None] == ["sft"]
    assert {line.verdict for line in first.lines} == {"worse", None}
    assert first.notes[0] == "simultaneous 95 %: 12 different comparisons with sft, each at 99.58 %"
    for board_lines, one in ((first.lines, "sft"), (usual.lines, "base")):
        letters = {line.name: set(line.letters) for line in board_lines if line.letters}
        for line in board_lines:
            if line.letters and line.verdict:
                assert bool(letters[one] & letters[line.name]) == (line.verdict == "cannot be told")
    for text in (markdown(board), board_page(board), " ".join(printed(board, 200))):
        assert "vs sft" in text
        assert "better or worse than sft exactly if" in text
        assert "gated vs base" not in text
    without = next(group for group in board.groups if all(line.name != "sft" for line in group.lines))
    assert "no row is named sft here, so nothing is compared" in without.notes
    assert {line.verdict for line in without.lines} == {None}
