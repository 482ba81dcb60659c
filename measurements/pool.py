"""Speed-up of several engines over one: `python -m measurements.pool`. Start-up time is not included.

Candidates of tiny-adder are evaluated on the same examples, by one engine with one core in this process, and by engines
with one core each in child processes. The two alternate, and the best round of each counts, because other processes on
the machine can only slow them down.
"""

from __future__ import annotations

import time
from functools import partial

import click

from bench.compute.meter import Meter
from bench.engines.interface import Engine, Job
from bench.engines.pool import EnginePool
from bench.engines.processes import child_processes
from bench.engines.transformers import TransformersEngine
from bench.models.source import resolve
from bench.registry import load_task
from bench.run.evaluator import Evaluator
from bench.weights.points import Point


@click.command()
@click.option("--engines", default=2, show_default=True)
@click.option("--candidates", default=40, show_default=True)
@click.option("--examples", default=200, show_default=True)
@click.option("--rounds", default=3, show_default=True)
def main(engines: int, candidates: int, examples: int, rounds: int) -> None:
    load = partial(TransformersEngine, resolve("tiny-adder").prepare().path)
    alone, task = load(), load_task("addition")
    prompts = tuple(alone.encode(task.completion(example)) for example in task.load().test[:examples])
    sampling = Evaluator(alone, task, "completion", Meter(alone.profile), None).sampling  # type: ignore[arg-type]
    with child_processes([load] * engines, 1) as workers:
        pool = EnginePool(alone, load, workers)
        rates: dict[str, list[float]] = {"one engine here": [], f"{engines} engines": []}
        for turn in range(rounds + 1):
            for name, engine in zip(rates, (alone, pool), strict=True):
                jobs = [Job(Point({candidates * turn + i + 1: 1e-3}), prompts, sampling) for i in range(candidates)]
                seconds = score(engine, jobs)
                if turn:  # the first turn is the warm-up
                    rates[name].append(candidates * examples / seconds)
    for name, found in rates.items():
        click.echo(f"{name:<20}{max(found):>10,.0f} evaluations/s, best of {rounds}")
    one, several = (max(found) for found in rates.values())
    click.echo(f"{'ratio':<20}{several / one:>10.2f}")


def score(engine: Engine, jobs: list[Job]) -> float:
    """Return the seconds for running all jobs."""
    meter, early = Meter(engine.profile), set()
    began = time.perf_counter()
    engine.prepare(jobs, lambda job, completions, work: early.add(job))
    with meter.account("sample"):
        for job in jobs:
            if job not in early:
                engine.move_to(job.point)
                engine.generate(job.prompts, job.sampling, meter)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
