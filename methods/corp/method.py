"""The CoRP method: population, stage 1, gate, stage 2, each within its share of the budget.

Differences from the released code, with reasons:

- Noise is independent across tensors, as in the paper.
- The base is scored on every split on which candidates are scored, so that gains are known.
- Proposals are chosen on `select` and decided on `gate`. The error rate covers all gates of a run.
- The line search runs on `select`, so a round uses the gate once.
- The low-rank part of a local candidate carries its share of the energy, as in the paper.
- A proposal with less reward on `select` than the base is not put to the gate.
- Every evaluation is billed.

Where a difference is a choice rather than a correction, a setting restores the released behaviour as an ablation.
"""

from __future__ import annotations

from methods.corp.config import CorpConfig, describe, make_schedule
from methods.corp.run import CorpRun
from methods.corp.stage1 import consolidate_population
from methods.corp.stage2 import recentre
from methods.interface import Artifact, Context, Method, Plan, SingleModel
from tasks.interface import TaskTraits


class Corp(Method):
    """Consolidate random weight perturbations by their rewards into one model; keep it if it passes a held-out gate."""

    name = "corp"
    version = "2"
    Config = CorpConfig
    config: CorpConfig

    def supports(self, task: TaskTraits) -> str | None:
        """Return a reason if the task has no select split, or no gate split although a gate is on, else None."""
        if not task.sizes["select"]:
            return "it chooses among proposals on the select split, and the task has none"
        if self.config.gate != "off" and not task.sizes["gate"]:
            return "the task has no gate split for a change to pass; take --set corp.gate=off"
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
        return SingleModel(run.point)
