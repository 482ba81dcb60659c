"""Chunks of a point's examples, and groups of announced jobs in one batch, that one engine computes in one call. Pure.

Neither depends on the number of engines or on what was computed before, so that a resumed run and several engines make
the same batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise

from bench.engines.interface import Job

TERMS = 16
"""Terms that a group adds in each layer: the sum of the ranks of its displacements, filled up with zeros."""
CHUNKS_ON_CPU = {8: 4.0, 4: 1.0, 2: 0.25}
"""Smallest number of rows, in batches, for each number of chunks. Engines of one core answer two chunks of 8 or 16
prompts in 60 to 70 % of the time in which one of them answers all (SmolLM2, two cores)."""
CHUNKS = {8: 4.0, 4: 2.0, 2: 1.0}
"""The same for GPUs and for vLLM, which are faster with large batches."""
LARGEST_CHUNK = 4
"""Maximum size of a chunk, in batches."""


def cut(count: int, settings: Mapping[str, str | int]) -> list[range]:
    """Cut rows into chunks that several engines can compute in parallel.

    The cut depends on the number of rows and on the engine's settings, not on the number of engines. The number of
    chunks is usually a power of two, which 2, 4 or 8 engines share evenly. Example: with batches of 64 on a CPU, 82
    examples make four chunks, of 20 or 21.

    Args:
        count: Number of rows, such as the examples of one point.
        settings: The engine's `settings`.

    Returns:
        Ranges of consecutive rows.
    """
    batch = int(settings["batch_size"])
    sizes = CHUNKS_ON_CPU if _by_core(settings) else CHUNKS
    usual = next((n for n, batches in sizes.items() if count >= batches * batch), 1)
    return _evenly(count, max(usual, -(-count // (LARGEST_CHUNK * batch))))


def _by_core(settings: Mapping[str, str | int]) -> bool:
    """Return whether an engine is one core or a few, which a part of a batch keeps busy."""
    return settings.get("backend") == "transformers" and settings.get("device") == "cpu"


def _evenly(count: int, number: int) -> list[range]:
    """Return ranges of consecutive numbers below `count`, as many as `number`, whose lengths differ by one at most."""
    bounds = [count * i // number for i in range(number + 1)]
    return [range(*ends) for ends in pairwise(bounds)]


class Groups:
    """Groups of the jobs that are announced. A job keeps its group as long as it stays announced.

    Args:
        settings: The engine's `settings`.
    """

    def __init__(self, settings: Mapping[str, str | int]) -> None:
        self._settings = dict(settings)  # as they are: memory that runs out changes the batch size later
        self._of: dict[Job, tuple[Job, ...]] = {}

    def announce(self, jobs: Sequence[Job]) -> None:
        """Replace the announcement."""
        known = {job: self._of[job] for job in jobs if job in self._of}
        new = [job for job in dict.fromkeys(jobs) if job not in known and job.added is not None]
        for _, alike in groupby(new, key=lambda job: (job.point, job.sampling)):
            for group in self._divided(list(alike)):
                known |= dict.fromkeys(group, group)
        self._of = known

    def of(self, job: Job) -> tuple[Job, ...]:
        """Return the group of a job; the job alone if it is not announced."""
        return self._of.get(job, (job,))

    def _divided(self, jobs: Sequence[Job]) -> list[tuple[Job, ...]]:
        """Divide jobs into groups of one size, with at most `TERMS` terms each.

        They are as many as the rows of the jobs make chunks. Only on a CPU are they smaller than a batch.
        """
        rows = sum(len(job.prompts) for job in jobs)
        wanted = len(cut(rows, self._settings))
        if not _by_core(self._settings):
            wanted = min(wanted, max(1, rows // int(self._settings["batch_size"])))
        most = TERMS // max(job.added.rank for job in jobs if job.added is not None)
        number = min(len(jobs), max(wanted, -(-len(jobs) // most)))
        return [tuple(jobs[i] for i in part) for part in _evenly(len(jobs), number)]
