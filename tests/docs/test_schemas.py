"""Check that docs/schemas has the current JSON Schema of what each command prints with `--json`.

    python tests/docs/test_schemas.py

rewrites the folder. The description of a key is that of its field, or else its sentence in the class's docstring. Real
outputs are compared with the schemas in tests/bench/cli/test_outputs.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from bench.cli import cli
from bench.cli.outputs import output_types
from reports.frames.columns import ATTRIBUTES, described

FOLDER = Path(__file__).parents[2] / "docs" / "schemas"


class Described(GenerateJsonSchema):
    """Generator of JSON Schema that takes descriptions of keys from the `Attributes` of docstrings."""

    def model_schema(self, schema: Any) -> JsonSchemaValue:
        """Return the schema of a pydantic model."""
        return _with_words(super().model_schema(schema), schema["cls"])

    def dataclass_schema(self, schema: Any) -> JsonSchemaValue:
        """Return the schema of a dataclass."""
        return _with_words(super().dataclass_schema(schema), schema["cls"])


def _with_words(schema: JsonSchemaValue, kind: type) -> JsonSchemaValue:
    sentences = described(kind)
    for name, field in schema.get("properties", {}).items():
        if name in sentences:
            field.setdefault("description", sentences[name])
    if text := schema.get("description"):
        schema["description"] = ATTRIBUTES.sub("", text).strip()
    return schema


def keys(schema: Any, owner: str = "") -> Iterator[tuple[str, str | None]]:
    """Yield each key of a schema, after the name of its object, with its description; None without one."""
    if isinstance(schema, list):
        for each in schema:
            yield from keys(each, owner)
    elif isinstance(schema, dict):
        owner = schema.get("title", owner) if "properties" in schema else owner
        for name, field in schema.get("properties", {}).items():
            yield f"{owner}.{name}", field.get("description")
        for each in schema.values():
            yield from keys(each, owner)


def schemas() -> dict[str, str]:
    """Return the content of each file of the folder, by name."""
    found = {}
    for command, kind in output_types().items():
        schema = TypeAdapter(kind).json_schema(mode="serialization", schema_generator=Described)
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


def test_every_key_is_described() -> None:
    found = [each for schema in schemas().values() for each in keys(json.loads(schema))]
    assert {"Result.ledger", "Work.forward_tokens", "Sample.prompt_id", "ListedRun.started"} <= {
        name for name, _ in found
    }
    assert {name for name, text in found if not text} == set()


def test_every_command_with_json_has_a_schema() -> None:
    with_json = [name for name, command in _commands(cli) if any(each.name == "as_json" for each in command.params)]
    assert sorted(with_json) == sorted(output_types())


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.json"):
        path.unlink()
    for name, text in schemas().items():
        (FOLDER / name).write_text(text)
