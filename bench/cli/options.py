"""Options shared by several commands. Those of a run are made from the fields of `RunConfig`."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args, get_origin

import click
from pydantic import BeforeValidator, Field, PositiveInt, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from bench.amounts import whole_number
from bench.cli.paths import Place
from bench.errors import in_words, os_reason, shown
from bench.plain import line
from bench.records.config import RunConfig
from bench.settings import Option, describe

if TYPE_CHECKING:
    from bench.run.settings import Assignment

F = TypeVar("F", bound=Callable[..., Any])

RUN = Place(exists=True, file_okay=False)
"""Path to a run directory."""


def run_options(command: F) -> F:
    """Add the options that define runs."""
    from bench.models.embedded import DEFAULT_MODEL

    # A record must state its model, so only the command line has a default.
    defaults = {"model": DEFAULT_MODEL}
    options = [
        *(_made_from(name, field, option, defaults.get(name)) for name, field, option in fields()),
        click.option(
            "--set",
            "settings",
            multiple=True,
            type=SettingText("--set"),
            metavar="KEY=VALUE",
            help="Setting of a method, such as `corp.attempts=0`, see `bench list methods -v`. Repeatable.",
        ),
        click.option(
            "--vary",
            "variations",
            multiple=True,
            type=SettingText("--vary", separator="|"),
            metavar="KEY=V1|V2|...",
            help="Setting with several values, such as `corp.rank=4|8`. Each value is a separate run. Repeatable.",
        ),
        click.option(
            "--launch",
            type=click.Choice(["accelerate"]),
            help="Train in several processes with `accelerate launch` (methods of gradient training).",
        ),
        click.option(
            "--launch-config",
            type=Place(),
            metavar="FILE",
            help="Accelerate config file, as written by `accelerate config`. Default: accelerate's own path.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def fields() -> Iterator[tuple[str, FieldInfo, Option]]:
    """Yield the fields of `RunConfig` that are options, with their names and forms."""
    for name, field in RunConfig.model_fields.items():
        for option in field.metadata:
            if isinstance(option, Option):
                yield name, field, option


def test_options(command: F) -> F:
    """Add the options that a test can change. Those that are left out are as in the source, so none has a default."""
    found = {name: (field, option) for name, field, option in fields()}
    for name in reversed(TESTED):
        command = _made_from(name, *found[name], None, required=False)(command)
    return command


TESTED = (
    *("task", "data", "fields", "limit", "max_new_tokens", "prompt", "think", "max_think_tokens", "strategy"),
    "allow_unsandboxed",
)
"""Fields of `RunConfig` that a test can change."""


def _made_from(
    name: str, field: FieldInfo, option: Option, default: Any, *, required: bool | None = None
) -> Callable[[F], F]:
    """Return the click option of a field. One that spans a grid has the field's name in the plural.

    Args:
        name: Name of the field.
        field: The field.
        option: Form of the option.
        default: Default of a field without one of its own.
        required: Whether the option must be given; False also for one that has no default here. None: as the field is.
    """
    setting = describe(name, field)
    default = default if setting.required or required is False else setting.default
    given: dict[str, Any] = {"default": [default] if option.several else default, "show_default": True}
    if default is None:
        given = {"required": setting.required if required is None else required}
    flags = [*filter(None, [option.short]), "--" + name.replace("_", "-"), name + ("s" if option.several else "")]
    if field.annotation is bool:
        return click.option(*flags, is_flag=True, help=setting.text)
    if option.file:
        valid: click.ParamType = Place(exists=True, dir_okay=False, path_type=str)
    elif option.content:
        valid = Content()
    elif get_origin(field.annotation) is Literal:
        valid = click.Choice(get_args(field.annotation))
    else:
        valid = Validated(Annotated[field.annotation, *field.metadata])
    return click.option(
        *flags,
        type=valid,
        multiple=option.several,
        metavar=option.metavar,
        help=setting.text + (" Repeatable." if option.several else ""),
        **given,
    )


class Validated(click.ParamType):
    """Value that pydantic validates as one of a type. A whole number is read as people write it: `65,536`, `64k`."""

    def __init__(self, kind: Any) -> None:
        self._adapter: TypeAdapter[Any] = TypeAdapter(kind)
        schema = self._adapter.json_schema()
        kinds = [each.get("type") for each in schema.get("anyOf", [schema])]
        self.name = "integer" if "integer" in kinds else "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Validate a text of the command line, or a value that `from_file` returned."""
        if self.name == "integer" and isinstance(value, str):
            if param is not None and param.multiple and "," in value:  # 1,200 may be two values
                self.fail(f"expected one number; repeat the option for several (given {shown(value)}).", param, ctx)
            read = whole_number(value)
            if read is None:
                return self._validate(value, param, ctx, strict=True, forms=", such as 2048, 65,536, 1e5 or 64k")
            return self._validate(read, param, ctx, strict=True)
        return self._validate(value, param, ctx, strict=False)

    def from_file(self, value: Any, param: click.Parameter, ctx: click.Context) -> Any:
        """Validate a value of a TOML file, which must have the type: `"4"`, `4.0` and `true` are not integers.

        An integer where text is expected, such as `budget = 2048`, is the text that the command line would get.
        """
        if self.name == "text" and type(value) is int:
            value = str(value)
        return self._validate(value, param, ctx, strict=True)

    def get_missing_message(self, param: click.Parameter, ctx: click.Context | None) -> str | None:
        """Say what a missing option is."""
        return param.help if isinstance(param, click.Option) else None

    def _validate(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None, *, strict: bool, forms: str = ""
    ) -> Any:
        try:
            return self._adapter.validate_python(value, strict=strict)
        except ValidationError as error:
            problem = error.errors()[0]
            forms = forms if problem["type"] == "int_type" else ""
            self.fail(f"{in_words(problem)}{forms} (given {shown(value)}).", param, ctx)


def number_from(least: int) -> Validated:
    """Return the type of an option that takes a whole number.

    Args:
        least: The smallest one.
    """
    return Validated(Annotated[int, Field(ge=least)])


class Content(click.ParamType):
    """Text of a file, without white space at its ends."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Read the file."""
        path: Path = Place(exists=True, dir_okay=False).convert(value, param, ctx)
        try:
            text = path.read_text(encoding="utf-8").strip()
        except OSError as error:
            self.fail(f"{value}: {os_reason(error)}.", param, ctx)
        except ValueError as error:
            self.fail(f"{value}: not UTF-8 text ({error}); save the file as UTF-8.", param, ctx)
        return text or self.fail(f"{value}: is empty; expected text.", param, ctx)


class SettingText(click.ParamType):
    """Setting of a method as text; a setting that was read from a TOML file passes unchanged.

    Args:
        option: Name of the option, for error messages.
        separator: Text between several values; None for an option with one value.
    """

    name = "setting"

    def __init__(self, option: str, separator: str | None = None) -> None:
        self._option, self._separator = option, separator

    def convert(self, value: str | Assignment, param: click.Parameter | None, ctx: click.Context | None) -> Assignment:
        """Parse a text."""
        from bench.run.settings import parse

        return parse(value, self._option, self._separator) if isinstance(value, str) else value


def _auto(value: Any) -> Any:
    """Return None for `auto`, and a number unchanged."""
    if isinstance(value, str) and value != "auto":
        raise PydanticCustomError("engines", "expected auto, or a whole number of 1 or more")
    return None if value == "auto" else value


_EngineCount = Annotated[PositiveInt | None, BeforeValidator(_auto)]
"""Type of a number of engines; None for `auto`."""


def engine_options(command: F) -> F:
    """Add the options for the number and location of engines. They change the result of a time budget alone."""
    command = click.option(
        "--ray-address",
        metavar="ADDRESS",
        help="Existing Ray cluster for the engines, or for the cells of --cells-on ray: `HOST:6379` or `auto`. "
        "Default: start one on this machine.",
    )(command)
    return click.option(
        "--engines",
        type=Validated(_EngineCount),
        metavar="COUNT",
        default="auto",
        show_default=True,
        help="Number of engines that evaluate in parallel. Each gets its own GPU, or its share of the CPU cores. auto: "
        "one per core as memory allows; one for a GPU, vLLM or a tiny model. Results are the same, but a budget of "
        "device time is measured on these engines.",
    )(command)


output_option = click.option(
    "-o",
    "--output",
    type=Place(),
    default=Path("runs"),
    show_default=True,
    help="Folder for run directories.",
)

fields_option = click.option(
    "--fields",
    metavar="FIELD=NAME,...",
    help="Names of fields in --data where they differ from the task's, such as `problem=question`.",
)

quiet_option = click.option(
    "-q", "--quiet", is_flag=True, help="Print no progress and no notes. Results and errors are printed."
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def output_json(value: Any, kind: Any = None) -> None:
    """Print a value as one JSON document on stdout. It is ASCII, so that no text in it can give orders to a terminal.

    Args:
        value: Instance of one of the types that `bench.cli.outputs.output_types` names.
        kind: Type of the value. Default: its class.
    """
    plain = TypeAdapter(kind or type(value)).dump_python(value, mode="json")
    click.echo(json.dumps(plain, indent=1))


def say(text: str, *, err: bool = False, bold: bool = False, hang: int | None = None) -> None:
    """Print one line, whatever its parts hold: see `bench.plain.line`.

    Args:
        text: The line; spaces at its start indent it.
        err: Whether to print to stderr.
        bold: Whether to print it bold.
        hang: On a terminal, fold a long line at its words, with this many spaces before each line after the first. None
            for a line that is to be copied, such as a command: the terminal folds it.
    """
    shown = line(text)
    if hang is not None and (sys.stderr if err else sys.stdout).isatty():
        from bench.console import fold

        shown = fold(shown, shutil.get_terminal_size().columns, hang)
    click.secho(shown, err=err, bold=bold or None)


def left_out(unreadable: Sequence[str]) -> int:
    """Name the records that a command left out as they could not be read. Return its exit status."""
    for reason in unreadable:
        say(f"left out: {reason}", err=True)
    return 1 if unreadable else 0
