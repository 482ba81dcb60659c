"""Schema of run records. A record holds every number that a report shows; only `timing` holds times.

Records of earlier schemas are migrated when they are read: see `bench.records.migrations`. Reading a record imports no
engine and no method, so reports need only the core installation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field, NonNegativeFloat, NonNegativeInt, PositiveInt, ValidationError, model_validator

from bench.compute.flops import ModelShape
from bench.compute.ledger import Account, BilledAccount, Work
from bench.compute.profile import ComputeProfile
from bench.errors import BenchError, UsageError, usage_error
from bench.records.config import RunConfig, read_config
from bench.records.migrations import OLDEST, SCHEMA_VERSION, migrate, parse
from bench.records.rows import Frozen, Row, Seconds, Sha256
from bench.records.source import Artifacts, Source
from bench.records.tuning import PUBLISHED, Ruleset, Tuning

Model = TypeVar("Model", bound=BaseModel)

Status = Literal["ok", "failed", "over_budget", "diverged", "refused"]
"""How a run ended. `refused`: the method, the task or the model cannot do what the run asks, for a stated reason."""


class Versions(Frozen):
    """Versions of all harness components that can change a number.

    Attributes:
        method: Version of the method.
        task: Version of the test task.
        adapt_on: Version of the task adapted on; None if that is the test task.
        noise: Version of the noise generator.
        flops: Version of the FLOPs formula.
        shots: Version of the rules for worked examples; None without any, and in records of earlier versions.
        template_date: Date that the model's chat template sees, such as `2024-07-26`; None if it reads no clock.
        text_model: Version of the rule that takes the text model out of a multimodal checkpoint; None for any other.
        processor_template: Version of the rule that takes the chat template from the model's processor; None if the
            tokenizer has one, or there is none.
        system_merged: Version of the rule that puts the text of system messages before that of the user's first
            message, as the model's chat template has no place for them; None if it has, or none is sent.
        models: Fingerprints of the further models that the method runs, such as a teacher, by the name that its
            settings give; None if it runs none.
    """

    method: str
    task: str
    adapt_on: str | None = None
    noise: str
    flops: int
    shots: int | None = None
    template_date: str | None = None
    text_model: int | None = None
    processor_template: int | None = None
    system_merged: int | None = None
    models: dict[str, str] | None = None


class ModelInfo(Frozen):
    """Base model of a run.

    Attributes:
        name: Short name.
        origin: Source of the model, such as a hub id or a path.
        fingerprint: sha256 of the source files, or a hub revision.
        digest: sha256 of the weights as loaded; of a server's model, that of its name and declared shape.
        licence: Licence; None if unknown.
        shape: Dimensions that determine FLOPs; None if the family has no closed form, and in records of schema 2.
        profile: Costs from which FLOPs follow; None in records of earlier versions, whose costs follow from `shape`.
    """

    name: str
    origin: str
    fingerprint: str
    digest: Sha256
    licence: str | None
    shape: ModelShape | None = None
    profile: ComputeProfile | None = None

    @property
    def costs(self) -> ComputeProfile | None:
        """The compute profile; None in records of schema 2."""
        return self.shape.profile() if self.profile is None and self.shape else self.profile


class Processor(Frozen):
    """Kind of processor that a run's last attempt computed on, with the version of torch: both decide how sums round.

    Attributes:
        name: Name of the processor, such as `AMD EPYC 9654` or `NVIDIA H200`. Virtual machines often shorten it.
        features: Instruction sets that decide which kernels compute, such as `avx512_bf16`; empty for a GPU.
        model: Numbers of the model, such as `family 26, model 2`, which tell generations of one name apart; None for a
            GPU, and in older records.
        torch: Version of torch, such as `2.13.0+cpu`; None in older records.
    """

    name: str
    features: tuple[str, ...] = ()
    model: str | None = None
    torch: str | None = None


class BudgetInfo(Frozen):
    """Budget of a run, and how much of it was spent.

    Attributes:
        name: Budget as given, such as `smoke` or `512`.
        evaluations: Budget in model-prompt evaluations of the base model; rounded down if it was given in another unit.
        evaluation_flops: Measured cost of one evaluation, in model FLOPs.
        flops: Limit in model FLOPs: evaluations times evaluation_flops, unless the budget was given in another unit.
        planned: Planned evaluations by account, from the method's plan; those of `gate` are reserved by the harness.
        spent: Adaptation FLOPs booked; at most `flops`.
    """

    name: str
    evaluations: PositiveInt
    evaluation_flops: NonNegativeFloat
    flops: NonNegativeInt
    planned: dict[BilledAccount, NonNegativeInt]
    spent: NonNegativeInt

    @property
    def adapts(self) -> bool:
        """Whether the method planned to spend anything."""
        return bool(self.planned.keys() - {"gate"})

    @property
    def share(self) -> float:
        """Fraction of the budget that was spent."""
        return self.spent / self.flops if self.flops else 0.0


class AccountRow(Frozen):
    """One account of the ledger, with its FLOPs.

    Attributes:
        work: Raw counts, such as tokens and passes.
        flops: Model FLOPs, without padding.
        hardware_flops: FLOPs including padding.
    """

    work: Work
    flops: NonNegativeInt
    hardware_flops: NonNegativeInt


class Duplicates(Frozen):
    """Near duplicates among the examples of a run, see `tasks.duplicates`.

    Attributes:
        left_out: Number of examples left out of support, select and gate because they nearly equal a test example.
        across: Number of pairs of near duplicates in two splits, such as `{"support and test": 2}`.
    """

    left_out: NonNegativeInt
    across: dict[str, PositiveInt] = Field(default_factory=dict)


class Timing(Frozen):
    """Wall-clock seconds of the last attempt of a run. Reports never compare times.

    Earlier attempts are not included, except in `accounts`.

    Attributes:
        total: Time from the start of the attempt to the result, including loading the model.
        stages: Time by phase of the run.
        kinds: Time by kind of work, see `bench.run.timing`. The rest of the total is the harness's own time.
        accounts: Time by account of the ledger, over all attempts, as journalled with the work: moving the weights,
            generating, a method's scoring, and training with its saves. It leaves out work that a killed attempt lost,
            and answers that are booked again without being computed. Several engines or processes count once. Empty in
            records of earlier versions.
        new_tokens: Tokens that this attempt generated; None in records of earlier versions.
        generation_flops: Model FLOPs of the answers that this attempt generated; None in records of earlier versions.
        generation_work: Raw counts of these answers; None in records of schema 2.
        journal: SHA-256 of the journal, which holds times; None in records of earlier versions.
    """

    total: Seconds
    stages: dict[str, Seconds]
    kinds: dict[str, Seconds] = Field(default_factory=dict)
    accounts: dict[Account, Seconds] = Field(default_factory=dict)
    new_tokens: NonNegativeInt | None = None
    generation_flops: NonNegativeInt | None = None
    generation_work: Work | None = None
    journal: Sha256 | None = None


class Result(Frozen):
    """Record of a finished run. If `status` is not `ok`, `rows` is empty and `reason` says why.

    A test by `bench test` has a source. Its budget and its accounts of adaptation are those of the source run.

    The first row is the base's. The ledger's account `inference` is the cost of the answers of all artifacts plus their
    samples for pass@k, and `evaluation` is the same for the base. Answers that two artifacts share are counted for
    both; gated rows have no answers of their own.

    Attributes:
        schema_version: Version of this schema.
        identity_version: Version of the rule that makes `id`, see `bench.run.run_id`.
        id: Run id.
        status: How the run ended.
        reason: Reason for a status other than `ok`.
        traceback: Traceback of a failed run.
        config: Configuration.
        ruleset: Rules that the settings were chosen by, see `bench.records.tuning.Ruleset`.
        versions: Versions of all harness components that can change a number.
        content_hash: Content hash of the splits.
        splits: Number of examples by split.
        duplicates: Near duplicates among the examples adapted on and those tested on; None in records of earlier
            versions, and for a model that was trained elsewhere.
        model: Base model; None if it was not loaded.
        engine: Engine settings.
        processor: Kind of processor; None if it is not known.
        prompt: Prompt style, `chat` or `completion`.
        stop: Strings that ended a test answer: the task's, and with worked examples the beginning of a next one.
        sandbox: Level of the sandbox; None if no model-written code ran.
        budget: Budget, and how much of it was spent.
        rows: Test results: the base, then the artifacts as trained, each followed by its gated row if it has one.
        untested: Reasons for the artifacts that the test-time strategy does not apply to, by label.
        ungated: Reason why there are no gated rows, such as `the task has no gate split`; None if there are, if the run
            ended before, or in records of earlier schemas.
        ledger: Work by account.
        saved: Artifacts that the run saved; None for a test, and in records of earlier versions.
        report: The method's own report; docs/records.md describes its keys.
        tuning: Trials and the settings that they chose; None without tuning.
        samples_sha256: SHA-256 of `samples.jsonl`; None without samples, and in records of earlier versions.
        timing: Wall-clock times of the last attempt.
    """

    schema_version: int = SCHEMA_VERSION
    identity_version: int
    id: str
    status: Status
    reason: str | None = None
    traceback: str | None = None
    config: RunConfig
    ruleset: Ruleset = PUBLISHED
    versions: Versions | None = None
    content_hash: str | None = None
    splits: dict[str, NonNegativeInt] = Field(default_factory=dict)
    duplicates: Duplicates | None = None
    model: ModelInfo | None = None
    engine: dict[str, str | int] = Field(default_factory=dict)
    processor: Processor | None = None
    prompt: Literal["chat", "completion"] | None = None
    stop: tuple[str, ...] = ()
    sandbox: str | None = None
    budget: BudgetInfo | None = None
    rows: tuple[Row, ...] = ()
    untested: dict[str, str] = Field(default_factory=dict)
    ungated: str | None = None
    ledger: dict[Account, AccountRow] = Field(default_factory=dict)
    saved: Artifacts | None = None
    report: dict[str, Any] = Field(default_factory=dict)
    tuning: Tuning | None = None
    samples_sha256: Sha256 | None = None
    timing: Timing | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Result:
        kinds = [row.kind for row in self.rows]
        if kinds and (kinds[0] != "base" or kinds.count("base") != 1):
            raise ValueError(f"rows are of kinds {', '.join(kinds)}: the first and only the first must be the base")
        for index, row in enumerate(self.rows):
            if row.gate is None:
                continue
            before = self.rows[index - 1]
            if before.kind != "method" or before.label != row.label:
                raise ValueError(f"row {index} is gated: it must follow the trained row of its label {row.label!r}")
            if row.answers_of != (index - 1 if row.gate.accepted else 0):
                raise ValueError(
                    f"row {index} is gated and has answers_of {row.answers_of}: it has those of the row before it if "
                    "the gate accepted that, else the base's, of row 0"
                )
        return self

    @property
    def source(self) -> Source | None:
        """Source of the tested model; None for a run that adapted one."""
        return self.config.source

    @property
    def base(self) -> Row | None:
        """Row of the base; None if nothing was tested."""
        return self.rows[0] if self.rows else None

    @property
    def artifacts(self) -> tuple[Row, ...]:
        """Rows of the method's artifacts as trained."""
        return tuple(row for row in self.rows if row.kind == "method")

    @property
    def gated(self) -> tuple[Row, ...]:
        """Rows of the method's artifacts after the gate; empty without a gate."""
        return tuple(row for row in self.rows if row.kind == "gated")

    @property
    def is_control(self) -> bool:
        """Whether the run tested nothing but the base: it spent nothing, and its artifact is the unchanged base."""
        adapted = self.budget is not None and bool(self.budget.adapts or self.budget.spent)
        unchanged = [row.label for row in self.artifacts if not row.changed]
        return not adapted and len(self.artifacts) == 1 and unchanged == [""]


def read_result(folder: Path) -> Result:
    """Read the result of a finished run. Records of earlier schemas are migrated.

    Raises:
        UsageError: If the folder is not a run directory, or the run has not finished.
        BenchError: If this version cannot read the result.
    """
    path = result_path(folder)
    return validated(Result, migrate({"result": parse(path)}, path)["result"], path)


def result_path(folder: Path) -> Path:
    """Return the path of a finished run's result.

    Raises:
        UsageError: If the folder is not a run directory, or the run has not finished.
    """
    path = folder / "result.json"
    if not path.exists():
        read_config(folder)
        raise UsageError(f"{folder}: this run has not finished; continue it with: bench resume {folder}")
    return path


def validated(model: type[Model], data: Any, path: Path) -> Model:
    """Return a part of a record, given as plain data of the present schema.

    Raises:
        BenchError: If the data does not fit the schema. The message names the file and each field.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise BenchError(
            f"{usage_error(str(path), error)}; this version reads schemas {OLDEST} to {SCHEMA_VERSION}"
        ) from error
    except UsageError as error:  # of a part that checks itself, such as the model's shape
        raise BenchError(f"{path}: {error}") from error


def find_runs(root: Path) -> list[Path]:
    """Return all run directories below a folder, sorted. Unfinished runs are included."""
    return sorted(path.parent for path in root.rglob("config.json") if path.parent.name.startswith("seed-"))
