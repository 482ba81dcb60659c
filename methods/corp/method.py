"""The CoRP method: population, stage 1, stage 2, each within its share of the budget.

Differences from the released code, with reasons:

- Noise is independent across tensors, as in the paper.
- The base is scored on every split on which candidates are scored, so that gains are known.
- Stage 1 has no test of its own: it commits the proposal with the highest reward on `select`, if that is above the
  base's. The harness gates the result, as it does for every method.
- Stage 2 decides on examples of `select` that chose nothing: not its local candidates, its proposals, or the length of
  its steps. A round uses them once.
- The low-rank part of a local candidate carries its share of the energy, as in the paper.
- Every evaluation is billed.

Where a difference is a choice rather than a correction, a setting restores the released behaviour as an ablation.
"""

from __future__ import annotations

from typing import ClassVar

from methods.corp.config import SKIPPED, CorpConfig, describe, make_schedule
from methods.corp.run import CorpRun
from methods.corp.stage1 import consolidate_population
from methods.corp.stage2 import recentre
from methods.interface import Artifact, Context, Dimension, Method, Plan, SingleModel
from methods.space import Space
from tasks.interface import TaskTraits


class Corp(Method):
    """Consolidate random weight perturbations by their rewards into one model."""

    name = "corp"
    version = "3"
    Config = CorpConfig
    config: CorpConfig
    space: ClassVar[Space] = {"sigmas": Dimension(1e-4, 3e-2)}

    def supports(self, task: TaskTraits) -> str | None:
        """Return a reason if the task has no select split, else None."""
        if not task.sizes["select"]:
            return "it chooses among proposals on the select split, and the task has none"
        return None

    def plan(self, evaluations: int, task: TaskTraits) -> Plan:
        """Return the schedule that this budget buys."""
        return describe(make_schedule(evaluations, task.sizes, self.config), self.config)

    def adapt(self, context: Context) -> Artifact:
        """Run stage 1, and stage 2 unless the schedule skips it; return the model last committed."""
        evaluations = round(context.budget / context.evaluation_flops)
        run = CorpRun(context, self.config, make_schedule(evaluations, context.task.sizes, self.config))
        cloud, sigma = consolidate_population(run)
        if run.schedule.attempts:
            recentre(run, cloud, sigma)
        elif self.config.attempts:
            run.abstain("stage 2", f"did not run: {SKIPPED}")
        else:
            run.abstain("stage 2", "did not run: attempts = 0")
        return SingleModel(run.point)
