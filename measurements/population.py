"""Speed of a population: `python -m measurements.population`.

Candidates of low-rank noise that share batches are timed against candidates of full rank, each of which moves the
weights, and against low-rank candidates one after another by moves. Texts and mean rewards of the first and the last
are compared. All take turns in one run with the same engines; loading them is not included. Seconds of the processors
are printed too, because other work on a machine changes them less. With `--new-tokens 1` only prompts are computed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import correlation
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import click
import numpy as np
import psutil

from bench.compute.meter import Meter
from bench.engines.interface import Engine, Job
from bench.engines.placement import cores
from bench.engines.pool import EnginePool
from bench.engines.processes import child_processes
from bench.engines.tokenizer import CheckpointTokenizer
from bench.engines.transformers import TransformersEngine
from bench.models.source import resolve
from bench.records.journal import Journal
from bench.registry import load_task
from bench.run.evaluator import Evaluator
from bench.run.prompting import PLAIN
from bench.weights.points import Point
from tasks.interface import Example

TURN = 32
"""Candidates that are announced at a time, as methods do. After them the next kind has its turn."""


class Time(NamedTuple):
    """Seconds that passed, and seconds that processors computed for this process and its children."""

    passed: float
    computed: float

    @classmethod
    def now(cls) -> Time:
        """Return the time now."""
        here = psutil.Process()
        times = [process.cpu_times() for process in (here, *here.children(recursive=True))]
        return cls(time.perf_counter(), sum(each.user + each.system for each in times))

    def since(self, started: Time) -> Time:
        """Return the time from another one to this."""
        return Time(self.passed - started.passed, self.computed - started.computed)

    def __str__(self) -> str:
        return f"{self.passed:.1f} s (processors {self.computed:.1f} s)"


def opened(path: str, backend: str, dtype: str, engines: int, longest: int, stack: ExitStack) -> Engine:
    """Return one engine here, or a pool of several."""
    if backend == "vllm":
        from bench.engines.vllm.engine import VllmEngine

        return VllmEngine(path, dtype=dtype, max_model_len=longest, rank=1)
    load = partial(TransformersEngine, path, dtype=dtype, neighbours=engines)
    if engines == 1:
        return load()
    workers = stack.enter_context(child_processes([load] * engines, threads=max(1, cores() // engines)))
    return EnginePool(CheckpointTokenizer(path, "cpu", "auto", "auto"), load, workers)


def answered(engine: Engine, jobs: list[Job]) -> tuple[list[str], Time]:
    """Return the texts of jobs that are requested one after another, and the time."""
    texts: list[str] = []
    started = Time.now()
    arrived: dict[Job, Any] = {}
    engine.prepare(jobs, lambda job, found, _: arrived.update({job: found}))
    for job in jobs:
        meter = Meter(engine.profile)
        with meter.account("sample"):
            engine.move_to(job.point)
            found = arrived.get(job) or engine.generate(job.prompts, job.sampling, meter, job.end_rules, job.added)
        texts += [completion.text for completion in found]
    return texts, Time.now().since(started)


def means(evaluator: Evaluator, examples: Sequence[Example], texts: Sequence[str]) -> list[float]:
    """Return the mean reward of each candidate, whose texts follow each other."""
    count = len(examples)
    parts = [texts[first : first + count] for first in range(0, len(texts), count)]
    return [float(np.mean([score.reward for score in evaluator.rewards(examples, part)])) for part in parts]


@click.command()
@click.option("--model", default="smollm2-135m", show_default=True)
@click.option("--task", "name", default="successor", show_default=True)
@click.option("--candidates", default=64, show_default=True)
@click.option("--examples", default=13, show_default=True)
@click.option("--sigma", default=1e-3, show_default=True)
@click.option("--engine", "backend", type=click.Choice(["transformers", "vllm"]), default="transformers")
@click.option("--dtype", default="float32", show_default=True)
@click.option("--engines", default=cores(), show_default=True, help="Number of transformers engines.")
@click.option("--new-tokens", type=int, help="Default: the task's.")
def main(
    model: str,
    name: str,
    candidates: int,
    examples: int,
    sigma: float,
    backend: str,
    dtype: str,
    engines: int,
    new_tokens: int,
) -> None:
    """Compare populations in shared batches with populations of moves."""
    task = load_task(name)
    if new_tokens:
        task.max_new_tokens = new_tokens
    path = resolve(model).prepare().path
    tokenizer, chosen = CheckpointTokenizer(path, "cpu", "auto", "auto"), task.load().support[:examples]
    longest = max(len(tokenizer.encode(PLAIN.format(task, tokenizer.style, each))) for each in chosen)
    with ExitStack() as stack:
        engine = opened(path, backend, dtype, engines, longest + task.max_new_tokens, stack)
        folder = Path(stack.enter_context(TemporaryDirectory()))
        evaluator = Evaluator(engine, task, engine.style, Meter(engine.profile), Journal(folder / "journal.jsonl"))
        prompts, rules = tuple(map(evaluator.prompt, chosen)), tuple(map(evaluator.end_rule, chosen))

        def jobs(seeds: range, kind: Any, *, added: bool) -> list[Job]:
            points = [Point({seed: sigma}, kind) for seed in seeds]
            if added:
                return [Job(Point(), prompts, evaluator.sampling, rules, point) for point in points]
            return [Job(point, prompts, evaluator.sampling, rules) for point in points]

        ways = {
            "shared batches": ("lowrank", True),
            "full-rank moves": ("iid", False),
            "low-rank moves": ("lowrank", False),
        }
        texts: dict[str, list[str]] = {way: [] for way in ways}
        times: dict[str, list[Time]] = {way: [] for way in ways}
        for kind, added in ways.values():
            answered(engine, jobs(range(1, 3), kind, added=added))  # compiled loops and packed weights
        for first in range(1, candidates + 1, TURN):
            for way, (kind, added) in ways.items():
                found, took = answered(engine, jobs(range(first, min(first + TURN, candidates + 1)), kind, added=added))
                texts[way] += found
                times[way].append(took)
        compared = texts["shared batches"], texts["low-rank moves"]
        scores = [means(evaluator, chosen, each) for each in compared]
    print(f"{candidates} candidates, {examples} examples, {model}, {name}, at most {task.max_new_tokens} new tokens")
    print(f"{backend}, {dtype}")
    sums = {way: Time(*map(sum, zip(*found, strict=True))) for way, found in times.items()}
    shared = sums["shared batches"]
    for way, took in sums.items():
        passed, computed = took.passed / shared.passed, took.computed / shared.computed
        print(f"{way}: {took}; relative to shared batches {passed:.2f} (processors {computed:.2f})")
    equal = sum(one == other for one, other in zip(*compared, strict=True))
    print(f"texts equal to those of moved weights: {equal} of {len(compared[0])}")
    if all(np.ptp(each) for each in scores):
        print(f"correlation of the candidates' mean rewards: {correlation(*scores):.3f}")


if __name__ == "__main__":
    main()
