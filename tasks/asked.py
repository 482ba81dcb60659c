r"""What a question says of the form of its answer: the base of numbers, and the multiple that is counted in.

asks_for_base("Express your answer in base $8$.", 8)
in_asked_multiple("3 dozen", "How many dozen eggs are there?") == "3"
in_asked_multiple("3 dozen", "How many eggs are there?") == "3 dozen"
"""

from __future__ import annotations

import re
from functools import lru_cache

from tasks.numbers import MULTIPLES

BASES = {2: "two|binary", 3: "three|ternary", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight|octal", 9: "nine"}
BASES |= {10: "ten|decimal", 11: "eleven", 12: "twelve", 16: "sixteen|hexadecimal"}
"""Words for a base."""
_WORDS = "|".join(MULTIPLES)
_COUNTED = re.compile(
    rf"\b(?:how\s+many(?:\s+(?:more|whole|full|other))?|in|number\s+of)\s+({_WORDS})(?:s(?:\s+of)?\b|\b)", re.IGNORECASE
)


@lru_cache(maxsize=1 << 14)
def asks_for_base(question: str, base: int) -> bool:
    """Return whether a question names this base."""
    words = BASES.get(base, str(base))
    named = rf"\bbase[-\s~$\\{{(]*(?:{base}|{words})(?!\w)"
    system = rf"(?<!\w)(?:{words})\s+(?:number|numeral|system|representation|notation|form)"
    return re.search(f"{named}|{system}", question, re.IGNORECASE) is not None


def in_asked_multiple(answer: str, question: str) -> str:
    """Return an answer without the multiple, such as dozen or million, that the question counts in."""
    for word in _multiples(question):
        answer = re.sub(rf"(\d)(\s*(?:\\text\s*\{{\s*)?){word}s?\b", r"\1\2", answer, flags=re.IGNORECASE)
    return answer


@lru_cache(maxsize=1 << 14)
def _multiples(question: str) -> frozenset[str]:
    return frozenset(match[1].lower() for match in _COUNTED.finditer(question))
