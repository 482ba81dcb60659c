"""Prompt search: pose the support examples in each of the task's ways, keep the way that earns most reward.

A control. What a method gains by moving weights, a better prompt may gain for less; a table without this row cannot
tell. The weights stay the base's. The name follows no paper: the task's prompts are few and written by hand, so every
one is tried on the same examples, and no prompt is generated.
"""

from __future__ import annotations

import numpy as np

from bench.errors import BenchError, Refused
from bench.weights.points import Point
from methods.interface import Artifact, Context, Evaluation, Method, Plan, PlanLine, SingleModel
from tasks.interface import TaskTraits

FEWEST_EXAMPLES = 8
PROBE = 1 / 8
"""Of what the budget would pay at the base's cost, the part that the first round takes to learn what prompts cost."""
PART = 0.7
"""Of what the budget will probably still pay, the part that a round takes: few rounds, and none cut off at the end."""


class PromptSearch(Method):
    """The best of the task's prompts on the support split, the weights unchanged."""

    name = "prompt-search"
    version = "2"

    def supports(self, task: TaskTraits) -> str | None:
        """Refuse tasks that leave no choice."""
        return "it poses its examples in one way, which leaves no choice" if len(task.prompts) < 2 else None

    def plan(self, evaluations: int, task: TaskTraits) -> Plan:
        """Return the comparison that this budget buys; a budget beyond the split stays unspent.

        Raises:
            Refused: If it buys none worth the name.
        """
        prompts, support = len(task.prompts), task.sizes["support"]
        examples = min(support, evaluations // prompts)
        if examples < min(FEWEST_EXAMPLES, support):
            raise Refused(
                f"prompt-search cannot use a budget of {evaluations} evaluations: {prompts} prompts on "
                f"{FEWEST_EXAMPLES} examples take {prompts * FEWEST_EXAMPLES}"
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
        """Compare the prompts in rounds on ever more examples, the same for all; return the best, the first of equals.

        Raises:
            BenchError: If the budget pays no round, or no example of it could be judged.
        """
        prompts, support = context.task.prompts, context.task.sizes["support"]
        if len(prompts) < 2:
            raise Refused("prompt-search: this model is posed every example in one way, which leaves no choice")
        evaluations = round(context.budget / context.evaluation_flops)
        rounds: list[list[Evaluation]] = []
        asked, price = 0, len(prompts) * context.evaluation_flops
        with context.stage("prompts") as stage:
            while asked < support and (affordable := int(context.remaining / price)):
                size = min(support - asked, max(1, int((PART if asked else PROBE) * affordable)))
                found = _round(context, range(asked, asked + size))
                if len(found) < len(prompts):
                    break
                rounds.append(found)
                asked += size
                price = (context.budget - context.remaining) / asked
                stage.advance(max(evaluation.reward for evaluation in found))
        if not rounds:
            raise BenchError(f"a budget of {evaluations} evaluations paid no comparison of {len(prompts)} prompts")
        rewards = np.array([np.concatenate([found[i].rewards for found in rounds]) for i in range(len(prompts))])
        judged = rewards[:, ~np.isnan(rewards).any(axis=0)]
        if not judged.size:
            raise BenchError("no example could be judged under every prompt; see `bench doctor`")
        means = judged.mean(axis=1)
        chosen = prompts[int(means.argmax())]
        context.report.update(
            rewards=dict(zip(prompts, means.tolist(), strict=True)), examples=judged.shape[1], chosen=chosen
        )
        return SingleModel(prompt=chosen)


def _round(context: Context, examples: range) -> list[Evaluation]:
    """Evaluate every prompt on the same examples; fewer come back where the budget ends first."""
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
