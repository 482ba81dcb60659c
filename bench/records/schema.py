"""The record: every number that a report shows, as validated data. Times stand in `timing` and nowhere else.

Reading a record loads no engine and no method, so reports work wherever the core is installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from bench.compute.ledger import Account, Work
from bench.errors import BenchError, UsageError, usage_error

SCHEMA_VERSION = 2

WHERE = {
    "compute_environment",
    "debug",
    "enable_cpu_affinity",
    "gpu_ids",
    "machine_rank",
    "main_process_ip",
    "main_process_port",
    "main_training_function",
    "mpirun_config",
    "rdzv_backend",
    "same_network",
}
"""Keys of a launcher's configuration that say where and not what."""

Status = Literal["ok", "failed", "over_budget", "diverged"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RunConfig(_Record):
    """One cell of a grid, fully resolved: running it again is running the same thing.

    Attributes:
        method: Registered name, or `package.module:Class`.
        method_config: The method's own settings, defaults filled in.
        task: Registered name, or `package.module:Class`.
        data: File with the task's rows; None for the task's own source.
        adapt_on: Task to adapt on, if it is another one; `task` is then only tested on, as a whole.
        adapt_data: File with the rows of `adapt_on`.
        model: Embedded name, folder, GGUF file or hub id.
        budget: Named budget, or a number of model-prompt evaluations.
        seed: Source of all randomness of the method.
        limit: Test examples read, from the start of the split; None for all.
        max_new_tokens: Answers end here; None for where the task says.
        prompt: `auto` follows the tokenizer: chat where it has a template.
        engine: What generates.
        dtype: `auto` keeps the checkpoint's own.
        device: `auto` takes a GPU if there is one.
        batch_size: Prompts decoded together; None leaves it to the engine.
        allow_unsandboxed: Whether model-written code may run in a sandbox weaker than required.
        strategy: How test answers come about: `greedy`; `maj@K`, the commonest of K samples; `bon@K`, that of K samples
            which the task's own signal likes best; `pass@K`, greedy answers and beside them the chance that one of K
            samples is right.
        launch: What `accelerate launch` is told of the processes that train; None to train in the run's own.
    """

    method: str = "corp"
    method_config: dict[str, Any] = Field(default_factory=dict)
    task: str
    data: str | None = None
    adapt_on: str | None = None
    adapt_data: str | None = None
    model: str
    budget: str = "smoke"
    seed: NonNegativeInt = 0
    limit: PositiveInt | None = None
    max_new_tokens: PositiveInt | None = None
    prompt: Literal["auto", "chat", "completion"] = "auto"
    engine: Literal["transformers", "vllm"] = "transformers"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    batch_size: PositiveInt | None = None
    allow_unsandboxed: bool = False
    strategy: Annotated[str, Field(pattern=r"^(greedy|(pass|maj|bon)@[1-9][0-9]{0,3})$")] = "greedy"
    launch: dict[str, Any] | None = None

    @property
    def subject(self) -> str:
        """The task, or the two: `mbpp to humaneval`."""
        return self.task if self.adapt_on is None else f"{self.adapt_on} to {self.task}"

    @property
    def processes(self) -> int:
        """How many train."""
        return 1 if self.launch is None else int(self.launch["num_processes"])

    @property
    def launched(self) -> dict[str, Any]:
        """Of `launch`, what can change an outcome: not where its processes run and how they find each other."""
        return {key: value for key, value in (self.launch or {}).items() if key not in WHERE}


class Versions(_Record):
    """Versions of everything of ours that can change a number; `adapt_on` where that is another task."""

    method: str
    task: str
    adapt_on: str | None = None
    noise: str
    flops: int


class ModelInfo(_Record):
    """What was adapted.

    Attributes:
        name: Short name.
        origin: Where it came from.
        fingerprint: sha256 of the source files, or a hub revision.
        digest: sha256 over the weights as loaded.
        licence: As far as known.
    """

    name: str
    origin: str
    fingerprint: str
    digest: str
    licence: str | None


class BudgetInfo(_Record):
    """What could be spent and what was.

    Attributes:
        evaluations: The budget in model-prompt evaluations of the base.
        evaluation_flops: Measured cost of one, in model FLOPs.
        flops: Their product: the limit.
        planned: The method's plan, in evaluations by account.
        spent: Adaptation FLOPs booked; never more than `flops`.
    """

    name: str
    evaluations: PositiveInt
    evaluation_flops: float
    flops: NonNegativeInt
    planned: dict[str, int]
    spent: NonNegativeInt

    @property
    def share(self) -> float:
        """Part of the budget that was spent."""
        return self.spent / self.flops if self.flops else 0.0


class Accuracy(_Record):
    """Accuracy on the test split with its 95 % Wilson interval.

    Attributes:
        correct: Right answers.
        items: Test examples judged.
        excluded: Test examples that the judge could not judge; in no figure here.
        accuracy: correct / items.
        low: Lower bound.
        high: Upper bound.
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
    """What one answer costs once deployed: means over the test examples.

    Attributes:
        evaluations: Forward passes in the sense of the papers.
        flops: Model FLOPs.
        new_tokens: Generated tokens that were run forward.
    """

    evaluations: float
    flops: float
    new_tokens: float


class PairedComparison(_Record):
    """Method against base on the same test items.

    Attributes:
        fixes: Base wrong, method right.
        regressions: Base right, method wrong.
        difference: Accuracy of the method minus that of the base.
        low: Lower bound of its 95 % interval.
        high: Upper bound.
        p_value: Two-sided exact McNemar test.
    """

    items: NonNegativeInt
    fixes: NonNegativeInt
    regressions: NonNegativeInt
    difference: float
    low: float
    high: float
    p_value: float


class Difference(_Record):
    """A mean difference against the base on the same items, with its 95 % interval.

    Attributes:
        p_value: Two-sided, of there being none.
    """

    items: NonNegativeInt
    difference: float
    low: float
    high: float
    p_value: float


class Coverage(_Record):
    """pass@k on the test split: the chance that one of k sampled answers is right. No accuracy: nothing chooses it.

    Attributes:
        k: Answers.
        samples: Answers drawn for each example, which it is estimated from without bias.
        items: Examples of which at least k answers were judged.
        excluded: The others.
        value: Mean over the items.
        low: Lower bound of its 95 % interval.
        high: Upper bound.
        cost: Of k answers.
        difference: Against the base; None for the base itself.
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
    """One thing to deploy: what it answers and what an answer of it costs.

    Attributes:
        label: Tells the artifacts of one run apart, such as `k=5`; empty where there is one.
        accuracy: On the test split.
        cost: Of one answer.
        comparison: Against the base on the same items.
        changed: Whether anything but the base, asked as the base is, gave the answers.
        measures: What the task puts beside the accuracy, by name.
        coverage: pass@k, where the strategy asks for it.
        report: What the artifact says of its answers.
    """

    label: str = ""
    accuracy: Accuracy
    cost: AnswerCost
    comparison: PairedComparison
    changed: bool
    measures: dict[str, float] = Field(default_factory=dict)
    coverage: Coverage | None = None
    report: dict[str, Any] = Field(default_factory=dict)


class AccountRow(_Record):
    """One account of the ledger with the FLOPs that follow from it.

    Attributes:
        work: Raw integers.
        flops: Model FLOPs, real tokens only.
        hardware_flops: FLOPs including padding.
    """

    work: Work
    flops: NonNegativeInt
    hardware_flops: NonNegativeInt


class Timing(_Record):
    """Wall-clock seconds of the attempt that ended this run; an earlier attempt's are not in it. Never compared.

    Attributes:
        total: From its start to its record, loading the model included.
        stages: By phase of the run.
        kinds: By what was done: see `bench.run.timing`. What is missing to the total is the harness's own time.
    """

    total: float
    stages: dict[str, float]
    kinds: dict[str, float] = Field(default_factory=dict)


class Result(_Record):
    """A finished run. `status` other than `ok` leaves `base` and `rows` empty and says why.

    The ledger's account `inference` is the sum of what the rows' answers cost, answers that two rows share counted for
    both, and of the samples that pass@k is estimated from. `refused` says of artifacts why the strategy left them out.
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
    base_coverage: Coverage | None = None
    rows: tuple[Row, ...] = ()
    refused: dict[str, str] = Field(default_factory=dict)
    ledger: dict[Account, AccountRow] = Field(default_factory=dict)
    report: dict[str, Any] = Field(default_factory=dict)
    timing: Timing | None = None


class Sample(_Record):
    """One line of samples.jsonl: one test example answered by one row of the result, and by the base for comparison.

    Attributes:
        row: Label of the row.
        id: Of the example.
        prompt_sha256: Over the prompt's token ids.
        text: The answer.
        answer: What the extractor took from it.
        correct: Whether it counts; None if it could not be judged.
        reward: Shaped reward; None if it could not be judged.
        status: The scorer's.
        detail: The scorer's.
        base_text: The base's answer.
        base_correct: Whether that counts; None if it could not be judged.
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


def read_config(folder: Path) -> RunConfig:
    """Read the configuration of a run, finished or not.

    Raises:
        UsageError: If the folder is no run directory, or its configuration cannot be used.
    """
    path = folder / "config.json"
    if not path.exists():
        raise UsageError(f"{folder}: no run directory (it has no config.json)")
    try:
        return RunConfig.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise usage_error(str(path), error) from error


def read_result(folder: Path) -> Result:
    """Read a finished run.

    Raises:
        UsageError: If the folder holds no run, or one that has not finished.
        BenchError: If its result cannot be read by this version.
    """
    path = folder / "result.json"
    if not path.exists():
        read_config(folder)
        raise UsageError(f"{folder}: this run has not finished; go on with it: bench resume {folder}")
    try:
        return Result.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise BenchError(f"{usage_error(str(path), error)}; this version reads schema {SCHEMA_VERSION}") from error


def find_runs(root: Path) -> list[Path]:
    """Return all run directories below a folder, finished or not, sorted."""
    return sorted(path.parent for path in root.rglob("config.json") if path.parent.name.startswith("seed-"))
