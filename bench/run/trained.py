"""Tests of models that were made before: of the artifacts of a finished run, or of a model that was trained elsewhere.

A test answers a task, under a prompt and a strategy, and adapts nothing. Base and artifacts answer the same items. What
the adaptation cost, and what the gate decided about it, are carried over from the source run.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.compute.budget import Budget, parse_budget
from bench.compute.flops import FLOPS_VERSION, ModelShape
from bench.compute.ledger import Account
from bench.errors import BenchError, Refused, UsageError, usage_error
from bench.models.checkpoint import read_config as read_checkpoint_config
from bench.models.source import PreparedModel, resolve
from bench.models.template import clock_date
from bench.records.config import RunConfig
from bench.records.digests import ARTIFACT, check_digests
from bench.records.pricing import reprice
from bench.records.rows import GateRecord, Move, Row
from bench.records.schema import AccountRow, BudgetInfo, Result, Versions, read_result
from bench.records.source import DeclaredSource, RunSource
from bench.records.tuning import DECLARED
from bench.run.data import TaskData, load_task_data
from bench.run.prepare import Prepared, finished, require_libraries, resolved_device, resolved_dtype
from bench.run.progress import ProgressDisplay
from bench.run.run_id import run_folder, run_id
from bench.run.sampling import unsupported_reason
from bench.strategy import run_strategy
from bench.weights.noise import NOISE_VERSION
from methods.interface import Artifact, SingleModel
from methods.sampling import SampledAnswers
from tasks.interface import Task

TESTED: Sequence[Account] = ("evaluation", "inference")
"""Accounts of a test itself. All others are those of the source run."""


@dataclass(frozen=True)
class RunArtifacts:
    """The artifacts of a finished run.

    Attributes:
        folder: Run directory.
        result: Record of the run, priced under the present FLOPs formula.
    """

    folder: Path
    result: Result

    @property
    def ruleset(self) -> str:
        """Rules that the source run was made by."""
        return self.result.ruleset

    @property
    def budget(self) -> BudgetInfo | None:
        """Budget of the source run."""
        return self.result.budget

    @property
    def ledger(self) -> dict[Account, AccountRow]:
        """Accounts of the source run's adaptation."""
        return {name: row for name, row in self.result.ledger.items() if name not in TESTED}

    @property
    def decisions(self) -> dict[str, GateRecord]:
        """Decisions of the source run's gate by label."""
        return {row.label: row.gate for row in self.result.gated if row.gate}

    @property
    def ungated(self) -> str | None:
        """Reason why the source run has no gated rows."""
        return self.result.ungated

    def load(self, base: str, folder: Path) -> Mapping[str, Artifact]:
        """Return the artifacts by label, as the run's method returned them.

        Args:
            base: Digest of the base's weights.
            folder: Run directory of the test; not used.

        Raises:
            BenchError: If one cannot be loaded, or the base is another one.
        """
        saved, model = self.result.saved, self.result.model
        assert saved is not None
        assert model is not None
        if base != model.digest:
            raise Refused(
                f"{self.folder}: its base has the weights {model.digest[:12]}, and this one has {base[:12]}; test it "
                "with the model and the --dtype that it began from"
            )
        sampled = self.result.config.strategy.startswith(("maj@", "bon@"))
        found = {}
        for label, name in saved.classes.items():
            artifact = _artifact_class(name).load(self.folder / "artifact" / label, base)
            # Under a strategy a run saves the model together with its choice among samples.
            artifact = artifact.model if sampled and isinstance(artifact, SampledAnswers) else artifact
            if type(artifact) is SingleModel and artifact.point.digest == base:
                artifact = SingleModel(prompt=artifact.prompt)  # a method that returned the base
            found[label] = artifact
        return found

    def moved(self, rows: tuple[Row, ...]) -> tuple[Row, ...]:
        """Return the rows of a test with the moves that the source run recorded for the same weights."""
        known: dict[str | None, Move | None] = {row.weights: row.move for row in self.result.rows if row.weights}
        return tuple(row.model_copy(update={"move": known.get(row.weights)}) for row in rows)


@dataclass(frozen=True)
class DeclaredModel:
    """A model that was trained elsewhere, from the same base.

    Attributes:
        source: Where it is, and the FLOPs that its maker declares.
        model: Its checkpoint on this machine.
        dtype: Dtype that it is tested in.
    """

    source: DeclaredSource
    model: PreparedModel
    dtype: str
    ruleset: str = DECLARED
    budget: BudgetInfo | None = None
    ledger: dict[Account, AccountRow] = field(default_factory=dict)
    decisions: dict[str, GateRecord] = field(default_factory=dict)
    ungated: str | None = "the model was trained elsewhere"

    def load(self, base: str, folder: Path) -> Mapping[str, Artifact]:
        """Return the model. Its weights are written to the test's folder, in the names and the dtype of the base.

        Args:
            base: Digest of the base's weights; not used, since any base of the same shape will do.
            folder: Run directory of the test.

        Raises:
            UsageError: If the folder does not hold exactly the model's weights.
        """
        import torch

        from bench.models.opening import open_model
        from bench.weights.checkpoint import write_checkpoint

        model = open_model(Path(self.model.path), getattr(torch, self.dtype))
        return {"": SingleModel(write_checkpoint(folder / "declared", dict(model.named_parameters())))}

    def moved(self, rows: tuple[Row, ...]) -> tuple[Row, ...]:
        """Return the rows of a test. The move of such a model is not known."""
        return rows


@dataclass(frozen=True, kw_only=True)
class PreparedTest(Prepared):
    """Test that is ready to start: see `Prepared`.

    Attributes:
        trained: What it tests.
    """

    trained: RunArtifacts | DeclaredModel

    @property
    def ruleset(self) -> str:
        """Rules that the tested model was made by."""
        return self.trained.ruleset


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


def check_prompts(artifacts: Mapping[str, Artifact], task: Task) -> None:
    """Check that a task has the prompts that single models were adapted with.

    Raises:
        Refused: If it lacks one.
    """
    for artifact in artifacts.values():
        if isinstance(artifact, SingleModel) and artifact.prompt not in task.prompts:
            raise Refused(
                f"the artifact answers under the prompt {artifact.prompt!r}, and task {task.name} has "
                f"{', '.join(task.prompts)}; test it on the task that it was adapted on"
            )


def _artifact_class(name: str) -> type[Artifact]:
    """Return the class of an artifact, given as module and name.

    Raises:
        BenchError: If there is no such class of artifacts.
    """
    module, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise BenchError(
            f"artifact class {name}: cannot be imported ({error}); install the package that has it"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Artifact)):
        raise BenchError(f"artifact class {name}: not a class of artifacts (methods.interface.Artifact)")
    return found
