"""Grids of independent runs: the product of methods, tasks, models, budgets, seeds and varied settings."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.compute.budget import budget_evaluations
from bench.engines.placement import Engines
from bench.errors import BenchError, UsageError, usage_error
from bench.models.embedded import EMBEDDED
from bench.records.files import WriteFailed
from bench.records.schema import Result, RunConfig, read_config
from bench.registry import check, load_method
from bench.registry import names as registered
from bench.run.launch import read_launch
from bench.run.prepare import PreparedRun, finished, prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import ONE, execute

AXES = ("methods", "tasks", "models", "budgets", "seeds")
"""Options that span a grid."""


@dataclass(frozen=True)
class RunOutcome:
    """Outcome of one run of a grid.

    Attributes:
        config: Configuration of the run.
        folder: Run directory; None if the run failed before it had one.
        result: Record; None if the run failed before it had one.
        error: Reason for a missing record, or None.
        cached: Whether the run was already complete.
    """

    config: RunConfig
    folder: Path | None = None
    result: Result | None = None
    error: BenchError | None = None
    cached: bool = False

    @property
    def exit_code(self) -> int:
        """Exit status: 0 done, 1 failed, 2 usage error, 3 refused."""
        if self.error is not None:
            return self.error.exit_code
        return 0 if self.result is not None and self.result.status == "ok" else 1


def expand(
    *,
    methods: Sequence[str],
    tasks: Sequence[str],
    models: Sequence[str],
    budgets: Sequence[str],
    seeds: Sequence[int],
    settings: Sequence[str],
    variations: Sequence[str] = (),
    **common: Any,
) -> list[RunConfig]:
    """Return the validated configurations of a grid. Only method classes are imported; no data or model is loaded.

    Args:
        methods: Method names.
        tasks: Task names.
        models: Model names, paths or hub ids.
        budgets: Budget names or numbers of evaluations.
        seeds: Seeds.
        settings: Method settings. `key=value` applies to every method that has the key, `method.key=value` to one
            method, and `key.inner=value` to a nested setting, such as `lora.rank=8`.
        variations: Settings with alternatives, `key=value|value|...`. A method runs with every combination.
        common: Remaining fields of `RunConfig`.

    Raises:
        UsageError: If an argument is invalid. No run has started then.
    """
    for task in (*tasks, *filter(None, [common.get("adapt_on")])):
        check("task", task)
    for budget in budgets:
        budget_evaluations(budget)
    variants = _variants(methods, settings, variations)
    # Paths are stored as absolute paths, so that a run can be resumed from any working directory.
    models = [str(Path(m).expanduser().absolute()) if _is_path(m) else m for m in models]
    for file in ("data", "adapt_data"):
        if common.get(file):
            common[file] = str(Path(common[file]).absolute())
    common["launch"] = read_launch(common.pop("launch", None), common.pop("launch_config", None))
    configs = []
    for task, model, budget, method in product(tasks, models, budgets, methods):
        for chosen, seed in product(variants[method], seeds):
            fields = {"method": method, "task": task, "model": model, "budget": budget, "seed": seed, **common}
            try:
                configs.append(RunConfig.model_validate({**fields, "method_config": chosen}))
            except ValidationError as error:
                raise usage_error("configuration", error) from error
    return configs


def _variants(
    methods: Sequence[str], settings: Sequence[str], variations: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """Return the distinct configurations of each method: just one if none of the varied settings applies to it."""
    alternatives = []
    for variation in variations:
        key, equals, values = variation.partition("=")
        alternatives.append([key + equals + value for value in values.split("|")])
    variants: dict[str, list[dict[str, Any]]] = {method: [] for method in methods}
    for picked in product(*alternatives):
        for method, chosen in _method_configs(methods, [*settings, *picked]).items():
            if chosen not in variants[method]:
                variants[method].append(chosen)
    return variants


def _is_path(model: str) -> bool:
    return model not in EMBEDDED and Path(model).expanduser().exists()


def method_config(method: str, settings: Sequence[str]) -> dict[str, Any]:
    """Return the settings of one method, parsed from `key=value` texts.

    Raises:
        UsageError: If the method cannot be loaded, or a setting is invalid.
    """
    return _method_configs([method], settings)[method]


def _method_configs(methods: Sequence[str], settings: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the settings by method.

    Settings for methods outside this grid are checked and then ignored, because a suite file may list them.
    """
    classes = {name: load_method(name) for name in methods}
    chosen: dict[str, dict[str, Any]] = {name: {} for name in methods}
    known = {name: set(cls.Config.model_fields) for name, cls in classes.items()}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise UsageError(f"setting {setting}: expected key=value")
        owner, dot, field = key.partition(".")
        if dot and owner not in chosen and owner in registered("method"):
            _method_configs([owner], [setting])
            continue
        path = field if dot and owner in chosen else key
        field, *inner = path.split(".")
        names = [owner] if dot and owner in chosen else [name for name in methods if field in known[name]]
        if not names or field not in known[names[0]]:
            near = get_close_matches(path, set().union(*known.values()), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(set().union(*known.values())))}"
            raise UsageError(f"setting {setting}: no method of this run has a setting {path!r}; {hint}")
        for name in names:
            _put(chosen[name], [field, *inner], _value(text))
    for name, cls in classes.items():
        try:
            cls.Config.model_validate(chosen[name])
        except ValidationError as error:
            raise usage_error(f"settings of {name}", error) from error
    return chosen


def _put(settings: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set a value in nested settings. Missing tables are created: path (lora, rank) gives `{"lora": {"rank": 8}}`."""
    for key in path[:-1]:
        inner = settings.get(key)
        settings[key] = settings = dict(inner) if isinstance(inner, dict) else {}
    settings[path[-1]] = value


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def run_grid(
    configs: Sequence[RunConfig],
    output: Path,
    make_display: Callable[[], ProgressDisplay],
    on_outcome: Callable[[RunOutcome], None],
    engines: Engines = ONE,
) -> list[RunOutcome]:
    """Execute runs one after the other. Complete runs are skipped, and a failed run does not stop the rest.

    Raises:
        WriteFailed: If records cannot be written. The other runs would fail for the same reason.
    """
    outcomes = []
    for number, config in enumerate(configs, start=1):
        display = make_display()
        settings = ", ".join(f"{key} = {json.dumps(value)}" for key, value in config.method_config.items())
        method = config.method + (f" ({settings})" if settings else "")
        title = f"{method} on {config.task_label}, {config.model}, budget {config.budget}, seed {config.seed}"
        display.say(title + (f"  ({number} of {len(configs)})" if len(configs) > 1 else ""), style="bold")
        outcome = _run_one(config, output, display, engines)
        outcomes.append(outcome)
        on_outcome(outcome)
    return outcomes


def _run_one(config: RunConfig, output: Path, display: ProgressDisplay, engines: Engines) -> RunOutcome:
    try:
        with display:
            prepared = prepare(config, output, display)
        return _finish(prepared, display, engines)
    except WriteFailed:
        raise
    except Exception as error:
        return RunOutcome(config, error=_actionable(error))


def _actionable(error: Exception) -> BenchError:
    """Convert any exception to a BenchError, so that a bug in a method or task fails its run only, not the grid."""
    if isinstance(error, BenchError):
        return error
    where = traceback.extract_tb(error.__traceback__)[-1]
    return BenchError(f"{type(error).__name__}: {error} ({where.filename}, line {where.lineno})")


def _finish(prepared: PreparedRun, display: ProgressDisplay, engines: Engines) -> RunOutcome:
    done = finished(prepared)
    if done is not None:
        display.say(f"already complete: {prepared.folder}")
        return RunOutcome(prepared.config, prepared.folder, done, cached=True)
    return RunOutcome(prepared.config, prepared.folder, execute(prepared, display, engines))


def load_grid_file(path: Path, known: Mapping[str, str]) -> dict[str, Any]:
    """Read options from a TOML file, for example:

        task = ["gsm8k", "countdown"]
        seed = [0, 1, 2]
        [set.corp]
        rank = 4
        [vary.corp]
        gate = ["off", "both"]

    Args:
        path: TOML file.
        known: Accepted keys, mapped to option names.

    Raises:
        UsageError: If the file is not valid TOML, or has an unknown key.
    """
    import tomllib

    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"--config {path}: {error}") from error
    options: dict[str, Any] = {}
    for key, value in content.items():
        if key == "set" and isinstance(value, dict):
            options["settings"] = [f"{name}={json.dumps(given)}" for name, given in _flat(value)]
        elif key == "vary" and isinstance(value, dict):
            options["variations"] = [f"{name}={_alternatives(given)}" for name, given in _flat(value)]
        elif key in known:
            alone = known[key] in AXES and not isinstance(value, list)
            options[known[key]] = [value] if alone else value
        else:
            expected = [*known, "set", "vary"]
            near = get_close_matches(key, expected, n=1)
            raise UsageError(
                f"--config {path}: unknown key {key!r}; "
                + (f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(expected)}")
            )
    return options


def _alternatives(given: Any) -> str:
    return "|".join(json.dumps(value) for value in (given if isinstance(given, list) else [given]))


def _flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in table.items():
        rows += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return rows


def resume_run(folder: Path, display: ProgressDisplay, engines: Engines = ONE) -> RunOutcome:
    """Continue the run in a directory.

    Returns:
        Outcome of the run, with `cached` set if it had already finished.

    Raises:
        WriteFailed: If the record cannot be written.
    """
    config = read_config(folder)
    try:
        with display:
            prepared = prepare(config, folder.parent, display)
        if prepared.folder.name != folder.absolute().name:
            raise UsageError(
                f"{folder}: its configuration, data or code has changed since it began (its folder would now be "
                f"{prepared.folder.name}); restore them, or start a new run"
            )
        return _finish(replace(prepared, folder=folder), display, engines)
    except WriteFailed:
        raise
    except Exception as error:
        return RunOutcome(config, folder, error=_actionable(error))
