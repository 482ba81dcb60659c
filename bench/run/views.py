"""What methods and artifacts see of a run: each only what its side may. See `methods.interface`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.compute.ledger import ADAPTATION, Account, AdaptationAccount, Work
from bench.errors import BenchError
from bench.ranks import Ranks
from bench.run.desk import Desk
from bench.run.display import Display, StageDisplay
from bench.run.subject import Subject
from bench.weights.checkpoint import Place
from bench.weights.points import Point
from methods.interface import GREEDY, AdaptationSplit, Decoding, Diverged, Evaluation, Lora, Training
from tasks.interface import DEFAULT_PROMPT, Example, Task, Vote


class AdaptationContext:
    """A method's view of a run: no test split, no engine, no meter. See `methods.interface.Context`.

    Attributes:
        ranks: The processes that train together, this one among them.
        hand_over: Lets other processes train in this one's place, and returns when they have journalled it; or None.
    """

    def __init__(self, desk: Desk, subject: Subject, seed: int, evaluation_flops: float, display: Display) -> None:
        self._desk, self._display = desk, display
        self.ranks = Ranks()
        self.hand_over: Callable[[], None] | None = None
        splits = subject.splits
        self._examples = {"support": splits.support, "select": splits.select, "gate": splits.gate}
        self.seed = seed
        self.task = replace(subject.traits, prompts=desk.prompts(subject.traits.prompts, splits.support))
        self.evaluation_flops = evaluation_flops
        self.report: dict[str, Any] = {}

    @property
    def budget(self) -> int:
        """Adaptation FLOPs in all."""
        assert self._desk.meter.limit is not None
        return self._desk.meter.limit

    @property
    def remaining(self) -> int:
        """Adaptation FLOPs left."""
        return self._desk.meter.remaining

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
        if account not in ADAPTATION or split not in self._examples:
            raise ValueError(f"adaptation may not read split {split!r} or book to account {account!r}")
        everything = self._examples[split]
        asked = range(len(everything)) if examples is None else examples
        if not (0 <= asked.start < asked.stop <= len(everything) and asked.step == 1):
            raise ValueError(f"examples {asked}: split {split} has {len(everything)}, and one is the least")
        _check_prompt(self._desk.task, prompt)
        what = f"{split} {asked.start}"
        return self._desk.score(point, everything[asked.start : asked.stop], what, account, allowance, prompt)

    def prepare(self, points: Sequence[Point]) -> None:
        """Announce points that will be evaluated next."""
        self._desk.engine.prepare(points)

    def train(self, allowance: int, lora: Lora | None = None) -> Training:
        """Prepare gradient training, or go on with what an earlier attempt saved.

        Raises:
            Diverged: If the processes that it was handed to, or an earlier attempt, came to nothing.
        """
        from bench.run.training import TrainingSession  # loads torch

        folder = self._desk.journal.path.parent / "training"
        session = TrainingSession(self._desk, self._examples["support"], folder, allowance, lora, self.ranks)
        if self.hand_over is not None and not session.ended:
            try:
                self.hand_over()
            finally:
                self._desk.journal.reread()
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


class Deployed:
    """An artifact's view of a run: answers to test examples by id, booked. See `methods.interface.Deployment`.

    Answers of weights that have answered the same examples before are the same answers and are not generated again;
    their cost is booked all the same.

    Attributes:
        account: Where answers are booked.
        asked: Every way in which anything was asked: place, decoding and prompt.
    """

    def __init__(self, desk: Desk, examples: Sequence[Example], display: Display) -> None:
        self._desk, self._display = desk, display
        self._examples = {example.id: example for example in examples}
        self._known: dict[tuple[str, tuple[str, ...], Decoding, str], tuple[list[str], Work]] = {}
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
        _check_prompt(self._desk.task, prompt)
        self.asked.add((point, decoding, prompt))
        key = (point.digest, tuple(examples), decoding, prompt)
        if key in self._known:
            texts, work = self._known[key]
            self._desk.meter.replay(self.account, work)
            return list(texts)
        asked = self._asked(examples)
        before = self._desk.meter.ledger[self.account]
        texts = []
        with self._display.stage(f"test: {self.account}", len(asked)) as stage:
            for start in range(0, len(asked), self._desk.chunk):
                part = asked[start : start + self._desk.chunk]
                texts += self._desk.generate(point, part, self.account, f"test {start}", decoding, prompt)
                stage.advance(steps=len(part))
        self._known[key] = texts, self._desk.meter.ledger[self.account] - before
        return list(texts)

    def votes(self, examples: Sequence[str], texts: Sequence[str]) -> list[Vote | None]:
        """Return what answers to the test examples of these ids vote for."""
        return self._desk.votes(self._asked(examples), texts)

    def signals(self, examples: Sequence[str], texts: Sequence[str]) -> list[float]:
        """Return the task's own signal for answers to the test examples of these ids."""
        return self._desk.signals(self._asked(examples), texts)

    def _asked(self, examples: Sequence[str]) -> list[Example]:
        return [self._examples[i] for i in examples]

    def base_digest(self) -> str:
        """Return the identity of the base's weights."""
        return self._desk.engine.digest

    def save_checkpoint(self, point: Place, folder: Path) -> None:
        """Write the model at a point as an ordinary Hugging Face checkpoint."""
        self._desk.engine.move_to(point)
        self._desk.engine.save(folder)


def _check_prompt(task: Task, prompt: str) -> None:
    if prompt not in task.prompts:
        raise ValueError(f"prompt {prompt!r}: task {task.name} has {', '.join(task.prompts)}")
