"""Common base of the methods that sample several answers and return the most common one.

Votes are counted by the task's vote key. An answer without a vote does not count, and ties go to the first sample.
"""

from __future__ import annotations

from collections.abc import Sequence

from methods.interface import Deployment
from methods.sampling import SampledAnswers, SamplingMethod
from methods.voting import ask_once, elect
from tasks.interface import TaskTraits


class Plurality(SampledAnswers):
    """Chooses the answer with the most votes. For the report see `methods.voting.elect`."""

    def choose(self, deployment: Deployment, examples: Sequence[str], answers: list[list[str]]) -> list[str]:
        """Return the plurality answer for each example; see `SampledAnswers.choose`."""
        chosen, report = elect(answers, ask_once(deployment.votes, examples, answers))
        self.report.update(report)
        return chosen


class PluralityMethod(SamplingMethod):
    """Base class of methods that return the plurality answer of several samples."""

    artifact = Plurality

    def supports(self, task: TaskTraits) -> str | None:
        """Return a reason if the task has no vote key, else None."""
        return "its answers do not vote: the task has no vote key" if task.vote_by is None else None

    def chosen_by(self, task: TaskTraits) -> str:
        """Return the task's description of its votes, and the rule for ties."""
        return f"plurality by {task.vote_by}; of equals the first sample's; without any vote the first sample"
