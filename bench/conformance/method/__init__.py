"""The exam of a method: whether the harness can rely on what it does with a model and a budget."""

from bench.conformance.method.report import MethodReport, check_method

__all__ = ["MethodReport", "check_method"]
