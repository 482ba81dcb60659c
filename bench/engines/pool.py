"""Several engines as one: they compute what was announced ahead of its turn, and nobody can tell but by the clock.

Whoever asks does so one job after the other, and what comes of each decides what is asked next and what it may take.
That order stands: work is booked when its turn comes, by the sums that one engine would have booked step by step.
Ahead of their turn, announced jobs are computed within shares of what the open block may still take, so that all shares
together are covered. A job whose share ran out is computed again in its turn with everything that is left: that is the
rule of one engine, and cuts off where it does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from bench.compute.flops import ModelShape, generation_flops
from bench.compute.ledger import Work
from bench.compute.meter import AllowanceSpent, Meter
from bench.engines.interface import Arrived, Completion, Engine, Finish, Job, Sampling, TokenIds
from bench.weights.checkpoint import Place
from bench.weights.points import Point
from tasks.interface import Message, PromptStyle

DEPTH = 2
"""Jobs that an engine is given at a time: it need not wait for the next one while answers are judged."""
SLACK = 1.2
"""Share of a job over its expected cost at the least; with less, too many would have to be computed twice."""

_flops_of = lru_cache(maxsize=4096)(generation_flops)


@dataclass(frozen=True)
class Answered:
    """What became of a job.

    Attributes:
        completions: None if its limit ran out.
        work: What it took.
        refused: The step that the limit did not cover.
    """

    completions: list[Completion] | None
    work: Work
    refused: Work | None = None


def answer(engine: Engine, job: Job, limit: int | None) -> Answered:
    """Let an engine do a job within a limit in FLOPs."""
    meter = Meter(engine.shape)
    with meter.account("setup", limit):
        try:
            engine.move_to(job.point)
            return Answered(engine.generate(job.prompts, job.sampling, meter), meter.opened)
        except AllowanceSpent as spent:
            return Answered(None, meter.opened, spent.refused)


@dataclass(frozen=True)
class Described:
    """What an engine says of itself."""

    shape: ModelShape
    digest: str
    settings: dict[str, str | int]


class Workers(Protocol):
    """Engines in other processes, by number."""

    @property
    def alive(self) -> Sequence[int]:
        """Those that take jobs.

        Raises:
            BenchError: If there is none any more.
        """

    def describe(self) -> Described:
        """Return what they all say of themselves."""

    def prepare(self, jobs: Sequence[Job]) -> None:
        """Let all of them know what comes next."""

    def start(self, worker: int, job: Job, limit: int | None) -> None:
        """Give one of them a job, after those that it has."""

    def wait(self) -> tuple[int, Job, Answered | Exception | None]:
        """Wait for a job to end; return whose it was and what became of it, None if its worker died."""


class EnginePool:
    """Engines in other processes as one. See `bench.engines.interface.Engine`.

    Args:
        local: Engine in this process, for what is no answer: tokens, texts, checkpoints.
        workers: Give the answers.
    """

    def __init__(self, local: Engine, workers: Workers) -> None:
        described = workers.describe()
        self.shape, self.digest, self.settings = described.shape, described.digest, described.settings
        self._local, self._workers = local, workers
        self._place: Place = Point()
        self._upcoming: list[Job] = []
        self._arrived: Arrived = lambda job, completions, work: None
        self._load: Counter[int] = Counter()
        self._running: dict[Job, int] = {}  # to its share
        self._done: dict[Job, int] = {}  # ahead of its turn, to what it took
        self._kept: dict[Job, Answered | Exception] = {}  # what else came of jobs
        self._taken, self._worst = 0, 0  # FLOPs of jobs so far, and of the longest answers that they could have had

    # What is no answer

    @property
    def style(self) -> PromptStyle:
        """`chat` if the tokenizer has a chat template, else `completion`."""
        return self._local.style

    @property
    def point(self) -> Place:
        """Where answers are asked for."""
        return self._place

    def encode(self, prompt: list[Message] | str) -> TokenIds:
        """Return token ids by the tokenizer's own template, or of a plain text."""
        return self._local.encode(prompt)

    def trainable(self) -> tuple[Any, Any]:
        """Return a copy of the base in float32 that can be trained, in this process, and one of the tokenizer."""
        model, tokenizer = self._local.trainable()
        return model.to(self.settings["device"]), tokenizer

    def ending(self, generated: Sequence[int], sampling: Sampling) -> Finish | None:
        """Return why an answer ends with the newest of its tokens, or None if it goes on."""
        return self._local.ending(generated, sampling)

    def text(self, generated: Sequence[int], sampling: Sampling) -> str:
        """Return an answer's text without special tokens, cut before a stop string."""
        return self._local.text(generated, sampling)

    def save(self, folder: Path) -> None:
        """Write the weights where they are now, and the tokenizer, as an ordinary Hugging Face checkpoint."""
        self._local.move_to(self._place)
        self._local.save(folder)

    # Answers

    def prepare(self, jobs: Sequence[Job], arrived: Arrived) -> None:
        """Announce what will probably be asked next; it is computed from when the first of it is asked."""
        self._workers.prepare(jobs)
        self._upcoming, self._arrived = list(jobs), arrived
        self._forget()

    def move_to(self, point: Place) -> None:
        """Ask for answers of a point, or of trained weights, from now on."""
        self._place = point

    def generate(self, prompts: Sequence[TokenIds], sampling: Sampling, meter: Meter) -> list[Completion]:
        """Answer prompts, while other engines compute what was announced next.

        Raises:
            OverBudget: As one engine would, with as much booked.
            AllowanceSpent: Likewise.
        """
        if not prompts:
            return []
        job, available = Job(self._place, tuple(prompts), sampling), meter.available
        if job in self._upcoming:
            del self._upcoming[: self._upcoming.index(job) + 1]
            self._forget()
        found = self._obtain(job, self._share(job, available), available)
        if isinstance(found, Answered) and found.refused is not None and meter.covers(found.work + found.refused):
            found = self._obtain(job, available, available)
        if isinstance(found, Exception):
            raise found
        if found.work != Work():
            meter.reserve(found.work)
        if found.completions is None:
            assert found.refused is not None
            meter.reserve(found.refused)  # raises, as it would have for one engine
            raise AssertionError("a step was refused that is covered")
        return found.completions

    def _forget(self) -> None:
        """Drop what came of jobs that will not be asked."""
        upcoming = set(self._upcoming)
        self._done = {job: taken for job, taken in self._done.items() if job in upcoming}
        self._kept = {job: found for job, found in self._kept.items() if job in upcoming}

    def _obtain(self, job: Job, limit: int | None, available: int | None) -> Answered | Exception:
        while job not in self._kept:
            if job not in self._running:
                self._start(job, limit)
            self._compute_ahead(available)
            self._receive(job)
        return self._kept.pop(job)

    def _compute_ahead(self, available: int | None) -> None:
        for job in self._upcoming:
            if len(self._running) >= DEPTH * len(self._workers.alive):
                return
            if job in self._running or job in self._done or job in self._kept:
                continue
            share = self._share(job, available)
            if available is not None and self._held() + (share or 0) > available:
                return
            self._start(job, share)

    def _start(self, job: Job, limit: int | None) -> None:
        worker = min(self._workers.alive, key=lambda each: self._load[each])
        self._workers.start(worker, job, limit)
        self._load[worker] += 1
        self._running[job] = limit or 0

    def _receive(self, asked: Job) -> None:
        worker, job, found = self._workers.wait()
        self._load[worker] -= 1
        del self._running[job]
        if found is None:
            return  # another engine will be given it
        if isinstance(found, Answered) and found.completions is not None:
            taken = self._flops(found.work)
            self._taken, self._worst = self._taken + taken, self._worst + self._longest(job)
            if job != asked:
                if job in self._upcoming:
                    self._arrived(job, found.completions, found.work)
                    self._done[job] = taken
                return
        if job == asked or job in self._upcoming:
            self._kept[job] = found

    # Shares

    def _held(self) -> int:
        """FLOPs that are spoken for: shares of running jobs, and what those done ahead of their turn took."""
        return sum(self._running.values()) + sum(self._done.values())

    def _share(self, job: Job, available: int | None) -> int | None:
        """FLOPs that a job may take while others do."""
        if available is None:
            return None
        longest = self._longest(job)
        expected = longest * (self._taken / self._worst if self._worst else 1.0)
        at_once = min(DEPTH * len(self._workers.alive), int(available / (SLACK * expected)))
        return min(longest, available // max(1, at_once))

    def _longest(self, job: Job) -> int:
        """FLOPs of a job if no answer ends before its limit."""
        return sum(_flops_of(self.shape, len(prompt), job.sampling.max_new_tokens) for prompt in job.prompts)

    def _flops(self, work: Work) -> int:
        return Meter(self.shape).flops(work)
