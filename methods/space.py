"""Search spaces: the settings of a method that tuning may change, each with its range.

A method declares one line for each of them:

    space = {"lr": Dimension(3e-7, 3e-4), "temperature": Dimension(0.1, 1.2, "linear")}

Keys are settings of the method's `Config`; a nested setting is named with a dot, as in `lora.rank`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from bench.errors import UsageError, problems, shown
from bench.settings import settings_of

DIGITS = 3
"""Significant digits of a drawn number, so that a person can read it and give it again."""


@dataclass(frozen=True)
class Dimension:
    """Range of a number with a fraction. For whole numbers, use `Choices`.

    Attributes:
        low: Smallest value.
        high: Largest value.
        scale: `log` draws the exponent uniformly, which suits rates and step sizes; `linear` draws the value.
    """

    low: float
    high: float
    scale: Literal["log", "linear"] = "log"

    def at(self, share: float) -> float:
        """Return the value at a share of the way from `low` to `high`, in [0, 1), with three significant digits.

        Example: `Dimension(1e-6, 1e-4).at(0.5)` is 1e-5.
        """
        if self.scale == "log":
            value = self.low * (self.high / self.low) ** share
        else:
            value = self.low + (self.high - self.low) * share
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)

    @property
    def ends(self) -> Sequence[Any]:
        """Values that the configuration must accept for all others to be accepted: the smallest and the largest."""
        return float(self.low), float(self.high)

    @property
    def problem(self) -> str | None:
        """Reason why nothing can be drawn from this range, or None."""
        for name, end in (("low", self.low), ("high", self.high)):
            if isinstance(end, bool) or not isinstance(end, (int, float)):
                return f"{name} is {shown(end)}; expected a number"
        if self.scale not in ("log", "linear"):
            return f"scale is {shown(self.scale)}; expected log or linear"
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            return "the range is empty; low must be less than high"
        if self.scale == "log" and self.low <= 0:
            return "a logarithmic range needs a positive low"
        return None

    def __str__(self) -> str:
        low, high = (f"{end:g}" if isinstance(end, (int, float)) else shown(end) for end in (self.low, self.high))
        return f"{low} to {high} ({self.scale})"


@dataclass(frozen=True)
class Choices:
    """Values to choose from, such as `Choices(("pass@8", "maj@8"))`. Each is drawn equally often.

    Attributes:
        values: The values.
    """

    values: tuple[Any, ...]

    def at(self, share: float) -> Any:
        """Return the value at a share of the list, in [0, 1)."""
        return self.values[int(share * len(self.values))]

    @property
    def ends(self) -> Sequence[Any]:
        """Values that the configuration must accept: all of them."""
        return self.values

    @property
    def problem(self) -> str | None:
        """Reason why nothing can be chosen, or None."""
        if not isinstance(self.values, (tuple, list)):
            return f"the values are {shown(self.values)}; expected a tuple of values"
        repeated = [value for i, value in enumerate(self.values) if value in self.values[:i]]
        if repeated:
            return f"{shown(repeated[0])} is given twice; give each value once, as each is drawn equally often"
        return None if len(self.values) > 1 else "there is nothing to choose; give two values or more"

    def __str__(self) -> str:
        return shown(list(self.values) if isinstance(self.values, (tuple, list)) else self.values)


Space = Mapping[str, Dimension | Choices]
"""Settings that tuning may change, by name."""


def check_space(method: str, config: type[BaseModel], space: Space) -> None:
    """Check that a space has settings of a configuration only, and ranges that it accepts.

    Args:
        method: Name of the method, for messages.
        config: Its configuration.
        space: Its search space.

    Raises:
        UsageError: If not. The message names the method, the setting and its range.
    """
    if not isinstance(space, Mapping):
        raise UsageError(
            f"method {method}: space is {shown(space)}; expected a mapping from settings to ranges, such as "
            '{"lr": Dimension(3e-7, 3e-4)}'
        )
    known = [setting.name for setting in settings_of(config)]
    for name, dimension in space.items():
        if not isinstance(dimension, (Dimension, Choices)):
            raise UsageError(
                f"method {method}: space: {name}: {shown(dimension)} is no range; expected Dimension(low, high) or "
                "Choices((value, value, ...))"
            )
        where = f"method {method}: space: {name} from {dimension}"
        if name not in known:
            raise UsageError(f"{where}: {method} has no such setting; known: {', '.join(known) or 'none'}")
        if dimension.problem:
            raise UsageError(f"{where}: {dimension.problem}")
        for value in dimension.ends:
            if refused := _refused(config, tuple(name.split(".")), value):
                raise UsageError(f"{where}: the configuration refuses {shown(value)}: {refused}")


def _refused(config: type[BaseModel], path: tuple[str, ...], value: Any) -> str | None:
    """Return why a configuration refuses a value of a setting, or None. Other settings may still be missing."""
    given = value
    for key in reversed(path):
        given = {key: given}
    try:
        config.model_validate(given)
    except ValidationError as error:
        found = [text for place, text in problems(error, config) if place[: len(path)] == path or not place]
        return "; ".join(found) or None
    return None


def setting_value(config: BaseModel, name: str) -> Any:
    """Return the value of a setting by its name; None for a setting of a nested configuration that is not given."""
    value: Any = config
    for key in name.split("."):
        value = getattr(value, key, None)
    return value
