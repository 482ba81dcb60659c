"""Repetition of finished runs for an audit: of some test answers from the saved artifacts, or of a whole run.

Everything is written to a scratch folder, and nothing is downloaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from bench.compute.budget import parse_budget
from bench.compute.flops import FLOPS_VERSION, is_present_rule
from bench.errors import BenchError, Refused, UsageError
from bench.models.source import resolve
from bench.records.digests import ARTIFACT
from bench.records.samples import Sample, read_samples
from bench.records.schema import Result
from bench.registry import load_method
from bench.run.endpoint import is_served
from bench.run.environment import processor
from bench.run.prepare import STRICT, Prepared, prepare
from bench.run.prepare_test import config_of_run, prepare_test
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from bench.weights.noise import NOISE_VERSION

SERVED = "a server answered (--engine endpoint): what it runs cannot be verified, and its answers may differ each time"


class NotRepeatable(BenchError):
    """Error for a run that this machine cannot repeat. The message says why."""


def choose(ids: Sequence[str], run: str, count: int) -> list[str]:
    """Return some items of a run, chosen by a hash of its id, in their order."""
    ordered = sorted(ids, key=lambda item: hashlib.sha256(f"{run} {item}".encode()).digest())
    chosen = set(ordered[:count])
    return [item for item in ids if item in chosen]


def same_processor(result: Result) -> bool:
    """Return whether the last attempt of a run computed on the kind of processor of this machine, as far as is known.

    An older record names neither the processor's model nor the version of torch, so it cannot be said of it.
    """
    return result.processor is not None and result.processor == processor(result.config.device)


def answer_again(
    folder: Path, result: Result, ids: Collection[str], scratch: Path, display: ProgressDisplay
) -> list[Sample]:
    """Answer test items with the base and the saved artifacts of a run, as `bench test` does.

    Args:
        folder: Run directory.
        result: Its result.
        ids: Ids of the items.
        scratch: Folder to write to.
        display: Progress display.

    Returns:
        Samples of all rows, in the order of the record.

    Raises:
        NotRepeatable: If the run saved no artifact, or its base is not on this machine.
        BenchError: If the artifacts cannot be loaded, or do not answer.
    """
    if result.status != "ok":
        raise NotRepeatable(f"the run ended as {result.status} and has no test answers")
    if is_served(result.config):
        raise NotRepeatable(SERVED)
    if result.source is None and (result.saved is None or not (folder / ARTIFACT).is_dir()):
        raise NotRepeatable(f"{folder / ARTIFACT}: the run's artifact is not there, or the record does not name it")
    _require_model(result.config.model)
    try:
        config = result.config if result.source is not None else config_of_run(folder, {})
        test = prepare_test(config.model_copy(update=STRICT), scratch, display)
    except (Refused, UsageError) as error:
        raise NotRepeatable(str(error)) from error
    examples = tuple(e for e in test.task_data.splits.test[: config.limit] if e.id in ids)
    splits = replace(test.task_data.splits, test=examples)
    part = replace(test, task_data=replace(test.task_data, splits=splits))
    _execute(part, display)
    return read_samples(part.folder)


def run_again(result: Result, scratch: Path, display: ProgressDisplay) -> Path:
    """Repeat a whole run. Return the new run directory.

    Args:
        result: Result of the run.
        scratch: Folder to write to.
        display: Progress display.

    Raises:
        NotRepeatable: If this machine or this version of the code cannot repeat it.
        BenchError: If the repetition fails.
    """
    if reason := unrepeatable(result):
        raise NotRepeatable(reason)
    try:
        prepared = prepare(result.config.model_copy(update=STRICT), scratch, display)
    except (Refused, UsageError) as error:
        raise NotRepeatable(str(error)) from error
    _execute(prepared, display)
    return prepared.folder


def unrepeatable(result: Result) -> str | None:
    """Return why this machine or this version of the code cannot repeat a whole run; None if it can."""
    config, versions = result.config, result.versions
    if is_served(config):
        return SERVED
    if result.source is not None:
        return "a test of a model that was made before; audit its run directory, which names the source"
    if result.status not in ("ok", "over_budget", "diverged"):
        return f"the run ended as {result.status}"
    if ":" in config.method:
        return f"method {config.method} is a class of another package, which is not imported to read a record"
    if versions is None:
        return "the record has no versions"
    if parse_budget(config.budget).unit == "seconds":
        return f"a budget in device time ({config.budget}) is another number of FLOPs each time"
    try:
        here: dict[str, str | int] = {"method": load_method(config.method).version, "noise": NOISE_VERSION}
        _require_model(config.model)
        for name in versions.models or {}:
            _require_model(name, "further model")
    except BenchError as error:
        return str(error)
    if not is_present_rule(versions.flops):
        here["flops"] = FLOPS_VERSION
    for name, version in here.items():
        if (recorded := getattr(versions, name)) != version:
            what = f"method {config.method}" if name == "method" else name
            return f"{what} has version {version} here, and {recorded} in the record"
    return None


def _require_model(name: str, which: str = "base") -> None:
    """Check that a model of a run is on this machine.

    Raises:
        NotRepeatable: If it would have to be downloaded or converted, or is a path of another machine.
    """
    try:
        source = resolve(name)
    except BenchError as error:
        raise NotRepeatable(f"the {which} is not on this machine: {error}") from error
    if source.local() is None or not source.ready():
        raise NotRepeatable(f"the {which} {name} is not on this machine; get it with: bench prepare -M {name}")


def _execute(prepared: Prepared, display: ProgressDisplay) -> None:
    """Execute a repetition.

    Raises:
        NotRepeatable: If it is refused.
        BenchError: If it fails.
    """
    result = execute(prepared, display)
    if result.status == "refused":
        raise NotRepeatable(str(result.reason))
    if result.status == "failed":
        raise BenchError(f"the repetition failed: {result.reason}")
