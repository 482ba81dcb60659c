"""Preparation of a test of a model that was made before: its configuration, and the checks before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.amounts import counted
from bench.compute.budget import Budget, parse_budget
from bench.compute.flops import FLOPS_VERSION, compute_profile, is_present_rule
from bench.errors import BenchError, Refused, UsageError, usage_error
from bench.models.source import PreparedModel, resolve
from bench.records.config import RunConfig
from bench.records.digests import ARTIFACT, check_digests
from bench.records.pricing import reprice
from bench.records.schema import Duplicates, Result, Versions, read_result
from bench.records.source import DeclaredSource, RunSource
from bench.records.tuning import DECLARED
from bench.run.data import TaskData, alike, between_splits, duplicates_of, load_task_data
from bench.run.endpoint import require_weights
from bench.run.prepare import STRICT, finished, require_libraries, resolved_device, resolved_dtype
from bench.run.progress import ProgressDisplay
from bench.run.prompting import SHOTS_VERSION
from bench.run.reading import reading_versions
from bench.run.run_id import run_folder, run_id
from bench.run.sampling import unsupported_reason
from bench.run.thinking import check_thinking
from bench.run.trained import DeclaredModel, PreparedTest, RunArtifacts
from bench.strategy import run_strategy
from bench.weights.noise import NOISE_VERSION
from tasks.interface import SPLITS

_OF_A_TASK = ("data", "fields", "adapt_on", "adapt_data", "adapt_fields", "limit", "max_new_tokens")
"""Fields of a run that another task does not take over.

It is asked as the run asked (`template`, `shots`, `system`, and unless it says otherwise `prompt`, `think` and
`max_think_tokens`). The method's reward stays
too: it tells the artifacts of a control from those of other runs.
"""


def config_of_run(run: Path, changes: Mapping[str, Any]) -> RunConfig:
    """Return the configuration of a test of a finished run's artifacts.

    Args:
        run: Run directory.
        changes: Fields that differ from the run's. Another task has its own data and all its test examples, unless
            `data`, `fields` and `limit` say otherwise. A weak sandbox is allowed by `allow_unsandboxed` here alone.

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
    require_weights(run, result)
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
        changes = dict.fromkeys(_OF_A_TASK) | changes
    return _validated({**config.model_dump(), **STRICT, **changes, "launch": None, "source": source.model_dump()})


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
            f"--limit {config.limit}: the test split of {config.task} has "
            f"{counted(len(task_data.splits.test), 'example')}; give no more than these, or leave out --limit"
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
    trained: RunArtifacts | DeclaredModel
    if isinstance(config.source, RunSource):
        result = _source_result(config.source, config, model)
        trained, made = _run_artifacts(Path(config.source.folder), result)
        duplicates = _adapted_apart(
            Path(config.source.folder), result, task_data, allow_unsandboxed=config.allow_unsandboxed
        )
    else:
        trained, made = _declared_model(config, model, display)
        duplicates = None  # what it was adapted on is not known
    versions = made.model_copy(
        update={
            "task": task_data.task.version,
            "flops": FLOPS_VERSION,
            "shots": SHOTS_VERSION if config.shots else None,
            **reading_versions(config, task_data, Path(model.path)),
        }
    )
    content = task_data.splits.content_hash
    identity = run_id(config, versions, content, model.provenance.sha256, parse_budget(config.budget).identity)
    prepared = PreparedTest(
        config=config,
        task_data=replace(task_data, duplicates=duplicates),
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
        from bench.models.multimodal import what_is_left_out
        from bench.models.opening import check_opens, open_config

        check_opens(Path(model.path), model.provenance.sha256, config.prompt)
        check_thinking(config, task_data, Path(model.path))
        if left_out := what_is_left_out(open_config(Path(model.path))):
            display.note(left_out)
        if isinstance(trained, RunArtifacts):
            _check_saved(trained)
    return prepared


def _source_result(source: RunSource, config: RunConfig, model: PreparedModel) -> Result:
    """Return the record of a source run.

    Raises:
        UsageError: If the run is gone, or is another one now.
        Refused: If it began from another model.
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
    if result.model is None or result.model.fingerprint != model.provenance.sha256:
        raise Refused(
            f"{folder}: began from another version of {config.model} than the one on this machine; restore that one"
        )
    return result


def _run_artifacts(folder: Path, result: Result) -> tuple[RunArtifacts, Versions]:
    """Return the artifacts of a source run and its versions."""
    assert result.versions is not None
    current = result if is_present_rule(result.versions.flops) else reprice(result)
    return RunArtifacts(folder, current), result.versions


def _adapted_apart(
    folder: Path, result: Result, task_data: TaskData, *, allow_unsandboxed: bool = False
) -> Duplicates | None:
    """Check that a source run did not adapt on an example that is, or nearly equals, one of the test.

    Args:
        folder: Run directory.
        result: Its record.
        task_data: Data of the test.
        allow_unsandboxed: Whether the gold answers of the run's data may run in a weak sandbox now.

    Returns:
        Near duplicates among the examples that the run adapted on and those of the test.

    Raises:
        UsageError: If the data that the run adapted on has changed since.
        Refused: If it adapted on such an example.
    """
    if result.content_hash == task_data.splits.content_hash:
        return task_data.duplicates  # the run's own splits, which are no reason to refuse a test of it
    config = result.config.model_copy(update={"allow_unsandboxed": allow_unsandboxed})
    before, task = load_task_data(config), task_data.task
    if before.splits.content_hash != result.content_hash:
        file = result.config.adapt_data or result.config.data
        raise UsageError(
            f"{folder}: the data of {result.config.task_label} is not that which the run adapted on: its content hash "
            f"is {before.splits.content_hash[:12]}, and the record has {str(result.content_hash)[:12]}, so it is not "
            f"known whether the run adapted on test examples; restore {file or 'the data'}"
        )
    adapted = [(name, before.adapted_on, e) for name in SPLITS[:3] for e in getattr(before.splits, name)]
    placed = [*adapted, *(("test", task, e) for e in task_data.splits.test)]
    pairs = between_splits(placed, alike(placed))
    common = list(dict.fromkeys(two.id for _, (split, _, two) in pairs if split == "test"))
    if common:
        raise Refused(
            f"the run adapted on {len(common)} of the test examples of {task.name}, or on near duplicates of them, "
            f"such as {common[0]}; test it on another task"
        )
    return duplicates_of(pairs)


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


def _differences(model: Path, base: Path) -> str:
    """Return in what a model's tensors or costs differ from those of a base; empty if in nothing.

    The tensors are those of the opened models, so a saved text model fits the multimodal model that it came from.
    """
    from bench.models.multimodal import meta_model
    from bench.models.opening import open_config
    from bench.models.tensors import held

    configs = [open_config(folder) for folder in (model, base)]
    tensors, expected = (held(meta_model(config)) for config in configs)
    for name, tensor in expected.items():
        if name not in tensors:
            return f"it has no {name}"
        if tensors[name].shape != tensor.shape:
            return f"{name} has the shape {list(tensors[name].shape)}, not {list(tensor.shape)}"
    if added := next((name for name in tensors if name not in expected), None):
        return f"it has {added}, which the base lacks"
    mine, its = map(compute_profile, configs)
    return "" if mine == its else "a token costs other FLOPs, as with another number of heads or another window"


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
    if differing := _differences(Path(model.path), Path(base.path)):
        raise UsageError(
            f"--artifact {source.folder}: not of the shape of {config.model}: {differing}; name the base that it was "
            "trained from with --model"
        )
    return DeclaredModel(source, model, config.dtype), Versions(
        method=DECLARED, task="", noise=NOISE_VERSION, flops=FLOPS_VERSION
    )
