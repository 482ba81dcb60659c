"""What code tasks share: finding the program in an answer, judging it, watching it on the prompt's examples."""

from tasks.code.answer import code_block, definition
from tasks.code.behaviour import SIGNAL_BY, VOTE_BY, Behaviour, watch_all
from tasks.code.scoring import judge_all

__all__ = ["SIGNAL_BY", "VOTE_BY", "Behaviour", "code_block", "definition", "judge_all", "watch_all"]
