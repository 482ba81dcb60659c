"""Tuning within the budget: which settings are tried, with how much of the budget. Pure functions.

Trial 0 is the published setting. The others are the points of a scrambled Sobol sequence over the method's search
space, in an order that depends on the seed alone. Successive halving (Jamieson & Talwalkar, arXiv 1502.07943) compares
them in rungs: each rung has an equal share of the tuning budget, divided equally among its trials, and the better half
of the trials goes on to the next rung. A trial starts from the base in every rung. A small budget has a single rung.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError
from scipy.stats import qmc

from bench.errors import Refused, shown, usage_error
from bench.records.tuning import CUSTOM, PUBLISHED
from bench.seeds import derive
from bench.settings import put, settings_of
from methods.interface import Method, PlanLine
from methods.space import Space, setting_value
from tasks.interface import TaskTraits

TUNING_SHARE = 0.5
"""Maximum share of the budget for tuning. The final run gets the rest, with what tuning left unspent."""
JUDGING_SHARE = 0.2
"""Share of a trial's budget for its answers to select examples, by which it is judged."""
SLACK = 1.25
"""FLOPs reserved for an answer that is judged, in FLOPs of an answer of the base; answers may become longer."""

FEWEST_ITEMS = 12
"""Minimum number of select examples that judge a trial. With fewer, one answer moves the score by a tenth or more."""
WANTED_ITEMS = 40
"""Number of select examples that must judge every trial before tuning has a further rung. Smaller trials change the
model too little to be told apart, and the first rung drops the best settings (measured in docs/tuning.md)."""


@dataclass(frozen=True)
class Rung:
    """One round of successive halving.

    Attributes:
        trials: Number of trials.
        evaluations: Budget of each trial, in evaluations.
        adapting: Part of it for adaptation.
        items: Number of select examples that judge a trial.
    """

    trials: int
    evaluations: int
    adapting: int
    items: int


def sample(space: Space, trials: int, seed: int) -> list[dict[str, Any]]:
    """Return the settings of each trial, by name: `[{}, {"lr": 3.2e-05}, ...]`. Trial 0 changes nothing.

    Args:
        space: Settings to change, with their ranges.
        trials: Number of trials, at least 2.
        seed: Seed of the run.
    """
    sobol = qmc.Sobol(len(space), scramble=True, rng=np.random.default_rng(derive(seed, "tune")))
    # The first points of a sequence are balanced too, and scipy warns of every length that is no power of two.
    points = sobol.random_base2(math.ceil(math.log2(trials - 1)))[: trials - 1]
    drawn = [{name: space[name].at(float(u)) for name, u in zip(space, point, strict=True)} for point in points]
    return [{}, *drawn]


def halving(trials: int, evaluations: int, rungs: int | None = None) -> list[tuple[int, int]]:
    """Return the number of trials of each rung, and the budget of each of them. Together they fit the budget.

    Example: 5 trials on 600 evaluations are the rungs `[(5, 40), (3, 66), (2, 100)]`.

    Args:
        trials: Number of trials of the first rung, at least 2.
        evaluations: Budget of all rungs.
        rungs: Maximum number of rungs, at least 1; None for as many as it takes to leave one trial.
    """
    sizes = [trials]
    while sizes[-1] > 2:
        sizes.append(-(-sizes[-1] // 2))
    sizes = sizes[:rungs]
    return [(size, evaluations // len(sizes) // size) for size in sizes]


def untunable(method: Method, task: TaskTraits) -> str | None:
    """Return the reason why a method cannot be tuned on a task, or None if it can."""
    if not method.space:
        return f"method {method.name} has nothing to tune; run it without --tune"
    if not task.sizes["select"]:
        return "trials are judged on the select split, and the task has none"
    return None


def plan_tuning(
    method: Method, evaluations: int, task: TaskTraits, trials: int, total: Callable[[int], int] = int
) -> tuple[Rung, ...]:
    """Return the rungs that a budget buys: all of them, or only the first ones if trials would be too small for more.

    Args:
        method: Method with its published settings.
        evaluations: Budget of tuning and of the final run, in evaluations.
        task: Facts about the task.
        trials: Number of trials; 0 for no tuning.
        total: Converts such a budget to the budget of the run that it is a part of.

    Raises:
        Refused: If the budget buys no trials that the method can use. The message says how many trials or which budget
            would do.
    """
    if not trials:
        return ()
    found = _rungs(method, evaluations, task, trials)
    if not isinstance(found, str):
        return found
    fewer = _most(lambda number: not isinstance(_rungs(method, evaluations, task, number), str), trials)
    least = _least(lambda size: not isinstance(_rungs(method, size, task, trials), str), evaluations)
    advice = [f"--tune {fewer}"] if fewer else []
    advice += [f"a budget of {total(least)}"] if least else []
    raise Refused(
        f"--tune {trials}: half of the budget leaves each trial {int(TUNING_SHARE * evaluations) // trials} "
        f"evaluations, which is too little: {found}; {' or '.join(advice) or 'choose a larger budget'} would do"
    )


def _rungs(method: Method, evaluations: int, task: TaskTraits, trials: int) -> tuple[Rung, ...] | str:
    """Return the rungs that a budget buys, or why it buys none."""
    tuning = int(TUNING_SHARE * evaluations)
    wanted = min(WANTED_ITEMS, task.sizes["select"])
    for number in range(len(halving(trials, tuning)), 0, -1):
        try:
            found = tuple(_rung(method, task, *each) for each in halving(trials, tuning, number))
        except Refused as error:
            reason = str(error)
        else:
            if number == 1 or found[0].items >= wanted:
                return found
    return reason


def _rung(method: Method, task: TaskTraits, trials: int, evaluations: int) -> Rung:
    """Return a rung, or raise Refused if the method cannot use the budget of its trials."""
    judging = int(JUDGING_SHARE * evaluations)
    if evaluations - judging < 1:
        raise Refused("it buys no evaluation")
    plan = method.plan(evaluations - judging, task)
    if not plan.lines:  # nothing but answers costs anything
        judging = evaluations
    passes = plan.passes[0] if plan.passes else 1
    items = min(task.sizes["select"], int(judging / (SLACK * passes)))
    if items < min(FEWEST_ITEMS, task.sizes["select"]):
        raise Refused(
            f"{judging} evaluations to judge it buy {items} answers of {passes:g} passes, and {FEWEST_ITEMS} are needed"
        )
    return Rung(trials, evaluations, evaluations - judging, items)


def _least(enough: Callable[[int], bool], start: int) -> int:
    """Return the smallest number above `start` that is enough; 0 if there is none below 2**40. `start` is not."""
    low, high = start, 2 * start
    while not enough(high):
        low, high = high, 2 * high
        if high > 1 << 40:
            return 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _most(fits: Callable[[int], bool], above: int) -> int:
    """Return the largest number from 2 on that fits, by bisection; 0 if 2 does not. `above` does not fit."""
    low, high = 2, above
    if above <= 2 or not fits(low):
        return 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def describe(rungs: Sequence[Rung]) -> list[PlanLine]:
    """Return the rungs as lines of a plan."""
    return [
        PlanLine(
            "tune",
            f"rung {number}: {rung.trials} trials of {rung.evaluations} evaluations, judged on {rung.items} select "
            "examples",
            rung.trials * rung.evaluations,
        )
        for number, rung in enumerate(rungs, start=1)
    ]


def configured(method: Method, settings: Mapping[str, Any]) -> Method:
    """Return a method with some of its settings changed, such as `{"lora.rank": 4}`.

    Raises:
        Refused: If the configuration refuses their combination. A space has a range for each setting alone.
    """
    given = method.config.model_dump()
    for name, value in settings.items():
        put(given, name.split("."), value)
    kind = type(method.config)
    try:
        config = kind.model_validate(given)
    except ValidationError as error:
        raise Refused(str(usage_error(f"method {method.name}: {shown(dict(settings))}", error, kind))) from error
    return type(method)(config)


def ruleset(tune: int, method: Method) -> str:
    """Return the rules that a run of a configured method is made by: see `bench.records.tuning.Ruleset`."""
    if tune:
        return f"tuned {tune}"
    defaults = {setting.name: setting.default for setting in settings_of(type(method.config))}
    published = all(setting_value(method.config, name) == defaults[name] for name in method.space)
    return PUBLISHED if published else CUSTOM
