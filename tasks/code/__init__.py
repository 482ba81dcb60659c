"""Shared parts of code tasks: extract the program from an answer, score it, and observe it on the prompt's examples."""

from tasks.code.answer import code_block, definition
from tasks.code.function import FunctionTask, fenced
from tasks.code.scoring import judge_all

__all__ = ["FunctionTask", "code_block", "definition", "fenced", "judge_all"]
