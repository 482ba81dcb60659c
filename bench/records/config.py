"""Configuration of a run: one schema for records, command-line options, TOML keys and docs/options.md."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError, field_validator

from bench.compute.budget import BUDGETS
from bench.errors import UsageError, usage_error
from bench.settings import Option, setting

LOCATION_KEYS = {
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
"""Keys of an accelerate configuration that say where processes run. They cannot change an outcome."""


class RunConfig(BaseModel):
    """Configuration of one run, fully resolved. Running it again repeats the run.

    A field with an `Option` is an option of `bench run`, a key of its TOML files and a row of docs/options.md.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Annotated[str, Option("-m", several=True)] = setting(
        "corp", "Method: a name from `bench list methods`, or package.module:Class.", source="our choice"
    )
    method_config: dict[str, Any] = Field(
        default_factory=dict, description="Settings of the method, with defaults filled in."
    )
    task: Annotated[str, Option("-t", several=True)] = setting(
        ..., "Task: a name from `bench list tasks`, or package.module:Class."
    )
    data: Annotated[str | None, Option(file=True)] = setting(
        None, "File with the task's rows. Default: the task's own source."
    )
    fields: Annotated[str | None, Option(metavar="FIELD=NAME,...")] = setting(
        None,
        "Names of fields in --data where they differ from the task's: `problem=question,answer=final_answer` reads the "
        "task's problem from the field `question`.",
    )
    adapt_on: Annotated[str | None, Option(metavar="TASK")] = setting(
        None,
        "Task to adapt on instead of --task, of which all examples are then test examples. Examples that nearly equal "
        "one of these are left out.",
    )
    adapt_data: Annotated[str | None, Option(file=True)] = setting(
        None, "File with the rows of --adapt-on. Default: that task's own source."
    )
    adapt_fields: Annotated[str | None, Option(metavar="FIELD=NAME,...")] = setting(
        None, "Names of fields in --adapt-data, as --fields gives those in --data."
    )
    model: Annotated[str, Option("-M", several=True)] = setting(
        ..., "Model: a name from `bench list models`, a checkpoint folder, a GGUF file or a hub id."
    )
    budget: Annotated[str, Option("-b", several=True)] = setting(
        "quick",
        f"Adaptation budget: {', '.join(f'{name} ({size:,})' for name, size in BUDGETS.items())}, or a number.",
        unit="model-prompt evaluations",
        source="our choice; `paper` is RandOpt's (arXiv 2603.12228)",
    )
    tune: Annotated[NonNegativeInt, Option(metavar="K")] = setting(
        0,
        "Number of trials that choose the method's settings within the budget: the published ones, and others from its "
        "search space. 0: the published ones, or those given.",
        source="our choice",
    )
    seed: Annotated[NonNegativeInt, Option("-s", several=True)] = setting(
        0, "Seed of the method, from which all its randomness derives.", source="our choice"
    )
    limit: Annotated[PositiveInt | None, Option("-L")] = setting(
        None, "Number of test examples, taken from the start of the split. Default: all.", unit="examples"
    )
    max_new_tokens: Annotated[PositiveInt | None, Option()] = setting(
        None, "Maximum length of an answer. Default: the task's limit.", unit="tokens"
    )
    prompt: Annotated[Literal["auto", "chat", "completion"], Option()] = setting(
        "auto",
        "Prompt style; auto: chat if the tokenizer has a chat template, else completion.",
        source="our choice",
    )
    engine: Annotated[Literal["transformers", "vllm"], Option()] = setting(
        "transformers",
        "Inference backend; vllm must be installed in a separate environment.",
        source="our choice",
    )
    dtype: Annotated[Literal["auto", "float32", "bfloat16", "float16"], Option()] = setting(
        "auto",
        "Precision of the weights, for every method; auto: float32 on a CPU, where training computes in it, and the "
        "checkpoint's own on a GPU.",
        source="our choice (docs/engines.md)",
    )
    device: Annotated[str, Option()] = setting(
        "auto", "Torch device, such as cpu or cuda:1; auto: a GPU if there is one.", source="our choice"
    )
    batch_size: Annotated[PositiveInt | None, Option()] = setting(
        None, "Number of prompts to decode together. Default: chosen by the engine.", unit="prompts"
    )
    allow_unsandboxed: Annotated[bool, Option()] = setting(
        False, "Run model-written code even if the sandbox is weaker than required.", source="our choice"
    )
    strategy: Annotated[
        str,
        Field(pattern=r"^(greedy|(pass|maj|bon)@[1-9][0-9]{0,3})$"),
        Option(metavar="greedy|maj@K|bon@K|pass@K"),
    ] = setting(
        "greedy",
        "Test-time strategy: greedy decoding; majority vote over K samples (maj); best of K samples by the task's "
        "signal (bon); greedy plus the probability that one of K samples is right (pass).",
        source="our choice",
    )
    gate: Annotated[Literal["off", "harness"], Option()] = setting(
        "harness",
        "Gate on the results; harness: a part of the budget tests each result on held-out items, and the record has it "
        "as trained and gated, which is the result if it passed and the base if not.",
        source="our choice (docs/gate.md)",
    )
    launch: dict[str, Any] | None = Field(
        default=None,
        description="Accelerate configuration of the training processes; None to train in the run's own process.",
    )

    @field_validator("tune")
    @classmethod
    def _several_trials(cls, tune: int) -> int:
        if tune == 1:
            raise ValueError("one trial is the published setting, with nothing to choose; expected 0, or 2 or more")
        return tune

    @property
    def task_label(self) -> str:
        """Task label: the task's name, or both names, as in `mbpp to humaneval`."""
        return self.task if self.adapt_on is None else f"{self.adapt_on} to {self.task}"

    @property
    def processes(self) -> int:
        """Number of training processes."""
        return 1 if self.launch is None else int(self.launch["num_processes"])

    @property
    def launched(self) -> dict[str, Any]:
        """Entries of `launch` that can change an outcome. Locations and addresses of processes are left out."""
        return {key: value for key, value in (self.launch or {}).items() if key not in LOCATION_KEYS}


def read_config(folder: Path) -> RunConfig:
    """Read the configuration of a finished or unfinished run.

    Raises:
        UsageError: If the folder is not a run directory, or its configuration is invalid.
    """
    path = folder / "config.json"
    if not path.exists():
        raise UsageError(f"{folder}: not a run directory (it has no config.json)")
    try:
        return RunConfig.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise usage_error(str(path), error, RunConfig) from error
