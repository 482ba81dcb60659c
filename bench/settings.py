"""Settings: the fields of configurations, each with a sentence, its unit and the source of its default.

This is the one home of what a setting means. Command-line options, keys of TOML files, `bench list methods -v` and
docs/options.md are made from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema


def setting(
    default: Any, sentence: str, *, unit: str | None = None, source: str | None = None, later: bool = False
) -> Any:
    """Return a field of a pydantic model that is documented as a setting.

    Example:
        ```python
        class ClimbConfig(MethodConfig):
            sigma: PositiveFloat = setting(1e-3, "Length of a step.", unit="weights", source="our choice")
        ```

    Args:
        default: Default value; `...` for a setting that must be given.
        sentence: Meaning of the setting.
        unit: Unit of the value; None if it has none.
        source: Source of the default: a paper, a library, a measurement, or `our choice`; None if there is no default,
            or if the default is None and means that nothing is set.
        later: Whether a method's setting was added after its version. At its default it is then left out of the
            configuration's dump, so that the ids of older runs stay.
    """
    known = {"unit": unit, "source": source, "later": later or None}
    extra: dict[str, Any] = {key: value for key, value in known.items() if value is not None}
    return Field(default, description=sentence, json_schema_extra=extra)


@dataclass(frozen=True)
class Option:
    """Command-line form of a setting, as metadata of its type: `limit: Annotated[PositiveInt, Option("-L")]`.

    The option's name, type, choices and default follow from the field.

    Attributes:
        short: Short flag, such as `-L`.
        several: Whether several values span a grid of runs.
        file: Whether the value is the path of an existing file.
        content: Whether the value is the text of a file, of which the path is given.
        metavar: Placeholder for the value in the help text.
    """

    short: str | None = None
    several: bool = False
    file: bool = False
    content: bool = False
    metavar: str | None = None


@dataclass(frozen=True)
class Setting:
    """One setting as it is shown to the user.

    Attributes:
        name: Name; the settings of a nested configuration follow a dot, as in `lora.rank`.
        default: Default value; None if there is none.
        required: Whether the setting has no default.
        sentence: Meaning of the setting.
        unit: Unit of the value; None if it has none.
        source: Source of the default; None if it has none.
    """

    name: str
    default: Any
    required: bool
    sentence: str
    unit: str | None
    source: str | None

    @property
    def text(self) -> str:
        """The sentence, the unit and the source in one line."""
        parts = [self.sentence]
        if self.unit:
            parts.append(f"Unit: {self.unit}.")
        if self.source:
            parts.append(f"Source: {self.source}.")
        return " ".join(parts)


FORMS: dict[str, str] = {}
"""Regular expressions that a text must match, each with the forms in words, which messages show in its place."""


def form(pattern: str, words: str) -> Any:
    """Return the pydantic metadata of a text that must match a regular expression.

    Example: `Annotated[str, form("^[0-9a-f]{64}$", "64 hexadecimal digits")]`.

    Args:
        pattern: The regular expression.
        words: The forms in words, with an example: messages say "expected" and these.
    """
    FORMS[pattern] = words
    return Field(pattern=pattern)


def describe(name: str, field: FieldInfo) -> Setting:
    """Return a field as a setting. What the field does not say is empty."""
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    required = field.is_required()
    default = None if required else field.get_default(call_default_factory=True, validated_data={})
    unit, source = (None if extra.get(key) is None else str(extra[key]) for key in ("unit", "source"))
    return Setting(name, default, required, field.description or "", unit, source)


def is_later(field: FieldInfo) -> bool:
    """Return whether a setting was added later: see `setting`."""
    extra = field.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("later"))


def settings_of(config: type[BaseModel], prefix: str = "") -> Iterator[Setting]:
    """Yield all settings of a configuration, each followed by those of a configuration nested in it."""
    for name, field in config.model_fields.items():
        yield describe(prefix + name, field)
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from settings_of(kind, f"{prefix}{name}.")


def put(settings: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set a value in nested settings. Missing tables are created: path (lora, rank) gives `{"lora": {"rank": 8}}`."""
    for key in path[:-1]:
        inner = settings.get(key)
        settings[key] = settings = dict(inner) if isinstance(inner, dict) else {}
    settings[path[-1]] = value


_INNER = ("schema", "fields", "choices", "items_schema", "keys_schema", "values_schema")
"""Keys of a core schema that hold other core schemas: one, a list of them, or a table of them by name."""


def strict_numbers(schema: CoreSchema) -> CoreSchema:
    """Return a pydantic core schema in which a number must be given as a number: not as `true`, and not as `"4"`.

    Pydantic's strict mode would also refuse a list for a tuple, and `off` for an on-off setting. These stay allowed,
    and so does an integer for a float. Models within the model stay as they are.
    """
    strict: dict[str, Any] = {key: _inner(value) if key in _INNER else value for key, value in schema.items()}
    if schema["type"] in ("int", "float"):
        strict["strict"] = True
    return strict


def _inner(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(map(_inner, value))
    if not isinstance(value, dict):
        return value  # the label of a choice
    if isinstance(value.get("type"), str):
        return strict_numbers(value)
    return {name: _inner(each) for name, each in value.items()}
