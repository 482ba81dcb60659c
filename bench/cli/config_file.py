"""TOML files with the options of `bench run`, for example:

    method = ["base", "corp"]
    task = "gsm8k"
    seed = [0, 1, 2]
    [set.corp]
    rank = 4
    [vary.corp]
    noise = ["iid", "tied"]

Each value is checked here as the option of that name would be, so that an error names the file. The checks are stricter
than on the command line, where everything is text: `limit = "60"` and `seed = 1.0` are refused.
"""

from __future__ import annotations

import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.cells_on import cells_options
from bench.cli.options import Validated, engine_options, output_option, run_options
from bench.cli.paths import Place
from bench.errors import UsageError, os_reason, shown

if TYPE_CHECKING:
    from bench.run.grid import GridRun

TABLES = {"set": ("settings", False), "vary": ("variations", True)}
"""Tables of method settings: the parameter that takes them, and whether a list gives several values."""


def keys(command: click.Command) -> dict[str, click.Option]:
    """Return the keys of a file with the options of a command: `max_new_tokens` for `--max-new-tokens`.

    Options that cannot be in a file are left out: the file itself, the tables, `--json` and `--quiet`.
    """
    found = {}
    for option in command.params:
        name = max(option.opts, key=len).lstrip("-").replace("-", "_")
        if isinstance(option, click.Option) and option.expose_value and name not in (*TABLES, "json", "quiet"):
            found[name] = option
    return found


def read_config_file(path: Path, ctx: click.Context) -> dict[str, Any]:
    """Read a file with the options of `bench run`.

    Args:
        path: TOML file.
        ctx: Context that options are checked in.

    Returns:
        Values by name of the command's parameter.

    Raises:
        UsageError: If the file is not valid TOML, has an unknown key, or an option's value is invalid.
    """
    from bench.run.settings import from_table

    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--config {path}: cannot be read: {os_reason(error)}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(
            f'--config {path}: not TOML: {error}; expected lines such as task = "gsm8k", with text in quotes, and '
            "tables such as [set.corp]"
        ) from error
    known = keys(click.command()(run_options(output_option(engine_options(cells_options(lambda: None))))))
    values: dict[str, Any] = {}
    for key, value in content.items():
        if key in TABLES:
            parameter, several = TABLES[key]
            if not isinstance(value, dict):
                raise UsageError(f"--config {path}: {key} = {shown(value)}: expected a table, such as [{key}.corp]")
            values[parameter] = from_table(value, f"--config {path}: [{key}]", several=several)
        elif key in known:
            option = known[key]
            assert option.name is not None
            values[option.name] = _checked(f"--config {path}: {key} = {shown(value)}", value, option, ctx)
            if key != "model" or content.get("engine") != "endpoint":  # the name of a server's model is none of ours
                _check_names(path, key, values[option.name])
        else:
            expected = [*known, *TABLES]
            near = get_close_matches(key, expected, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(expected)}"
            raise UsageError(f"--config {path}: unknown key {key!r}; {hint}")
    return values


def planned_runs(path: Path) -> list[GridRun]:
    """Return the runs of `bench run -C FILE`.

    Raises:
        UsageError: If the file or one of its values is invalid.
    """
    from bench.run.grid import expand

    command = click.command()(run_options(config_option(lambda: None)))
    return expand(**command.make_context("bench run", ["-C", str(path)]).params)


def suites_beside(folder: Path) -> dict[str, list[GridRun]]:
    """Return the planned runs of each suite in the folder `suites` beside a folder of records, by name.

    Raises:
        UsageError: If a suite or one of its values is invalid.
    """
    paths = sorted((folder.absolute().parent / "suites").glob("*.toml"))
    return {path.stem: planned_runs(path) for path in paths}


def _checked(where: str, value: Any, option: click.Option, ctx: click.Context) -> Any:
    """Return a value in the form that click takes as the default of an option."""
    if option.multiple:
        alone = value if isinstance(value, list) else [value]
        if not alone:
            raise UsageError(f"{where}: expected at least one value")
        return [_checked_one(where, each, option, ctx) for each in alone]
    return _checked_one(where, value, option, ctx)


def _checked_one(where: str, value: Any, option: click.Option, ctx: click.Context) -> Any:
    if option.is_flag:
        if not isinstance(value, bool):
            raise UsageError(f"{where}: expected true or false")
        return value
    try:
        if isinstance(option.type, Validated):
            return option.type.from_file(value, option, ctx)
        if not isinstance(value, str):
            raise UsageError(f"{where}: expected {option.make_metavar(ctx)} as text, in quotes")
        option.type.convert(value, option, ctx)
    except click.BadParameter as error:
        raise UsageError(f"{where}: {error.message}") from error
    return value


def _check_names(path: Path, key: str, found: Any) -> None:
    """Check the names of methods, tasks, models and budgets, which `bench run` would check later."""
    from bench.run.grid import CHECKS

    for name in found if isinstance(found, list) else [found]:
        try:
            CHECKS.get(key, shown)(name)
        except UsageError as error:
            raise UsageError(f"--config {path}: {error}") from error


def _read(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
    if path is not None:
        ctx.default_map = {**(ctx.default_map or {}), **read_config_file(path, ctx)}


config_option = click.option(
    "-C",
    "--config",
    type=Place(exists=True, dir_okay=False),
    is_eager=True,
    expose_value=False,
    callback=_read,
    help="TOML file with these options. Options on the command line override it.",
)
