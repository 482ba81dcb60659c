"""Conformance checks of tasks: data, prompts, scorer, votes and signal. Run by `bench check -t`."""

from bench.conformance.report import CheckResult, TaskReport, check_task

__all__ = ["CheckResult", "TaskReport", "check_task"]
