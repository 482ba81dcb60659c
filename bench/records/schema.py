"""Schema of run records. A record holds every number that a report shows; only `timing` holds times.

Reading a record imports no engine and no method, so reports need only the core installation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from bench.compute.ledger import Account, Work
from bench.errors import BenchError, UsageError, usage_error
from bench.records.config import RunConfig, read_config

SCHEMA_VERSION = 2

Status = Literal["ok", "failed", "over_budget", "diverged"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Versions(_Record):
    """Versions of all harness components that can change a number.

    Attributes:
        method: Version of the method.
        task: Version of the test task.
        adapt_on: Version of the task adapted on; None if that is the test task.
        noise: Version of the noise generator.
        flops: Version of the FLOPs formula.
    """

    method: str
    task: str
    adapt_on: str | None = None
    noise: str
    flops: int


class ModelInfo(_Record):
    """Base model of a run.

    Attributes:
        name: Short name.
        origin: Source of the model, such as a hub id or a path.
        fingerprint: sha256 of the source files, or a hub revision.
        digest: sha256 of the weights as loaded.
        licence: Licence; None if unknown.
    """

    name: str
    origin: str
    fingerprint: str
    digest: str
    licence: str | None


class BudgetInfo(_Record):
    """Budget of a run, and how much of it was spent.

    Attributes:
        name: Budget as given, such as `smoke` or `512`.
        evaluations: Budget in model-prompt evaluations of the base model.
        evaluation_flops: Measured cost of one evaluation, in model FLOPs.
        flops: Limit in model FLOPs: evaluations times evaluation_flops.
        planned: Planned evaluations by account, from the method's plan.
        spent: Adaptation FLOPs booked; at most `flops`.
    """

    name: str
    evaluations: PositiveInt
    evaluation_flops: float
    flops: NonNegativeInt
    planned: dict[str, int]
    spent: NonNegativeInt

    @property
    def share(self) -> float:
        """Fraction of the budget that was spent."""
        return self.spent / self.flops if self.flops else 0.0


class Accuracy(_Record):
    """Accuracy on the test split with its 95 % Wilson interval.

    Attributes:
        correct: Number of correct answers.
        items: Number of test examples judged.
        excluded: Number of test examples that could not be judged. All other fields leave them out.
        accuracy: correct / items.
        low: Lower bound of the interval.
        high: Upper bound of the interval.
        mean_reward: Mean shaped reward; not an accuracy.
    """

    correct: NonNegativeInt
    items: NonNegativeInt
    excluded: NonNegativeInt
    accuracy: float
    low: float
    high: float
    mean_reward: float


class AnswerCost(_Record):
    """Inference cost of one answer: means over the test examples.

    Attributes:
        evaluations: Model-prompt evaluations ("forward passes" in the papers).
        flops: Model FLOPs.
        new_tokens: Generated tokens that the model processed.
    """

    evaluations: float
    flops: float
    new_tokens: float


class PairedComparison(_Record):
    """Paired comparison of method and base on the same test items.

    Attributes:
        items: Number of items judged for both.
        fixes: Number of items with the base wrong and the method right.
        regressions: Number of items with the base right and the method wrong.
        difference: Accuracy of the method minus accuracy of the base.
        low: Lower bound of the 95 % interval of the difference.
        high: Upper bound.
        p_value: p-value of the two-sided exact McNemar test.
    """

    items: NonNegativeInt
    fixes: NonNegativeInt
    regressions: NonNegativeInt
    difference: float
    low: float
    high: float
    p_value: float


class Difference(_Record):
    """Mean difference from the base on the same items, with its 95 % interval.

    Attributes:
        items: Number of items.
        difference: Mean of method minus base.
        low: Lower bound of the interval.
        high: Upper bound.
        p_value: Two-sided p-value for a difference of zero.
    """

    items: NonNegativeInt
    difference: float
    low: float
    high: float
    p_value: float


class PassAtK(_Record):
    """pass@k on the test split: the probability that at least one of k sampled answers is right.

    It is not an accuracy, because nothing selects the right sample.

    Attributes:
        k: Number of answers.
        samples: Number of answers sampled per example, for the unbiased estimate.
        items: Number of examples with at least k judged answers.
        excluded: Number of all other examples.
        value: Mean over the items.
        low: Lower bound of the 95 % interval.
        high: Upper bound.
        cost: Cost of k answers.
        difference: Difference from the base; None for the base itself.
    """

    k: PositiveInt
    samples: PositiveInt
    items: NonNegativeInt
    excluded: NonNegativeInt
    value: float
    low: float
    high: float
    cost: AnswerCost
    difference: Difference | None = None


class Row(_Record):
    """Test result of one artifact.

    Attributes:
        label: Label of the artifact within its run, such as `k=5`; empty if the run has only one.
        accuracy: Accuracy on the test split.
        cost: Cost of one answer.
        comparison: Comparison with the base on the same items.
        changed: False if the artifact is the unchanged base model, queried in the same way.
        measures: The task's additional measures by name.
        coverage: pass@k; None unless the strategy is `pass@K`.
        report: The artifact's own report about its answers.
    """

    label: str = ""
    accuracy: Accuracy
    cost: AnswerCost
    comparison: PairedComparison
    changed: bool
    measures: dict[str, float] = Field(default_factory=dict)
    coverage: PassAtK | None = None
    report: dict[str, Any] = Field(default_factory=dict)


class AccountRow(_Record):
    """One account of the ledger, with its FLOPs.

    Attributes:
        work: Raw counts, such as tokens and passes.
        flops: Model FLOPs, without padding.
        hardware_flops: FLOPs including padding.
    """

    work: Work
    flops: NonNegativeInt
    hardware_flops: NonNegativeInt


class Timing(_Record):
    """Wall-clock seconds of the last attempt of a run. Earlier attempts are not included. Reports never compare times.

    Attributes:
        total: Time from the start of the attempt to the result, including loading the model.
        stages: Time by phase of the run.
        kinds: Time by kind of work, see `bench.run.timing`. The rest of the total is the harness's own time.
        new_tokens: Tokens that this attempt generated; None in records of earlier versions.
        generation_flops: Model FLOPs of the answers that this attempt generated; None in records of earlier versions.
    """

    total: float
    stages: dict[str, float]
    kinds: dict[str, float] = Field(default_factory=dict)
    new_tokens: NonNegativeInt | None = None
    generation_flops: NonNegativeInt | None = None


class Result(_Record):
    """Record of a finished run. If `status` is not `ok`, `base` and `rows` are empty and `reason` says why.

    The ledger's account `inference` is the cost of all rows' answers plus the samples for pass@k. Answers that two rows
    share are counted for both. `refused` maps the label of each artifact that the strategy left out to the reason.
    """

    schema_version: int = SCHEMA_VERSION
    id: str
    status: Status
    reason: str | None = None
    traceback: str | None = None
    config: RunConfig
    versions: Versions | None = None
    content_hash: str | None = None
    splits: dict[str, int] = Field(default_factory=dict)
    model: ModelInfo | None = None
    engine: dict[str, str | int] = Field(default_factory=dict)
    prompt: str | None = None
    sandbox: str | None = None
    budget: BudgetInfo | None = None
    base: Accuracy | None = None
    base_cost: AnswerCost | None = None
    base_measures: dict[str, float] = Field(default_factory=dict)
    base_coverage: PassAtK | None = None
    rows: tuple[Row, ...] = ()
    refused: dict[str, str] = Field(default_factory=dict)
    ledger: dict[Account, AccountRow] = Field(default_factory=dict)
    report: dict[str, Any] = Field(default_factory=dict)
    timing: Timing | None = None


class Sample(_Record):
    """One line of samples.jsonl: the answers of one row and of the base to one test example.

    Example line (shortened):

        {"row":"k=5","id":"17","prompt_sha256":"3f…","text":"The sum is 42.","answer":"42","correct":true,"reward":1.0,
         "status":"ok","detail":"","base_text":"41","base_correct":false}

    Attributes:
        row: Label of the row.
        id: Id of the test example.
        prompt_sha256: sha256 of the prompt's token ids.
        text: Answer of the row, in full.
        answer: Final answer that the scorer extracted from it; None if there is none.
        correct: Whether the answer is correct; None if it could not be judged.
        reward: Shaped reward; None if it could not be judged.
        status: Status from the scorer.
        detail: Detail from the scorer.
        base_text: Answer of the base model, in full.
        base_correct: Whether the base's answer is correct; None if it could not be judged.
    """

    row: str = ""
    id: str
    prompt_sha256: str
    text: str
    answer: str | None
    correct: bool | None
    reward: float | None
    status: str
    detail: str
    base_text: str
    base_correct: bool | None


def read_result(folder: Path) -> Result:
    """Read the result of a finished run.

    Raises:
        UsageError: If the folder is not a run directory, or the run has not finished.
        BenchError: If this version cannot read the result.
    """
    path = folder / "result.json"
    if not path.exists():
        read_config(folder)
        raise UsageError(f"{folder}: this run has not finished; continue it with: bench resume {folder}")
    try:
        return Result.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise BenchError(f"{usage_error(str(path), error)}; this version reads schema {SCHEMA_VERSION}") from error


def find_runs(root: Path) -> list[Path]:
    """Return all run directories below a folder, sorted. Unfinished runs are included."""
    return sorted(path.parent for path in root.rglob("config.json") if path.parent.name.startswith("seed-"))
