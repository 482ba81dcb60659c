"""Engine pool that prefetches announced jobs. Results are identical to one engine's; only the speed differs.

The caller requests one job after another, and each result decides the next request and its budget. The pool keeps that
order: it records a job's work with the meter when the job is requested, with the same totals as a single engine.

Prefetched jobs run under shares of the open block's remaining FLOPs, and the shares together never exceed that
remainder. If a job exhausts its share, it runs again when it is requested, with all FLOPs that are left. It is then cut
off at the same step as on a single engine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from bench.compute.flops import generation_flops
from bench.compute.ledger import Work
from bench.compute.meter import AllowanceSpent, Meter
from bench.compute.profile import ComputeProfile
from bench.engines.groups import Groups
from bench.engines.interface import Arrived, Completion, Engine, Finish, Job, Sampling, TokenIds
from bench.engines.tokenizer import CheckpointTokenizer
from bench.records.rows import Move
from bench.weights.checkpoint import Place
from bench.weights.layout import Layout
from bench.weights.points import Point
from tasks.interface import EndRule, Message, PromptStyle

DEPTH = 2
"""Jobs queued per engine, so that an engine does not idle while answers are scored."""
SLACK = 1.2
"""Minimum ratio of a job's share to its expected cost. With a smaller one, too many jobs would run twice."""

ALL_DIED = "every engine's process has died, of too little memory perhaps; resume with fewer engines"
"""Error message of workers that have no process left."""

_flops_of = lru_cache(maxsize=4096)(generation_flops)


@dataclass(frozen=True)
class JobResult:
    """Result of a job.

    Attributes:
        completions: One completion per prompt; None if the limit ran out.
        work: Work that was done.
        refused: Work of the first step that exceeded the limit; None if no step did.
    """

    completions: list[Completion] | None
    work: Work
    refused: Work | None = None


def run_job(engine: Engine, job: Job, limit: int | None) -> JobResult:
    """Run a job on an engine within a limit in FLOPs; None means no limit."""
    meter = Meter(engine.profile)
    with meter.account("setup", limit):
        try:
            engine.move_to(job.point)
            found = engine.generate(job.prompts, job.sampling, meter, job.end_rules, job.added)
            return JobResult(found, meter.opened)
        except AllowanceSpent as spent:
            return JobResult(None, meter.opened, spent.refused)


@dataclass(frozen=True)
class EngineInfo:
    """Description of an engine: profile, digest, layout and settings as in `bench.engines.interface.Engine`."""

    profile: ComputeProfile
    digest: str
    layout: Layout
    most_terms: int
    settings: dict[str, str | int]

    @classmethod
    def of(cls, engine: Engine) -> EngineInfo:
        """Return the description of an engine."""
        return cls(engine.profile, engine.digest, engine.layout, engine.most_terms, engine.settings)


class Workers(Protocol):
    """Engines in other processes, numbered from 0."""

    @property
    def alive(self) -> Sequence[int]:
        """Numbers of the workers that accept jobs.

        Raises:
            BenchError: If no worker is left.
        """

    def describe(self) -> EngineInfo:
        """Return the common description of all workers."""

    def prepare(self, jobs: Sequence[Job]) -> None:
        """Announce the next jobs to all workers."""

    def start(self, worker: int, job: Job, limit: int | None) -> None:
        """Queue a job on one worker."""

    def wait(self) -> tuple[int, Job, JobResult | Exception | None]:
        """Wait until a job ends; return its worker, the job and its result, or None if the worker died."""


class EnginePool:
    """Several engines behind the interface of one. See `bench.engines.interface.Engine`.

    Args:
        tokenizer: Tokenizer of the checkpoint, in this process.
        load: Function that returns an engine in this process; called when a checkpoint is to be saved.
        workers: Engines that generate the answers.
    """

    def __init__(self, tokenizer: CheckpointTokenizer, load: Callable[[], Engine], workers: Workers) -> None:
        described = workers.describe()
        self.profile, self.digest, self.settings = described.profile, described.digest, described.settings
        self.layout, self.most_terms = described.layout, described.most_terms
        tokenizer.settings = described.settings
        self._tokenizer, self._load_here, self._workers = tokenizer, load, workers
        self._place: Place = Point()
        self._upcoming: list[Job] = []
        self._groups = Groups(described.settings)
        self._worker_of: dict[Job, int] = {}  # of the groups that were started
        self._arrived: Arrived = lambda job, completions, work: None
        self._load: Counter[int] = Counter()
        self._running: dict[Job, int] = {}  # share of each running job, in FLOPs
        self._done: dict[Job, int] = {}  # FLOPs of each job that was finished before its request
        self._kept: dict[Job, JobResult | Exception] = {}  # other results of announced jobs
        self._taken, self._worst = 0, 0  # FLOPs of finished jobs, and of their answers at full length

    # Everything except generation

    @property
    def style(self) -> PromptStyle:
        """`chat` if the tokenizer has a chat template, else `completion`."""
        return self._tokenizer.style

    @property
    def point(self) -> Place:
        """Point or checkpoint of the next answers."""
        return self._place

    def as_sent(self, prompt: list[Message] | str) -> list[Message] | str:
        """Return a conversation with its system message in the user's turn if the chat template has no place for it."""
        return self._tokenizer.as_sent(prompt)

    def encode(self, prompt: list[Message] | str) -> TokenIds:
        """Return the token ids of a conversation, formatted with the chat template, or of a plain text."""
        return self._tokenizer.encode(prompt)

    def trainable(self, folder: Path | None = None) -> tuple[Any, Any]:
        """Return a trainable float32 copy of the base, or of another model, in this process, and its tokenizer."""
        return self._tokenizer.trainable(folder)

    def ending(self, generated: Sequence[int], sampling: Sampling, rule: EndRule | None = None) -> Finish | None:
        """Return the reason if the newest token ends the answer, else None."""
        return self._tokenizer.ending(generated, sampling, rule)

    def text(self, generated: Sequence[int], sampling: Sampling) -> str:
        """Return an answer's text without special tokens, cut before a stop string."""
        return self._tokenizer.text(generated, sampling)

    def save(self, folder: Path) -> Move | None:
        """Write the current weights and the tokenizer as a Hugging Face checkpoint, and return their move."""
        engine = self._load_here()
        engine.move_to(self._place)
        return engine.save(folder)

    # Generation

    def prepare(self, jobs: Sequence[Job], arrived: Arrived) -> None:
        """Announce the next jobs. Prefetching starts when the first of them is requested."""
        self._workers.prepare(jobs)
        self._upcoming, self._arrived = list(jobs), arrived
        self._groups.announce(jobs)
        self._worker_of = {job: self._worker_of[job] for job in jobs if job in self._worker_of}
        self._forget()

    def move_to(self, point: Place) -> None:
        """Set the point or checkpoint of the next answers."""
        self._place = point

    def generate(
        self,
        prompts: Sequence[TokenIds],
        sampling: Sampling,
        meter: Meter,
        end_rules: Sequence[EndRule | None] = (),
        added: Point | None = None,
    ) -> list[Completion]:
        """Generate one completion per prompt, while other engines prefetch the announced jobs.

        Raises:
            OverBudget: Where a single engine would raise it, with the same work recorded.
            AllowanceSpent: Where a single engine would raise it, with the same work recorded.
        """
        if not prompts:
            return []
        job, available = Job(self._place, tuple(prompts), sampling, tuple(end_rules), added), meter.available
        if job in self._upcoming:
            del self._upcoming[: self._upcoming.index(job) + 1]
            self._forget()
        found = self._obtain(job, self._share(job, available), available)
        if isinstance(found, JobResult) and found.refused is not None:
            needed = found.refused if added is not None else found.work + found.refused  # all of it in a shared batch
            if meter.covers(needed):
                found = self._obtain(job, available, available)
        if isinstance(found, Exception):
            raise found
        if found.work != Work():
            meter.reserve(found.work)
        if found.completions is None:
            assert found.refused is not None
            meter.reserve(found.refused)  # raises the same error as on a single engine
            raise AssertionError("a worker refused a step that the meter covers")
        return found.completions

    def _forget(self) -> None:
        """Drop the results of jobs that are no longer announced."""
        upcoming = set(self._upcoming)
        self._done = {job: taken for job, taken in self._done.items() if job in upcoming}
        self._kept = {job: found for job, found in self._kept.items() if job in upcoming}

    def _obtain(self, job: Job, limit: int | None, available: int | None) -> JobResult | Exception:
        while job not in self._kept:
            if job not in self._running:
                self._start(job, limit)
            self._compute_ahead(available)
            self._receive(job)
        return self._kept.pop(job)

    def _compute_ahead(self, available: int | None) -> None:
        for job in self._upcoming:
            if job in self._running or job in self._done or job in self._kept:
                continue
            running = {self._groups.of(each) for each in self._running}
            if len(running) >= DEPTH * len(self._workers.alive) and self._groups.of(job) not in running:
                return
            share = self._share(job, available)
            if available is not None and self._held() + (share or 0) > available:
                return
            self._start(job, share)

    def _start(self, job: Job, limit: int | None) -> None:
        alive = self._workers.alive
        worker = self._worker_of.get(job, -1)  # one engine answers all jobs of a group in one batch
        if worker not in alive:
            worker = min(alive, key=lambda each: self._load[each])
            if job.added is not None:
                self._worker_of |= dict.fromkeys(self._groups.of(job), worker)
        self._workers.start(worker, job, limit)
        self._load[worker] += 1
        self._running[job] = limit or 0

    def _receive(self, asked: Job) -> None:
        worker, job, found = self._workers.wait()
        self._load[worker] -= 1
        del self._running[job]
        if found is None:
            return  # the job will be started again on another engine
        if isinstance(found, JobResult) and found.completions is not None:
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
        """Return the FLOPs that are already assigned: shares of running jobs plus FLOPs of prefetched ones."""
        return sum(self._running.values()) + sum(self._done.values())

    def _share(self, job: Job, available: int | None) -> int | None:
        """Return the FLOPs limit of a job that runs beside others; None means no limit."""
        if available is None:
            return None
        longest = self._longest(job)
        expected = longest * (self._taken / self._worst if self._worst else 1.0)
        at_once = min(DEPTH * len(self._workers.alive), int(available / (SLACK * expected)))
        return min(longest, available // max(1, at_once))

    def _longest(self, job: Job) -> int:
        """Return the FLOPs of a job if every answer reaches max_new_tokens."""
        new = job.sampling.max_new_tokens
        added = 0 if job.added is None else 2 * self.layout.values_of(job.added)
        return sum(_flops_of(self.profile, len(p), new) + added * (len(p) + new) for p in job.prompts)

    def _flops(self, work: Work) -> int:
        return Meter(self.profile).flops(work)
