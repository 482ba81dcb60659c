"""Summaries of a board's groups: accuracy against compute, and performance profiles over tasks. Pure functions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bench.stats import Estimate, area_under_front, pareto_front, performance_profile, profile_interval
from reports.leaderboard.group import Group, LeaderboardRow
from reports.leaderboard.grouping import names_of
from reports.leaderboard.summaries import SPAN, TASKS, Curve, CurvePoint, Profile

MARGINS = tuple(round(0.01 * step, 2) for step in range(21))
"""Margins of performance profiles: 0 to 20 percentage points."""


def curves_of(groups: Sequence[Group], answers: int | None) -> tuple[Curve, ...]:
    """Return a curve for the groups of each task, model, ruleset and item set, over all budgets.

    Args:
        groups: Groups of the board.
        answers: Number of deployed answers; None for the number of test items.
    """
    families: dict[tuple[str, ...], list[Group]] = defaultdict(list)
    for group in groups:
        if group.items and group.same_rules and not group.tests:
            families[group.task, group.model, group.ruleset, group.strategy, group.settings, group.item_set].append(
                group
            )
    # A curve begins at the cost of the base's answers.
    known = [
        members
        for members in families.values()
        if any(line.is_base and line.accuracy for g in members for line in g.lines)
    ]
    return tuple(_curve(members, answers or members[0].items) for members in known)


def _curve(groups: Sequence[Group], answers: int) -> Curve:
    first = groups[0]
    found = {
        CurvePoint(
            name=line.name,
            budget="" if line.bound else group.budget,
            flops=line.flops + answers * line.answer_flops,
            accuracy=line.accuracy,
            front=False,
            base=line.is_base,
        )
        for group in groups
        for line in group.lines
        if line.accuracy and not line.own_gate
    }
    points = sorted(found, key=lambda p: (p.flops, -p.accuracy.value, p.name, p.budget))
    costs, values = np.array([p.flops for p in points]), np.array([p.accuracy.value for p in points])
    front = pareto_front(costs, values)
    low = max(next(p.flops for p in points if p.base), 1.0)
    return Curve(
        task=first.task,
        model=first.model,
        strategy=first.strategy,
        item_set=first.item_set,
        answers=answers,
        points=tuple(replace(p, front=bool(f)) for p, f in zip(points, front, strict=True)),
        low=low,
        high=SPAN * low,
        area=area_under_front(costs, values, low, SPAN * low),
        settings=first.settings,
        ruleset=first.ruleset,
    )


def profiles_of(groups: Sequence[Group]) -> tuple[tuple[Profile, ...], int]:
    """Return a profile for each model, budget, ruleset and settings with enough tasks, and the largest number of tasks.

    Tasks with the same items are one task.
    """
    families: dict[tuple[str, ...], dict[str, list[Group]]] = defaultdict(lambda: defaultdict(list))
    for group in groups:
        if group.same_rules and not (group.controlled or group.tests) and any(line.accuracy for line in group.lines):
            key = group.model, group.budget, group.strategy, group.ruleset, group.settings
            families[key][group.item_set].append(group)
    made = tuple(_profile(key, list(tasks.values())) for key, tasks in families.items() if len(tasks) >= TASKS)
    return made, max(map(len, families.values()), default=0)


def _joined(line: LeaderboardRow) -> tuple[str, str, str]:
    return line.method, line.settings, line.label


def _profile(key: tuple[str, ...], tasks: Sequence[Sequence[Group]]) -> Profile:
    """Return a profile over tasks, each given as its groups with the same items.

    The rows of a method with the same settings and label are one line, whatever their names in the tables. A row with a
    failed seed is outside every margin.
    """
    lines = [[line for group in groups for line in group.lines if not line.own_gate] for groups in tasks]
    methods = names_of({(line.method, line.settings) for of_task in lines for line in of_task})
    named = {_joined(line): f"{methods[line.method, line.settings]} {line.label}".strip() for t in lines for line in t}
    joined = sorted(named, key=lambda each: (named[each], each))
    names = [named[each] for each in joined]
    scores = []
    for row in joined:
        rows = [[line for line in of_task if _joined(line) == row] for of_task in lines]
        whole = [found if all(line.accuracy and not line.failed for line in found) else [] for found in rows]
        seeds = [[line.accuracy.seeds for line in found if line.accuracy] for found in whole]
        # Seeds of tasks with the same items are averaged in their order, as far as all tasks have them.
        scores.append([np.array([np.mean(each) for each in zip(*found, strict=False)]) for found in seeds])
    margins = np.array(MARGINS)
    means = np.array([[each.mean() if each.size else np.nan for each in of_method] for of_method in scores])
    shares, (low, high) = performance_profile(means, margins), profile_interval(scores, margins)
    model, budget, strategy, ruleset, settings = key
    return Profile(
        model,
        budget,
        strategy,
        tuple(" and ".join(dict.fromkeys(group.task for group in groups)) for groups in tasks),
        MARGINS,
        {
            name: tuple(Estimate(*map(float, each)) for each in zip(shares[i], low[i], high[i], strict=True))
            for i, name in enumerate(names)
        },
        ruleset,
        settings,
    )
