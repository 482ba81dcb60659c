"""Evaluator: generates and scores answers, books their compute and journals them.

It is the only module that joins engine, task, meter and journal. Methods and artifacts use it through the restricted
views in `bench.run.context`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.compute.ledger import Account, AdaptationAccount, Work
from bench.compute.meter import AllowanceSpent, Meter
from bench.engines.groups import cut
from bench.engines.interface import Completion, Engine, Job, Sampling, TokenIds
from bench.errors import Refused
from bench.records.entries import (
    Answered,
    Answers,
    Generated,
    Judged,
    Scored,
    Scores,
    Shape,
    Signalled,
    Tokens,
    Voted,
    shape,
)
from bench.records.journal import Journal
from bench.run.chunks import Answer, Chunk, answer_from, journalled_answers
from bench.run.prompting import PLAIN, Prompting
from bench.run.returned import rewards_of, scores_of
from bench.run.reward import TRUE, Reward
from bench.run.timing import Clock
from bench.weights.checkpoint import Place
from bench.weights.points import Point, noise_seeds
from methods.interface import GREEDY, Decoding, Evaluation
from methods.interface import Answers as GivenAnswers
from tasks.interface import DEFAULT_PROMPT, EndRule, Example, Message, PromptStyle, Score, Task, Vote


class Evaluator:
    """Evaluates the model at a point of weight space: answers examples and scores the answers.

    Args:
        engine: Engine that generates.
        task: Task with prompts and scorer.
        style: Prompt style, chat or completion.
        meter: Meter that compute is booked to.
        journal: Journal; results of an earlier attempt are read from it instead of computed.
        clock: Clock that time is booked to; None for a new one.
        prompting: Prompts of the run.
        reward: Reward that methods see in place of the task's scores.

    Attributes:
        models: Checkpoint folders of the further models that the method runs, by name.
    """

    def __init__(
        self,
        engine: Engine,
        task: Task,
        style: PromptStyle,
        meter: Meter,
        journal: Journal,
        clock: Clock | None = None,
        prompting: Prompting = PLAIN,
        reward: Reward = TRUE,
    ) -> None:
        self.engine, self.task, self.style, self.meter, self.journal = engine, task, style, meter, journal
        self.clock, self.prompting, self._reward = clock or Clock(), prompting, reward
        stop = (*task.stop(style), *prompting.stop(style))
        self.sampling = Sampling(
            max_new_tokens=task.max_new_tokens, stop=stop, max_think_tokens=prompting.max_think_tokens
        )
        self.models: Mapping[str, Path] = {}
        self._settings = dict(engine.settings)  # as they were: memory that runs out changes the batch size later
        self._prompts: dict[tuple[str, ...], TokenIds] = {}
        self._announced: dict[Job, Chunk] = {}
        self._last_point: Place | None = Point()
        self._centre: Sequence[Place] = ()  # steps to the centre of the last point that had one

    @property
    def batch_size(self) -> int:
        """Number of prompts that the engine decoded together at first."""
        return int(self._settings["batch_size"])

    def for_task(self, task: Task) -> Evaluator:
        """Return an evaluator for the test on a task. It shares the engine, meter, journal and clock."""
        evaluator = Evaluator(self.engine, task, self.style, self.meter, self.journal, self.clock, self.prompting)
        evaluator._last_point, evaluator._centre = self._last_point, self._centre
        evaluator._settings = self._settings
        return evaluator

    def forget_point(self) -> None:
        """Book a weight move at the next evaluation, whatever its point."""
        self._last_point = None

    def prompt(self, example: Example, prompt: str = DEFAULT_PROMPT, drafts: Sequence[str] = ()) -> TokenIds:
        """Return the token ids of an example, formatted with one of the task's prompts, and with drafts."""
        key = (example.id, prompt, *drafts)
        if key not in self._prompts:
            self._prompts[key] = self.engine.encode(self.format_prompt(example, prompt, drafts))
        return self._prompts[key]

    def format_prompt(
        self, example: Example, prompt: str = DEFAULT_PROMPT, drafts: Sequence[str] = ()
    ) -> list[Message] | str:
        """Format an example with one of the task's prompts, as the chat messages to send or as a text to complete."""
        return self.engine.as_sent(self.prompting.format(self.task, self.style, example, prompt, drafts))

    def prompts(self, names: Sequence[str], examples: Sequence[Example]) -> tuple[tuple[str, ...], dict[str, str]]:
        """Return the prompt names without duplicates, and the reasons why the model's chat template refuses others.

        Duplicates give the same token ids for all these examples.
        """
        kept: dict[tuple[TokenIds, ...], str] = {}
        refused: dict[str, str] = {}
        for name in names:
            try:
                kept.setdefault(tuple(self.prompt(example, name) for example in examples), name)
            except Refused as error:
                refused[name] = str(error)
        return tuple(kept.values()), refused

    def prompt_sha256(self, example: Example) -> str:
        """Return the sha256 of the token ids of an example's default prompt."""
        return hashlib.sha256(repr(self.prompt(example)).encode()).hexdigest()

    def end_rule(self, example: Example) -> EndRule | None:
        """Return the rule that ends answers to an example; see `tasks.interface.Task.end_rule`."""
        return self.task.end_rule(example, self.style)

    def _end_rules(self, examples: Sequence[Example]) -> tuple[EndRule | None, ...]:
        rules = tuple(map(self.end_rule, examples))
        return rules if any(rules) else ()

    # Engine calls

    def cut(self, count: int) -> list[range]:
        """Cut the examples of one point into chunks: see `cut`."""
        return cut(count, self._settings)

    def announce(self, chunks: Sequence[Chunk]) -> None:
        """Announce the chunks that will probably be computed next, in this order, so that engines can prefetch."""
        self._announced = {chunk.job: chunk for chunk in chunks}
        self.engine.prepare([chunk.job for chunk in chunks], self._store_prefetched)

    def _store_prefetched(self, job: Job, completions: list[Completion], work: Work) -> None:
        chunk = self._announced[job]
        self.clock.work += work
        self.journal.append_prefetched(chunk.key, chunk.read(completions) | {"work": sparse(work)})

    def _placed(self, point: Place, *, as_deployed: bool) -> tuple[Place, Point | None]:
        """Return where the weights are while a method's candidate is scored, and what the engine adds to them.

        An engine that adds displacements of low-rank noise answers many candidates in one batch, without a move.

        Args:
            point: Candidate.
            as_deployed: Whether weights move in half precision, as they do where the result is deployed. A moved
                weight is rounded and an added product is not.
        """
        if not isinstance(point, Point) or not 0 < point.rank <= self.engine.most_terms:
            return point, None
        if as_deployed and self._settings["dtype"] != "float32":
            return point, None
        return point.origin, Point(point.amplitudes, point.noise)

    def _move(self, point: Place, added: Point | None = None) -> Work:
        """Return the work of the move to the place of the next evaluation, and of what is added there.

        A move is booked whenever consecutive evaluations differ in their point, wherever the engine's weights are. A
        resumed run evaluates in the same order, so it books the same moves.
        """
        layout = self.engine.layout
        drawn = 0 if added is None else layout.values_of(added)
        if point == self._last_point:
            return Work(noise_values=drawn)
        if isinstance(point, Point):
            seeds = noise_seeds(point, self._centre)
            drawn += seeds * layout.noise_values(point.noise) if seeds else 0
        return Work(weight_moves=1, noise_values=drawn)

    def _evaluated(self, point: Place, account: Account, seconds: float) -> None:
        """Note the point of the last evaluation, and book its time."""
        self._last_point = point
        if isinstance(point, Point) and point.centre:
            self._centre = point.centre
        self.clock.book(self.meter.booked_to(account), seconds)

    def run_chunk(self, point: Place, chunk: Chunk) -> dict[str, Any]:
        """Compute a chunk at a point, book its work, and return its journal value."""
        self.meter.reserve(self._move(point, chunk.job.added))
        entry = self.journal.prefetched(chunk.key, chunk.shape)
        if entry is not None and self.meter.covers(work := Work(**entry["work"])):
            self.meter.reserve(work)
            return entry
        job = chunk.job
        with self.clock.span("moves"):
            self.engine.move_to(job.point)
        before = self.meter.opened
        try:
            with self.clock.span("generation"):
                completions = self.engine.generate(job.prompts, job.sampling, self.meter, job.end_rules, job.added)
        finally:
            self.clock.work += self.meter.opened - before
        return chunk.read(completions)

    def _run(
        self,
        key: dict[str, Any],
        checked: Shape,
        chunk: Callable[[], Chunk],
        value: Callable[[dict[str, Any] | None], dict[str, Any]],
        point: Place,
        account: Account,
        allowance: int | None,
    ) -> tuple[dict[str, Any], Work]:
        """Return the journal entry of a chunk and its work. Compute it if it is not in the journal.

        Args:
            key: Key of the entry.
            checked: Check of the entry.
            chunk: Returns the chunk.
            value: Returns what the entry says of the chunk's value, which is None if the allowance ran out.
            point: Point that it is computed at.
            account: Account that the work is booked to.
            allowance: Maximum FLOPs; None for no limit.
        """
        entry = self.journal.recall(key, checked)
        if entry is None:
            started = time.perf_counter()
            found = None
            with self.meter.account(account, allowance):
                with suppress(AllowanceSpent):
                    found = self.run_chunk(point, chunk())
                work = self.meter.opened
            entry = value(found) | {"work": sparse(work), "seconds": time.perf_counter() - started}
            self.journal.append(key, entry)
        else:
            work = Work(**entry["work"])
            self.meter.replay(account, work)
        self._evaluated(point, account, entry["seconds"])
        return entry, work

    # Scores

    def rewards(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Score]:
        """Return the scores of answers that a method may see: the task's own, unless the run replaces the reward."""
        return self._reward.replace(examples, texts, scores_of(self.task, examples, texts))

    def reward_parts(
        self, examples: Sequence[Example], texts: Sequence[str], scores: Sequence[Score]
    ) -> list[dict[str, float] | None]:
        """Return the parts of the rewards of answers that `rewards` scored: one part if the run replaces the reward."""
        if self._reward.replaces_all:
            return [{"reward": score.reward} for score in scores]
        return rewards_of(self.task, examples, texts, scores)

    def gold(self, example: Example) -> str | None:
        """Return the reference answer that a method may train on; None if there is none, or the reward is replaced."""
        return None if self._reward.hides_golds else self.task.gold(example)

    def score_chunk(
        self, point: Place, examples: Sequence[Example], label: str, prompt: str, *, as_deployed: bool
    ) -> Chunk:
        """Return the chunk that answers and scores these examples. See `_placed`."""

        def read(completions: Sequence[Completion]) -> dict[str, Any]:
            with self.clock.span("judging"):
                scores = self.rewards(examples, [c.text for c in completions])
            return {
                "rewards": [None if s.status == "infrastructure" else s.reward for s in scores],
                "correct": [s.correct and s.status != "infrastructure" for s in scores],
            }

        key = {"scored": label, "n": len(examples), "point": point.digest, "prompt": prompt}
        prompts = tuple(self.prompt(example, prompt) for example in examples)
        checked = shape(Scores, len(examples))
        place, added = self._placed(point, as_deployed=as_deployed)
        return Chunk(key, Job(place, prompts, self.sampling, self._end_rules(examples), added), read, checked)

    def score(
        self,
        point: Place,
        examples: Sequence[Example],
        label: str,
        account: AdaptationAccount,
        allowance: int | None,
        prompt: str,
        *,
        as_deployed: bool,
    ) -> Evaluation:
        """Answer and score examples for a method. See `methods.interface.Context.evaluate`, and `_placed`."""
        key = {"score": label, "n": len(examples), "point": point.digest, "account": account}
        key |= {"allowance": allowance, "prompt": prompt}

        def value(found: dict[str, Any] | None) -> dict[str, Any]:
            scores = {name: found[name] if found else [] for name in ("rewards", "correct")}
            return scores | {"complete": found is not None}

        chunk = partial(self.score_chunk, point, examples, label, prompt, as_deployed=as_deployed)
        place, _ = self._placed(point, as_deployed=as_deployed)
        entry, work = self._run(key, shape(Scored, len(examples)), chunk, value, place, account, allowance)
        return Evaluation(
            rewards=np.array([np.nan if r is None else r for r in entry["rewards"]], dtype=np.float64),
            correct=np.array(entry["correct"], dtype=np.bool_),
            flops=self.meter.flops(work),
            complete=entry["complete"],
        )

    # Answers

    def answer_chunk(
        self,
        point: Place,
        examples: Sequence[Example],
        label: str,
        decoding: Decoding = GREEDY,
        prompt: str = DEFAULT_PROMPT,
        drafts: Drafts = (),
    ) -> Chunk:
        """Return the chunk that answers these examples."""
        key: dict[str, Any] = {"answered": label, "n": len(examples), "point": point.digest}
        key |= {"decoding": asdict(decoding), "prompt": prompt} | digest_of(drafts)
        shown = drafts or [()] * len(examples)
        prompts = tuple(self.prompt(example, prompt, each) for example, each in zip(examples, shown, strict=True))
        sampling = self.sampling.model_copy(update=asdict(decoding))
        checked = shape(Answers, len(examples))
        return Chunk(key, Job(point, prompts, sampling, self._end_rules(examples)), journalled_answers, checked)

    def generate(
        self,
        point: Place,
        examples: Sequence[Example],
        account: Account,
        label: str,
        decoding: Decoding = GREEDY,
        prompt: str = DEFAULT_PROMPT,
        allowance: int | None = None,
        drafts: Drafts = (),
    ) -> list[Answer] | None:
        """Answer examples. The answers are journalled when this returns. None if the allowance in FLOPs runs out."""
        key: dict[str, Any] = {"answer": label, "n": len(examples), "point": point.digest, "account": account}
        key |= {"allowance": allowance, "decoding": asdict(decoding), "prompt": prompt} | digest_of(drafts)
        chunk = partial(self.answer_chunk, point, examples, label, decoding, prompt, drafts)
        entry, _ = self._run(key, shape(Answered, len(examples)), chunk, _answers_in, point, account, allowance)
        if entry["answers"] is None:
            return None
        shown = drafts or [()] * len(examples)
        return [answer_from(fields, prompt, each) for fields, each in zip(entry["answers"], shown, strict=True)]

    def tokens_chunk(self, point: Place, examples: Sequence[Example], label: str) -> Chunk:
        """Return the chunk that answers these examples for a method."""
        key = {"generated": label, "n": len(examples), "point": point.digest}
        job = self.answer_chunk(point, examples, label).job
        return Chunk(key, job, _with_tokens, shape(Tokens, len(examples)))

    def answers(
        self,
        point: Place,
        examples: Sequence[Example],
        label: str,
        account: AdaptationAccount,
        allowance: int | None,
    ) -> GivenAnswers:
        """Answer examples for a method. See `methods.interface.Context.answer`."""
        key = {"generate": label, "n": len(examples), "point": point.digest}
        key |= {"account": account, "allowance": allowance}
        chunk = partial(self.tokens_chunk, point, examples, label)
        entry, work = self._run(key, shape(Generated, len(examples)), chunk, _answers_in, point, account, allowance)
        answers = entry["answers"] or ()
        return GivenAnswers(
            texts=tuple(text for text, _, _ in answers),
            token_ids=tuple(tuple(token_ids) for _, token_ids, _ in answers),
            truncated=tuple(finish == "length" for _, _, finish in answers),
            flops=self.meter.flops(work),
            complete=entry["answers"] is not None,
        )

    def judge(
        self, examples: Sequence[Example], texts: Sequence[str], label: str, *, adapting: bool = False
    ) -> list[Score]:
        """Score answers. The scores are journalled when this returns, so a resumed run does not compute them again.

        Args:
            examples: Examples.
            texts: Answers to them.
            label: Name of the answers in the journal.
            adapting: Whether a choice during adaptation depends on the scores, which are then `rewards`.
        """

        def scores() -> list[dict[str, Any]]:
            found = self.rewards(examples, texts) if adapting else scores_of(self.task, examples, texts)
            return [asdict(score) for score in found]

        return [Score(**score) for score in self._journalled(f"judge {label}", examples, texts, scores, Judged)]

    def votes(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Vote | None]:
        """Return the votes of answers. They are journalled when this returns."""

        def votes() -> list[dict[str, Any] | None]:
            return [asdict(vote) if vote else None for vote in self.task.vote_keys(examples, texts)]

        return [vote and Vote(**vote) for vote in self._journalled("votes", examples, texts, votes, Voted)]

    def signals(self, examples: Sequence[Example], texts: Sequence[str]) -> list[float]:
        """Return the task's signal for answers. The values are journalled when this returns."""
        return self._journalled("signals", examples, texts, lambda: list(self.task.signals(examples, texts)), Signalled)

    def _journalled(
        self,
        label: str,
        examples: Sequence[Example],
        texts: Sequence[str],
        compute: Callable[[], list[Any]],
        kind: type[Judged | Voted | Signalled],
    ) -> list[Any]:
        answers = [[example.id, text] for example, text in zip(examples, texts, strict=True)]
        key = {"of answers": label, "answers": hashlib.sha256(json.dumps(answers).encode()).hexdigest()}
        entry = self.journal.recall(key, shape(kind, len(examples)))
        if entry is None:
            with self.clock.span("judging"):
                entry = {"found": compute()}
            self.journal.append(key, entry)
        return list(entry["found"])


Drafts = Sequence[tuple[str, ...]]
"""Earlier answers to each of some examples, which their prompts show; empty if none does."""


def digest_of(drafts: Drafts) -> dict[str, str]:
    """Return the part of a journal key that tells drafts apart: `{"drafts": "83deaa83..."}`; empty without drafts."""
    return {"drafts": hashlib.sha256(json.dumps(drafts).encode()).hexdigest()} if drafts else {}


def _answers_in(found: dict[str, Any] | None) -> dict[str, Any]:
    return {"answers": found and found["answers"]}


def _with_tokens(completions: Sequence[Completion]) -> dict[str, Any]:
    if any(found.counted is not None for found in completions):
        raise Refused("the method asks for the token ids of answers, which this engine does not know")
    return {"answers": [[found.text, list(found.token_ids), found.finish] for found in completions]}


def sparse(work: Work) -> dict[str, int]:
    """Return the nonzero fields of a work record, for the journal."""
    return {name: amount for name, amount in work.model_dump().items() if amount}
