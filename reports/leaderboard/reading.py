"""Three sentences that say how to read a table of the board, from its rows. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from reports.leaderboard.group import LEVEL, Group, LeaderboardRow


def how_to_read(group: Group) -> tuple[str, str, str]:
    """Return a sentence about the verdicts, one about the letters, and one about the costs of a table.

    Example:
        corp is better than the base, as the interval of its difference excludes 0; randopt k=1 cannot be told from it.
        base and randopt k=1 share a letter, so they are not significantly different, whatever their order here.
        Each method had the same budget of 7.49e+10 FLOPs to adapt; then an answer of randopt k=5 takes 5 passes.
    """
    rows = [row for row in group.lines if row.accuracy]
    return _verdicts(rows), _letters(rows), _costs(group, rows)


def _verdicts(rows: Sequence[LeaderboardRow]) -> str:
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.verdict:
            found.setdefault(row.verdict, []).append(row.name)
    parts = [
        f"{_listed(names)} {_is(names)} {verdict} than the base, as the interval of {_its(names)} excludes 0"
        for verdict in ("better", "worse")
        if (names := found.get(verdict))
    ]
    if names := found.get("cannot be told"):
        parts.append(f"{_listed(names)} cannot be told from the base")
    if not parts:
        return "No row is compared with the base."
    together = f"all intervals of the table hold together with {100 * (1 - LEVEL):g} % confidence"
    if any(len(row.seeds) == 1 for row in rows if row.difference):
        together += ", each for the model that one seed gave"
    return "; ".join([*parts, together]) + "."


def _letters(rows: Sequence[LeaderboardRow]) -> str:
    lettered = [row for row in rows if row.letters]
    for first, second in combinations(lettered, 2):
        if set(first.letters or "") & set(second.letters or ""):
            return (
                f"{first.name} and {second.name} share a letter, so they are not significantly different: "
                "the order of such rows means nothing."
            )
    if lettered:
        return "No two rows share a letter, so all of them are significantly different."
    return "No row has a letter, so the order of the rows means nothing."


def _costs(group: Group, rows: Sequence[LeaderboardRow]) -> str:
    budget = f"Each method had the same budget of {group.budget_flops:.3g} FLOPs to adapt"
    dearest = max(rows, key=lambda row: row.passes, default=None)
    if dearest is None or dearest.passes == min(row.passes for row in rows):
        return f"{budget}, and an answer of each row costs as much as one of the base."
    return (
        f"{budget}; afterwards an answer of {dearest.name} takes {dearest.passes:g} passes of the model, and so "
        f"{dearest.answer_flops / min(row.answer_flops for row in rows):.1f} times the FLOPs of the cheapest row."
    )


def _listed(names: Sequence[str]) -> str:
    """Return names as a list in a sentence, such as `corp, es and grpo`."""
    return " and ".join([*filter(None, [", ".join(names[:-1])]), names[-1]])


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _its(names: Sequence[str]) -> str:
    return "its difference" if len(names) == 1 else "each difference"
