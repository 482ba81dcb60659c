"""The base model, unchanged: the row that bounds every table from below."""

from __future__ import annotations

from methods.interface import Artifact, Context, Method, Plan, SingleModel
from tasks.interface import TaskTraits


class Base(Method):
    """Adapts nothing and spends nothing."""

    name = "base"
    version = "1"

    def plan(self, evaluations: int, task: TaskTraits) -> Plan:
        """Plan nothing."""
        return Plan(lines=(), notes=("the base model is not adapted and spends no budget",))

    def adapt(self, context: Context) -> Artifact:
        """Return the base."""
        return SingleModel()
