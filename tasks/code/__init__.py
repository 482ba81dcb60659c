"""Shared parts of code tasks: extract the program from an answer, score it, and observe it on the prompt's examples."""

from tasks.code.answer import is_complete, program_in
from tasks.code.function import FunctionTask, fenced
from tasks.code.python import body_of, definition
from tasks.code.scoring import judge_all

__all__ = ["FunctionTask", "body_of", "definition", "fenced", "is_complete", "judge_all", "program_in"]
