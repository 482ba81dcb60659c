"""Candidates of low-rank noise, and requests for their answers one after another, as methods make them."""

from collections.abc import Sequence

from bench.compute.ledger import Work
from bench.compute.meter import Meter
from bench.engines.interface import Engine, Job, Sampling, TokenIds
from bench.weights.noise import Noise
from bench.weights.points import Point
from tasks.interface import EndRule

Answered = list[tuple[list[str], Work]]
"""Texts and work of each job."""


def candidates(count: int, noise: Noise, sigma: float) -> list[Point]:
    """Return candidates at a distance from the base, every second one in the opposite direction of its noise."""
    return [Point({seed: sigma if seed % 2 else -sigma}, noise) for seed in range(1, count + 1)]


def asked(
    prompts: Sequence[TokenIds],
    displacements: Sequence[Point],
    sampling: Sampling,
    centre: Point = Point(),  # noqa: B008, an immutable value
    rules: Sequence[EndRule | None] = (),
) -> list[Job]:
    """Return a job for each displacement."""
    return [Job(centre, tuple(prompts), sampling, tuple(rules), each) for each in displacements]


def answer(engine: Engine, jobs: Sequence[Job]) -> Answered:
    """Request jobs one after another."""
    found = []
    for job in jobs:
        meter = Meter(engine.profile)
        with meter.account("sample"):
            engine.move_to(job.point)
            completions = engine.generate(job.prompts, job.sampling, meter, job.end_rules, job.added)
            found.append(([completion.text for completion in completions], meter.opened))
    return found


def together(engine: Engine, jobs: Sequence[Job]) -> Answered:
    """Request announced jobs, which share batches."""
    engine.prepare(jobs, lambda *_: None)
    return answer(engine, jobs)


def group_sizes(engine: Engine, jobs: Sequence[Job]) -> list[int]:
    """Announce jobs, and return how many share each batch."""
    engine.prepare(jobs, lambda *_: None)
    return [len(group) for group in dict.fromkeys(map(engine._shared._groups.of, jobs))]  # type: ignore[attr-defined]


def alone(engine: Engine, jobs: Sequence[Job]) -> Answered:
    """Request jobs that are not announced."""
    engine.prepare([], lambda *_: None)
    return answer(engine, jobs)


def moved(engine: Engine, jobs: Sequence[Job]) -> Answered:
    """Request the answers of jobs with moved weights."""
    engine.prepare([], lambda *_: None)
    found = []
    for job in jobs:
        assert isinstance(job.point, Point)
        assert job.added is not None
        place = job.added if job.point.is_base else job.point.step(job.added)
        found.append(Job(place, job.prompts, job.sampling, job.end_rules))
    return answer(engine, found)


def texts(found: Answered) -> list[str]:
    """Return all texts."""
    return [text for answers, _ in found for text in answers]
