"""Prompt search: evaluate each of the task's prompts on the support split and keep the one with the highest reward.

This control leaves the weights unchanged. A better prompt may gain as much as better weights, for less compute, so a
table needs this row. The method follows no paper. The task's prompts are few and written by hand, so every one is
evaluated on the same examples, and none is generated.

`PromptedSelfConsistency` also votes under the prompt that the search found. In the literature this pair matches or
beats an ensemble of 50 perturbed models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from bench.errors import BenchError, Refused
from bench.weights.points import Point
from methods.interface import Artifact, Context, Evaluation, Method, MethodConfig, Plan, PlanLine, SingleModel
from methods.plurality import PluralityMethod
from tasks.interface import TaskTraits

MIN_EXAMPLES = 8
"""Minimum number of support examples per prompt; fewer are too noisy to compare prompts."""
FIRST_ROUND_SHARE = 1 / 8
"""Share of the affordable examples (at the base's cost) for the first round, which measures the prompts' real cost."""
ROUND_SHARE = 0.7
"""Share of the affordable examples for each later round. Below 1, so that no round is cut off; few rounds follow."""


class PromptSearch(Method):
    """Choose the best of the task's prompts on the support split; leave the weights unchanged."""

    name = "prompt-search"
    version = "2"
    moves = False

    def supports(self, task: TaskTraits) -> str | None:
        """Return a reason if there is a single prompt, else None."""
        if len(task.prompts) > 1:
            return None
        reasons = "; ".join(dict.fromkeys(task.refused_prompts.values()))
        return "the task has one prompt, which leaves no choice" + (f" ({reasons})" if reasons else "")

    def plan(self, evaluations: int, task: TaskTraits) -> Plan:
        """Return the comparison that this budget buys. Budget beyond the whole support split stays unspent.

        Raises:
            Refused: If the budget buys fewer than `MIN_EXAMPLES` examples per prompt.
        """
        prompts, support = len(task.prompts), task.sizes["support"]
        examples = min(support, evaluations // prompts)
        if examples < min(MIN_EXAMPLES, support):
            raise Refused(
                f"the comparison of prompts cannot use a budget of {evaluations} evaluations: {prompts} prompts on "
                f"{MIN_EXAMPLES} examples take {prompts * MIN_EXAMPLES}"
            )
        notes = []
        if examples == support and prompts * support < evaluations:
            notes.append(
                f"{prompts} prompts on all {support} support examples take {prompts * support} of {evaluations} "
                "evaluations; the rest cannot be spent"
            )
        what = f"{prompts} prompts on about {examples} support examples"
        return Plan((PlanLine("tune", what, prompts * examples),), tuple(notes))

    def adapt(self, context: Context) -> Artifact:
        """Return the base with the best prompt."""
        return SingleModel(prompt=self.search(context))

    def search(self, context: Context) -> str:
        """Compare the prompts in rounds, all on the same examples; return the best. Ties go to the first prompt.

        Each round uses examples that no earlier round used. Prompts that the model's chat template refuses, such as one
        with two turns of the user, are left out, and the report names them.

        Raises:
            Refused: If the run's model has a single distinct prompt.
            BenchError: If the budget covers no round, or no example was scored under every prompt.
        """
        prompts, support = context.task.prompts, context.task.sizes["support"]
        refused = dict(context.task.refused_prompts)
        if len(prompts) < 2:
            reasons = "".join(f"; {name} is left out, {reason}" for name, reason in refused.items())
            raise Refused("the task's prompts are all the same for this model, which leaves no choice" + reasons)
        evaluations = round(context.budget / context.evaluation_flops)
        rounds: list[list[Evaluation]] = []
        used, price = 0, len(prompts) * context.evaluation_flops
        with context.stage("prompts") as stage:
            while used < support and (affordable := int(context.remaining / price)):
                size = min(support - used, max(1, int((ROUND_SHARE if used else FIRST_ROUND_SHARE) * affordable)))
                found = _round(context, range(used, used + size))
                if len(found) < len(prompts):
                    break
                rounds.append(found)
                used += size
                price = (context.budget - context.remaining) / used
                stage.advance(max(evaluation.reward for evaluation in found))
        if not rounds:
            raise BenchError(f"a budget of {evaluations} evaluations is too small to compare {len(prompts)} prompts")
        rewards = np.array([np.concatenate([found[i].rewards for found in rounds]) for i in range(len(prompts))])
        scored = rewards[:, ~np.isnan(rewards).any(axis=0)]
        if not scored.size:
            raise BenchError("no example could be scored under every prompt; see `bench doctor`")
        means = scored.mean(axis=1)
        chosen = prompts[int(means.argmax())]
        context.report.update(
            rewards=dict(zip(prompts, means.tolist(), strict=True)), examples=scored.shape[1], chosen=chosen
        )
        if refused:
            context.report["left_out"] = refused
        return chosen


class PromptedSelfConsistency(PluralityMethod):
    """Choose the best of the task's prompts, then return the plurality of several samples under it.

    The search is billed to the budget, and the samples as inference. One search yields two rows: `k=10`, the vote of
    ten samples, and `greedy`, one answer under the same prompt, which is what `PromptSearch` returns.
    """

    name = "prompted-self-consistency"
    version = "1"
    search = PromptSearch(MethodConfig())

    def supports(self, task: TaskTraits) -> str | None:
        """Return a reason if the task has a single prompt or no vote key, else None."""
        return self.search.supports(task) or super().supports(task)

    def plan(self, evaluations: int, task: TaskTraits) -> Plan:
        """Return the comparison of prompts that this budget buys, and the cost of an answer.

        Raises:
            Refused: If the budget buys too few examples per prompt.
        """
        return replace(self.search.plan(evaluations, task), passes=(self.config.samples, 1))

    def adapt(self, context: Context) -> Mapping[str, Artifact]:
        """Search the prompts, and return the vote first, because trials are judged by the first artifact."""
        model = SingleModel(prompt=self.search.search(context))
        return {f"k={self.config.samples}": self.sampled(context, model), "greedy": model}


def _round(context: Context, examples: range) -> list[Evaluation]:
    """Return one evaluation per prompt on the same examples; fewer if the budget runs out."""
    found: list[Evaluation] = []
    context.prepare([Point()], "support", examples=examples, prompts=context.task.prompts)
    for prompt in context.task.prompts:
        evaluation = context.evaluate(
            Point(), "support", account="tune", examples=examples, allowance=context.remaining, prompt=prompt
        )
        if not evaluation.complete:
            break
        found.append(evaluation)
    return found
