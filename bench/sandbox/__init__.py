"""The judge of code that a model wrote: whether the test of a program holds, by a verdict it cannot forge."""

from bench.sandbox.host import judge
from bench.sandbox.probe import Strength, probe
from bench.sandbox.program import Program, Verdict

__all__ = ["Program", "Strength", "Verdict", "judge", "probe"]
