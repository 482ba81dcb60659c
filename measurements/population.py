"""Speed of a population: `python -m measurements.population`.

Candidates of low-rank noise that share batches are timed against candidates of full rank, each of which moves the
weights, and against low-rank candidates one after another by moves. Texts of the first and the last are compared. All
take turns in one run with the same engines; loading them is not included.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

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

WINDOW = 32
"""Candidates that are announced at a time, as methods do."""


def opened(path: str, engines: int, stack: ExitStack) -> Engine:
    """Return one engine here, or a pool of several."""
    load = partial(TransformersEngine, path, dtype="float32", neighbours=engines)
    if engines == 1:
        return load()
    workers = stack.enter_context(child_processes([load] * engines, threads=max(1, cores() // engines)))
    return EnginePool(CheckpointTokenizer(path, "cpu", "auto", "auto"), load, workers)


def answered(engine: Engine, jobs: list[Job]) -> tuple[list[str], float]:
    """Return the texts of jobs that are requested one after another, and the seconds."""
    texts: list[str] = []
    started = time.perf_counter()
    arrived: dict[Job, Any] = {}
    for first in range(0, len(jobs), WINDOW // 2):
        engine.prepare(jobs[first : first + WINDOW], lambda job, found, _: arrived.update({job: found}))
        for job in jobs[first : first + WINDOW // 2]:
            meter = Meter(engine.profile)
            with meter.account("sample"):
                engine.move_to(job.point)
                found = arrived.get(job) or engine.generate(job.prompts, job.sampling, meter, job.end_rules, job.added)
            texts += [completion.text for completion in found]
    return texts, time.perf_counter() - started


@click.command()
@click.option("--model", default="smollm2-135m", show_default=True)
@click.option("--task", "name", default="successor", show_default=True)
@click.option("--candidates", default=64, show_default=True)
@click.option("--examples", default=13, show_default=True)
@click.option("--sigma", default=1e-3, show_default=True)
@click.option("--engines", default=cores(), show_default=True)
@click.option("--new-tokens", type=int, help="Default: the task's.")
def main(model: str, name: str, candidates: int, examples: int, sigma: float, engines: int, new_tokens: int) -> None:
    """Compare populations in shared batches with populations of moves."""
    task = load_task(name)
    if new_tokens:
        task.max_new_tokens = new_tokens
    with ExitStack() as stack:
        engine = opened(resolve(model).prepare().path, engines, stack)
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
    equal = sum(one == other for one, other in zip(shared, moved, strict=True))
    print(f"{candidates} candidates, {examples} examples, {engines} engines, {model}, {name}")
    print(f"shared batches {fast:.1f} s, full-rank moves {full:.1f} s, low-rank moves {slow:.1f} s")
    print(f"ratio of moves to shared batches: full rank {full / fast:.2f}, low rank {slow / fast:.2f}")
    print(f"texts equal to those of moved weights: {equal} of {len(moved)}")


if __name__ == "__main__":
    main()
