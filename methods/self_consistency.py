"""Self-consistency (Wang et al. 2022, arXiv 2203.11171): sample several answers and return the most common one.

This control is what a K-way ensemble must beat at the same inference cost. Sampling uses temperature alone, without the
paper's top-k. Votes are counted by the task's vote key. An answer without a vote does not count, and ties go to the
first sample.
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


class SelfConsistency(SamplingMethod):
    """Sample the base model several times and return the plurality answer."""

    name = "self-consistency"
    version = "1"
    artifact = Plurality

    def supports(self, task: TaskTraits) -> str | None:
        """Return a reason if the task has no vote key, else None."""
        return "its answers do not vote: the task has no vote key" if task.vote_by is None else None

    def chosen_by(self, task: TaskTraits) -> str:
        """Return the task's description of its votes, and the rule for ties."""
        return f"plurality by {task.vote_by}; of equals the first sample's; without any vote the first sample"
