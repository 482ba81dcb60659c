"""Tables keep every cell and every word, whatever the width."""

import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.text import Text

from bench.console import UNFOLDED, PlainConsole, PlainTable, fits, fold, heading

HEADINGS = ("", "accuracy", "95 %", "vs base\nsimultaneous 95 %")
ROWS = (
    ("base", "52.4 %", "49.3 to 55.5", ""),
    ("prompted-self-consistency k=10", "49.8 %", "47.0 to 53.7", "-2.6\n-7.1 to +1.9"),
)


def printed(made, width):
    console = PlainConsole(file=io.StringIO(), width=width)
    console.print(made)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_wide_table_has_one_line_for_each_row_and_heading():
    assert printed(PlainTable(HEADINGS, ROWS, title="A task"), 100) == [
        "A task",
        "                                                                  vs base",
        "                                accuracy          95 %  simultaneous 95 %",
        "base                              52.4 %  49.3 to 55.5",
        "prompted-self-consistency k=10    49.8 %  47.0 to 53.7               -2.6",
        "                                                             -7.1 to +1.9",
    ]


def test_names_are_folded_at_spaces_then_after_hyphens_and_figures_never():
    for width, names in ((60, ["prompted-self-consistency", "k=10"]), (56, ["prompted-self-", "consistency k=10"])):
        lines = printed(PlainTable(HEADINGS, ROWS), width)
        assert [re.split(r"  +", line)[0].removesuffix(" 49.8 %") for line in lines[-2:]] == names
        assert max(map(len, lines)) <= width
        for whole in ("52.4 %", "49.3 to 55.5", "47.0 to 53.7", "-7.1 to +1.9"):
            assert any(whole in line for line in lines)


@given(st.integers(28, 130))
@settings(max_examples=40, deadline=None)
def test_no_width_loses_a_cell_or_breaks_a_word(width):
    lines = printed(PlainTable(HEADINGS, ROWS), width)
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    for row in ROWS:
        for cell in row:
            for word in cell.replace("prompted-self-consistency", "").split():
                assert word in [each.strip(",;") for each in words]
    parts = [each for each in words if each.startswith(("prompted-", "self-", "consistency"))]
    assert "".join(parts) == "prompted-self-consistency"


def test_a_row_is_a_paragraph_where_its_columns_have_no_place():
    assert printed(PlainTable(HEADINGS, ROWS[:1]), 30) == [
        "base",
        "  accuracy 52.4 %; 95 %",
        "  49.3 to 55.5",
    ]


def test_what_is_below_a_line_break_begins_in_the_same_line_in_all_headings():
    lines = printed(PlainTable(("", "long heading\nx", "y\nanother long heading"), [("a", "1\n2", "3\n4")]), 24)
    (first,) = (number for number, line in enumerate(lines) if "x" in line)
    (second,) = (number for number, line in enumerate(lines) if "another" in line)
    assert first == second


def test_a_text_of_a_file_is_shown_as_text_and_a_styled_one_keeps_its_style():
    lines = printed(PlainTable(("", "x"), [("[red]\x1b[31m", Text("kept", "green"))]), 60)
    assert lines[-1] == "[red]\\x1b[31m  kept"


def test_a_table_fits_if_its_texts_may_be_folded():
    rows = [["prompted-self-consistency k=10", "49.8 %"]]
    assert [fits(["", "accuracy"], rows, width, [""]) for width in (34, 33)] == [True, False]
    assert [fits(["", "accuracy"], rows, width, [""], broken=True) for width in (20, 19)] == [True, False]
    assert not fits(["", "accuracy"], rows, 34, [])


@pytest.mark.parametrize(
    ("text", "width", "hang", "expected"),
    [
        ("one two three", 8, 2, "one two\n  three"),
        ("  note: some words", 14, 4, "  note: some\n    words"),
        ("/a/path/that/is/longer x", 8, 0, "/a/path/that/is/longer\nx"),
        ("", 8, 0, ""),
    ],
)
def test_a_text_is_folded_at_spaces_with_its_indent(text, width, hang, expected):
    assert fold(text, width, hang) == expected


def test_a_pipe_has_no_width_unless_the_environment_names_one(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    assert PlainConsole(file=io.StringIO()).width == 20
    monkeypatch.delenv("COLUMNS")
    console = PlainConsole(file=io.StringIO())
    assert console.width == UNFOLDED
    console.print("word " * 50)
    heading(console, "a heading")
    assert console.file.getvalue() == "word " * 50 + "\na heading ──\n"
    assert PlainConsole(file=io.StringIO(), width=30).width == 30


def test_a_heading_on_a_terminal_is_a_line_over_its_width():
    console = PlainConsole(file=io.StringIO(), force_terminal=True, color_system=None, width=30)
    heading(console, "a [heading]")
    (line,) = console.file.getvalue().splitlines()
    assert line.startswith("a [heading] ──")
    assert len(line) == 30
