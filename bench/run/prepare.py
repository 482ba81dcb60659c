"""Preparation of a run: resolve its configuration and download data and model, without loading the model."""

from __future__ import annotations

import importlib.util
import shlex
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.amounts import counted
from bench.compute.budget import Budget, parse_budget
from bench.compute.flops import FLOPS_VERSION
from bench.engines.vllm.support import require
from bench.errors import BenchError, Refused, UsageError, usage_error
from bench.models.endpoint import source_of
from bench.models.headers import differing_dtypes, stored_dtype
from bench.models.source import ModelSource, PreparedModel, resolve
from bench.records.config import RunConfig
from bench.records.schema import Result, Versions, read_result
from bench.registry import load_method
from bench.run.data import TaskData, load_task_data
from bench.run.endpoint import check_options, is_served, refused_method, require_client
from bench.run.plan import RunPlan, plan_run
from bench.run.progress import ProgressDisplay
from bench.run.prompting import SHOTS_VERSION
from bench.run.reading import reading_versions
from bench.run.run_id import run_folder, run_id
from bench.run.sampling import unsupported_reason
from bench.run.thinking import check_thinking
from bench.run.tuning import ruleset
from bench.strategy import Strategy, run_strategy
from bench.weights.noise import NOISE_VERSION, PLAIN, Noise
from methods.interface import Method, MethodConfig
from tasks.interface import Task, TaskTraits


@dataclass(frozen=True, kw_only=True)
class Prepared(ABC):
    """Run or test that is ready to start. Everything that its id depends on is known; the model is not loaded yet.

    Attributes:
        config: Resolved configuration; `method_config` includes all defaults.
        task_data: Tasks and their data.
        source: Source of the model.
        model: Checkpoint on this machine.
        versions: Versions of all harness components that can change a number.
        strategy: Test-time strategy; None for greedy answers.
        id: Run id.
        folder: Run directory.
        refusal: Reason why the task, the method or the strategy refuses the run; None if it can start.
        models: Checkpoints of the further models that the method runs, by the name that it gives them.
    """

    config: RunConfig
    task_data: TaskData
    source: ModelSource
    model: PreparedModel
    versions: Versions
    strategy: Strategy | None
    id: str
    folder: Path
    refusal: str | None = None
    models: Mapping[str, PreparedModel] = field(default_factory=dict)

    @property
    @abstractmethod
    def ruleset(self) -> str:
        """Rules that the run is made by: see `bench.records.tuning.Ruleset`."""

    @property
    @abstractmethod
    def drafts(self) -> int:
        """Maximum number of earlier answers that a question shows: see `methods.interface.Method`."""

    @property
    @abstractmethod
    def noise(self) -> Noise | None:
        """Noise that the seeds of the method's points stand for: see `methods.interface.MethodConfig`."""


@dataclass(frozen=True, kw_only=True)
class PreparedRun(Prepared):
    """Run that is ready to start: see `Prepared`.

    Attributes:
        method: Configured method.
        budget: Budget, in the unit that it was given in.
    """

    method: Method
    budget: Budget

    def plan(self, evaluations: int) -> RunPlan:
        """Return the plan of the run: gate, trials, and the method's own.

        Args:
            evaluations: Budget in model-prompt evaluations.

        Raises:
            Refused: If the method refuses its part of the budget, or the budget cannot pay for the trials.
        """
        return plan_run(self.method, self.config, evaluations, self.task_data.traits)

    @property
    def ruleset(self) -> str:
        """Rules that the run is made by: see `bench.records.tuning.Ruleset`."""
        return ruleset(self.config.tune, self.method)

    @property
    def drafts(self) -> int:
        """Maximum number of earlier answers that a question shows: see `methods.interface.Method`."""
        return self.method.drafts

    @property
    def noise(self) -> Noise | None:
        """Noise that the seeds of the method's points stand for: see `methods.interface.MethodConfig`."""
        return self.method.config.drawn


def prepare(
    config: RunConfig, output: Path, display: ProgressDisplay, settings: MethodConfig | None = None
) -> PreparedRun:
    """Validate a configuration, and download its data and model. The reason for a refusal is noted, for the record.

    Args:
        config: Configuration of the run.
        output: Folder for run directories.
        display: Progress display.
        settings: Validated settings of the method; None to validate `config.method_config`.

    Raises:
        Refused: If a library is missing, or if the run is refused and its model is not on this machine.
        UsageError: If the model's folder does not hold a complete causal language model with its tokenizer, or its
            chat template does not take the run's options on thoughts.
        BenchError: If the configuration is invalid or a download fails. Nothing is written to `output` in that case.
    """
    check_options(config)
    budget = parse_budget(config.budget)
    method_class = load_method(config.method)
    if settings is None:
        try:
            settings = method_class.Config.model_validate(config.method_config)
        except ValidationError as error:
            raise usage_error(f"settings of {config.method}", error) from error
    method = method_class(settings)
    method.check_files()
    if config.launch is not None and ":" in config.device:
        raise UsageError(
            f"--device {config.device}: each launched process takes its own device; give the type only, such as cuda"
        )
    if config.launch is not None and config.engine != "transformers":
        raise UsageError(
            f"--engine {config.engine}: --launch needs --engine transformers, because the weights of several processes "
            "are not handed over to one engine; leave out --launch"
        )
    task_data = load_task_data(config)
    task, splits = task_data.task, task_data.splits
    for note in task_data.notes:
        display.note(note)
    if config.limit is not None and config.limit > len(splits.test):
        raise UsageError(
            f"--limit {config.limit}: the test split of {config.task} has {counted(len(splits.test), 'example')}; "
            "give no more than these, or leave out --limit"
        )
    strategy = run_strategy(config.strategy)
    refusal = refused_because(config, method, task_data.traits, budget)
    source, further = source_of(config), further_models(method)
    if refusal is not None and any(each.config() is None for each in (source, *further.values())):
        raise Refused(refusal)  # the record needs the models' fingerprints, which are no reason to download one
    require_libraries(config.engine if refusal is None else "transformers")  # a refused run starts no engine
    if lacking := missing_libraries(method):
        raise Refused(lacking)  # without a record: a run says nothing about a machine that cannot do it
    model = source.prepare(display.bytes)
    models = {}
    for name, each in further.items():
        with _naming_setting(method, name):
            models[name] = each.prepare(display.bytes)
    checkpoint = Path(model.path)
    resolved: dict[str, Any] = {"method_config": settings.model_dump(mode="json")}
    if not is_served(config):
        device = resolved_device(config.device)
        dtype = resolved_dtype(config.dtype, device, checkpoint)
        if differing := differing_dtypes(checkpoint):
            display.note(f"{differing}; this run computes in {dtype}")
        resolved |= {"device": device, "dtype": dtype}
    config = config.model_copy(update=resolved)
    versions = Versions(
        method=method.version,
        task=task.version,
        adapt_on=None if task_data.adapted_on is task else task_data.adapted_on.version,
        noise=NOISE_VERSION,
        flops=FLOPS_VERSION,
        shots=SHOTS_VERSION if config.shots else None,
        **({} if is_served(config) else reading_versions(config, task_data, checkpoint)),
        models={name: each.provenance.sha256 for name, each in models.items()} or None,
    )
    identity = run_id(config, versions, splits.content_hash, model.provenance.sha256, budget.identity)
    prepared = PreparedRun(
        config=config,
        method=method,
        task_data=task_data,
        source=source,
        model=model,
        versions=versions,
        budget=budget,
        strategy=strategy,
        id=identity,
        folder=run_folder(output, config, source.slug, identity),
        refusal=refusal,
        models=models,
    )
    # A complete run is only shown, and opening a model takes a second.
    if finished(prepared) is None and not is_served(config):
        from bench.models.multimodal import what_is_left_out
        from bench.models.opening import check_opens, open_config

        check_opens(checkpoint, model.provenance.sha256, config.prompt)
        check_moves(settings, checkpoint)
        for name, found in models.items():
            with _naming_setting(method, name):  # it reads token ids, not conversations
                check_opens(Path(found.path), found.provenance.sha256, "completion")
        check_thinking(config, task_data, checkpoint)
        if left_out := what_is_left_out(open_config(checkpoint)):
            display.note(left_out)
    return prepared


def check_moves(settings: MethodConfig, checkpoint: Path) -> None:
    """Raise before a run what a move by a method's noise would raise.

    Args:
        settings: Settings of the method.
        checkpoint: Folder of the model.

    Raises:
        Refused: If the noise moves no tensor of the model.
    """
    if settings.drawn is None or settings.drawn == PLAIN:
        return
    from bench.weights.sketch import layout_of_checkpoint

    layout_of_checkpoint(str(checkpoint)).scales(settings.drawn)


def further_models(method: Method) -> dict[str, ModelSource]:
    """Return the sources of the further models that a method runs, by name, without downloading anything.

    Raises:
        UsageError: If there is no such model. Names the setting.
    """
    found = {}
    for name in method.models:
        with _naming_setting(method, name):
            found[name] = resolve(name)
    return found


@contextmanager
def _naming_setting(method: Method, name: str) -> Iterator[None]:
    """Let an error about a further model name the method's setting, such as `kdrl.teacher`, in place of `--model`."""
    try:
        yield
    except BenchError as error:
        fields = [field for field, value in method.config if value == name]
        setting = f"{method.name}.{fields[0]}" if fields else f"a model of method {method.name}"
        text = str(error)
        given = text.removeprefix("--model ")
        text = f"{setting}={given}" if given != text else f"{setting}={name}: {text}"
        error.args = (text.replace("--model", setting),)  # a remedy may name the option, too
        raise


def refused_because(config: RunConfig, method: Method, traits: TaskTraits, budget: Budget) -> str | None:
    """Return the reason why a run cannot be done as configured, or None if it can.

    Args:
        config: Configuration of the run.
        method: Its method.
        traits: Properties of its task.
        budget: Its budget. Whether the method can use one in FLOPs or time is known only once the run has measured the
            cost of an evaluation.
    """
    if reason := refused_method(config, method, budget):
        return reason
    if reason := method.refused_engine(config.engine):
        return f"--engine {config.engine}: method {config.method} {reason}"
    strategy = run_strategy(config.strategy)
    if reason := method.supports(traits):
        return f"method {config.method} cannot run on {config.task_label}: {reason}"
    if strategy and (reason := unsupported_reason(strategy, traits)):
        return f"--strategy {config.strategy} cannot be used on {config.task_label}: {reason}"
    if config.tune and config.launch is not None:
        return (
            f"--tune {config.tune} trains in each of its trials, and --launch has processes for the training of the "
            "run alone; tune in one process, then launch a run with the settings that it chose"
        )
    if config.sharded and method.trains and not vars(type(method)).get("shards", False):
        return (
            f"--launch-config: distributed_type is 'FSDP', and method {config.method} was never tested on a model that "
            "is divided among processes; use MULTI_GPU, where every process holds the whole model"
        )
    try:
        method.spread(config.processes)
        if budget.unit == "evaluations":
            plan_run(method, config, budget.amount, traits)
    except Refused as error:
        return str(error)
    return None


COMPLETE = ("ok", "over_budget", "diverged")
"""Statuses of a run that is not run again. One that failed or was refused is."""


def finished(prepared: Prepared) -> Result | None:
    """Return the result of a complete run, or None. A failed or refused run is not complete and can be run again."""
    if not (prepared.folder / "result.json").exists():
        return None
    result = read_result(prepared.folder)
    return result if result.status in COMPLETE else None


def require_libraries(engine: str) -> None:
    """Check that the libraries of a backend are installed.

    Raises:
        Refused: If one is missing.
    """
    for name in ("torch", "transformers"):
        if not _importable(name):
            raise Refused(f"running a model needs {name}: pip install -c requirements/cpu.txt '.[local]'")
    if engine == "vllm":
        require()
    if engine == "endpoint":
        require_client()


def missing_libraries(method: Method) -> str | None:
    """Return what a configured method needs that is not installed, and how to install it; None if nothing is missing.

    Example: `sft needs trl and datasets: pip install -c requirements/cpu.txt '.[train]'`.
    """
    missing = [name for name in method.libraries if not _importable(name)]
    if not missing:
        return None
    *others, last = missing
    listed = f"{', '.join(others)} and {last}" if others else last
    return f"{method.name} needs {listed}: {method.install or 'pip install ' + ' '.join(missing)}"


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False


def resolved_device(name: str) -> str:
    """Return the torch device of a name; `auto` is a GPU if there is one.

    Raises:
        UsageError: If there is no such device.
    """
    import torch

    if name != "auto":
        try:
            torch.empty(0, device=name)
        except (RuntimeError, AssertionError) as error:
            reason = f"this torch has no such device ({str(error).splitlines()[0]})" if _is_device(name) else "unknown"
            raise UsageError(
                f"--device {shlex.quote(name)}: {reason}; expected auto, cpu, cuda, cuda:1 or another device that "
                "`bench doctor` names"
            ) from error
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def _is_device(name: str) -> bool:
    """Return whether a text has the form of a torch device, such as `cuda:1`."""
    import torch

    try:
        torch.device(name)
    except RuntimeError:
        return False
    return True


def resolved_dtype(name: str, device: str, checkpoint: Path) -> str:
    """Return the dtype of the weights; `auto` is the one that gradient training computes in, for every method.

    That is the checkpoint's own on a GPU that computes in bfloat16, as training rounds the weights in each pass there,
    and float32 elsewhere. A model is then tested as it was trained, and all methods on one device can be compared.

    Raises:
        UsageError: If the dtype of the checkpoint is needed and unknown.
    """
    if name != "auto":
        return name
    if not device.startswith("cuda"):
        return "float32"
    import torch

    stored = stored_dtype(checkpoint)
    native = stored == "float16" or torch.cuda.is_bf16_supported(including_emulation=False)
    return stored if native else "float32"


STRICT = {"allow_unsandboxed": False}
"""A record is somebody else's: what its run allowed is not allowed here."""


def admit(task: Task, *, allow_unsandboxed: bool) -> str | None:
    """Check that the sandbox is strong enough for a task.

    Returns:
        Level of the sandbox; None if the task runs no model-written code.

    Raises:
        Refused: If the sandbox is weaker than required and `allow_unsandboxed` is false.
    """
    if not task.executes_code:
        return None
    from bench.sandbox import probe

    strength = probe()
    strength.require(allow_unsandboxed=allow_unsandboxed)
    task.allow_unsandboxed = allow_unsandboxed
    return strength.level
