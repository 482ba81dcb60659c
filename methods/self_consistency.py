"""Self-consistency (Wang et al. 2022, arXiv 2203.11171): sample several answers, return the one most of them share.

A control: what a K-way ensemble must beat at the same inference cost. Plain temperature sampling, without the paper's
top-k; votes are the task's, who gives an answer without a vote does not vote, and of equals the first given wins.
"""

from __future__ import annotations

from collections.abc import Sequence

from methods.interface import Deployment
from methods.sampling import SampledAnswers, SamplingMethod
from methods.voting import ask_once, elect
from tasks.interface import TaskTraits


class Plurality(SampledAnswers):
    """Takes the answer that most samples share. Its report says on what basis votes were cast."""

    def choose(self, deployment: Deployment, examples: Sequence[str], answers: list[list[str]]) -> list[str]:
        """Vote."""
        chosen, report = elect(answers, ask_once(deployment.votes, examples, answers))
        self.report.update(report)
        return chosen


class SelfConsistency(SamplingMethod):
    """The base model, sampled several times, and a vote."""

    name = "self-consistency"
    version = "1"
    artifact = Plurality

    def supports(self, task: TaskTraits) -> str | None:
        """Refuse tasks whose answers do not vote."""
        return "its answers do not vote: the task has no vote key" if task.vote_by is None else None

    def chosen_by(self, task: TaskTraits) -> str:
        """Return what the votes are about."""
        return f"plurality by {task.vote_by}; of equals the first sample's; without any vote the first sample"
