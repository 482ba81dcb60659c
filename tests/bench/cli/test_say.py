import click
import pytest

from bench.cli.options import say


@pytest.mark.parametrize(
    ("terminal", "hang", "expected"),
    [
        (True, 4, "  name  some words\n    that follow\n"),
        (True, None, "  name  some words that follow\n"),
        (False, 4, "  name  some words that follow\n"),
    ],
)
def test_a_line_is_folded_at_its_words_on_a_terminal_alone(monkeypatch, capsys, terminal, hang, expected):
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    say("  name  some words that follow", hang=hang)
    assert click.unstyle(capsys.readouterr().out) == expected
