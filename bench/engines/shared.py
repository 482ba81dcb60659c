"""Answers of candidates that share a batch, kept from the batch until their request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

from bench.compute.ledger import Work
from bench.compute.meter import Meter
from bench.compute.profile import ComputeProfile
from bench.engines.groups import Groups
from bench.engines.interface import Completion, Job

Answer = Callable[[Sequence[Job], Sequence[Meter]], list[list[Completion]]]
"""Function that answers jobs in one batch, books the work of each to its own meter, and returns their completions."""


class SharedBatches:
    """Answers announced jobs together with their group. See `bench.engines.groups.Groups`.

    A job is booked to its meter when it is requested. What a batch computed for jobs that are never requested is not
    booked.

    Args:
        profile: Costs of the model.
        settings: The engine's `settings`.
        answer: Function that answers jobs in one batch.

    Attributes:
        ahead_tokens: Tokens run for jobs that were not requested, or not yet.
    """

    def __init__(self, profile: ComputeProfile, settings: Mapping[str, str | int], answer: Answer) -> None:
        self._profile, self._answer, self._groups = profile, answer, Groups(settings)
        self._ahead: dict[Job, tuple[list[Completion], Work]] = {}  # finished with their group, before their request
        self.ahead_tokens = 0

    def announce(self, jobs: Sequence[Job]) -> None:
        """Replace the announcement, and drop the answers of jobs that are no longer announced."""
        self._groups.announce(jobs)
        self._ahead = {job: self._ahead[job] for job in jobs if job in self._ahead}

    def request(self, job: Job, meter: Meter) -> list[Completion]:
        """Return the completions of a job, computed with its group if they are not there yet.

        Raises:
            OverBudget: Where the job alone would raise it, with the same work recorded.
            AllowanceSpent: Where the job alone would raise it, with the same work recorded.
        """
        if job not in self._ahead:
            group = self._groups.of(job)
            found = self._together(group)
            self._ahead |= dict(zip(group, found, strict=True))
            self.ahead_tokens += sum(work.padded_tokens for _, work in found)
        completions, work = self._ahead[job]
        if not meter.covers(work):
            self._answer([job], [meter])  # alone, it stops at the first step that the meter does not cover
        meter.reserve(work)  # in half precision answers alone may be shorter, and end within the limit: it stops here
        del self._ahead[job]
        self.ahead_tokens -= work.padded_tokens
        return completions

    def _together(self, jobs: Sequence[Job]) -> list[tuple[list[Completion], Work]]:
        """Return the completions of jobs that share a batch, and the work of each."""
        meters = [Meter(self._profile) for _ in jobs]
        with ExitStack() as opened:
            for each in meters:
                opened.enter_context(each.account("setup"))
            found = self._answer(jobs, meters)
            return [(completions, each.opened) for completions, each in zip(found, meters, strict=True)]
