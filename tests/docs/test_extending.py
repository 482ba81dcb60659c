"""Write the files of docs/extending.md to a folder, and run the page's commands there."""

import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli import cli

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, body in FILES.items():
        (tmp_path / name).write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_method_takes_40_lines_and_a_task_25() -> None:
    assert set(FILES) == {"climb.py", "neighbours.py"}
    assert len(FILES["climb.py"].splitlines()) <= 40
    assert len(FILES["neighbours.py"].splitlines()) <= 25


@pytest.mark.slow
def test_its_commands_run(page: Path) -> None:
    assert COMMANDS[0] == "export PYTHONPATH=."  # which the fixture does
    commands = [shlex.split(command) for command in COMMANDS[1:]]
    assert {command[1] for command in commands} == {"check", "run"}
    for program, *arguments in commands:
        assert program == "bench"
        outcome = CliRunner().invoke(cli, [*arguments, "--json"], standalone_mode=False, catch_exceptions=False)
        assert outcome.return_value == 0, outcome.stdout
        found = json.loads(outcome.stdout)
        assert found.get("passed", True)
    climbed = found["runs"][1]["result"]
    assert climbed["config"]["method_config"] == {"sigma": 0.005, "examples": 32}
    assert climbed["rows"][1]["changed"]
    assert climbed["report"]["steps"] > 10
