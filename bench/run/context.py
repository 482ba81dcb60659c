"""Restricted views of a run for methods and for artifacts. See `methods.interface`."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.compute.ledger import ADAPTATION, Account, AdaptationAccount, Work
from bench.distributed import ProcessGroup
from bench.errors import BenchError
from bench.records.files import share
from bench.run.data import TaskData
from bench.run.evaluator import Answer, Evaluator
from bench.run.progress import ProgressDisplay, StageDisplay
from bench.weights.checkpoint import FILE, Checkpoint, Place, saved_digest
from methods.interface import GREEDY, AdaptationSplit, Decoding, Diverged, Evaluation, Lora, Training
from tasks.interface import DEFAULT_PROMPT, Example, Task, Vote


class AdaptationContext:
    """View of a run for methods: without test split, engine or meter. Implements `methods.interface.Context`.

    Attributes:
        ranks: Rank and world size of the training group.
        delegate_training: Trains in launched processes and returns when they have written the journal. None to train
            in this process.
    """

    def __init__(
        self, evaluator: Evaluator, task_data: TaskData, seed: int, evaluation_flops: float, display: ProgressDisplay
    ) -> None:
        self._evaluator, self._display = evaluator, display
        self.ranks = ProcessGroup()
        self.delegate_training: Callable[[], None] | None = None
        splits = task_data.splits
        self._examples = {"support": splits.support, "select": splits.select, "gate": splits.gate}
        self.seed = seed
        self.task = replace(task_data.traits, prompts=evaluator.prompts(task_data.traits.prompts, splits.support))
        self.evaluation_flops = evaluation_flops
        self.report: dict[str, Any] = {}

    @property
    def budget(self) -> int:
        """Adaptation budget in FLOPs."""
        assert self._evaluator.meter.limit is not None
        return self._evaluator.meter.limit

    @property
    def remaining(self) -> int:
        """Remaining adaptation FLOPs."""
        return self._evaluator.meter.remaining

    def evaluate(
        self,
        point: Place,
        split: AdaptationSplit,
        *,
        account: AdaptationAccount,
        examples: range | None = None,
        allowance: int | None = None,
        prompt: str = DEFAULT_PROMPT,
    ) -> Evaluation:
        """Answer examples of a split with the model at a point, and score the answers.

        Raises:
            ValueError: If the account is not an adaptation account, the split is not visible to methods, the range
                exceeds the split, or the task has no such prompt.
        """
        if account not in ADAPTATION:
            raise ValueError(f"adaptation may not book to account {account!r}")
        selected, label, chunked = self._select(split, examples)
        _check_prompt(self._evaluator.task, prompt)
        return self._evaluator.score(point, selected, label, account, allowance, prompt, chunked=chunked)

    def prepare(
        self,
        points: Sequence[Place],
        split: AdaptationSplit,
        *,
        examples: range | None = None,
        prompts: Sequence[str] = (DEFAULT_PROMPT,),
    ) -> None:
        """Announce the evaluations that will probably come next."""
        selected, label, chunked = self._select(split, examples)
        self._evaluator.announce(
            [
                chunk
                for point in points
                for prompt in prompts
                for chunk in self._evaluator.score_chunks(point, selected, label, prompt, chunked=chunked)
            ]
        )

    def _select(self, split: AdaptationSplit, examples: range | None) -> tuple[Sequence[Example], str, bool]:
        """Return the selected examples, their label in the journal, and whether to cut them into chunks.

        The gate evaluates one point at a time, so engines share its examples in chunks. The other splits are evaluated
        at many points at once, and each point is one chunk, because that is fastest. The choice is fixed per split:
        half-precision answers depend on the chunk, so only answers from equal chunks can be compared.
        """
        if split not in self._examples:
            raise ValueError(f"adaptation may not read split {split!r}")
        available = self._examples[split]
        chosen = range(len(available)) if examples is None else examples
        if not (0 <= chosen.start < chosen.stop <= len(available) and chosen.step == 1):
            raise ValueError(
                f"examples {chosen}: split {split} has {len(available)} examples; choose a range of at least one of "
                "them, with step 1"
            )
        return available[chosen.start : chosen.stop], f"{split} {chosen.start}", split == "gate"

    def train(self, allowance: int, lora: Lora | None = None) -> Training:
        """Start gradient training, or continue from the last saved state of an earlier attempt.

        Raises:
            Diverged: If training diverged, in the launched processes or in an earlier attempt.
        """
        from bench.run.training import TrainingSession  # loads torch

        folder = self._evaluator.journal.path.parent / "training"
        support = self._examples["support"]
        session = TrainingSession(self._evaluator, support, folder, allowance, self.seed, lora, self.ranks)
        if self.delegate_training is not None and not session.ended:
            try:
                self.delegate_training()
            finally:
                self._evaluator.journal.reread()
                session.replay()
            if not session.ended:
                raise BenchError("the launched processes exited without writing the end of training to the journal")
        if session.diverged is not None:
            reason, self.report["training"] = session.diverged
            raise Diverged(reason)
        return session

    def stage(self, name: str, steps: int | None = None) -> AbstractContextManager[StageDisplay]:
        """Show one phase on the progress display."""
        return self._display.stage(name, steps)


_QueryKey = tuple[str, tuple[str, ...], Decoding, str]
"""Digest of a point, example ids, decoding and prompt name."""


class DeploymentContext:
    """View of a run for artifacts: metered answers to test examples by id. Implements `methods.interface.Deployment`.

    Answers are cached. The same query with the same weights is not generated again, but its cost is booked each time.

    Attributes:
        account: Account that answers are booked to.
        queries: All distinct (point, decoding, prompt) used since they were last cleared.
        answers: Answers generated since they were last cleared, by example id and text; the first of equal texts.
    """

    def __init__(self, evaluator: Evaluator, examples: Sequence[Example], display: ProgressDisplay) -> None:
        self._evaluator, self._display = evaluator, display
        self._examples = {example.id: example for example in examples}
        self._answered: dict[_QueryKey, tuple[list[Answer], Work]] = {}
        self._announced: Set[_QueryKey] = set()
        self.account: Account = "evaluation"
        self.queries: set[tuple[Place, Decoding, str]] = set()
        self.answers: dict[tuple[str, str], Answer] = {}
        self._saved: dict[Place, str | None] = {}

    def answer(
        self, point: Place, examples: Sequence[str], decoding: Decoding = GREEDY, prompt: str = DEFAULT_PROMPT
    ) -> list[str]:
        """Answer test examples, given by id, with the model at a point.

        Raises:
            KeyError: If an id is not in the test split.
            ValueError: If the task has no such prompt.
        """
        _check_prompt(self._evaluator.task, prompt)
        self.queries.add((point, decoding, prompt))
        key = (point.digest, tuple(examples), decoding, prompt)
        if key in self._answered:
            answers, work = self._answered[key]
            self._evaluator.meter.replay(self.account, work)
            return self._texts(examples, answers)
        if key not in self._announced:
            self.prepare([point], examples, [decoding], prompt)
        before = self._evaluator.meter.ledger[self.account]
        answers = []
        with self._display.stage(f"test: {self.account}", len(examples)) as stage:
            for label, part in self._chunks(examples):
                answers += self._evaluator.generate(point, part, self.account, label, decoding, prompt)
                stage.advance(steps=len(part))
        self._answered[key] = answers, self._evaluator.meter.ledger[self.account] - before
        return self._texts(examples, answers)

    def _texts(self, examples: Sequence[str], answers: Sequence[Answer]) -> list[str]:
        for example, answer in zip(examples, answers, strict=True):
            self.answers.setdefault((example, answer.text), answer)
        return [answer.text for answer in answers]

    def prepare(
        self,
        points: Sequence[Place],
        examples: Sequence[str],
        decodings: Sequence[Decoding] = (GREEDY,),
        prompt: str = DEFAULT_PROMPT,
    ) -> None:
        """Announce the answers that will be requested next."""
        queries = {(p.digest, tuple(examples), d, prompt): (p, d) for p in points for d in decodings}
        self._announced = queries.keys() - self._answered.keys()
        self._evaluator.announce(
            [
                self._evaluator.answer_chunk(point, part, label, decoding, prompt)
                for key, (point, decoding) in queries.items()
                if key in self._announced
                for label, part in self._chunks(examples)
            ]
        )

    def _chunks(self, examples: Sequence[str]) -> list[tuple[str, list[Example]]]:
        """Return the chunks that engines divide among themselves, each with its label in the journal."""
        selected = self._lookup(examples)
        return [(f"test {part.start}", selected[part.start : part.stop]) for part in self._evaluator.cut(len(selected))]

    def votes(self, examples: Sequence[str], texts: Sequence[str]) -> list[Vote | None]:
        """Return the votes of answers to test examples, given by id."""
        return self._evaluator.votes(self._lookup(examples), texts)

    def signals(self, examples: Sequence[str], texts: Sequence[str]) -> list[float]:
        """Return the task's signal for answers to test examples, given by id."""
        return self._evaluator.signals(self._lookup(examples), texts)

    def _lookup(self, examples: Sequence[str]) -> list[Example]:
        return [self._examples[i] for i in examples]

    def base_digest(self) -> str:
        """Return the digest of the base weights."""
        return self._evaluator.engine.digest

    def save_checkpoint(self, point: Place, folder: Path) -> None:
        """Write the model at a point as an ordinary Hugging Face checkpoint."""
        self._evaluator.engine.move_to(point)
        self._evaluator.engine.save(folder)
        if isinstance(point, Checkpoint) and (folder / FILE).exists():  # a large model is saved in several files
            share(point.folder / FILE, folder / FILE)
        self._saved[point] = saved_digest(folder)

    def weights(self, points: Set[Place]) -> str | None:
        """Return the digest of the weights at these points.

        None if there are several points, or the one was not saved as a checkpoint.
        """
        if len(points) != 1:
            return None
        (point,) = points
        return self.base_digest() if point.is_base else self._saved.get(point)


def _check_prompt(task: Task, prompt: str) -> None:
    if prompt not in task.prompts:
        raise ValueError(f"prompt {prompt!r}: task {task.name} has {', '.join(task.prompts)}")
