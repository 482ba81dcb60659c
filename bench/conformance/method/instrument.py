"""Wrappers that count compute, raise on access to the test split, and kill the process at a chosen step.

They wrap the method, its context, the engine and the meter. Their counts are independent of the run's own ledger, so
that a check can compare the two.
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

from bench.compute.ledger import Work
from bench.compute.meter import Meter
from bench.compute.profile import ComputeProfile
from bench.engines.interface import Completion, Engine, Sampling, TokenIds
from bench.errors import BenchError
from bench.run.data import TaskData
from bench.weights.checkpoint import open_checkpoint
from bench.weights.points import Point
from methods.interface import AdaptationSplit, Answers, Artifact, Context, Evaluation, Method
from tasks.interface import EndRule, Example


class TestSplitAccess(BenchError):
    """Error for a method that accesses the test split or other data it must not see."""


@dataclass
class Instrument:
    """Observations of one run.

    Attributes:
        kill_at: Step of computation at which this process is killed; None for never.
        adapting: Whether the method is currently adapting.
        violations: Forbidden accesses, such as "loaded the task's data".
        used_randomness: Whether the method used noise, sampling or a trainable copy.
        steps: Number of computation steps so far, in decoding and training.
        adapted: Values of `steps` at the start and at the end of adaptation.
        work: Work that the engine computed for the method.
        trained_tokens: Tokens processed by trainable copies, without padding.
        padded_trained_tokens: Tokens processed by trainable copies, including padding.
        embedded_tokens: Tokens processed by any model of this process during adaptation.
        weights: Digests of the base weights before and after adaptation; None if it did not complete.
        artifacts: Artifacts returned by the method, by label.
        profile: Compute profile of the model.
    """

    kill_at: int | None = None
    adapting: bool = False
    violations: list[str] = field(default_factory=list)
    used_randomness: bool = False
    steps: int = 0
    adapted: tuple[int, int] = (0, 0)
    work: Work = field(default_factory=Work)
    trained_tokens: int = 0
    padded_trained_tokens: int = 0
    embedded_tokens: int = 0
    ahead_tokens: int = 0
    weights: tuple[str, str] | None = None
    artifacts: Mapping[str, Artifact] = field(default_factory=dict)
    profile: ComputeProfile | None = None
    _test_ids: frozenset[str] = frozenset()

    def protect(self, task_data: TaskData) -> None:
        """Forbid access to the test examples of these data during adaptation."""
        self._test_ids = frozenset(example.id for example in task_data.splits.test)

    def on_load(self) -> None:
        """Handle that the task's data are loaded."""
        if self.adapting:
            self.forbid("loaded the task's data, including the test split")

    def on_read(self, example: Example) -> None:
        """Handle that an example is formatted or scored."""
        if self.adapting and example.id in self._test_ids:
            self.forbid(f"formatted or scored the test example {example.id}")

    def forbid(self, action: str) -> None:
        """Record a violation and stop the method.

        Raises:
            TestSplitAccess: Always.
        """
        self.violations.append(action)
        raise TestSplitAccess(f"while it adapted, the method {action}")

    def count_step(self) -> None:
        """Count a step before it is computed. Kill the process if it is the chosen step."""
        self.steps += 1
        if self.steps == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def adaptation(self, engine: Engine) -> Iterator[None]:
        """Observe a block in which the method adapts."""
        before, began = _base_digest(engine), self.steps
        self.adapting = True
        hook = nn.modules.module.register_module_forward_pre_hook(self._count_embedded)
        try:
            yield
        finally:
            self.adapting = False
            hook.remove()
            self.adapted = began, self.steps
        self.weights = before, _base_digest(engine)

    def _count_embedded(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if isinstance(module, nn.Embedding):
            self.embedded_tokens += args[0].numel()


class InstrumentedMethod:
    """Method wrapper that observes the adaptation.

    Args:
        method: Method to wrap.
        instrument: Receiver of the observations.
    """

    def __init__(self, method: Method, instrument: Instrument) -> None:
        self._method, self._instrument = method, instrument
        self.engine: Engine | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._method, name)

    def adapt(self, context: Context) -> Artifact | Mapping[str, Artifact]:
        """Adapt, and record the returned artifacts."""
        assert self.engine is not None
        with self._instrument.adaptation(self.engine):
            adapted = self._method.adapt(InstrumentedContext(context, self._instrument))
        self._instrument.artifacts = dict(adapted) if isinstance(adapted, Mapping) else {"": adapted}
        return adapted


class InstrumentedContext:
    """Context wrapper that forbids evaluation and answers on the test split."""

    def __init__(self, context: Context, instrument: Instrument) -> None:
        object.__setattr__(self, "_context", context)
        object.__setattr__(self, "_instrument", instrument)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._context, name, value)

    def evaluate(self, point: Any, split: Any, **options: Any) -> Evaluation:
        """Evaluate on an adaptation split, and forbid every other split."""
        self._check(split)
        evaluation: Evaluation = self._context.evaluate(point, split, **options)
        return evaluation

    def answer(self, point: Any, split: Any, **options: Any) -> Answers:
        """Answer examples of an adaptation split, and forbid every other split."""
        self._check(split)
        answers: Answers = self._context.answer(point, split, **options)
        return answers

    def _check(self, split: Any) -> None:
        if split not in get_args(AdaptationSplit):
            self._instrument.forbid(f"evaluated on the split {split!r}")


class InstrumentedEngine:
    """Engine wrapper that counts steps, and forbids test prompts during adaptation.

    Args:
        engine: Engine to wrap.
        instrument: Receiver of the observations.
        task_data: Tasks and data, to recognise the prompts of each split.
    """

    def __init__(self, engine: Engine, instrument: Instrument, task_data: TaskData) -> None:
        self._engine, self._instrument = engine, instrument
        instrument.profile = engine.profile
        splits = task_data.splits
        support, rest = self._prompts(task_data, splits.support), self._prompts(task_data, splits.select + splits.gate)
        self._test_prompts = self._prompts(task_data, splits.test) - support - rest
        self._not_for_training = self._test_prompts | (rest - support)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def _prompts(self, task_data: TaskData, examples: Iterable[Example]) -> set[TokenIds]:
        task, engine = task_data.task, self._engine
        return {
            engine.encode(task_data.prompting.format(task, engine.style, e, prompt))
            for e in examples
            for prompt in task_data.traits.prompts
        }

    def generate(
        self,
        prompts: Sequence[TokenIds],
        sampling: Sampling,
        meter: Meter,
        end_rules: Sequence[EndRule | None] = (),
        added: Point | None = None,
    ) -> list[Completion]:
        """Generate, but forbid test prompts during adaptation."""
        instrument, point = self._instrument, self._engine.point
        if instrument.adapting and not self._test_prompts.isdisjoint(prompts):
            instrument.forbid("generated an answer to a test prompt")
        moved = added is not None or (isinstance(point, Point) and not point.is_base)
        instrument.used_randomness |= sampling.temperature > 0 or moved
        counting: Any = _CountingMeter(meter, instrument)
        completions = self._engine.generate(prompts, sampling, counting, end_rules, added)
        if instrument.adapting:
            instrument.ahead_tokens = getattr(self._engine, "ahead_tokens", 0)
        return completions

    def trainable(self, folder: Path | None = None) -> tuple[Any, Any]:
        """Return a trainable copy that accepts only prompts of the support split."""
        model, tokenizer = self._engine.trainable(folder)
        instrument, forbidden = self._instrument, self._not_for_training
        lengths = sorted({len(prompt) for prompt in forbidden})
        instrument.used_randomness = True

        # A function instead of a bound method, because a copy of the model would copy the bound object, too.
        def observe(module: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> None:
            instrument.count_step()
            ids = given["input_ids"] if "input_ids" in given else args[0]
            real = _real_tokens(ids, given, tokenizer.pad_token_id)
            instrument.padded_trained_tokens += ids.numel()
            instrument.trained_tokens += int(real.sum())
            for row, kept in zip(ids, real, strict=True):
                tokens = tuple(row[kept].tolist())
                if any(tokens[:length] in forbidden for length in lengths):
                    instrument.forbid("trained on a prompt outside the support split")

        model.base_model.register_forward_pre_hook(observe, with_kwargs=True)
        return model, tokenizer


class _CountingMeter:
    """Meter wrapper that counts what the engine books."""

    def __init__(self, meter: Meter, instrument: Instrument) -> None:
        self._meter, self._instrument = meter, instrument

    def __getattr__(self, name: str) -> Any:
        return getattr(self._meter, name)

    def reserve(self, work: Work) -> None:
        self._meter.reserve(work)
        self._instrument.count_step()
        if self._instrument.adapting:
            self._instrument.work += work


def _real_tokens(ids: torch.Tensor, given: Mapping[str, Any], pad: int | None) -> torch.Tensor:
    """Return a mask [batch, tokens] of the tokens that are not padding.

    Padding is what the attention mask hides, and the padding ids that generation feeds to finished answers.
    """
    mask, cache = given.get("attention_mask"), given.get("past_key_values")
    real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask[:, -ids.shape[1] :].bool()
    if ids.shape[1] == 1 and cache is not None and cache.get_seq_length():
        real = real & (ids != pad)
    return real


def _base_digest(engine: Engine) -> str:
    """Return the digest of the engine's actual weights at the base point."""
    with tempfile.TemporaryDirectory() as folder:
        engine.move_to(Point())
        engine.save(Path(folder))
        return open_checkpoint(Path(folder)).digest
