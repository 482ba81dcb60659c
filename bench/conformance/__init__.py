"""The exam of a task: whether a benchmark can rely on its data, its prompts and its scorer."""

from bench.conformance.report import CheckResult, TaskReport, check_task

__all__ = ["CheckResult", "TaskReport", "check_task"]
