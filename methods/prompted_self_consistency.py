"""Prompt search, then self-consistency under the prompt that it found: two controls as one method.

In the literature this pair matches or beats an ensemble of 50 perturbed models. The search is billed to the budget, and
each vote costs one pass per answer, as in `self-consistency`. One search yields two rows: `k=10`, the vote of ten
samples, and `greedy`, one answer under the same prompt, which is what `prompt-search` returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from methods.interface import Artifact, Context, MethodConfig, Plan, SingleModel
from methods.prompt_search import PromptSearch
from methods.self_consistency import SelfConsistency
from tasks.interface import TaskTraits

SEARCH = PromptSearch(MethodConfig())


class PromptedSelfConsistency(SelfConsistency):
    """Choose the best of the task's prompts, and return the plurality of several samples under it."""

    name = "prompted-self-consistency"
    version = "1"

    def supports(self, task: TaskTraits) -> str | None:
        """Return a reason if the task has a single prompt or no vote key, else None."""
        return SEARCH.supports(task) or super().supports(task)

    def plan(self, evaluations: int, task: TaskTraits) -> Plan:
        """Return the comparison of prompts that this budget buys, and the cost of an answer.

        Raises:
            Refused: If the budget buys too few examples per prompt.
        """
        return replace(SEARCH.plan(evaluations, task), passes=(self.config.samples, 1))

    def adapt(self, context: Context) -> Mapping[str, Artifact]:
        """Search the prompts, and return the vote first, because trials are judged by the first artifact."""
        model = SingleModel(prompt=SEARCH.search(context))
        return {f"k={self.config.samples}": self.sampled(context, model), "greedy": model}
