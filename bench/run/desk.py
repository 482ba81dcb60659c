"""Where answers are given and judged: the one place that joins engine, task, meter and journal.

Methods reach it through `AdaptationContext`, artifacts through `Deployed`; both see only what their side may.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

import numpy as np

from bench.compute.ledger import ADAPTATION, Account, AdaptationAccount, Work
from bench.compute.meter import AllowanceSpent, Meter
from bench.engines.interface import Engine, Sampling, TokenIds
from bench.records.journal import Journal
from bench.run.display import Display, StageDisplay
from bench.weights.points import Point
from methods.interface import AdaptationSplit, Evaluation
from tasks.interface import Example, PromptStyle, Score, Splits, Task


class Desk:
    """Answers examples with the model at a point and judges the answers, through journal and meter.

    Args:
        engine: The model.
        task: Prompts and scorer.
        style: How prompts are posed.
        meter: Where work is booked.
        journal: Answers for what an earlier attempt computed.
    """

    def __init__(self, engine: Engine, task: Task, style: PromptStyle, meter: Meter, journal: Journal) -> None:
        self.engine, self.task, self.style, self.meter, self.journal = engine, task, style, meter, journal
        self.sampling = Sampling(max_new_tokens=task.max_new_tokens, stop=task.stop(style))
        self.chunk = 4 * int(engine.settings["batch_size"])
        self._prompts: dict[str, TokenIds] = {}
        self._last = Point()

    def prompt(self, example: Example) -> TokenIds:
        """Return an example's prompt as token ids."""
        if example.id not in self._prompts:
            chat = self.style == "chat"
            posed = self.task.messages(example) if chat else self.task.completion(example)
            self._prompts[example.id] = self.engine.encode(posed)
        return self._prompts[example.id]

    def prompt_sha256(self, example: Example) -> str:
        """Return a hash over an example's prompt ids."""
        return hashlib.sha256(repr(self.prompt(example)).encode()).hexdigest()

    def _move(self, point: Point) -> None:
        # Moves are booked by the order of the evaluations, which a resumed run shares, not by where its engine happens
        # to stand.
        self.meter.reserve(Work(weight_moves=int(point != self._last)))
        self.engine.move_to(point)

    def score(
        self, point: Point, examples: Sequence[Example], what: str, account: AdaptationAccount, allowance: int | None
    ) -> Evaluation:
        """Answer and judge examples for a method; see `methods.interface.Context.evaluate`."""
        key = {"score": what, "n": len(examples), "point": point.digest, "account": account, "allowance": allowance}
        entry = self.journal.recall(key)
        if entry is None:
            started = time.perf_counter()
            rewards: list[float | None] = []
            correct: list[bool] = []
            complete = True
            with self.meter.account(account, allowance):
                try:
                    self._move(point)
                    prompts = [self.prompt(e) for e in examples]
                    completions = self.engine.generate(prompts, self.sampling, self.meter)
                except AllowanceSpent:
                    complete = False
                else:
                    scores = self.task.score_many(examples, [c.text for c in completions])
                    rewards = [None if s.status == "infrastructure" else s.reward for s in scores]
                    correct = [s.correct and s.status != "infrastructure" for s in scores]
                work = self.meter.opened
            entry = {"rewards": rewards, "correct": correct, "complete": complete}
            entry |= {"work": _sparse(work), "seconds": time.perf_counter() - started}
            self.journal.append(key, entry)
        else:
            work = Work(**entry["work"])
            self.meter.replay(account, work)
        self._last = point
        return Evaluation(
            rewards=np.array([np.nan if r is None else r for r in entry["rewards"]], dtype=np.float64),
            correct=np.array(entry["correct"], dtype=np.bool_),
            flops=self.meter.flops(work),
            complete=entry["complete"],
        )

    def generate(self, point: Point, examples: Sequence[Example], account: Account, what: str) -> list[str]:
        """Answer examples; the answers are on disk when this returns."""
        key = {"answer": what, "n": len(examples), "point": point.digest, "account": account}
        entry = self.journal.recall(key)
        if entry is not None:
            self._last = point
            self.meter.replay(account, Work(**entry["work"]))
            return list(entry["texts"])
        started = time.perf_counter()
        with self.meter.account(account):
            self._move(point)
            prompts = [self.prompt(e) for e in examples]
            texts = [c.text for c in self.engine.generate(prompts, self.sampling, self.meter)]
            work = self.meter.opened
        self._last = point
        entry = {"texts": texts, "work": _sparse(work), "seconds": time.perf_counter() - started}
        self.journal.append(key, entry)
        return texts

    def judge(self, examples: Sequence[Example], texts: Sequence[str], what: str) -> list[Score]:
        """Judge answers; the scores are on disk when this returns, so that a resumed run does not judge again."""
        digest = hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()
        key = {"judge": what, "n": len(examples), "texts": digest}
        entry = self.journal.recall(key)
        if entry is None:
            entry = {"scores": [asdict(score) for score in self.task.score_many(examples, texts)]}
            self.journal.append(key, entry)
        return [Score(**score) for score in entry["scores"]]

    def calibrate(self, examples: Sequence[Example]) -> float:
        """Return the mean model FLOPs of the base answering one of these examples, booked as set-up."""
        before = self.meter.ledger["setup"]
        self.generate(Point(), examples, "setup", "calibration")
        return self.meter.flops(self.meter.ledger["setup"] - before) / len(examples)


class AdaptationContext:
    """A method's view of a run: no test split, no engine, no meter. See `methods.interface.Context`."""

    def __init__(self, desk: Desk, splits: Splits, seed: int, evaluation_flops: float, display: Display) -> None:
        self._desk, self._display = desk, display
        self._examples = {"support": splits.support, "select": splits.select, "gate": splits.gate}
        self.seed = seed
        self.evaluation_flops = evaluation_flops
        self.sizes = {name: len(part) for name, part in self._examples.items()}

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
        point: Point,
        split: AdaptationSplit,
        *,
        account: AdaptationAccount,
        size: int | None = None,
        allowance: int | None = None,
    ) -> Evaluation:
        """Answer and judge the first `size` examples of a split with the model at a point.

        Raises:
            ValueError: If the account is none that a budget covers, the split none that a method may see, or the size
                none that the split has.
        """
        if account not in ADAPTATION or split not in self._examples:
            raise ValueError(f"adaptation may not read split {split!r} or book to account {account!r}")
        examples = self._examples[split]
        if size is not None and not 1 <= size <= len(examples):
            raise ValueError(f"size {size}: split {split} has {len(examples)} examples, and one is the least")
        return self._desk.score(point, examples[:size], split, account, allowance)

    def stage(self, name: str, steps: int | None = None) -> AbstractContextManager[StageDisplay]:
        """Show a phase."""
        return self._display.stage(name, steps)


class Deployed:
    """An artifact's view of a run: answers to test examples by id, booked. See `methods.interface.Deployment`.

    Answers of weights that have answered the same examples before are the same answers and are not generated again;
    their cost is booked all the same.

    Attributes:
        account: Where answers are booked.
        points: Every point that was asked.
    """

    def __init__(self, desk: Desk, examples: Sequence[Example], display: Display) -> None:
        self._desk, self._display = desk, display
        self._examples = {example.id: example for example in examples}
        self._known: dict[tuple[str, tuple[str, ...]], tuple[list[str], Work]] = {}
        self.account: Account = "evaluation"
        self.points: set[Point] = set()

    def answer(self, point: Point, examples: Sequence[str]) -> list[str]:
        """Let the model at a point answer the test examples of these ids, greedily.

        Raises:
            KeyError: If an id is none of the test split's.
        """
        self.points.add(point)
        key = (point.digest, tuple(examples))
        if key in self._known:
            texts, work = self._known[key]
            self._desk.meter.replay(self.account, work)
            return list(texts)
        asked = [self._examples[i] for i in examples]
        before = self._desk.meter.ledger[self.account]
        texts = []
        with self._display.stage(f"test: {self.account}", len(asked)) as stage:
            for start in range(0, len(asked), self._desk.chunk):
                part = asked[start : start + self._desk.chunk]
                texts += self._desk.generate(point, part, self.account, f"test {start}")
                stage.advance(steps=len(part))
        self._known[key] = texts, self._desk.meter.ledger[self.account] - before
        return list(texts)

    def save_checkpoint(self, point: Point, folder: Path) -> None:
        """Write the model at a point as an ordinary Hugging Face checkpoint."""
        self._desk.engine.move_to(point)
        self._desk.engine.save(folder)


def _sparse(work: Work) -> dict[str, int]:
    return {name: amount for name, amount in work.model_dump().items() if amount}
