import runpy
import sys

import pytest

from bench.cli import main


def test_python_m_bench_is_the_command_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("bench", run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("bench, version ")


def test_arguments_may_be_passed_to_the_command_line(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["lst"])
    assert ended.value.code == 2
    assert "did you mean 'list'?" in capsys.readouterr().err
