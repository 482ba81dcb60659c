"""The unchanged base model, the reference row of every table."""

from __future__ import annotations

from methods.interface import Artifact, Context, Method, Plan, SingleModel
from tasks.interface import TaskTraits


class Base(Method):
    """Control that returns the base model and spends nothing."""

    name = "base"
    version = "1"
    moves = False

    def plan(self, evaluations: int, task: TaskTraits) -> Plan:
        """Return an empty plan."""
        return Plan(lines=(), notes=("the base model is not adapted and spends no budget",), passes=())

    def adapt(self, context: Context) -> Artifact:
        """Return the base model."""
        return SingleModel()
