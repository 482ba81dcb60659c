"""The course of one run as text: its configuration, how rewards went, and what its gate let through."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.records.schema import Result
from bench.stats import mcnemar_size

BARS = "▁▂▃▄▅▆▇█"
CURVES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("training", "curve", "reward"), "training reward by step"),
    (("trajectory", "mean"), "mean reward of the population by iteration"),
    (("stage1", "rewards"), "reward by candidate"),
    (("scores",), "reward by candidate"),
    (("rewards",), "reward by candidate"),
)
"""Where a method's report holds rewards in the order of the run, and what they are."""


def configuration(result: Result) -> dict[str, str]:
    """Return what was run, part by part."""
    config, versions = result.config, result.versions
    engine = ", ".join(f"{key} {value}" for key, value in result.engine.items())
    told = {
        "settings": _settings(config.method_config),
        "versions": ", ".join(f"{k} {v}" for k, v in versions.model_dump(exclude_none=True).items())
        if versions
        else "",
        "data": ", ".join(f"{split} {size}" for split, size in result.splits.items()),
        "test": f"the first {config.limit}" if config.limit else "",
        "model": f"{result.model.origin}, weights {result.model.digest[:12]}" if result.model else "",
        "engine": engine + (f", prompt {result.prompt}" if result.prompt else ""),
        "sandbox": result.sandbox or "",
    }
    return {name: text for name, text in told.items() if text}


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {value}" for key, value in settings.items())


def curves(report: Mapping[str, Any], width: int = 60) -> list[str]:
    """Return a line for each series of rewards that a method reported, drawn in at most `width` bars."""
    lines = []
    for path, what in CURVES:
        values = [v for v in _series(report, path) if isinstance(v, int | float) and math.isfinite(v)]
        if len(values) > 1:
            drawn = sparkline(values, width)
            lines.append(f"{what} ({len(values)}): {min(values):.3g} to {max(values):.3g}  {drawn}")
    return lines


def _series(value: Any, path: Sequence[str]) -> list[Any]:
    """Follow keys; through a list of tables, one after the other."""
    for key in path:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list):
            value = [entry.get(key) for entry in value if isinstance(entry, Mapping)]
    return value if isinstance(value, list) else []


def sparkline(values: Sequence[float], width: int) -> str:
    """Draw values as bars from the least to the greatest, averaged where there are more than `width`."""
    step = math.ceil(len(values) / width)
    means = [sum(part) / len(part) for part in (values[i : i + step] for i in range(0, len(values), step))]
    low, high = min(means), max(means)
    return "".join(BARS[round((mean - low) / (high - low) * (len(BARS) - 1)) if high > low else 0] for mean in means)


def gates(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the decisions of a run's gate, in order."""
    return [*report.get("gates", []), *([report["gate"]] if "gate" in report else [])]


def gate_summary(report: Mapping[str, Any]) -> Iterator[str]:
    """Say how often the gate was asked, what passed, and what would have passed by chance.

    By chance: if a proposal that changes as many answers were as likely to fix as to break each. An exact test can pass
    no more often than that, and often less than its level.
    """
    looks = [gate for gate in gates(report) if gate.get("level") is not None]
    if not looks:
        return
    passed = sum(bool(gate["accepted"]) for gate in looks)
    chance = sum(mcnemar_size(gate["fixes"] + gate["regressions"], gate["level"]) for gate in looks)
    levels = sum(gate["level"] for gate in looks)
    asked = f"{len(looks)} look" + ("s" if len(looks) > 1 else "")
    yield (
        f"gate: {asked}, {passed} passed; chance alone would have passed {chance:.2g} on average "
        f"({levels:.2g} at the levels granted)"
    )
