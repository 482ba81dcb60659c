"""Sandbox for model-written programs: runs their tests, and returns verdicts that a program cannot forge.

Example:
    >>> program = Program(code="def add(a, b): return a + b", test="assert add(2, 3) == 5", entry_point="add")
    >>> judge([program])[0].status
    'passed'
"""

from bench.sandbox.host import judge
from bench.sandbox.probe import Strength, probe
from bench.sandbox.program import Program, Verdict

__all__ = ["Program", "Strength", "Verdict", "judge", "probe"]
