"""Check that docs/schemas has the current JSON Schema of what each command prints with `--json`.

    python tests/docs/test_schemas.py

rewrites the folder. Real outputs are compared with the schemas in tests/bench/cli/test_outputs.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
from pydantic import TypeAdapter

from bench.cli import cli
from bench.cli.outputs import output_types

FOLDER = Path(__file__).parents[2] / "docs" / "schemas"


def schemas() -> dict[str, str]:
    """Return the content of each file of the folder, by name."""
    found = {}
    for command, kind in output_types().items():
        schema = TypeAdapter(kind).json_schema(mode="serialization")
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema
        found[command.replace(" ", "-") + ".json"] = json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
    return found


def _commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from _commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


def test_the_schemas_are_current() -> None:
    found = {path.name: path.read_text() for path in FOLDER.iterdir()}
    assert found == schemas(), "what --json prints has changed; run: python tests/docs/test_schemas.py"


def test_every_command_with_json_has_a_schema() -> None:
    with_json = [name for name, command in _commands(cli) if any(each.name == "as_json" for each in command.params)]
    assert sorted(with_json) == sorted(output_types())


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.json"):
        path.unlink()
    for name, text in schemas().items():
        (FOLDER / name).write_text(text)
