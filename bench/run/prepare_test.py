"""Preparation of a test of a model that was made before: its configuration, and the checks before it starts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.compute.budget import Budget, parse_budget
from bench.compute.flops import FLOPS_VERSION, ModelShape
from bench.errors import BenchError, Refused, UsageError, usage_error
from bench.models.checkpoint import read_config as read_checkpoint_config
from bench.models.source import PreparedModel, resolve
from bench.models.template import clock_date
from bench.records.config import RunConfig
from bench.records.digests import ARTIFACT, check_digests
from bench.records.pricing import reprice
from bench.records.schema import Versions, read_result
from bench.records.source import DeclaredSource, RunSource
from bench.records.tuning import DECLARED
from bench.run.data import TaskData, load_task_data
from bench.run.prepare import finished, require_libraries, resolved_device, resolved_dtype
from bench.run.progress import ProgressDisplay
from bench.run.prompting import SHOTS_VERSION
from bench.run.run_id import run_folder, run_id
from bench.run.sampling import unsupported_reason
from bench.run.trained import DeclaredModel, PreparedTest, RunArtifacts
from bench.strategy import run_strategy
from bench.weights.noise import NOISE_VERSION


def config_of_run(run: Path, changes: Mapping[str, Any]) -> RunConfig:
    """Return the configuration of a test of a finished run's artifacts.

    Args:
        run: Run directory.
        changes: Fields that differ from the run's. Another task has its own data and all its test examples, unless
            `data`, `fields` and `limit` say otherwise.

    Raises:
        UsageError: If the run has no artifact to test, or a field is invalid.
    """
    result = read_result(run)
    if result.source is not None:
        raise UsageError(f"{run}: a test of a model that was made before, and has no artifact; test the source itself")
    if result.status != "ok":
        raise UsageError(
            f"{run}: ended with status {result.status} and has no artifact to test: {result.reason}; start it again"
        )
    if result.saved is None:
        raise UsageError(
            f"{run}: an earlier version of bench recorded it, without the class and the digest of its artifact; start "
            "it again in another --output"
        )
    config, changes = result.config, dict(changes)
    source = RunSource(
        folder=str(run.absolute()), id=result.id, task=config.adapt_on or config.task, sha256=result.saved.sha256
    )
    if changes.get("task", config.task) != config.task:
        changes = dict.fromkeys(("data", "fields", "adapt_on", "adapt_data", "limit", "max_new_tokens")) | changes
    return _validated({**config.model_dump(), **changes, "launch": None, "source": source.model_dump()})


def config_of_model(folder: str, flops: int, fields: Mapping[str, Any]) -> RunConfig:
    """Return the configuration of a test of a model that was trained elsewhere.

    Args:
        folder: The model, as `--model` takes it.
        flops: FLOPs of its adaptation, as declared.
        fields: Fields of the configuration: the task, the base, and others that differ from their defaults.

    Raises:
        UsageError: If there is no such model, or a field is invalid.
    """
    where = Path(folder).expanduser()
    where = where.absolute() if where.exists() else Path(folder)
    sha256 = resolve(str(where)).prepare().provenance.sha256
    source = DeclaredSource(folder=str(where), flops=flops, sha256=sha256)
    made = {
        "method": source.name,
        "method_config": {"sha256": sha256[:12]},
        "budget": Budget("flops", flops).text,
    }
    return _validated({**made, **fields, "gate": "off", "source": source.model_dump()})


def _validated(fields: Mapping[str, Any]) -> RunConfig:
    try:
        return RunConfig.model_validate(fields)
    except ValidationError as error:
        raise usage_error("configuration", error) from error


def prepare_test(config: RunConfig, output: Path, display: ProgressDisplay) -> PreparedTest:
    """Validate the configuration of a test, and download its data and model.

    Raises:
        UsageError: If the artifact is gone or was changed, or the model has another shape than the base.
        Refused: If a library is missing, or the model of the source run is not the one on this machine.
        BenchError: If the configuration is invalid or a download fails. Nothing is written to `output` in that case.
    """
    task_data = load_task_data(config)
    if config.limit is not None and config.limit > len(task_data.splits.test):
        raise UsageError(
            f"--limit {config.limit}: the test split of {config.task} has {len(task_data.splits.test)} examples"
        )
    strategy = run_strategy(config.strategy)
    reason = unsupported_reason(strategy, task_data.traits) if strategy else None
    require_libraries(config.engine)
    base = resolve(config.model)
    model = base.prepare(display.bytes)
    device = resolved_device(config.device)
    config = config.model_copy(
        update={"device": device, "dtype": resolved_dtype(config.dtype, device, Path(model.path))}
    )
    trained, made = (
        _run_artifacts(config.source, config, model, task_data)
        if isinstance(config.source, RunSource)
        else _declared_model(config, model, display)
    )
    versions = made.model_copy(
        update={
            "task": task_data.task.version,
            "flops": FLOPS_VERSION,
            "shots": SHOTS_VERSION if config.shots else None,
            "template_date": None if config.prompt == "completion" else clock_date(Path(model.path)),
        }
    )
    content = task_data.splits.content_hash
    identity = run_id(config, versions, content, model.provenance.sha256, parse_budget(config.budget).identity)
    prepared = PreparedTest(
        config=config,
        task_data=task_data,
        source=base,
        model=model,
        versions=versions,
        strategy=strategy,
        id=identity,
        folder=run_folder(output, config, base.slug, identity),
        refusal=reason and f"--strategy {config.strategy} cannot be used on {config.task_label}: {reason}",
        trained=trained,
    )
    if finished(prepared) is None:  # a complete test is only shown
        from bench.models.opening import check_opens

        check_opens(Path(model.path), model.provenance.sha256, config.prompt)
        if isinstance(trained, RunArtifacts):
            _check_saved(trained)
    return prepared


def _run_artifacts(
    source: RunSource, config: RunConfig, model: PreparedModel, task_data: TaskData
) -> tuple[RunArtifacts, Versions]:
    """Return the artifacts of a source run and its versions.

    Raises:
        UsageError: If the run is gone, or is another one now.
        Refused: If it began from another model, or adapted on items of the test.
    """
    folder = Path(source.folder)
    if not (folder / "result.json").exists():
        raise UsageError(f"{folder}: the run to test is gone; restore it, or start it again")
    result = read_result(folder)
    if result.id != source.id or result.saved is None or result.saved.sha256 != source.sha256:
        raise UsageError(
            f"{folder}: holds run {result.id[:8]} with other artifacts than those of run {source.id[:8]}, which this "
            "test began with; start the test again in another --output"
        )
    assert result.model is not None
    assert result.versions is not None
    if result.model.fingerprint != model.provenance.sha256:
        raise Refused(
            f"{folder}: began from another version of {config.model} than the one on this machine; restore that one"
        )
    if result.content_hash != task_data.splits.content_hash:
        _check_unseen(result.config, task_data)
    current = result if result.versions.flops == FLOPS_VERSION else reprice(result)
    return RunArtifacts(folder, current), result.versions


def _check_unseen(adapted: RunConfig, task_data: TaskData) -> None:
    """Check that the source run did not adapt on an item of the test, by the text of its prompt.

    Raises:
        Refused: If it did.
    """
    before = load_task_data(adapted)
    seen = (*before.splits.support, *before.splits.select, *before.splits.gate)
    prompts = {json.dumps(before.adapted_on.messages(example)) for example in seen}
    common = [e.id for e in task_data.splits.test if json.dumps(task_data.task.messages(e)) in prompts]
    if common:
        raise Refused(
            f"the run adapted on {len(common)} of the test examples of {task_data.task.name}, such as {common[0]}; "
            "test it on another task"
        )


def _check_saved(trained: RunArtifacts) -> None:
    """Check that the artifacts are those that the source run saved.

    Raises:
        UsageError: If they are gone, or were changed.
    """
    folder = trained.folder / ARTIFACT
    if not folder.is_dir():
        raise UsageError(f"{folder}: gone; the run saved its artifact there. Restore it, or start the run again")
    try:
        check_digests(trained.result, trained.folder, [ARTIFACT])
    except BenchError as error:
        raise UsageError(f"{error}. Or test it as a model from elsewhere, with --artifact") from error


def _declared_model(config: RunConfig, base: PreparedModel, display: ProgressDisplay) -> tuple[DeclaredModel, Versions]:
    """Return a model that was trained elsewhere.

    Raises:
        UsageError: If it was changed since the test began, or has another shape than the base.
    """
    source = config.source
    assert isinstance(source, DeclaredSource)
    model = resolve(source.folder).prepare(display.bytes)
    if model.provenance.sha256 != source.sha256:
        raise UsageError(f"{source.folder}: was changed since the test began; start the test again in another --output")
    shapes = [ModelShape.from_config(read_checkpoint_config(Path(each.path)) or {}) for each in (model, base)]
    names = [name for name in ModelShape.__slots__ if getattr(shapes[0], name) != getattr(shapes[1], name)]
    if names:
        differing = ", ".join(f"{name} is {getattr(shapes[0], name)}, not {getattr(shapes[1], name)}" for name in names)
        raise UsageError(
            f"--artifact {source.folder}: not of the shape of {config.model}: {differing}; name the base that it was "
            "trained from with --model"
        )
    return DeclaredModel(source, model, config.dtype), Versions(
        method=DECLARED, task="", noise=NOISE_VERSION, flops=FLOPS_VERSION
    )
