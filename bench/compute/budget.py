"""Named budgets in model-prompt evaluations, converted to FLOPs with the measured cost of one evaluation.

One evaluation is one answer of the base model to one prompt of the task, so a budget means the same work for every
method.
"""

from __future__ import annotations

from bench.errors import UsageError

BUDGETS = {"smoke": 256, "quick": 512, "small": 4_096, "medium": 65_536, "paper": 1_000_000}
"""Evaluations by name. `paper` is RandOpt's published budget: 5000 candidates on 200 examples (arXiv 2603.12228)."""


def budget_evaluations(name: str) -> int:
    """Return the number of model-prompt evaluations of a budget.

    Args:
        name: Name of a budget, such as `small`, or a positive integer, such as `2048`.

    Raises:
        UsageError: If the name is neither.
    """
    if name in BUDGETS:
        return BUDGETS[name]
    if name.isascii() and name.isdigit() and int(name) > 0:
        return int(name)
    known = ", ".join(f"{key} ({value:,})" for key, value in BUDGETS.items())
    raise UsageError(f"--budget {name}: expected {known}, or a positive number of model-prompt evaluations")
