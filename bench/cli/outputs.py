"""Schemas of what `--json` prints. docs/schemas has them as JSON Schema.

Reports have types of their own in `reports`; `output_types` names the type of every command.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, RootModel

from bench.cells.state import CellStatus
from bench.cli.runs import ListedRun
from bench.compute.ledger import Account, BilledAccount
from bench.records.rows import Accuracy
from bench.records.samples import Sample
from bench.records.schema import AccountRow, Result
from bench.settings import Setting


class _Output(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RunOutput(_Output):
    """Outcome of one run of a grid.

    Attributes:
        folder: Run directory; None if the run failed before it had one.
        cached: Whether the run was already complete.
        error: Reason for a missing record; None if there is one.
        result: Record; None if the run failed before it had one.
    """

    folder: str | None
    cached: bool
    error: str | None
    result: Result | None


class RunOutputs(_Output):
    """Output of `bench run`, `bench resume`, `bench test` and `bench demo`.

    Attributes:
        runs: Outcome of each run of the grid, in the order of the grid.
    """

    runs: tuple[RunOutput, ...]


class StatusOutput(_Output):
    """Output of `bench status`.

    Attributes:
        cells: State of each run, and of each cell that waits.
    """

    cells: tuple[CellStatus, ...]


class RecordWithSamples(Result):
    """Output of `bench show -n N`: the record with samples. Without `-n`, the output is the record.

    Attributes:
        samples: Answers of all rows to the first N test examples.
    """

    samples: tuple[Sample, ...]


class PlanLineOutput(_Output):
    """One planned phase of the method, see `methods.interface.PlanLine`, a rung of trials, or the harness's gate.

    Attributes:
        account: Account that the phase is booked to.
        what: What is done, in words.
        evaluations: Planned cost in model-prompt evaluations of the base.
        at_most: Whether the evaluations are a limit: the gate ends as soon as it can decide, and does not begin if the
            method returns the base.
    """

    account: BilledAccount
    what: str
    evaluations: int
    at_most: bool = False


class PlanOutput(_Output):
    """Plan of one run.

    Attributes:
        method: Name of the method.
        settings: Settings of the method that differ from its defaults.
        task: Name of the task tested on.
        adapt_on: Task adapted on; None if that is the task tested on.
        model: Base model, as given.
        budget: Budget, as given.
        seed: Seed of the method.
        subject: The task, or both tasks, as in `mbpp to humaneval`.
        evaluations: Budget in model-prompt evaluations: an estimate for a budget in FLOPs; None if it is not known.
        splits: Number of examples by split.
        evaluation_flops_estimate: FLOPs of one evaluation; None if the model's config.json is not on this machine.
        prompt_tokens: Mean length of a prompt that the estimate assumes.
        new_tokens: Mean length of an answer that the estimate assumes.
        exact: Whether prompts were counted by the model's tokenizer, and answers have a known length.
        refused: Reason for which the method refuses the run; None if it does not.
        lines: Planned phases; empty if refused.
        notes: Sentences for the user.
    """

    method: str
    settings: dict[str, Any]
    task: str
    adapt_on: str | None
    subject: str
    model: str
    budget: str
    seed: int
    evaluations: int | None
    splits: dict[str, int]
    evaluation_flops_estimate: float | None
    prompt_tokens: float
    new_tokens: float
    exact: bool
    refused: str | None = None
    lines: tuple[PlanLineOutput, ...] = ()
    notes: tuple[str, ...] = ()


class PlanOutputs(_Output):
    """Output of `bench plan`.

    Attributes:
        plans: Plan of each run of the grid.
    """

    plans: tuple[PlanOutput, ...]


class ListedName(_Output):
    """A name that options accept.

    Attributes:
        name: Name, as an option takes it.
        description: What it stands for, in a few words.
    """

    name: str
    description: str


class ListedMethod(ListedName):
    """A method with its settings and its search space, as listed by `-v`.

    Attributes:
        settings: Settings of the method, in the order of its configuration.
        space: Ranges of the settings that `--tune` may change, such as `{"lr": "3e-07 to 0.0003 (log)"}`.
    """

    settings: tuple[Setting, ...]
    space: dict[str, str]


class Listing(RootModel[dict[str, tuple[ListedMethod | ListedRun | ListedName, ...]]]):
    """Output of `bench list`, by kind: methods, tasks, models, budgets or runs."""


class ExportOutput(_Output):
    """Output of `bench export`.

    Attributes:
        folder: Folder that was created.
        changed: Whether the model differs from the base.
        run: Id of the run.
    """

    folder: str
    changed: bool
    run: str


class PushOutput(_Output):
    """Output of `bench push model`, `bench push records` and `bench push board`.

    Attributes:
        url: Page of the repository.
        commit: Its last commit.
        unchanged: Whether it already held the same files, so that no commit was made.
        runs: Ids of the runs that were pushed; for a board, the names of their pages.
        unreadable: Reason for each run that was left out.
    """

    url: str
    commit: str
    unchanged: bool
    runs: tuple[str, ...]
    unreadable: tuple[str, ...]


class PullOutput(_Output):
    """Output of `bench pull model` and `bench pull records`.

    Attributes:
        folder: Folder that was created.
        commit: Commit of the repository.
        runs: Ids of the runs whose model or records it holds.
    """

    folder: str
    commit: str
    runs: tuple[str, ...]


class ExportedTable(_Output):
    """Table that was written.

    Attributes:
        name: Name of the table.
        path: Parquet file.
        lines: Number of lines.
        bytes: Size of the file.
    """

    name: str
    path: str
    lines: int
    bytes: int


class ExportDataOutput(_Output):
    """Output of `bench export-data`.

    Attributes:
        tables: Tables that were written.
        unfinished: Run directories that were left out because the run has not finished.
        unreadable: Reason for each run that was left out because it cannot be read.
    """

    tables: tuple[ExportedTable, ...]
    unfinished: tuple[str, ...]
    unreadable: tuple[str, ...]


class PreparedTask(_Output):
    """Task whose data is on this machine.

    Attributes:
        name: Name of the task.
        version: Version of the task.
        splits: Number of examples by split.
        content_hash: SHA-256 of all examples.
    """

    name: str
    version: str
    splits: dict[str, int]
    content_hash: str


class PreparedName(_Output):
    """Model that is on this machine.

    Attributes:
        name: Name of the model.
        path: Folder of its checkpoint.
        origin: Source of the model, such as a hub id.
    """

    name: str
    path: str
    origin: str


class PrepareOutput(_Output):
    """Output of `bench prepare`.

    Attributes:
        tasks: Tasks whose data was prepared.
        models: Models that were prepared.
    """

    tasks: tuple[PreparedTask, ...]
    models: tuple[PreparedName, ...]


class ProcessorOutput(_Output):
    """Measured limits of the processor.

    Attributes:
        cores: Number of cores that this process may use.
        bfloat16: Whether bfloat16 is computed natively.
        flops: Floating-point operations per second of a matrix product, by dtype.
        bandwidth: Bytes per second read and written by a copy.
    """

    cores: int
    bfloat16: Literal["native", "emulated"]
    flops: dict[str, float]
    bandwidth: float


class SandboxOutput(_Output):
    """Strength of the sandbox.

    Attributes:
        level: Level of the sandbox.
        sufficient: Whether it may run model-written code.
        refusal: Reason if it may not.
        layers: `works`, or the reason why a layer does not, by layer.
    """

    level: str
    sufficient: bool
    refusal: str | None
    layers: dict[str, str]


class DoctorOutput(_Output):
    """Output of `bench doctor`.

    Attributes:
        python: Version of Python.
        platform: Operating system and processor architecture.
        code: Folder that bench, methods, reports and tasks are imported from.
        packages: Version of each package; None if it is not installed.
        devices: The CPU with its number of cores, and each GPU by its name.
        processor: Limits of the processor; None without torch.
        sandbox: Strength of the sandbox for model-written code.
        models: State of each model that has a name.
        tasks: State of each task's data.
    """

    python: str
    platform: str
    code: str
    packages: dict[str, str | None]
    devices: tuple[str, ...]
    processor: ProcessorOutput | None
    sandbox: SandboxOutput
    models: dict[str, str]
    tasks: dict[str, str]


class LengthOutput(_Output):
    """Cost of a model at one length of its sequences.

    Attributes:
        tokens: The length.
        decode_flops: FLOPs of the last token, after all others.
        prompt_flops: FLOPs of a prompt of this length, with the logits of its last token.
        cache_bytes: Bytes of keys, values and states of such a sequence, in the batch that serves here.
    """

    tokens: int
    decode_flops: int
    prompt_flops: int
    cache_bytes: int


class CopiesOutput(_Output):
    """Bytes of an engine's copies of the weights. See `bench.engines.memory.Copies`.

    Attributes:
        engine: The engine.
        dtype: Dtype of the weights.
        live: Weights that answer.
        base: Weights that every move starts from.
        packed: Linear layers as the kernels of a CPU read them.
        centre: Float32 copy, which only methods with a centre need.
    """

    engine: str
    dtype: str
    live: int
    base: int
    packed: int
    centre: int


class ModelOutput(_Output):
    """Output of `bench doctor -M MODEL`. What is not known is None.

    Attributes:
        model: Name of the model.
        folder: Its checkpoint; None if it is not on this machine.
        device: Torch device.
        dtype: Dtype that a run computes in.
        family: Model type of transformers.
        model_class: Class of transformers.
        left_out: For a multimodal model, which parts of it take no part.
        layers: Number of decoder layers by what mixes tokens in them.
        experts: Number of decoder layers by their experts, such as `2 of 8`.
        parameters: Number of parameters.
        active_parameters: The same without experts that a token is not sent to.
        positions: Maximum length of a sequence.
        lengths: Costs at 1,024 and 32,768 tokens, or at as many as the model takes.
        weights: Memory of the weights, by engine and dtype.
        free: Bytes of memory that are free on the device.
        engines: How each engine serves the model, or why it does not.
        chat_template: Whether prompts can be conversations.
        thinking: Whether the chat template delimits thoughts.
        unchecked: What was not checked.
        refused: Reasons why the model cannot run here; empty if it can.
    """

    model: str
    folder: str | None
    device: str
    dtype: str | None = None
    family: str | None = None
    model_class: str | None = None
    left_out: str | None = None
    layers: dict[str, int] | None = None
    experts: dict[str, int] | None = None
    parameters: int | None = None
    active_parameters: int | None = None
    positions: int | None = None
    lengths: tuple[LengthOutput, ...] = ()
    weights: tuple[CopiesOutput, ...] = ()
    free: int | None = None
    engines: dict[str, str] = {}
    chat_template: bool | None = None
    thinking: bool | None = None
    unchecked: str | None = None
    refused: tuple[str, ...] = ()


class LedgerOutput(RootModel[dict[Account, AccountRow]]):
    """Output of `bench analyze ledger`, by account."""


class ReportOutput(_Output):
    """Output of `bench report`: the pages that were written, and the runs that were left out.

    Attributes:
        index: Page of the leaderboard.
        pages: Page of each run.
        unfinished: Run directories that were left out because the run has not finished.
        unreadable: Reason for each run that cannot be read.
    """

    index: str
    pages: tuple[str, ...]
    unfinished: tuple[str, ...]
    unreadable: tuple[str, ...]


class PublishOutput(_Output):
    """Output of `bench publish`.

    Attributes:
        records: Record files that were written.
        pages: Pages that were written.
        unreadable: Reason for each run that was left out.
        unchecked: Reason why a run could not be compared with its task's data, its method or its model, by its id.
    """

    records: tuple[str, ...]
    pages: tuple[str, ...]
    unreadable: tuple[str, ...]
    unchecked: dict[str, str]


class ScoredAnswer(_Output):
    """Score of one answer.

    Attributes:
        task_id: Id of the example that was answered.
        correct: Whether the answer is correct; None if it could not be judged.
        reward: Shaped reward; None if it could not be judged.
        status: Status from the scorer, such as `ok` or `timeout`.
        detail: Explanation from the scorer, in one line; empty if there is none.
    """

    task_id: str
    correct: bool | None
    reward: float | None
    status: str
    detail: str


class ScoreSummary(Accuracy):
    """Accuracy over the answers.

    Attributes:
        examples: Number of examples that have an answer.
        of: Number of examples of the task.
        sandbox: Level of the sandbox; None if the task runs no model-written code.
    """

    examples: int
    of: int
    sandbox: str | None


class ScoreOutput(_Output):
    """Output of `bench score`.

    Attributes:
        task: Name of the task.
        summary: Accuracy over all answers.
        answers: Score of each answer, in the order of the file.
    """

    task: str
    summary: ScoreSummary
    answers: tuple[ScoredAnswer, ...]


class JudgedProgram(_Output):
    """One line of the output of `bench sandbox run`.

    Attributes:
        name: Name of the program in reports.
        status: How the program ended, such as `passed` or `timeout`.
        passed: Whether it passed its test.
        detail: Explanation of the status; empty if there is none.
        seconds: Wall-clock time.
        level: Level of the sandbox.
    """

    name: str
    status: str
    passed: bool
    seconds: float
    detail: str
    level: str


class TrackedOutput(_Output):
    """One run in one tracker.

    Attributes:
        run: Run directory.
        tracker: Name of the tracker.
        where: Where to find the run: an address, a path or a command; None if the tracker failed.
        error: Why the tracker failed; None if it did not.
    """

    run: str
    tracker: str
    where: str | None = None
    error: str | None = None


class TrackedOutputs(_Output):
    """Output of `bench track`.

    Attributes:
        tracked: One entry for each run and tracker, in the order of the command line.
    """

    tracked: tuple[TrackedOutput, ...]


def output_types() -> dict[str, Any]:
    """Return the type of each command's output, by the command's name."""
    from bench.conformance.method.report import MethodReport
    from bench.conformance.report import TaskReport
    from bench.records.pricing import Repricing
    from reports.analysis.results import Density, GatePowers, Geometry, SplitHalf
    from reports.audit import Audits
    from reports.comparison.compare import RunComparison
    from reports.leaderboard.text import BoardOutput

    return {
        "demo": RunOutputs,
        "run": RunOutputs,
        "resume": RunOutputs,
        "test": RunOutputs,
        "status": StatusOutput,
        "plan": PlanOutputs,
        "list": Listing,
        "show": Result | RecordWithSamples | Repricing,
        "compare": RunComparison,
        "analyze split-half": SplitHalf,
        "analyze density": tuple[Density, ...],
        "analyze gate": GatePowers,
        "analyze geometry": Geometry,
        "analyze ledger": LedgerOutput,
        "leaderboard": BoardOutput,
        "publish": PublishOutput,
        "audit": Audits,
        "report": ReportOutput,
        "track": TrackedOutputs,
        "export": ExportOutput,
        "push model": PushOutput,
        "push records": PushOutput,
        "push board": PushOutput,
        "pull model": PullOutput,
        "pull records": PullOutput,
        "export-data": ExportDataOutput,
        "prepare": PrepareOutput,
        "doctor": DoctorOutput | ModelOutput,
        "score": ScoreOutput,
        "sandbox run": JudgedProgram,
        "check": TaskReport | MethodReport,
    }
