"""Configuration of a run: one schema for records, command-line options, TOML keys and docs/options.md."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from bench.amounts import counted
from bench.compute.budget import BUDGETS, FORMS
from bench.errors import UsageError, usage_error
from bench.records.files import read
from bench.records.paths import without_paths
from bench.records.source import NOT_VERIFIED, RunSource, Source
from bench.settings import Option, form, setting
from bench.strategy import STRATEGIES

RewardKind = Literal["true", "random", "inverted"]
"""Reward that a method sees while it adapts; see `bench.run.reward`."""
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
        ...,
        "Model: a name from `bench list models`, a checkpoint folder, a GGUF file or a hub id; with --engine "
        "endpoint, the model's name at the server.",
    )
    budget: Annotated[str, Option("-b", several=True)] = setting(
        "quick",
        f"Adaptation budget: {', '.join(f'{name} ({size:,})' for name, size in BUDGETS.items())}, or {FORMS}.",
        unit="model-prompt evaluations, FLOPs or device time",
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
    template: Annotated[str, Field(min_length=1), Option(metavar="NAME")] = setting(
        "default",
        "Prompt of the task that all questions are asked with, of the base and of every method, such as `swapped` for "
        "addition.",
        source="our choice (docs/controls.md)",
    )
    shots: Annotated[NonNegativeInt, Option(metavar="N")] = setting(
        0,
        "Number of worked examples of the support split before each question.",
        unit="examples",
        source="our choice (docs/controls.md)",
    )
    shots_seed: Annotated[NonNegativeInt, Option(metavar="S")] = setting(
        0, "Seed that draws the worked examples, the same ones for every run.", source="our choice"
    )
    system: Annotated[Annotated[str, Field(min_length=1)] | None, Option(content=True, metavar="FILE")] = setting(
        None, "File with a system message for all questions. The record has its text."
    )
    think: Annotated[Literal["auto", "on", "off"], Option()] = setting(
        "auto",
        "Whether chat prompts ask for a thought before the answer; auto: as the model's chat template does by default.",
        source="our choice (docs/thinking.md)",
    )
    max_think_tokens: Annotated[PositiveInt | None, Option(metavar="N")] = setting(
        None,
        "Number of tokens after which a thought is ended, so that an answer follows within --max-new-tokens. Default: "
        "no limit.",
        unit="tokens",
    )
    engine: Annotated[Literal["transformers", "vllm", "endpoint"], Option()] = setting(
        "transformers",
        "Inference backend; vllm must be installed in a separate environment; endpoint: a server with the OpenAI "
        "interface, for methods that move no weights.",
        source="our choice",
    )
    endpoint: Annotated[str | None, Option(metavar="URL")] = setting(
        None,
        "Base URL of the server for --engine endpoint, such as http://127.0.0.1:8000/v1. The key is read from the "
        "environment variable OPENAI_API_KEY and is not recorded.",
    )
    declared_shape: Annotated[str | None, Option(content=True, metavar="FILE")] = setting(
        None,
        "File config.json of the model that the server of --endpoint runs, as transformers writes it. FLOPs follow "
        "from it. The record has its text.",
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
        form(r"^(greedy|(maj|bon)@[1-9][0-9]{0,3}|pass@[1-9][0-9]{0,3}(,[1-9][0-9]{0,3})*)$", STRATEGIES),
        Option(metavar="greedy|maj@K|bon@K|pass@K[,K...]"),
    ] = setting(
        "greedy",
        "Test-time strategy: greedy decoding; majority vote over K samples (maj); best of K samples by the task's "
        "signal (bon); greedy plus the probability that one of K samples is right (pass), for several ascending K from "
        "the same samples.",
        source="our choice",
    )
    gate: Annotated[Literal["off", "harness"], Option()] = setting(
        "harness",
        "Gate on the results; harness: a part of the budget tests each result on held-out items, and the record has it "
        "as trained and gated, which is the result if it passed and the base if not.",
        source="our choice (docs/gate.md)",
    )
    reward: Annotated[RewardKind, Option()] = setting(
        "true",
        "Reward that a method sees while it adapts, as a control; random: a coin flip for each answer; inverted: 1 "
        "minus the task's own. Gate and test keep the task's own.",
        source="our choice (docs/controls.md)",
    )
    launch: dict[str, Any] | None = Field(
        default=None,
        description="Accelerate configuration of the training processes; None to train in the run's own process.",
    )
    source: Source | None = Field(
        default=None,
        description="For a test by `bench test`, the source of the model in place of an adaptation; None for a run.",
    )

    @field_validator("tune")
    @classmethod
    def _several_trials(cls, tune: int) -> int:
        if tune == 1:
            raise ValueError("one trial is the published setting, with nothing to choose; expected 0, or 2 or more")
        return tune

    @field_validator("endpoint")
    @classmethod
    def _base_url(cls, url: str | None, info: ValidationInfo) -> str | None:
        if url is not None and info.data.get("engine") != "endpoint":
            raise ValueError("belongs to --engine endpoint; expected no value, or engine endpoint")
        return url and checked_url(url)

    @field_validator("shots_seed")
    @classmethod
    def _shots_to_draw(cls, seed: int, info: ValidationInfo) -> int:
        if seed and not info.data.get("shots"):
            raise ValueError("there are no worked examples to draw; expected 0, or shots of 1 or more")
        return seed

    @property
    def controls(self) -> tuple[str, ...]:
        """Options that change what is asked and rewarded, in words: `("reward random", "prompt swapped", "5 shots")`.

        Runs under different ones answer different questions, so they are never compared.
        """
        return (*((f"reward {self.reward}",) if self.reward != "true" else ()), *self.prompting)

    @property
    def prompting(self) -> tuple[str, ...]:
        """Options that change what is asked, in words."""
        found = {
            f"prompt {self.template}": self.template != "default",
            f"{counted(self.shots, 'shot')}": self.shots,
            f"shots seed {self.shots_seed}": self.shots_seed,
            f"system message {hashlib.sha256((self.system or '').encode()).hexdigest()[:8]}": self.system,
            f"thinking {self.think}": self.think != "auto",
            f"thoughts of at most {self.max_think_tokens} tokens": self.max_think_tokens,
        }
        return tuple(text for text, present in found.items() if present)

    @property
    def task_label(self) -> str:
        """Task label: the task's name, or both names, as in `mbpp to humaneval`."""
        return self.task if self.adapted_on in (None, self.task) else f"{self.adapted_on} to {self.task}"

    @property
    def model_label(self) -> str:
        """Name of the model for titles. That of a server's model has a mark, and is the last part of a path."""
        return f"{without_paths(self.model)} {NOT_VERIFIED}" if self.engine == "endpoint" else self.model

    @property
    def adapted_on(self) -> str | None:
        """Task adapted on; None if it is not known, because the model was trained elsewhere."""
        if self.source is None:
            return self.adapt_on or self.task
        return self.source.task if isinstance(self.source, RunSource) else None

    @property
    def processes(self) -> int:
        """Number of training processes."""
        return 1 if self.launch is None else int(self.launch["num_processes"])

    @property
    def sharded(self) -> bool:
        """Whether each training process holds a part of the model only."""
        return self.launch is not None and self.launch.get("distributed_type") == "FSDP"

    @property
    def launched(self) -> dict[str, Any]:
        """Entries of `launch` that can change an outcome. Locations and addresses of processes are left out."""
        return {key: value for key, value in (self.launch or {}).items() if key not in LOCATION_KEYS}


def checked_url(url: str) -> str:
    """Return a base URL without a slash at its end.

    Raises:
        ValueError: If it is not one, or holds a name, a password or a query, which the record would show.
    """
    expected = "expected a base URL such as http://127.0.0.1:8000/v1"
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(expected)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"{expected} without name, password or query; give a key by OPENAI_API_KEY")
    return url.rstrip("/")


def read_config(folder: Path) -> RunConfig:
    """Read the configuration of a finished or unfinished run.

    Raises:
        UsageError: If the folder is not a run directory, or its configuration is invalid.
    """
    path = folder / "config.json"
    if not path.exists():
        raise UsageError(f"{folder}: not a run directory (it has no config.json){_run_in(folder)}")
    try:
        return RunConfig.model_validate_json(read(path))
    except ValidationError as error:
        raise UsageError(f"{usage_error(str(path), error, RunConfig)}; restore it, or start a new run") from error


def _run_in(folder: Path) -> str:
    """Name a run in the folders below a folder, which the user may have meant; empty if there is none."""
    for depth in range(5):  # task, model, method and budget are between --output and its runs
        for found in sorted(folder.glob("*/" * depth + "seed-*/config.json"))[:1]:
            return f"; did you mean {found.parent}?"
    return ""
