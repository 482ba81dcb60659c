"""Grids of independent runs: the product of methods, tasks, models, budgets, seeds and varied settings."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from bench.compute.budget import canonical, parse_budget
from bench.engines.placement import Engines
from bench.errors import BenchError, Refused, UsageError, os_problem, usage_error
from bench.failures import located
from bench.models.embedded import EMBEDDED
from bench.models.source import resolve
from bench.plain import sentence
from bench.records.config import RunConfig, read_config
from bench.records.files import WriteFailed
from bench.records.run_key import run_key
from bench.records.schema import Result
from bench.registry import check, load_method
from bench.run.attempt import ONE, check_schema
from bench.run.endpoint import check_options
from bench.run.launch import read_launch
from bench.run.prepare import Prepared, finished, prepare
from bench.run.prepare_test import prepare_test
from bench.run.progress import ProgressDisplay
from bench.run.runner import Held, execute
from bench.run.settings import Assignment, Variant, is_given, variants
from methods.interface import MethodConfig


def _is_path(model: str) -> bool:
    # Unlike pathlib's methods, these functions accept every string.
    return model not in EMBEDDED and os.path.exists(os.path.expanduser(model))  # noqa: PTH110, PTH111


def _check_model(model: str) -> None:
    if not _is_path(model):  # a file would be hashed
        resolve(model)


CHECKS: dict[str, Callable[[str], object]] = {
    "method": load_method,
    "task": partial(check, "task"),
    "adapt_on": partial(check, "task"),
    "model": _check_model,
    "budget": parse_budget,
}
"""Check of each field of `RunConfig` that names something. It raises a UsageError that says which names are known."""


State = Literal["done", "done before", "failed", "refused", "held", "stopped"]
"""How a run of a grid ended. `held`: another process was executing it. `stopped`: a signal stopped its job."""


class CellStopped(BenchError):
    """A signal stopped the job of the run. All finished work is saved."""


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
        codes = {"ok": 0, "refused": Refused.exit_code}
        return 1 if self.result is None else codes.get(self.result.status, 1)

    @property
    def state(self) -> State:
        """How the run ended."""
        if isinstance(self.error, Held):
            return "held"
        if isinstance(self.error, CellStopped):
            return "stopped"
        if self.exit_code:
            return "refused" if self.exit_code == Refused.exit_code else "failed"
        return "done before" if self.cached else "done"

    @property
    def reason(self) -> str:
        """Reason why the run is not done, in one line; empty if it is."""
        if self.error is not None:
            return sentence(str(self.error))
        return sentence(self.result.reason or "") if self.result else ""


class RunInterrupted(KeyboardInterrupt):
    """Interruption of a run that has a directory.

    Attributes:
        folder: Run directory, with all finished work.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.folder = folder


@dataclass(frozen=True)
class GridRun:
    """One run of a grid.

    Attributes:
        config: Configuration of the run.
        settings: Validated settings of its method. A test and a resumed run do not use them.
        folder: Run directory to continue; None to run in the directory that belongs to the configuration.
    """

    config: RunConfig
    settings: MethodConfig = field(default_factory=MethodConfig)
    folder: Path | None = None

    @property
    def title(self) -> str:
        """Title, such as `es (sigma = 0.01) on addition, tiny-adder, budget small, seed 0`."""
        return self.titled()

    @property
    def key(self) -> str:
        """Text by which the run is recognised, see `bench.records.run_key`."""
        made = self.folder is not None or self.config.source is not None
        return run_key(self.config, self.config.method_config if made else self.settings.model_dump(mode="json"))

    def titled(self, common: Collection[str] = ()) -> str:
        """Return the title.

        Args:
            common: Names of settings that it leaves out.
        """
        parts = self.parts(common)
        return ", ".join([f"{parts.pop('method')} on {parts.pop('task')}", *filter(None, parts.values())])

    def parts(self, common: Collection[str] = ()) -> dict[str, str]:
        """Return the parts of the title by name.

        Args:
            common: Names of settings that the method's part leaves out.
        """
        config = self.config
        name = f"test of {config.method}" if config.source else config.method
        given = {} if config.source else config.method_config
        settings = ", ".join(f"{key} = {json.dumps(value)}" for key, value in given.items() if key not in common)
        return {
            "method": name + (f" ({settings})" if settings else ""),
            "task": config.task_label,
            "model": config.model,
            "budget": f"budget {config.budget}",
            "seed": f"seed {config.seed}",
            "tune": f"{config.tune} trials" if config.tune else "",
            "controls": ", ".join(config.controls),
        }


def common_settings(runs: Sequence[GridRun]) -> dict[str, list[str]]:
    """Return the names of the settings in which all runs of a method agree, by method."""
    settings: dict[str, dict[str, set[str]]] = {}
    for run in runs:
        for key, value in run.config.method_config.items():
            settings.setdefault(run.config.method, {}).setdefault(key, set()).add(json.dumps(value))
    return {m: [key for key, values in found.items() if len(values) == 1] for m, found in settings.items()}


def short_names(runs: Sequence[GridRun]) -> tuple[str, list[str]]:
    """Return what all runs of a grid share, and a name for each by what differs.

    Example: `addition, tiny-adder, budget small`, and `["base, seed 0", "corp, seed 0"]`.
    """
    common = common_settings(runs)
    parts = [run.parts(common.get(run.config.method, ())) for run in runs]
    shared = {key for key in parts[0] if key != "method" and len({part[key] for part in parts}) == 1}
    names = [", ".join(filter(None, (text for key, text in part.items() if key not in shared))) for part in parts]
    seen: Counter[str] = Counter()
    for number, name in enumerate(names):
        seen[name] += 1
        if seen[name] > 1:
            names[number] = f"{name} #{seen[name]}"
    return ", ".join(filter(None, (parts[0][key] for key in parts[0] if key in shared))), names


def _prepare(
    config: RunConfig, output: Path, display: ProgressDisplay, settings: MethodConfig | None = None
) -> Prepared:
    if config.source is not None:
        return prepare_test(config, output, display)
    return prepare(config, output, display, settings)


def expand(
    *,
    methods: Sequence[str],
    tasks: Sequence[str],
    models: Sequence[str],
    budgets: Sequence[str],
    seeds: Sequence[int],
    settings: Sequence[Assignment] = (),
    variations: Sequence[Assignment] = (),
    **common: Any,
) -> list[GridRun]:
    """Return the validated runs of a grid. Only method classes are imported; no data or model is loaded.

    Args:
        methods: Method names.
        tasks: Task names.
        models: Model names, paths or hub ids.
        budgets: Budget names or sizes.
        seeds: Seeds.
        settings: Method settings.
        variations: Method settings with several values, which override `settings`. A method runs with every
            combination of those that it has.
        common: Remaining fields of `RunConfig`.

    Raises:
        UsageError: If an argument is invalid. No run has started then.
    """
    adapted_on = filter(None, [common.get("adapt_on")])
    if common.get("tune") == 1:
        raise UsageError(
            "--tune 1: the only trial would be the published setting, with nothing to choose; give 2 or more, or leave "
            "out --tune"
        )
    given = {"method": methods, "task": tasks, "adapt_on": adapted_on, "model": models, "budget": budgets}
    served = common.get("engine") == "endpoint"  # the name of a server's model is none of ours
    for option, names in given.items():
        for name in () if served and option == "model" else names:
            CHECKS[option](name)
    chosen = variants(methods, [*settings, *variations])
    if common.get("tune"):
        _check_tuned(common["tune"], chosen, [*settings, *variations])
    # Paths are stored as absolute paths, so that a run can be resumed from any working directory.
    models = [str(Path(m).expanduser().absolute()) if _is_path(m) and not served else m for m in models]
    for file in ("data", "adapt_data"):
        if common.get(file):
            common[file] = str(Path(common[file]).absolute())
    common["launch"] = read_launch(common.pop("launch", None), common.pop("launch_config", None))
    runs = []
    for task, model, budget, method in product(tasks, models, budgets, methods):
        for variant, seed in product(chosen[method], seeds):
            fields = {"method": method, "task": task, "model": model, "budget": canonical(budget), "seed": seed}
            fields |= common
            try:
                config = RunConfig.model_validate({**fields, "method_config": variant.given})
            except ValidationError as error:
                raise usage_error("configuration", error) from error
            check_options(config)
            runs.append(GridRun(config, variant.config))
    return runs


def _check_tuned(tune: int, chosen: Mapping[str, Sequence[Variant]], given: Sequence[Assignment]) -> None:
    """Check that no setting is both given and tuned.

    Raises:
        UsageError: If one is.
    """
    for method, found in chosen.items():
        for name in load_method(method).space:
            path = name.split(".")
            if any(is_given(variant.given, path) for variant in found):
                origins = [each.origin for each in given if each.path[-len(path) :] == tuple(path)]
                raise UsageError(
                    f"{origins[-1] if origins else name}: --tune {tune} chooses {method}.{name} within the budget; "
                    "leave out one of the two"
                )


def run_grid(
    runs: Sequence[GridRun],
    output: Path,
    make_display: Callable[[int], ProgressDisplay],
    on_outcome: Callable[[int, RunOutcome], None],
    engines: Engines = ONE,
) -> list[RunOutcome]:
    """Execute runs one after the other. Complete runs are not run again, and a failed run does not stop the rest.

    A run that another process is executing is tried again at the end of the grid. It counts as done if the other
    process has completed it by then.

    Args:
        runs: Runs of the grid.
        output: Folder for run directories.
        make_display: Function that makes the display of a run, given its index.
        on_outcome: Function to call with the index of a run and its outcome: twice for a run that is tried again.
        engines: Number and location of the engines.

    Raises:
        WriteFailed: If records cannot be written. The other runs would fail for the same reason.
        RunInterrupted: If the grid is interrupted while a run has a directory.
    """
    outcomes: dict[int, RunOutcome] = {}

    def run_one(number: int) -> None:
        outcomes[number] = run_cell(runs[number], output, make_display(number), engines)
        on_outcome(number, outcomes[number])

    for number in range(len(runs)):
        run_one(number)
    if len(runs) > 1:
        for number in [number for number, outcome in outcomes.items() if outcome.state == "held"]:
            run_one(number)
    return [outcomes[number] for number in range(len(runs))]


def run_cell(
    run: GridRun,
    output: Path,
    display: ProgressDisplay,
    engines: Engines = ONE,
    begin: Callable[[Path], None] = lambda _: None,
) -> RunOutcome:
    """Execute one run of a grid.

    Args:
        run: The run.
        output: Folder for run directories.
        display: Display of the run.
        engines: Number and location of the engines.
        begin: Function to call with the run directory once it is known.

    Raises:
        WriteFailed: If the record cannot be written.
        RunInterrupted: If the run is interrupted after it has a directory.
    """
    if run.folder is not None:
        begin(run.folder)
        return resume_run(run.folder, display, engines)
    try:
        with display:
            prepared = _prepare(run.config, output, display, run.settings)
        begin(prepared.folder)
        return _finish(prepared, display, engines)
    except WriteFailed:
        raise
    except Exception as error:
        return RunOutcome(run.config, error=_actionable(error))


def _actionable(error: Exception) -> BenchError:
    """Convert any exception to a BenchError, so that a bug in a method or task fails its run only, not the grid."""
    if isinstance(error, BenchError):
        return error
    if isinstance(error, OSError) and error.filename:
        return os_problem(error)
    return BenchError(located(error))


def _finish(prepared: Prepared, display: ProgressDisplay, engines: Engines) -> RunOutcome:
    done = finished(prepared)
    if done is not None:
        display.say(f"already complete: {prepared.folder}")
        return RunOutcome(prepared.config, prepared.folder, done, cached=True)
    try:
        return RunOutcome(prepared.config, prepared.folder, execute(prepared, display, engines))
    except KeyboardInterrupt as stop:
        raise RunInterrupted(prepared.folder) from stop


def resumed(folder: Path) -> GridRun:
    """Return the run in a directory, to be continued.

    Raises:
        UsageError: If the directory holds no run.
    """
    return GridRun(read_config(folder), folder=folder)


def _is_run_name(folder: Path) -> bool:
    return re.fullmatch(r"seed-\d+-[0-9a-f]{8}", folder.absolute().name) is not None


def resume_run(folder: Path, display: ProgressDisplay, engines: Engines = ONE) -> RunOutcome:
    """Continue the run in a directory.

    Returns:
        Outcome of the run, with `cached` set if it had already finished.

    Raises:
        WriteFailed: If the record cannot be written.
    """
    config = read_config(folder)
    try:
        try:
            with display:
                prepared = _prepare(config, folder.parent, display)
        except UsageError:
            check_schema(folder / "journal.jsonl")  # of a run of an earlier version this says more
            raise
        if prepared.folder.name != folder.absolute().name:
            check_schema(folder / "journal.jsonl")  # of a run of an earlier version this says more
            if prepared.id.startswith(folder.absolute().name.rpartition("-")[2]) or not _is_run_name(folder):
                raise UsageError(
                    f"{folder}: the folder of this run was renamed; give it back its name, which shows that "
                    f"nothing has changed since it began (with the present configuration, data and code it is "
                    f"{prepared.folder.name})"
                )
            raise UsageError(
                f"{folder}: its configuration, data or code has changed since it began (its folder would now be "
                f"{prepared.folder.name}); restore them, or start a new run"
            )
        return _finish(replace(prepared, folder=folder), display, engines)
    except WriteFailed:
        raise
    except Exception as error:
        return RunOutcome(config, folder, error=_actionable(error))
