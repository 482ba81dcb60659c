"""Conformance checks of methods: seeds, budget, test split, artifact, ledger, resume. Run by `bench check -m`."""

from bench.conformance.method.report import MethodReport, check_method

__all__ = ["MethodReport", "check_method"]
