"""Where answers are given and judged: the one place that joins engine, task, meter and journal.

Methods and artifacts reach it through the views of `bench.run.views`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from bench.compute.ledger import Account, AdaptationAccount, Work
from bench.compute.meter import AllowanceSpent, Meter
from bench.engines.interface import Engine, Sampling, TokenIds
from bench.records.journal import Journal
from bench.run.subject import posed
from bench.weights.checkpoint import Place
from bench.weights.points import Point
from methods.interface import GREEDY, Decoding, Evaluation
from tasks.interface import DEFAULT_PROMPT, Example, Message, PromptStyle, Score, Task, Vote


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
        self._prompts: dict[tuple[str, str], TokenIds] = {}
        self._last: Place = Point()

    def turned_to(self, task: Task) -> Desk:
        """Return a desk for another task that goes on where this one is."""
        desk = Desk(self.engine, task, self.style, self.meter, self.journal)
        desk._last = self._last
        return desk

    def prompt(self, example: Example, prompt: str = DEFAULT_PROMPT) -> TokenIds:
        """Return an example as token ids, posed in one of the task's ways."""
        key = (example.id, prompt)
        if key not in self._prompts:
            self._prompts[key] = self.engine.encode(self.posed(example, prompt))
        return self._prompts[key]

    def posed(self, example: Example, prompt: str = DEFAULT_PROMPT) -> list[Message] | str:
        """Return an example as a conversation, or as a text to continue, posed in one of the task's ways."""
        return posed(self.task, self.style, example, prompt)

    def prompts(self, names: Sequence[str], examples: Sequence[Example]) -> tuple[str, ...]:
        """Return prompts without those that pose these examples as one before them does."""
        posed: dict[tuple[TokenIds, ...], str] = {}
        for name in names:
            posed.setdefault(tuple(self.prompt(example, name) for example in examples), name)
        return tuple(posed.values())

    def prompt_sha256(self, example: Example) -> str:
        """Return a hash over an example's prompt ids, as the base is asked."""
        return hashlib.sha256(repr(self.prompt(example)).encode()).hexdigest()

    def _move(self, point: Place) -> None:
        # Moves are booked by the order of the evaluations, which a resumed run shares, not by where its engine happens
        # to stand.
        self.meter.reserve(Work(weight_moves=int(point != self._last)))
        self.engine.move_to(point)

    def score(
        self,
        point: Place,
        examples: Sequence[Example],
        what: str,
        account: AdaptationAccount,
        allowance: int | None,
        prompt: str,
    ) -> Evaluation:
        """Answer and judge examples for a method; see `methods.interface.Context.evaluate`."""
        key = {"score": what, "n": len(examples), "point": point.digest, "account": account}
        key |= {"allowance": allowance, "prompt": prompt}
        entry = self.journal.recall(key)
        if entry is None:
            started = time.perf_counter()
            rewards: list[float | None] = []
            correct: list[bool] = []
            complete = True
            with self.meter.account(account, allowance):
                try:
                    self._move(point)
                    prompts = [self.prompt(e, prompt) for e in examples]
                    completions = self.engine.generate(prompts, self.sampling, self.meter)
                except AllowanceSpent:
                    complete = False
                else:
                    scores = self.task.score_many(examples, [c.text for c in completions])
                    rewards = [None if s.status == "infrastructure" else s.reward for s in scores]
                    correct = [s.correct and s.status != "infrastructure" for s in scores]
                work = self.meter.opened
            entry = {"rewards": rewards, "correct": correct, "complete": complete}
            entry |= {"work": sparse(work), "seconds": time.perf_counter() - started}
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
            self._move(point)
            prompts = [self.prompt(e, prompt) for e in examples]
            sampling = self.sampling.model_copy(update=asdict(decoding))
            texts = [c.text for c in self.engine.generate(prompts, sampling, self.meter)]
            work = self.meter.opened
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
