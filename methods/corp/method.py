"""CoRP end to end: population, stage 1, gate, stage 2, each stage within its part of the budget.

What differs from the released code, and why: noise is i.i.d. over tensors; the base is scored wherever a candidate is;
proposals are chosen on `select` and decided on `gate`, whose error rate covers every look; the line search runs on
`select`, so that each round asks the gate once; the low-rank part of a local candidate carries its share of the energy;
and every evaluation is billed. A proposal that the base beats on `select` is not put to the gate. Where a difference is
a choice and not a mend, the configuration holds the released way as an ablation.
"""

from __future__ import annotations

from methods.corp.config import CorpConfig, describe, make_schedule
from methods.corp.run import CorpRun
from methods.corp.stage1 import consolidate_population
from methods.corp.stage2 import recentre
from methods.interface import Artifact, Context, Method, Plan, SingleModel
from tasks.interface import TaskTraits


class Corp(Method):
    """Reward-weighted consolidation of random weight perturbations into one model, behind a held-out gate."""

    name = "corp"
    version = "2"
    Config = CorpConfig
    config: CorpConfig

    def supports(self, task: TaskTraits) -> str | None:
        """Refuse a task without the splits that choose and decide."""
        if not task.sizes["select"]:
            return "it chooses among proposals on the select split, and the task has none"
        if self.config.gate != "off" and not task.sizes["gate"]:
            return "the task has no gate split for a change to pass; take --set corp.gate=off"
        return None

    def plan(self, evaluations: int, task: TaskTraits) -> Plan:
        """Return the schedule that this budget buys."""
        return describe(make_schedule(evaluations, task.sizes, self.config), self.config)

    def adapt(self, context: Context) -> Artifact:
        """Run stage 1, and stage 2 where the schedule holds it; return the last model that was committed."""
        evaluations = round(context.budget / context.evaluation_flops)
        run = CorpRun(context, self.config, make_schedule(evaluations, context.task.sizes, self.config))
        cloud, sigma = consolidate_population(run)
        if run.schedule.attempts:
            recentre(run, cloud, sigma)
        return SingleModel(run.point)
