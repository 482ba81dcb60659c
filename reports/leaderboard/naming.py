"""Texts of settings in names of rows, of intervals, and of the values of seeds."""

from __future__ import annotations

from typing import Any

from reports.leaderboard.group import OverSeeds


def short(value: Any) -> str:
    """Return a setting's value as a row's name shows it."""
    values = value if isinstance(value, list) else [value]
    return ",".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values)


def interval_text(estimate: OverSeeds | None, sign: str = "") -> str:
    """Return an interval in per cent, such as `49.3 to 55.5`; empty without one. `sign` is `+` for differences."""
    bounds = estimate and estimate.interval
    return f"{100 * bounds.low:{sign}.1f} to {100 * bounds.high:{sign}.1f}" if bounds else ""


def seeds_text(estimate: OverSeeds) -> str:
    """Return the values of the seeds in points, such as `seeds: +0.0, +0.0, +4.8`."""
    values = ", ".join(f"{100 * value:+.1f}" for value in estimate.seeds)
    return f"seed{'s' * (len(estimate.seeds) != 1)}: {values}"
