"""Where answers are given and judged: the one place that joins engine, task, meter and journal.

Methods and artifacts reach it through the views of `bench.run.context`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from bench.compute.ledger import Account, AdaptationAccount, Work
from bench.compute.meter import AllowanceSpent, Meter
from bench.engines.interface import Completion, Engine, Job, Sampling, TokenIds
from bench.records.journal import Journal
from bench.run.data import format_prompt
from bench.run.timing import Clock
from bench.weights.checkpoint import Place
from bench.weights.points import Point
from methods.interface import GREEDY, Decoding, Evaluation
from tasks.interface import DEFAULT_PROMPT, Example, Message, PromptStyle, Score, Task, Vote

PIECES = 8
"""Pieces that many examples are cut into if those hold a batch each; more where they would hold more than LARGEST."""
LARGEST = 4
"""Batches in a piece at most."""


def cut(count: int, batch: int) -> list[range]:
    """Cut examples of one point into pieces that engines share: by their number and the batch size alone.

    A piece holds a batch at least, so that no engine computes half-empty ones.
    """
    number = max(1, -(-count // (LARGEST * batch)), min(PIECES, count // batch))
    bounds = [count * i // number for i in range(number + 1)]
    return [range(*ends) for ends in pairwise(bounds)]


@dataclass(frozen=True)
class Piece:
    """Answers that are computed together.

    Attributes:
        key: What they are, for the journal.
        job: What an engine is asked.
        read: Turns its answers into what is journalled.
    """

    key: dict[str, Any]
    job: Job
    read: Callable[[Sequence[Completion]], dict[str, Any]]


class Evaluator:
    """Answers examples with the model at a point and judges the answers, through journal and meter.

    Args:
        engine: The model.
        task: Prompts and scorer.
        style: How prompts are posed.
        meter: Where work is booked.
        journal: Answers for what an earlier attempt computed.
        clock: Where time is booked.
    """

    def __init__(
        self,
        engine: Engine,
        task: Task,
        style: PromptStyle,
        meter: Meter,
        journal: Journal,
        clock: Clock | None = None,
    ) -> None:
        self.engine, self.task, self.style, self.meter, self.journal = engine, task, style, meter, journal
        self.clock = clock or Clock()
        self.sampling = Sampling(max_new_tokens=task.max_new_tokens, stop=task.stop(style))
        self.batch_size = int(engine.settings["batch_size"])
        self._prompts: dict[tuple[str, str], TokenIds] = {}
        self._expected: dict[Job, Piece] = {}
        self._last: Place = Point()

    def for_task(self, task: Task) -> Evaluator:
        """Return an evaluator for another task that goes on where this one is."""
        evaluator = Evaluator(self.engine, task, self.style, self.meter, self.journal, self.clock)
        evaluator._last = self._last
        return evaluator

    def prompt(self, example: Example, prompt: str = DEFAULT_PROMPT) -> TokenIds:
        """Return an example as token ids, posed in one of the task's ways."""
        key = (example.id, prompt)
        if key not in self._prompts:
            self._prompts[key] = self.engine.encode(self.format_prompt(example, prompt))
        return self._prompts[key]

    def format_prompt(self, example: Example, prompt: str = DEFAULT_PROMPT) -> list[Message] | str:
        """Return an example as a conversation, or as a text to continue, posed in one of the task's ways."""
        return format_prompt(self.task, self.style, example, prompt)

    def prompts(self, names: Sequence[str], examples: Sequence[Example]) -> tuple[str, ...]:
        """Return prompts without those that pose these examples as one before them does."""
        kept: dict[tuple[TokenIds, ...], str] = {}
        for name in names:
            kept.setdefault(tuple(self.prompt(example, name) for example in examples), name)
        return tuple(kept.values())

    def prompt_sha256(self, example: Example) -> str:
        """Return a hash over an example's prompt ids, as the base is asked."""
        return hashlib.sha256(repr(self.prompt(example)).encode()).hexdigest()

    # Asking engines

    def expect(self, pieces: Sequence[Piece]) -> None:
        """Announce what will probably be asked next, in this order."""
        self._expected = {piece.job: piece for piece in pieces}
        self.engine.prepare([piece.job for piece in pieces], self._arrived)

    def _arrived(self, job: Job, completions: list[Completion], work: Work) -> None:
        piece = self._expected[job]
        self.journal.put_aside(piece.key, piece.read(completions) | {"work": sparse(work)})

    def _obtain(self, point: Place, pieces: Sequence[Piece]) -> list[dict[str, Any]]:
        """Return what is journalled of pieces that one point answers, and book it."""
        # Moves are booked by the order of the evaluations, which a resumed run shares, not by where its engine happens
        # to stand.
        self.meter.reserve(Work(weight_moves=int(point != self._last)))
        if len(pieces) > 1 and pieces[0].job not in self._expected:
            self.expect(pieces)
        return [self._answers(piece) for piece in pieces]

    def _answers(self, piece: Piece) -> dict[str, Any]:
        entry = self.journal.aside(piece.key)
        if entry is not None and self.meter.covers(work := Work(**entry["work"])):
            self.meter.reserve(work)
            return entry
        job = piece.job
        with self.clock.span("moves"):
            self.engine.move_to(job.point)
        with self.clock.span("generation"):
            completions = self.engine.generate(job.prompts, job.sampling, self.meter)
        return piece.read(completions)

    # Scores

    def to_score(
        self, point: Place, examples: Sequence[Example], what: str, prompt: str, *, spread: bool
    ) -> list[Piece]:
        """Return an evaluation as pieces: one, or several where engines are to share it."""
        parts = cut(len(examples), self.batch_size) if spread else [range(len(examples))]
        return [
            self._to_score(point, examples[part.start : part.stop], f"{what}+{part.start}", prompt) for part in parts
        ]

    def _to_score(self, point: Place, examples: Sequence[Example], what: str, prompt: str) -> Piece:
        def read(completions: Sequence[Completion]) -> dict[str, Any]:
            with self.clock.span("judging"):
                scores = self.task.score_many(examples, [c.text for c in completions])
            return {
                "rewards": [None if s.status == "infrastructure" else s.reward for s in scores],
                "correct": [s.correct and s.status != "infrastructure" for s in scores],
            }

        key = {"scored": what, "n": len(examples), "point": point.digest, "prompt": prompt}
        prompts = tuple(self.prompt(example, prompt) for example in examples)
        return Piece(key, Job(point, prompts, self.sampling), read)

    def score(
        self,
        point: Place,
        examples: Sequence[Example],
        what: str,
        account: AdaptationAccount,
        allowance: int | None,
        prompt: str,
        *,
        spread: bool,
    ) -> Evaluation:
        """Answer and judge examples for a method; see `methods.interface.Context.evaluate`."""
        key = {"score": what, "n": len(examples), "point": point.digest, "account": account}
        key |= {"allowance": allowance, "prompt": prompt}
        entry = self.journal.recall(key)
        if entry is None:
            started = time.perf_counter()
            found: list[dict[str, Any]] = []
            complete = True
            with self.meter.account(account, allowance):
                try:
                    found = self._obtain(point, self.to_score(point, examples, what, prompt, spread=spread))
                except AllowanceSpent:
                    complete = False
                work = self.meter.opened
            entry = {name: [value for part in found for value in part[name]] for name in ("rewards", "correct")}
            entry |= {"complete": complete, "work": sparse(work), "seconds": time.perf_counter() - started}
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

    # Answers

    def to_answer(
        self,
        point: Place,
        examples: Sequence[Example],
        what: str,
        decoding: Decoding = GREEDY,
        prompt: str = DEFAULT_PROMPT,
    ) -> Piece:
        """Return examples to be answered as one piece."""
        key = {"answered": what, "n": len(examples), "point": point.digest}
        key |= {"decoding": asdict(decoding), "prompt": prompt}
        prompts = tuple(self.prompt(example, prompt) for example in examples)
        sampling = self.sampling.model_copy(update=asdict(decoding))
        return Piece(key, Job(point, prompts, sampling), lambda completions: {"texts": [c.text for c in completions]})

    def generate(
        self,
        point: Place,
        examples: Sequence[Example],
        account: Account,
        what: str,
        decoding: Decoding = GREEDY,
        prompt: str = DEFAULT_PROMPT,
    ) -> list[str]:
        """Answer examples; the answers are on disk when this returns."""
        key = {"answer": what, "n": len(examples), "point": point.digest, "account": account}
        key |= {"decoding": asdict(decoding), "prompt": prompt}
        entry = self.journal.recall(key)
        if entry is not None:
            self._last = point
            self.meter.replay(account, Work(**entry["work"]))
            return list(entry["texts"])
        started = time.perf_counter()
        with self.meter.account(account):
            (found,) = self._obtain(point, [self.to_answer(point, examples, what, decoding, prompt)])
            texts, work = list(found["texts"]), self.meter.opened
        self._last = point
        entry = {"texts": texts, "work": sparse(work), "seconds": time.perf_counter() - started}
        self.journal.append(key, entry)
        return texts

    def judge(self, examples: Sequence[Example], texts: Sequence[str], what: str) -> list[Score]:
        """Judge answers; the scores are on disk when this returns, so that a resumed run does not judge again."""

        def scores() -> list[dict[str, Any]]:
            return [asdict(score) for score in self.task.score_many(examples, texts)]

        return [Score(**score) for score in self._journalled(f"judge {what}", examples, texts, scores)]

    def votes(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Vote | None]:
        """Return what answers vote for; on disk when this returns."""

        def votes() -> list[dict[str, Any] | None]:
            return [asdict(vote) if vote else None for vote in self.task.vote_keys(examples, texts)]

        return [vote and Vote(**vote) for vote in self._journalled("votes", examples, texts, votes)]

    def signals(self, examples: Sequence[Example], texts: Sequence[str]) -> list[float]:
        """Return the task's own signal for answers; on disk when this returns."""
        return self._journalled("signals", examples, texts, lambda: list(self.task.signals(examples, texts)))

    def _journalled(
        self, what: str, examples: Sequence[Example], texts: Sequence[str], compute: Callable[[], list[Any]]
    ) -> list[Any]:
        answers = [[example.id, text] for example, text in zip(examples, texts, strict=True)]
        key = {"of answers": what, "answers": hashlib.sha256(json.dumps(answers).encode()).hexdigest()}
        entry = self.journal.recall(key)
        if entry is None:
            with self.clock.span("judging"):
                entry = {"found": compute()}
            self.journal.append(key, entry)
        return list(entry["found"])

    def calibrate(self, examples: Sequence[Example]) -> float:
        """Return the mean model FLOPs of the base answering one of these examples, booked as set-up."""
        before = self.meter.ledger["setup"]
        self.generate(Point(), examples, "setup", "calibration")
        return self.meter.flops(self.meter.ledger["setup"] - before) / len(examples)


def sparse(work: Work) -> dict[str, int]:
    """Return the fields of some work that are not 0, as a journal holds them."""
    return {name: amount for name, amount in work.model_dump().items() if amount}
