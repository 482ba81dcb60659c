"""Check that docs/options.md matches the options of `bench run` and the settings of the methods.

    python tests/docs/test_options.py

rewrites the page.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from bench.cli.config_file import keys
from bench.cli.options import fields
from bench.cli.run import run
from bench.registry import BUILT_IN, load_method
from bench.settings import Setting, describe, settings_of

PAGE = Path(__file__).parents[2] / "docs" / "options.md"
HEAD = """# Options and settings

`bench run` takes the options below. A TOML file (`-C FILE`) takes the same under their keys, and an option on the
command line overrides the file. `--set METHOD.KEY=VALUE` sets a setting of a method, and `--vary METHOD.KEY=V1|V2` runs
the method with each value. In a file, the table `[set.METHOD]` holds settings, and `[vary.METHOD]` holds lists of
values:

```toml
method = ["base", "corp"]
task = "gsm8k"
seed = [0, 1, 2]
[set.corp]
rank = 4
[vary.corp]
noise = ["iid", "tied"]
```

Values in a file have types: `limit = "60"`, `seed = 1.0` and `attempts = true` are errors. On the command line, the
value of a setting is read as JSON, and as text if it is not JSON. Whole numbers may be written as `65,536`, `1e5` or
`64k`.

The last column says where a default comes from. `python tests/docs/test_options.py` writes this page, and a test
compares it with the code.

## Options of `bench run`
"""
OPTION_HEAD = (
    "| option | key in a file | values | default | meaning | unit | source of the default |\n" + "|---" * 7 + "|"
)
SETTING_HEAD = "| setting | values | default | meaning | unit | source of the default |\n" + "|---" * 6 + "|"
SETTINGS = """
## Settings of methods

A nested setting is written with a dot, such as `--set grpo.lora.rank=16`.
"""


def page() -> str:
    """Return the page."""
    rows = [OPTION_HEAD, *map(_option_row, keys(run).items())]
    parts = [HEAD, "\n".join(rows), SETTINGS]
    for method in sorted(BUILT_IN["method"]):
        config = load_method(method).Config
        schema = config.model_json_schema()
        settings = [_setting_row(each, _values(_find(schema, each.name), schema)) for each in settings_of(config)]
        parts.append(
            f"### {method}\n\n" + ("\n".join([SETTING_HEAD, *settings]) if settings else "No settings.") + "\n"
        )
        if space := load_method(method).space:
            ranges = ", ".join(f"`{name}` from {dimension}" for name, dimension in space.items())
            parts.append(f"`--tune` chooses {ranges} ([tuning.md](tuning.md)).\n")
    return "\n".join(parts).rstrip() + "\n"


def _option_row(entry: tuple[str, click.Option]) -> str:
    key, option = entry
    flags = ", ".join(f"`{flag}`" for flag in option.opts) + (" (repeatable)" if option.multiple else "")
    metavar = "" if option.is_flag else f"`{option.make_metavar(click.Context(run))}`"
    described = {name: describe(name, field) for name, field, _ in fields()}
    default = option.default[0] if option.multiple and isinstance(option.default, list) else option.default
    shown = "required" if option.required else f"`{default}`" if option.show_default else ""
    if key in described:
        setting = described[key]
        return _row(flags, f"`{key}`", metavar, shown, setting.sentence, setting.unit, setting.source)
    return _row(flags, f"`{key}`", metavar, shown, option.help, None, None)


def _setting_row(setting: Setting, values: str) -> str:
    default = "required" if setting.required else f"`{json.dumps(setting.default)}`"
    return _row(f"`{setting.name}`", values, default, setting.sentence, setting.unit, setting.source)


def _row(*cells: str | None) -> str:
    return "| " + " | ".join((cell or "").replace("|", "\\|") for cell in cells) + " |"


def _find(schema: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the JSON schema of a setting, such as `lora.rank`."""
    found = schema
    for part in name.split("."):
        found = next(each for each in _choices(found, schema) if "properties" in each)["properties"][part]
    return found


def _choices(found: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the alternatives of a JSON schema, with references resolved."""
    if "$ref" in found:
        found = schema["$defs"][found["$ref"].rpartition("/")[2]]
    return [each for one in found["anyOf"] for each in _choices(one, schema)] if "anyOf" in found else [found]


BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def _values(found: dict[str, Any], schema: dict[str, Any]) -> str:
    """Describe the accepted values, such as `number > 0, < 1` or `list of integer > 0`."""
    kinds = []
    for each in _choices(found, schema):
        if "enum" in each:
            kinds.append(", ".join(f"`{value}`" for value in each["enum"]))
        elif each["type"] == "array":
            kinds.append("one or more: " + _values(each["items"], schema))
        else:
            names = {"boolean": "`true`, `false`", "object": "table", "string": "text"}
            bounds = ", ".join(f"{sign} {each[bound]:g}" for bound, sign in BOUNDS.items() if bound in each)
            kinds.append(f"{names.get(each['type'], each['type'])} {bounds}".strip())
    return " or ".join(kinds)


def test_the_page_matches_the_options_and_settings() -> None:
    assert page() == PAGE.read_text(), "options or settings changed; run: python tests/docs/test_options.py"


def test_every_option_and_setting_is_on_the_page() -> None:
    text = PAGE.read_text()
    assert [key for key in keys(run) if f"| `{key}` |" not in text] == []
    names = {each.name for method in BUILT_IN["method"] for each in settings_of(load_method(method).Config)}
    assert "lora.rank" in names
    assert [name for name in names if f"| `{name}` |" not in text] == []


if __name__ == "__main__":
    PAGE.write_text(page())
