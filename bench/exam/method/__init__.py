"""The exam of a method: whether the harness can rely on what it does with a model and a budget."""

from bench.exam.method.exam import Certificate, examine

__all__ = ["Certificate", "examine"]
