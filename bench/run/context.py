"""What methods and artifacts see of a run: each only what its side may. See `methods.interface`."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.compute.ledger import ADAPTATION, Account, AdaptationAccount, Work
from bench.distributed import ProcessGroup
from bench.errors import BenchError
from bench.run.data import TaskData
from bench.run.evaluator import Evaluator, cut
from bench.run.progress import ProgressDisplay, StageDisplay
from bench.weights.checkpoint import Place
from methods.interface import GREEDY, AdaptationSplit, Decoding, Diverged, Evaluation, Lora, Training
from tasks.interface import DEFAULT_PROMPT, Example, Task, Vote


class AdaptationContext:
    """A method's view of a run: no test split, no engine, no meter. See `methods.interface.Context`.

    Attributes:
        ranks: The processes that train together, this one among them.
        hand_over: Lets other processes train in this one's place, and returns when they have journalled it; or None.
    """

    def __init__(
        self, evaluator: Evaluator, task_data: TaskData, seed: int, evaluation_flops: float, display: ProgressDisplay
    ) -> None:
        self._evaluator, self._display = evaluator, display
        self.ranks = ProcessGroup()
        self.hand_over: Callable[[], None] | None = None
        splits = task_data.splits
        self._examples = {"support": splits.support, "select": splits.select, "gate": splits.gate}
        self.seed = seed
        self.task = replace(task_data.traits, prompts=evaluator.prompts(task_data.traits.prompts, splits.support))
        self.evaluation_flops = evaluation_flops
        self.report: dict[str, Any] = {}

    @property
    def budget(self) -> int:
        """Adaptation FLOPs in all."""
        assert self._evaluator.meter.limit is not None
        return self._evaluator.meter.limit

    @property
    def remaining(self) -> int:
        """Adaptation FLOPs left."""
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
        """Answer and judge examples of a split with the model at a point.

        Raises:
            ValueError: If the account is none that a budget covers, the split none that a method may see, the range
                none of the split's, or the prompt none of the task's.
        """
        if account not in ADAPTATION:
            raise ValueError(f"adaptation may not book to account {account!r}")
        asked, what, spread = self._asked(split, examples)
        _check_prompt(self._evaluator.task, prompt)
        return self._evaluator.score(point, asked, what, account, allowance, prompt, spread=spread)

    def prepare(
        self,
        points: Sequence[Place],
        split: AdaptationSplit,
        *,
        examples: range | None = None,
        prompts: Sequence[str] = (DEFAULT_PROMPT,),
    ) -> None:
        """Announce evaluations that will probably be asked next."""
        asked, what, spread = self._asked(split, examples)
        self._evaluator.expect(
            [
                piece
                for point in points
                for prompt in prompts
                for piece in self._evaluator.to_score(point, asked, what, prompt, spread=spread)
            ]
        )

    def _asked(self, split: AdaptationSplit, examples: range | None) -> tuple[Sequence[Example], str, bool]:
        """The examples, what they are called, and whether engines share them.

        Of the gate a run asks one point at a time, so its examples are shared. Of the other splits it asks many, and
        each point stays in one piece, the fastest way to compute it. A split is one or the other, since half-precision
        answers depend on the piece they are in and only those of one kind compare.
        """
        if split not in self._examples:
            raise ValueError(f"adaptation may not read split {split!r}")
        everything = self._examples[split]
        asked = range(len(everything)) if examples is None else examples
        if not (0 <= asked.start < asked.stop <= len(everything) and asked.step == 1):
            raise ValueError(f"examples {asked}: split {split} has {len(everything)}, and one is the least")
        return everything[asked.start : asked.stop], f"{split} {asked.start}", split == "gate"

    def train(self, allowance: int, lora: Lora | None = None) -> Training:
        """Prepare gradient training, or go on with what an earlier attempt saved.

        Raises:
            Diverged: If the processes that it was handed to, or an earlier attempt, came to nothing.
        """
        from bench.run.training import TrainingSession  # loads torch

        folder = self._evaluator.journal.path.parent / "training"
        session = TrainingSession(self._evaluator, self._examples["support"], folder, allowance, lora, self.ranks)
        if self.hand_over is not None and not session.ended:
            try:
                self.hand_over()
            finally:
                self._evaluator.journal.reread()
                session.replay()
            if not session.ended:
                raise BenchError("the launched processes ended, and journalled no end of training")
        if session.abandoned is not None:
            reason, self.report["training"] = session.abandoned
            raise Diverged(reason)
        return session

    def stage(self, name: str, steps: int | None = None) -> AbstractContextManager[StageDisplay]:
        """Show a phase."""
        return self._display.stage(name, steps)


_Asked = tuple[str, tuple[str, ...], Decoding, str]
"""A place's digest, ids of examples, decoding and prompt."""


class DeploymentContext:
    """An artifact's view of a run: answers to test examples by id, booked. See `methods.interface.Deployment`.

    Answers of weights that have answered the same examples before are the same answers and are not generated again;
    their cost is booked all the same.

    Attributes:
        account: Where answers are booked.
        asked: Every way in which anything was asked: place, decoding and prompt.
    """

    def __init__(self, evaluator: Evaluator, examples: Sequence[Example], display: ProgressDisplay) -> None:
        self._evaluator, self._display = evaluator, display
        self._examples = {example.id: example for example in examples}
        self._known: dict[_Asked, tuple[list[str], Work]] = {}
        self._expected: Set[_Asked] = set()
        self.account: Account = "evaluation"
        self.asked: set[tuple[Place, Decoding, str]] = set()

    def answer(
        self, point: Place, examples: Sequence[str], decoding: Decoding = GREEDY, prompt: str = DEFAULT_PROMPT
    ) -> list[str]:
        """Let the model at a point answer the test examples of these ids.

        Raises:
            KeyError: If an id is none of the test split's.
            ValueError: If the prompt is none of the task's.
        """
        _check_prompt(self._evaluator.task, prompt)
        self.asked.add((point, decoding, prompt))
        key = (point.digest, tuple(examples), decoding, prompt)
        if key in self._known:
            texts, work = self._known[key]
            self._evaluator.meter.replay(self.account, work)
            return list(texts)
        if key not in self._expected:
            self.prepare([point], examples, [decoding], prompt)
        before = self._evaluator.meter.ledger[self.account]
        texts = []
        with self._display.stage(f"test: {self.account}", len(examples)) as stage:
            for what, part in self._parts(examples):
                texts += self._evaluator.generate(point, part, self.account, what, decoding, prompt)
                stage.advance(steps=len(part))
        self._known[key] = texts, self._evaluator.meter.ledger[self.account] - before
        return list(texts)

    def prepare(
        self,
        points: Sequence[Place],
        examples: Sequence[str],
        decodings: Sequence[Decoding] = (GREEDY,),
        prompt: str = DEFAULT_PROMPT,
    ) -> None:
        """Announce answers that will be asked for next."""
        asked = {(p.digest, tuple(examples), d, prompt): (p, d) for p in points for d in decodings}
        self._expected = asked.keys() - self._known.keys()
        self._evaluator.expect(
            [
                self._evaluator.to_answer(point, part, what, decoding, prompt)
                for key, (point, decoding) in asked.items()
                if key in self._expected
                for what, part in self._parts(examples)
            ]
        )

    def _parts(self, examples: Sequence[str]) -> list[tuple[str, list[Example]]]:
        """The pieces that engines share, and what they are called."""
        asked = self._asked(examples)
        return [
            (f"test {part.start}", asked[part.start : part.stop])
            for part in cut(len(asked), self._evaluator.batch_size)
        ]

    def votes(self, examples: Sequence[str], texts: Sequence[str]) -> list[Vote | None]:
        """Return what answers to the test examples of these ids vote for."""
        return self._evaluator.votes(self._asked(examples), texts)

    def signals(self, examples: Sequence[str], texts: Sequence[str]) -> list[float]:
        """Return the task's own signal for answers to the test examples of these ids."""
        return self._evaluator.signals(self._asked(examples), texts)

    def _asked(self, examples: Sequence[str]) -> list[Example]:
        return [self._examples[i] for i in examples]

    def base_digest(self) -> str:
        """Return the identity of the base's weights."""
        return self._evaluator.engine.digest

    def save_checkpoint(self, point: Place, folder: Path) -> None:
        """Write the model at a point as an ordinary Hugging Face checkpoint."""
        self._evaluator.engine.move_to(point)
        self._evaluator.engine.save(folder)


def _check_prompt(task: Task, prompt: str) -> None:
    if prompt not in task.prompts:
        raise ValueError(f"prompt {prompt!r}: task {task.name} has {', '.join(task.prompts)}")
