"""Hostile texts in each kind of output."""

import csv
import io
import re
from html import unescape

import pytest
from hostile_texts import HOSTILE, UNSEEN
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bench.console import PlainConsole
from bench.plain import csv_cell, file_name, line, markdown, terminal


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_terminal_sees_text(text):
    assert not UNSEEN.search(terminal(text))
    assert "\n" not in line(text)
    assert "\t" not in line(text)
    assert not UNSEEN.search(line(text))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x9b31m", r"\x9b31m"),
        ("a\u202eb", r"a\u202eb"),
        ("a\U000e0041", r"a\U000e0041"),
        ("\ud800", r"\ud800"),
        ("\r\x1b", r"\r\x1b"),
        ("a\n\tb", "a\n\tb"),
        ("größer, σ ≤ 1, 数学, עברית, 👍", "größer, σ ≤ 1, 数学, עברית, 👍"),
    ],
)
def test_controls_become_escapes_and_other_text_stays(text, shown):
    assert terminal(text) == shown


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_the_console_shows_text_in_every_form(text):
    output = io.StringIO()
    console = PlainConsole(file=output, force_terminal=True, color_system=None, width=200, legacy_windows=False)
    table = Table(title="title")
    table.add_column("column")
    table.add_row(escape(text))
    table.add_row(Text(text))
    console.print(escape(text), soft_wrap=True)
    console.print(table)
    console.rule(escape(text))
    assert not UNSEEN.search(output.getvalue())


def test_the_console_keeps_its_own_colours():
    output = io.StringIO()
    PlainConsole(file=output, force_terminal=True, color_system="standard", highlight=False).print(
        "x\x1b[0my", style="red"
    )
    assert output.getvalue() == "\x1b[31mx\\x1b[0my\x1b[0m\n"


def rendered(text):
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_markdown_renders_the_text(text):
    shown = line(text).strip(" ")
    assert rendered(markdown(text)) == f"<p>{_html(shown)}</p>\n"
    assert rendered("## " + markdown(text)) == f"<h2>{_html(shown)}</h2>\n"
    page = rendered(f"| a | b |\n| --- | ---: |\n| {markdown(text)} | x |")
    cells = re.findall("<td[^>]*>(.*?)</td>", page, re.DOTALL)
    assert [unescape(cell) for cell in cells] == [shown, "x"]


@given(st.text("\\`*_[]{}()#|~$<>&!-+=.:;1aB \n\t/", max_size=12))
def test_markdown_renders_any_text(text):
    shown = line(text).strip(" ")
    expected = f"<p>{_html(shown)}</p>\n" if shown else ""
    assert rendered(markdown(text)) == expected


def _html(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


@pytest.mark.parametrize("text", ["<.0001", "-4.8", "+2.6 (+0.3 to +4.2)", "k=5", "max_new_tokens", "a & b", "48 %"])
def test_markdown_leaves_plain_cells_alone(text):
    assert markdown(text) == text


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_spreadsheet_sees_text(text):
    cell = csv_cell(text)
    assert not re.match(r"\s*[=+@\-\t\r]", cell)
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerow([cell, 1])
    assert len(list(csv.reader(file.getvalue().split("\n")[:-1]))) == 1


@pytest.mark.parametrize("value", [-0.5, 3, True, "2048", "-0.1 0.2", "-1e-05", "+3"])
def test_numbers_stay_numbers_in_csv(value):
    assert csv_cell(value) == value


def test_nothing_is_an_empty_cell():
    assert csv_cell(None) == ""


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_file_name_stays_in_its_folder(text, tmp_path):
    name = file_name(text)
    assert (tmp_path / name).parent == tmp_path
    (tmp_path / name).write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_long_file_name_is_cut_and_stays_its_own():
    one, other = file_name("数" * 300), file_name("数" * 301)
    assert len(one.encode()) <= 180
    assert one != other
    assert file_name("mbpp to humaneval") == "mbpp-to-humaneval"
    assert file_name("..") == "unnamed"
