"""What stands between a method and the harness in an exam: it counts, springs on what may not be seen, and can kill.

The method, the context, the engine and its meter are wrapped. What the wrappers see is kept apart from the run's own
ledger, so that the two can be compared.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn

from bench.compute.flops import ModelShape
from bench.compute.ledger import Work
from bench.compute.meter import Meter
from bench.engines.interface import Completion, Engine, Sampling, TokenIds
from bench.errors import BenchError
from bench.run.data import TaskData, format_prompt
from bench.weights.checkpoint import open_checkpoint
from bench.weights.points import Point
from methods.interface import AdaptationSplit, Artifact, Context, Evaluation, Method
from tasks.interface import Example


class TestSplitAccess(BenchError):
    """A method reached for what it may not see; raised at the place where it did."""


@dataclass
class Instrument:
    """What was seen of one run.

    Attributes:
        kill_at: Step of computation at which this process is killed; None for never.
        adapting: Whether the method is at work.
        peeked: What it reached for and may not see.
        drew: Whether anything random was computed: noise, samples, or a trained copy.
        steps: Steps of computation so far: of decoding and of training.
        adapted: Steps when the method began, and when it was done.
        work: What the engine computed for the method.
        run, real: Tokens that went through trainable copies, with and without padding.
        embedded: Tokens that went through any model of this process while the method was at work.
        weights: Digests of the base before and after.
        artifacts: What the method returned, by label.
        shape: Of the model.
    """

    kill_at: int | None = None
    adapting: bool = False
    peeked: list[str] = field(default_factory=list)
    drew: bool = False
    steps: int = 0
    adapted: tuple[int, int] = (0, 0)
    work: Work = field(default_factory=Work)
    run: int = 0
    real: int = 0
    embedded: int = 0
    weights: tuple[str, str] | None = None
    artifacts: Mapping[str, Artifact] = field(default_factory=dict)
    shape: ModelShape | None = None
    _tested: frozenset[str] = frozenset()

    def guard(self, task_data: TaskData) -> None:
        """Spring on the test examples of these data."""
        self._tested = frozenset(example.id for example in task_data.splits.test)

    def loaded(self) -> None:
        """The task's data were loaded."""
        if self.adapting:
            self.spring("loaded the task's data, the test split among them")

    def read(self, example: Example) -> None:
        """An example was posed or judged."""
        if self.adapting and example.id in self._tested:
            self.spring(f"posed or judged the test example {example.id}")

    def spring(self, what: str) -> None:
        """Note down what the method may not do, and stop it.

        Raises:
            Peeked: Always.
        """
        self.peeked.append(what)
        raise TestSplitAccess(f"while it adapted, the method {what}")

    def stepped(self) -> None:
        """A step is about to be computed."""
        self.steps += 1
        if self.steps == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def adaptation(self, engine: Engine) -> Iterator[None]:
        """Watch a block in which the method is at work."""
        before, began = _weights(engine), self.steps
        self.adapting = True
        hook = nn.modules.module.register_module_forward_pre_hook(self._embed)
        try:
            yield
        finally:
            self.adapting = False
            hook.remove()
            self.adapted = began, self.steps
        self.weights = before, _weights(engine)

    def _embed(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if isinstance(module, nn.Embedding):
            self.embedded += args[0].numel()


class InstrumentedMethod:
    """A method that is watched while it adapts.

    Args:
        method: It.
        instrument: Told what it does.
    """

    def __init__(self, method: Method, instrument: Instrument) -> None:
        self._method, self._instrument = method, instrument
        self.engine: Engine | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._method, name)

    def adapt(self, context: Context) -> Artifact | Mapping[str, Artifact]:
        """Let it adapt."""
        assert self.engine is not None
        with self._instrument.adaptation(self.engine):
            adapted = self._method.adapt(InstrumentedContext(context, self._instrument))
        self._instrument.artifacts = dict(adapted) if isinstance(adapted, Mapping) else {"": adapted}
        return adapted


class InstrumentedContext:
    """A context that knows which splits a method may name."""

    def __init__(self, context: Context, instrument: Instrument) -> None:
        object.__setattr__(self, "_context", context)
        object.__setattr__(self, "_instrument", instrument)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._context, name, value)

    def evaluate(self, point: Any, split: Any, **options: Any) -> Evaluation:
        """Evaluate, but for a split that is none of the method's."""
        if split not in get_args(AdaptationSplit):
            self._instrument.spring(f"asked for the split {split!r}")
        evaluation: Evaluation = self._context.evaluate(point, split, **options)
        return evaluation


class InstrumentedEngine:
    """An engine that answers no test prompt while the method is at work, and whose steps are counted.

    Args:
        engine: It.
        instrument: Told what it computes.
        task_data: Which prompts are whose.
    """

    def __init__(self, engine: Engine, instrument: Instrument, task_data: TaskData) -> None:
        self._engine, self._instrument = engine, instrument
        instrument.shape = engine.shape
        splits = task_data.splits
        support, rest = self._prompts(task_data, splits.support), self._prompts(task_data, splits.select + splits.gate)
        self._hidden = self._prompts(task_data, splits.test) - support - rest
        self._untrained = self._hidden | (rest - support)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def _prompts(self, task_data: TaskData, examples: Iterable[Example]) -> set[TokenIds]:
        task, engine = task_data.task, self._engine
        return {
            engine.encode(format_prompt(task, engine.style, e, prompt)) for e in examples for prompt in task.prompts
        }

    def generate(self, prompts: Sequence[TokenIds], sampling: Sampling, meter: Meter) -> list[Completion]:
        """Answer prompts, unless one is of the test split and the method is at work."""
        instrument, point = self._instrument, self._engine.point
        if instrument.adapting and not self._hidden.isdisjoint(prompts):
            instrument.spring("had the engine answer a test prompt")
        instrument.drew |= sampling.temperature > 0 or (isinstance(point, Point) and not point.is_base)
        return self._engine.generate(prompts, sampling, _Counted(meter, instrument))  # type: ignore[arg-type]

    def trainable(self) -> tuple[Any, Any]:
        """Return a trainable copy that runs no prompt but the support split's."""
        model, tokenizer = self._engine.trainable()
        instrument, untrained = self._instrument, self._untrained
        lengths = sorted({len(prompt) for prompt in untrained})
        instrument.drew = True

        # A function and no bound method: a copy of the model must not copy what it is bound to.
        def entered(module: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> None:
            instrument.stepped()
            ids = given["input_ids"] if "input_ids" in given else args[0]
            real = _real(ids, given, tokenizer.pad_token_id)
            instrument.run += ids.numel()
            instrument.real += int(real.sum())
            for row, kept in zip(ids, real, strict=True):
                tokens = tuple(row[kept].tolist())
                if any(tokens[:length] in untrained for length in lengths):
                    instrument.spring("trained on a prompt that is not of the support split")

        model.base_model.register_forward_pre_hook(entered, with_kwargs=True)
        return model, tokenizer


class _Counted:
    """A meter whose bookings are counted."""

    def __init__(self, meter: Meter, instrument: Instrument) -> None:
        self._meter, self._instrument = meter, instrument

    def __getattr__(self, name: str) -> Any:
        return getattr(self._meter, name)

    def reserve(self, work: Work) -> None:
        self._meter.reserve(work)
        self._instrument.stepped()
        if self._instrument.adapting:
            self._instrument.work += work


def _real(ids: torch.Tensor, given: Mapping[str, Any], pad: int | None) -> torch.Tensor:
    """Which tokens of a pass are no padding: those that attention sees, but for what is fed to a finished answer."""
    mask, cache = given.get("attention_mask"), given.get("past_key_values")
    real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask[:, -ids.shape[1] :].bool()
    if ids.shape[1] == 1 and cache is not None and cache.get_seq_length():
        real = real & (ids != pad)
    return real


def _weights(engine: Engine) -> str:
    """The digest of what stands in the engine where its base should."""
    with tempfile.TemporaryDirectory() as folder:
        engine.move_to(Point())
        engine.save(Path(folder))
        return open_checkpoint(Path(folder)).digest
