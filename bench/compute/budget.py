"""Budgets: model-prompt evaluations, model FLOPs, or device time.

One evaluation is one answer of the base model to one prompt of the task, so a budget in evaluations means the same work
for every method. A run measures the cost of one evaluation, and so turns the budget into FLOPs. A budget of device time
becomes FLOPs at the speed that the run measures before it adapts. Its size, and with it the result, depends on the
machine's speed at that time and on the number of engines.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from bench.amounts import measure
from bench.errors import UsageError

BUDGETS = {"smoke": 256, "quick": 512, "small": 4_096, "medium": 65_536, "paper": 1_000_000}
"""Evaluations by name. `paper` is RandOpt's published budget: 5000 candidates on 200 examples (arXiv 2603.12228)."""

FORMS = "a number of model-prompt evaluations (2048, 65,536, 64k), FLOPs (1e15flops, 2pflops) or device time (90s, 2h)"
"""Forms of a budget other than the names, for help and error messages."""

_FLOPS = {"flops": 1, **{f"{prefix}flops": 10**power for prefix, power in zip("kmgtpe", range(3, 21, 3), strict=True)}}
_LARGEST = {
    "evaluations": (10**12, "1e12 evaluations"),
    "flops": (10**30, "1e30 FLOPs"),
    "seconds": (10 * 365 * 86_400, "87600h, which are ten years"),
}
"""Largest budget of each unit, and its text. A larger one is a slip of the pen, and its run would never end."""
_SECONDS = {"s": 1, "min": 60, "h": 3600}

Unit = Literal["evaluations", "flops", "seconds"]


@dataclass(frozen=True)
class Budget:
    """Size of a budget in the unit that it was given in. Budgets of different units are not compared.

    Attributes:
        unit: `evaluations`, `flops` or `seconds`.
        amount: Positive number of these.
    """

    unit: Unit
    amount: int

    @property
    def identity(self) -> int | str:
        """The budget's part in a run's id: the number of evaluations, or a text such as `7200 seconds`."""
        return self.amount if self.unit == "evaluations" else f"{self.amount} {self.unit}"

    @property
    def text(self) -> str:
        """The budget without a name, such as `65536`, `3.5e12flops`, `2h` or `90s`."""
        if self.unit == "flops":
            power, digits = len(str(self.amount)) - 1, str(self.amount).rstrip("0")
            if power < len(digits):
                return f"{self.amount}flops"
            return f"{digits[0]}{'.' + digits[1:] if digits[1:] else ''}e{power}flops"
        if self.unit == "seconds":
            unit = next(unit for unit in ("h", "min", "s") if self.amount % _SECONDS[unit] == 0)
            return f"{self.amount // _SECONDS[unit]}{unit}"
        return str(self.amount)


def parse_budget(name: str) -> Budget:
    """Read a budget.

    Args:
        name: Name of a budget, such as `small`, or one of `FORMS`. `k` is 1,000, and `M` is 1,000,000.

    Raises:
        UsageError: If the text is neither, or not a positive whole number of evaluations, FLOPs or seconds, or larger
            than 1e12 evaluations, 1e30 FLOPs or ten years.
    """
    if name in BUDGETS:
        return Budget("evaluations", BUDGETS[name])
    known = ", ".join(f"{key} ({value:,})" for key, value in BUDGETS.items())
    near = get_close_matches(name.lower(), BUDGETS, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    if "," in name:
        hint = "; for several budgets, repeat -b"
    return _read("--budget", name, "evaluations", f"{known}, or {FORMS}; positive, and in whole units{hint}")


def parse_flops(option: str, text: str) -> int:
    """Read a number of FLOPs, such as `1e15`, `1e15flops` or `2pflops`.

    Args:
        option: Name of the option that gives it, for error messages.
        text: Its text.

    Raises:
        UsageError: If it is not a positive whole number of FLOPs, or larger than 1e30.
    """
    expected = "a positive number of FLOPs, such as 1e15 or 2pflops"
    found = _read(option, text, "flops", expected)
    if found.unit != "flops":
        raise UsageError(f"{option} {text}: expected {expected}")
    return found.amount


def _read(option: str, name: str, plain: Unit, expected: str) -> Budget:
    """Read a number with its unit; a number without one is in the unit `plain`."""
    found = measure(name)
    problem = UsageError(f"{option} {shlex.quote(name)}: expected {expected}")
    if found is None:
        raise problem
    number, suffix = found
    unit: Unit
    if suffix.lower() in _FLOPS:
        unit, size = "flops", _FLOPS[suffix.lower()]
    elif suffix in _SECONDS:
        unit, size = "seconds", _SECONDS[suffix]
    elif not suffix:
        unit, size = plain, 1
    else:
        raise problem
    amount = number * size
    if amount <= 0 or amount.denominator > 1:
        raise problem
    largest, text = _LARGEST[unit]
    if amount > largest:
        raise UsageError(f"{option} {name}: expected at most {text}")
    return Budget(unit, int(amount))


def canonical(name: str) -> str:
    """Return the one spelling of a budget: its name, or its size as in `Budget.text`.

    Raises:
        UsageError: If it is no budget.
    """
    return name if name in BUDGETS else parse_budget(name).text
