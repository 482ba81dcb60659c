"""History of one run as text: its configuration, its rewards over time, and a summary of its gate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, TypeVar

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    ValidationError,
    model_validator,
)

from bench.amounts import counted
from bench.records.lines import LARGEST
from bench.records.schema import Result
from bench.settings import put
from bench.stats import mcnemar_size

BARS = "▁▂▃▄▅▆▇█"
CURVES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("training", "curve", "reward"), "training reward by step"),
    (("trajectory", "mean"), "mean reward of the population by iteration"),
    (("stage1", "rewards"), "reward by candidate"),
    (("scores",), "reward by candidate"),
    (("rewards",), "reward by candidate"),
)
"""Places of reward series in a method's report: path of keys, and description of the series."""


def configuration(result: Result) -> dict[str, str]:
    """Return the configuration of a run as named lines, such as `{"data": "support 400, test 2000", ...}`."""
    config, versions = result.config, result.versions
    engine = ", ".join(f"{key} {value}" for key, value in result.engine.items())
    further = versions.models if versions else None
    identity = "name and shape" if config.engine == "endpoint" else "weights"
    merged = ", system message in the user's turn" if versions and versions.system_merged else ""
    lines = {
        "ruleset": result.ruleset,
        "settings": _settings(config.method_config, result.tuning.chosen if result.tuning else {}),
        "versions": ", ".join(f"{k} {v}" for k, v in versions.model_dump(exclude={"models"}, exclude_none=True).items())
        if versions
        else "",
        "data": ", ".join(f"{split} {size}" for split, size in result.splits.items()),
        "test": f"the first {config.limit}" if config.limit else "",
        "model": f"{result.model.origin}, {identity} {result.model.digest[:12]}" if result.model else "",
        "also runs": ", ".join(f"{name}, files {each[:12]}" for name, each in (further or {}).items()),
        "engine": engine + (f", prompt {result.prompt}" if result.prompt else "") + merged,
        "processor": " ".join([result.processor.name, *result.processor.features]) if result.processor else "",
        "sandbox": result.sandbox or "",
    }
    return {name: text for name, text in lines.items() if text}


def _settings(settings: Mapping[str, Any], chosen: Mapping[str, Any]) -> str:
    """Return the settings of the tested model, such as `lr = 3e-05 (chosen by tuning), group = 8`.

    Args:
        settings: Settings of the method, as configured.
        chosen: Settings that tuning chose in place of them; a nested one is named with a dot, as in `lora.rank`.
    """
    used = deepcopy(dict(settings))
    for name, value in chosen.items():
        put(used, name.split("."), value)
    marked = {name.partition(".")[0] for name in chosen}
    return ", ".join(
        f"{key} = {value}" + (" (chosen by tuning)" if key in marked else "") for key, value in used.items()
    )


def curves(report: Mapping[str, Any], width: int = 60) -> list[str]:
    """Return one line per reward series in a method's report, drawn with at most `width` bars.

    reward by candidate (64): 0.31 to 0.62  ▁▃▂▅▇█▆
    """
    lines = []
    for path, description in CURVES:
        values = [float(v) for v in _series(report, path) if isinstance(v, int | float) and abs(v) <= LARGEST]
        if len(values) > 1:
            drawn = sparkline(values, width)
            lines.append(f"{description} ({len(values)}): {min(values):.3g} to {max(values):.3g}  {drawn}")
    return lines


def _series(value: Any, path: Sequence[str]) -> list[Any]:
    """Return the list at a path of keys. In a list of tables, the key selects one value from each table."""
    for key in path:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list):
            value = [entry.get(key) for entry in value if isinstance(entry, Mapping)]
    return value if isinstance(value, list) else []


def sparkline(values: Sequence[float], width: int) -> str:
    """Draw values as bars, scaled from the smallest to the largest. More than `width` values are averaged in groups."""
    step = math.ceil(len(values) / width)
    means = [sum(part) / len(part) for part in (values[i : i + step] for i in range(0, len(values), step))]
    low, high = min(means), max(means)
    return "".join(BARS[round((mean - low) / (high - low) * (len(BARS) - 1)) if high > low else 0] for mean in means)


class ReportedPopulation(BaseModel):
    """Scored population, as reported by CoRP's first stage and by RandOpt."""

    model_config = ConfigDict(extra="ignore")

    rewards: list[FiniteFloat | None] = Field(validation_alias=AliasChoices("rewards", "scores"), min_length=1)
    sigmas: list[FiniteFloat]
    elite: list[NonNegativeInt] = []
    weights: list[FiniteFloat] = []
    weight_by_sigma: dict[str, FiniteFloat] = {}
    effective_sample_size: FiniteFloat | None = None
    effective_rank: FiniteFloat | None = None
    largest_weight: FiniteFloat | None = None
    kappa: FiniteFloat | None = None
    norm: FiniteFloat | None = None
    eigenvalues: list[FiniteFloat] = []

    @model_validator(mode="after")
    def _parallel(self) -> ReportedPopulation:
        if len(self.rewards) != len(self.sigmas) or len(self.elite) != len(self.weights):
            raise ValueError("lists of different lengths")
        return self


class ReportedTraining(BaseModel):
    """Curves of a training: a value for each step by name, and the steps themselves as `step`."""

    curve: dict[str, list[FiniteFloat | None]]


class MethodDecision(BaseModel):
    """One decision of a method. The numbers are None if the decision was made without testing."""

    model_config = ConfigDict(extra="ignore")

    stage: str = "after training"
    accepted: bool = False
    reason: str = ""
    examples: NonNegativeInt | None = None
    fixes: NonNegativeInt | None = None
    regressions: NonNegativeInt | None = None
    gain: FiniteFloat | None = None
    standard_error: FiniteFloat | None = None
    p_value: FiniteFloat | None = None
    level: FiniteFloat | None = Field(default=None, ge=0, le=1)


def gates(report: Mapping[str, Any]) -> list[MethodDecision]:
    """Return the method's own decisions in its report, in order: of CoRP's stages, and of gates in older records.

    Entries in an unknown shape are skipped, because methods may put anything into their reports.
    """
    staged = [{**stage, "accepted": stage.get("committed") or False} for stage in stages(report)]
    found = [*staged, *_tables(report.get("gates")), *_tables([report.get("gate")])]
    return [decision for entry in found if (decision := read_shape(MethodDecision, entry))]


def stages(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the stages in a method's report, such as `{"stage": "stage 1", "committed": true, "reason": "..."}`."""
    return _tables(report.get("stages"))


def _tables(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


Shape = TypeVar("Shape", bound=BaseModel)


def read_shape(shape: type[Shape], value: Any) -> Shape | None:
    """Return a part of a method's report in a known shape; None if it has another."""
    try:
        return shape.model_validate(value)
    except ValidationError:
        return None


def gate_summary(report: Mapping[str, Any]) -> Iterator[str]:
    """Summarise a method's own gate, in an older record, in one line: looks, passes, and passes expected by chance.

    By chance means that each changed answer is a fix or a regression with equal probability. The exact test then passes
    at most as often as its significance level allows, and often less.
    """
    looks = [gate for gate in gates(report) if gate.level is not None]
    if not looks:
        return
    passed = sum(gate.accepted for gate in looks)
    levels = [gate.level or 0.0 for gate in looks]
    changes = [(gate.fixes or 0) + (gate.regressions or 0) for gate in looks]
    chance = sum(map(mcnemar_size, changes, levels))
    number = counted(len(looks), "look")
    yield (
        f"gate: {number}, {passed} passed; chance alone would have passed {chance:.2g} on average "
        f"(allowed by the significance levels: {sum(levels):.2g})"
    )
