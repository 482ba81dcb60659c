"""The exam of a task: whether a benchmark can rely on its data, its prompts and its scorer."""

from bench.exam.exam import Certificate, Finding, examine

__all__ = ["Certificate", "Finding", "examine"]
