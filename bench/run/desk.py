"""Where answers are given and judged: the one place that joins engine, task, meter and journal.

Methods reach it through `AdaptationContext`, artifacts through `Deployed`; both see only what their side may.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.compute.ledger import ADAPTATION, Account, AdaptationAccount, Work
from bench.compute.meter import AllowanceSpent, Meter
from bench.engines.interface import Engine, Sampling, TokenIds
from bench.records.journal import Journal
from bench.run.display import Display, StageDisplay
from bench.run.subject import Subject
from bench.weights.checkpoint import Place
from bench.weights.points import Point
from methods.interface import GREEDY, AdaptationSplit, Decoding, Evaluation, Lora, Training
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
        chat = self.style == "chat"
        return self.task.messages(example, prompt) if chat else self.task.completion(example, prompt)

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


class AdaptationContext:
    """A method's view of a run: no test split, no engine, no meter. See `methods.interface.Context`."""

    def __init__(self, desk: Desk, subject: Subject, seed: int, evaluation_flops: float, display: Display) -> None:
        self._desk, self._display = desk, display
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
        """Prepare gradient training, or go on with what an earlier attempt saved."""
        from bench.run.training import TrainingSession

        folder = self._desk.journal.path.parent / "training"
        return TrainingSession(self._desk, self._examples["support"], folder, allowance, lora)

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


def sparse(work: Work) -> dict[str, int]:
    """Return the fields of some work that are not 0, as a journal holds them."""
    return {name: amount for name, amount in work.model_dump().items() if amount}
