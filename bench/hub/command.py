"""The command that repeats a run, made from its configuration."""

from __future__ import annotations

import json
import shlex
from typing import Any

from pydantic_core import to_jsonable_python

from bench.errors import BenchError
from bench.records.config import RunConfig
from bench.registry import load_method
from bench.settings import Option, describe


def run_command(config: RunConfig) -> str | None:
    """Return the command of a run; None for a test, and if a launcher's file or a system message belongs to it.

    Example: `bench run -m corp -t addition -M tiny-adder -b 400 -s 0 -L 60 --set corp.rank=4`. Options at their
    defaults are left out, unless they name the run. Files are named without folders.
    """
    if config.source is not None or config.launch is not None or config.system is not None:
        return None
    words = ["bench", "run"]
    for name, field in RunConfig.model_fields.items():
        option = next((each for each in field.metadata if isinstance(each, Option)), None)
        value = getattr(config, name)
        if option is None or (value == describe(name, field).default and not option.several):
            continue
        flag = option.short or f"--{name.replace('_', '-')}"
        words += [flag] if value is True else [flag, value.rpartition("/")[2] if option.file else str(value)]
    for name, value in config.method_config.items():
        if value != _defaults(config.method).get(name, _NONE):
            words += ["--set", f"{config.method}.{name}={_as_text(value)}"]
    return shlex.join(words)


_NONE = object()


def _defaults(method: str) -> dict[str, Any]:
    """Return the defaults of a method's settings by name; empty if the method is not on this machine."""
    try:
        fields = load_method(method).Config.model_fields
    except BenchError:
        return {}
    return {
        name: to_jsonable_python(found.default)
        for name, field in fields.items()
        if not (found := describe(name, field)).required
    }


def _as_text(value: Any) -> str:
    """Return a setting's value as `--set` reads it: JSON, and plain text where that is not JSON."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            return value
    return json.dumps(value)
