"""Groups of announced jobs whose answers an engine computes in one batch. Pure.

A group is a function of the announcements alone, never of what was computed before, so that a resumed run and several
engines make the same batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise

from bench.engines.interface import Job

TERMS = 16
"""Terms that a group adds in each layer: the sum of the ranks of its displacements, filled up with zeros."""
BATCHES = 2
"""Rows of a group, in batches: as answers end others enter, so a group keeps a batch full for most of its time."""


class Groups:
    """Groups of the jobs that are announced. A job keeps its group as long as it stays announced.

    Args:
        batch_size: Number of rows that an engine decodes together.
    """

    def __init__(self, batch_size: int) -> None:
        self._rows = BATCHES * batch_size
        self._of: dict[Job, tuple[Job, ...]] = {}

    def announce(self, jobs: Sequence[Job]) -> None:
        """Replace the announcement."""
        known = {job: self._of[job] for job in jobs if job in self._of}
        new = [job for job in dict.fromkeys(jobs) if job not in known and job.added is not None]
        for _, alike in groupby(new, key=lambda job: (job.point, job.sampling)):
            for group in _evenly(list(alike), self._rows):
                known |= dict.fromkeys(group, group)
        self._of = known

    def of(self, job: Job) -> tuple[Job, ...]:
        """Return the group of a job; the job alone if it is not announced."""
        return self._of.get(job, (job,))


def _evenly(jobs: Sequence[Job], rows: int) -> list[tuple[Job, ...]]:
    """Divide jobs into few groups of one size, with at most about that many rows and at most `TERMS` terms."""
    most = TERMS // max(job.added.rank for job in jobs if job.added is not None)
    number = max(-(-sum(len(job.prompts) for job in jobs) // rows), -(-len(jobs) // most))
    bounds = [len(jobs) * i // number for i in range(number + 1)]
    groups = (tuple(jobs[low:high]) for low, high in pairwise(bounds))
    return [group for group in groups if group]
