"""`bench prepare`: download data and models, so that later runs need no network."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import click

from bench.cli.options import json_option, output_json, quiet_option, say
from bench.cli.outputs import PreparedName, PreparedTask, PrepareOutput
from bench.cli.paths import Place


@click.command()
@click.option("-t", "--task", "tasks", multiple=True, help="Task whose data to download; repeatable.")
@click.option("-M", "--model", "models", multiple=True, help="Model to download and convert; repeatable.")
@click.option(
    "--data",
    "files",
    multiple=True,
    type=Place(exists=True, dir_okay=False),
    help="Local copy of the task's published data, to use instead of a download; repeatable.",
)
@quiet_option
@json_option
def prepare(
    tasks: tuple[str, ...], models: tuple[str, ...], files: tuple[Path, ...], quiet: bool, as_json: bool
) -> None:
    """Download data and models into the cache, and verify them.

    Files that are already in the cache are not downloaded again.
    """
    from bench.errors import UsageError

    if not tasks and not models:
        raise UsageError("nothing to prepare; name a task with -t or a model with -M")
    if files and len(tasks) != 1:
        raise UsageError("--data: name the one task that the files belong to with -t")
    found = PrepareOutput(
        tasks=tuple(_task(name, files) for name in tasks), models=tuple(_model(name, quiet=quiet) for name in models)
    )
    if as_json:
        output_json(found)
        return
    for task in found.tasks:
        sizes = ", ".join(f"{split} {size}" for split, size in task.splits.items())
        say(f"{task.name}: ready, {sizes}; content hash {task.content_hash[:16]}")
    for model in found.models:
        say(f"{model.name}: ready, {model.origin}, in {model.path}")


def _task(name: str, files: tuple[Path, ...]) -> PreparedTask:
    from bench.registry import load_task

    task = load_task(name)
    if files:
        from tasks.sources import copy_in

        for file in files:
            copy_in(task.sources, file)
    splits = task.load()
    return PreparedTask(name=name, version=task.version, splits=splits.sizes, content_hash=splits.content_hash)


def _model(name: str, *, quiet: bool) -> PreparedName:
    from bench.console import PlainConsole
    from bench.models.source import resolve
    from bench.run.progress import ProgressDisplay

    source = resolve(name)
    with ProgressDisplay(PlainConsole(stderr=True), quiet=quiet) as display:
        prepared = source.prepare(display.bytes)
        if all(importlib.util.find_spec(library) for library in ("torch", "transformers")):
            from bench.models.opening import check_opens

            check_opens(Path(prepared.path), prepared.provenance.sha256)
    return PreparedName(name=source.label, path=str(prepared.path), origin=prepared.provenance.origin)
