"""Models around one base, for `bench analyze geometry`: their logits, and their answers. All passes are metered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.compute.attach import attach
from bench.compute.ledger import Account, Work
from bench.compute.meter import Meter
from bench.engines.interface import Completion, TokenIds
from bench.engines.transformers import TransformersEngine
from bench.errors import BenchError, UsageError
from bench.models.source import resolve
from bench.models.tensors import deployed_dtypes, held
from bench.records.config import RunConfig
from bench.records.journal import Journal
from bench.records.schema import Result
from bench.registry import load_task
from bench.run.data import TaskData, load_task_data
from bench.run.evaluator import Evaluator
from bench.run.export import open_base
from bench.run.prepare import STRICT, admit, resolved_device
from bench.run.prompting import Prompting, prompting_of
from bench.weights.checkpoint import Place, write_checkpoint
from bench.weights.layers import layout_of
from tasks.interface import Example, Task

ACCOUNT: Account = "analysis"

Weights = Mapping[str, torch.Tensor]
"""Tensors of a model by name, in the dtype that runs deploy it in."""
Asked = tuple[TokenIds, TokenIds]
"""Prompt and answer; neither is empty."""
LOGITS = 1 << 28
"""Bytes of the base's logits that are kept while other models are compared with it."""


@dataclass(frozen=True)
class Questions:
    """Questions that models are compared on.

    Attributes:
        task: Task.
        examples: Its test examples.
        prompting: Prompts that they are asked with.
    """

    task: Task
    examples: tuple[Example, ...]
    prompting: Prompting

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for equal questions, though each run has a task object of its own."""
        shots = [(shot.task.name, shot.example) for shot in self.prompting.shots]
        asked = self.prompting.template, self.prompting.system, repr(shots), self.prompting.max_think_tokens
        return self.task.name, self.task.max_new_tokens, repr(self.examples), asked


class Neighbourhood:
    """Base model of a run and models with other weights. Holds four models: the base and the live one, twice.

    Args:
        result: Record of the run.
        scratch: Empty folder for weights between two models.

    Attributes:
        base: The base's tensors.
        layout: Layout of those that move.
        meter: Meter of all passes.

    Raises:
        BenchError: If the base is no longer that of the run.
    """

    def __init__(self, result: Result, scratch: Path) -> None:
        device = resolved_device("auto")
        self._engine = TransformersEngine(
            resolve(result.config.model).prepare().path,
            dtype=str(result.engine["dtype"]),
            device=device,
            batch_size=int(result.engine["batch_size"]),
            think=result.config.think,
            prompt=result.config.prompt,
        )
        model, tensors = open_base(result)
        dtypes = deployed_dtypes(model, getattr(torch, str(result.engine["dtype"])))
        self.base: Weights = {name: tensor.to(dtypes[name], copy=True) for name, tensor in tensors.items()}
        self.layout = layout_of(model)
        self._model = model.to(device).eval().requires_grad_(False)
        self.meter = Meter(self._engine.profile)
        self._style = self._engine.style if result.config.prompt == "auto" else result.config.prompt
        self._scratch = scratch
        self._journal = Journal(scratch / "journal.jsonl")  # every evaluator has one; nothing here is resumed

    def answers(self, place: Place, asked: Questions) -> list[tuple[TokenIds, Completion]]:
        """Return each prompt with the greedy answer of the model at a place, in the batches that a run would make."""
        task, examples = asked.task, asked.examples
        evaluator = Evaluator(self._engine, task, self._style, self.meter, self._journal, prompting=asked.prompting)
        found: list[tuple[TokenIds, Completion]] = []
        with self.meter.account(ACCOUNT):
            if self._engine.point != place:
                self.meter.reserve(Work(weight_moves=1))
                self._engine.move_to(place)
            for part in evaluator.cut(len(examples)):
                job = evaluator.answer_chunk(place, examples[part.start : part.stop], "").job
                completions = self._engine.generate(job.prompts, job.sampling, self.meter, job.end_rules)
                found += zip(job.prompts, completions, strict=True)
        return found

    def correct(self, place: Place, asked: Questions) -> NDArray[np.int8]:
        """Return the verdicts on the model's answers, shape [examples]: 1 correct, 0 wrong, -1 not judged."""
        texts = [completion.text for _, completion in self.answers(place, asked)]
        scores = asked.task.score_many(asked.examples, texts)
        return np.array([-1 if s.status == "infrastructure" else s.correct for s in scores], dtype=np.int8)

    def between(self, start: Weights, end: Weights, at: float) -> Place:
        """Return the model at a place on the line between two, as a checkpoint that the next call replaces.

        The weights are (1 - at) start + at end, computed in float32 and rounded to the dtype of the run.
        """
        weights = {
            name: ((1 - at) * start[name].float() + at * end[name].float()).to(base.dtype)
            for name, base in self.base.items()
        }
        return write_checkpoint(self._scratch / "between", weights)

    def chunks(self, sequences: Sequence[Asked]) -> Iterator[list[Asked]]:
        """Yield the sequences in groups whose logits take at most `LOGITS` bytes, and at least one sequence."""
        chunk: list[Asked] = []
        free = 0
        for sequence in sequences:
            size = 4 * len(sequence[1]) * self._engine.vocabulary
            if chunk and size > free:
                yield chunk
                chunk = []
            free = (free if chunk else LOGITS) - size
            chunk.append(sequence)
        if chunk:
            yield chunk

    def logits(self, weights: Weights, sequences: Sequence[Asked]) -> Iterator[NDArray[np.float32]]:
        """Yield a model's logits at each token of each answer, in float32, shape [tokens, vocabulary]."""
        for name, tensor in held(self._model).items():
            tensor.copy_(weights[name])
        with self.meter.account(ACCOUNT), attach(self._model, lambda work, _: self.meter.reserve(work), role="policy"):
            for prompt, answer in sequences:
                yield self._logits(prompt, answer)

    @torch.inference_mode()
    def _logits(self, prompt: TokenIds, answer: TokenIds) -> NDArray[np.float32]:
        ids = torch.tensor([prompt + answer[:-1]], device=self._model.device)
        output = self._model(input_ids=ids, logits_to_keep=len(answer), use_cache=False)
        found: NDArray[np.float32] = output.logits[0].float().cpu().numpy()
        return found


def task_of_run(result: Result, run: Path, limit: int) -> Questions:
    """Return the task that a run was tested on and the first examples of its test split, as the run asked them.

    Raises:
        Refused: If the sandbox is too weak for the task here.
        BenchError: If the task or its data is no longer that of the run, or it has fewer than two test examples.
    """
    data = load_task_data(result.config.model_copy(update=STRICT))
    for task in data.tasks:
        admit(task, allow_unsandboxed=False)
    version = result.versions and result.versions.task
    if data.splits.content_hash != result.content_hash or data.task.version != version:
        raise BenchError(
            f"{run}: {result.config.task_label} has changed since this run, in its data or its version; "
            "run it again, or leave it out"
        )
    return Questions(data.task, _enough(result.config.task, data.splits.test[:limit]), data.prompting)


def other_task(config: RunConfig, name: str, limit: int) -> Questions:
    """Return another task and the first examples of its test split, asked as a run would ask them.

    Worked examples are those of the other task.

    Args:
        config: Configuration of the run.
        name: Name of the task, or `NAME=FILE` for a task with its data in a file.
        limit: Number of examples.

    Raises:
        BenchError: If the task or its data cannot be loaded, it has fewer than two test examples, or it lacks the
            run's prompt.
    """
    known, _, file = name.partition("=")
    task = load_task(known)
    splits = task.load(Path(file) if file else None)
    alone = config.model_copy(update={"task": known, "adapt_on": None})
    prompting = prompting_of(alone, TaskData.of(task, task, splits))
    return Questions(task, _enough(name, splits.test[:limit]), prompting)


def _enough(name: str, examples: tuple[Example, ...]) -> tuple[Example, ...]:
    if len(examples) < 2:
        raise UsageError(f"task {name}: its test split has {len(examples)} examples; at least 2 are needed")
    return examples
