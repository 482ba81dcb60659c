"""Check of a record's items and content hash against the data of its task, where these are on this machine.

Nothing is downloaded. Reading a record must not run a stranger's code, so a task that is named as package.module:Class
is not imported.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from bench.errors import BenchError, shown
from bench.records.config import RunConfig
from bench.records.digests import items_digest
from bench.records.schema import Result
from bench.registry import load_task
from bench.run.data import TaskData, load_task_data
from tasks.examples import clusters as labels_of
from tasks.interface import Task


class NotHere(BenchError):
    """Error for a record whose items cannot be checked on this machine. The message says why."""


class OtherVersion(NotHere):
    """Error for a record whose built-in method has another version here, so that its settings cannot be checked."""


def check_items(result: Result, items: str, clusters: Sequence[int] | None = None) -> None:
    """Check that a record's test items are those of its task, in order, and that its content hash is the data's.

    Args:
        result: Result of a run.
        items: Digest of the ids of its test items, see `items_digest`; empty if nothing was tested.
        clusters: Labels of the items that belong together; None if no two do. Records without the digest of
            their samples are of earlier versions, which had no clusters.

    Raises:
        NotHere: If the data are not on this machine, or the task has another version here.
        BenchError: If the items, their number or the content hash are others. The message names the field.
    """
    config, splits = result.config, data_of(result).splits
    sizes, tested = splits.sizes, splits.test[: config.limit]
    if result.splits != sizes:
        raise BenchError(f"splits is {result.splits}; expected {sizes}, the splits of {config.task}")
    if items and items != (expected := items_digest([example.id for example in tested])):
        raise BenchError(
            f"items is {items[:12]}; expected {expected[:12]}, the digest of the ids of the test items of {config.task}"
        )
    # Records have had the digest of their samples for longer than they have had clusters.
    known = clusters is not None or result.samples_sha256 is not None
    given, labels = clusters and tuple(clusters), labels_of(tested)
    if items and known and given != labels:
        raise BenchError(
            f"clusters is {shown(given and given[:9])}; expected {shown(labels and labels[:9])}, the groups of the "
            "test items"
        )


def data_of(result: Result) -> TaskData:
    """Return the task of a run with its data, which have the content hash of the record.

    Raises:
        NotHere: If the data are not on this machine, or the task has another version here.
        BenchError: If the content hash is another.
    """
    config = result.config
    if result.versions is None or result.content_hash is None:
        raise NotHere(f"not checked: the run ended before the data of {config.task} were read")
    for name, file, version in (
        (config.task, config.data, result.versions.task),
        (config.adapt_on, config.adapt_data, result.versions.adapt_on),
    ):
        if name is not None and (reason := _absent(name, file, version)):
            raise NotHere(f"not checked: {reason}")
    data = _load(config.model_dump_json(include=_DATA))
    if result.content_hash != (content_hash := data.splits.content_hash):
        if config.data or config.adapt_data:
            raise NotHere(f"not checked: the file of data for {config.task} has changed since the run")
        raise BenchError(
            f"content_hash is {result.content_hash[:12]}; expected {content_hash[:12]}, that of the data of "
            f"{config.task}"
        )
    return data


def _absent(name: str, file: str | None, version: str | None) -> str | None:
    """Return why the data of a task cannot be loaded here; None if they can."""
    if ":" in name:
        return f"{name} is a class of another package, which is not imported to read a record"
    if file is not None and not (Path(file).is_absolute() and Path(file).is_file()):
        return f"data of {name} are not here: {Path(file).name} is a file of the machine that ran it"
    try:
        task = load_task(name)
        ready = file is not None or _ready(task)
    except BenchError as error:
        return f"data of {name} are not here: {error}"
    if not ready:
        return f"data of {name} are not here; get them with: bench prepare -t {name}"
    return None if version in (None, task.version) else f"{name} has version {task.version} here, and had {version}"


def _ready(task: Task) -> bool:
    return all(source.ready() for source in task.sources)


_DATA = {"task", "data", "fields", "adapt_on", "adapt_data", "adapt_fields", "reward"}
_DATA |= {"template", "system", "shots", "shots_seed", "max_new_tokens"}
"""Fields of a configuration that the data of a run and the properties of its task depend on."""


@lru_cache(maxsize=16)  # the records of a board share a few tasks
def _load(fields: str) -> TaskData:
    """Return the task of a configuration with its data.

    Raises:
        NotHere: If the data cannot be loaded, for example as a library is missing.
    """
    config = RunConfig(model="", **json.loads(fields))
    try:
        return load_task_data(config)
    except BenchError as error:
        raise NotHere(f"not checked: data of {config.task} are not here: {error}") from error
