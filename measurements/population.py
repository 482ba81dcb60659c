"""Speed of a population: `python -m measurements.population`.

Candidates of low-rank noise that share batches are timed against candidates of full rank, each of which moves the
weights, and against low-rank candidates one after another by moves. Texts and mean rewards of the first and the last
are compared. All take turns in one run with the same engines; loading them is not included. With `--new-tokens 1` the
times are those of prefill.
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
from bench.weights.points import Point
from tasks.interface import Example

WINDOW = 32
"""Candidates that are announced at a time, as methods do."""


def opened(path: str, dtype: str, engines: int, stack: ExitStack) -> Engine:
    """Return one engine here, or a pool of several."""
    load = partial(TransformersEngine, path, dtype=dtype, neighbours=engines)
    if engines == 1:
        return load()
    workers = stack.enter_context(child_processes([load] * engines, threads=max(1, cores() // engines)))
    return EnginePool(CheckpointTokenizer(path, "cpu", "auto", "auto"), load, workers)


class Took(NamedTuple):
    """Seconds, and seconds of all cores, which depend less on what else runs."""

    seconds: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s ({self.cpu:.1f} of cores)"


def cpu_seconds() -> float:
    """Return the seconds of cores that this process and its running children have used."""
    here = psutil.Process()
    return sum(each.cpu_times().user + each.cpu_times().system for each in (here, *here.children(recursive=True)))


def answered(engine: Engine, jobs: list[Job]) -> tuple[list[str], Took]:
    """Return the texts of jobs that are requested one after another, and the time."""
    texts: list[str] = []
    started, cpu = time.perf_counter(), cpu_seconds()
    arrived: dict[Job, Any] = {}
    for first in range(0, len(jobs), WINDOW // 2):
        engine.prepare(jobs[first : first + WINDOW], lambda job, found, _: arrived.update({job: found}))
        for job in jobs[first : first + WINDOW // 2]:
            meter = Meter(engine.profile)
            with meter.account("sample"):
                engine.move_to(job.point)
                found = arrived.get(job) or engine.generate(job.prompts, job.sampling, meter, job.end_rules, job.added)
            texts += [completion.text for completion in found]
    return texts, Took(time.perf_counter() - started, cpu_seconds() - cpu)


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
@click.option("--engines", default=cores(), show_default=True)
@click.option("--dtype", default="float32", show_default=True)
@click.option("--new-tokens", type=int, help="Default: the task's.")
def main(
    model: str,
    name: str,
    candidates: int,
    examples: int,
    sigma: float,
    engines: int,
    dtype: str,
    new_tokens: int,
) -> None:
    """Compare populations in shared batches with populations of moves."""
    task = load_task(name)
    if new_tokens:
        task.max_new_tokens = new_tokens
    with ExitStack() as stack:
        engine = opened(resolve(model).prepare().path, dtype, engines, stack)
        folder = Path(stack.enter_context(TemporaryDirectory()))
        evaluator = Evaluator(engine, task, engine.style, Meter(engine.profile), Journal(folder / "journal.jsonl"))
        chosen = task.load().support[:examples]
        prompts, rules = tuple(map(evaluator.prompt, chosen)), tuple(map(evaluator.end_rule, chosen))

        def jobs(kind: Any, *, added: bool) -> list[Job]:
            points = [Point({seed: sigma}, kind) for seed in range(1, candidates + 1)]
            if added:
                return [Job(Point(), prompts, evaluator.sampling, rules, point) for point in points]
            return [Job(point, prompts, evaluator.sampling, rules) for point in points]

        answered(engine, jobs("lowrank", added=True)[:2])  # compiled loops and packed weights
        shared, fast = answered(engine, jobs("lowrank", added=True))
        _, full = answered(engine, jobs("iid", added=False))
        moved, slow = answered(engine, jobs("lowrank", added=False))
        scores = [means(evaluator, chosen, texts) for texts in (shared, moved)]
    equal = sum(one == other for one, other in zip(shared, moved, strict=True))
    print(f"{candidates} candidates, {examples} examples, {engines} engines, {model}, {name}, {dtype}")
    print(f"shared batches {fast}, full-rank moves {full}, low-rank moves {slow}")
    for label, took in (("full rank", full), ("low rank", slow)):
        ratios = took.seconds / fast.seconds, took.cpu / fast.cpu
        print(f"ratio of moves of {label} to shared batches: {ratios[0]:.2f}, of cores {ratios[1]:.2f}")
    print(f"texts equal to those of moved weights: {equal} of {len(moved)}")
    if all(np.ptp(each) for each in scores):
        print(f"correlation of the candidates' mean rewards: {correlation(*scores):.3f}")


if __name__ == "__main__":
    main()
