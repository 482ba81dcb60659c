r"""Mathematical answers: comparison with the gold answer, scores, and votes.

An answer is right if its key (see `tasks.reading`) is that of the gold answer, and its unit of measure fits where the
gold answer has one too. Conventions:

- A list, with or without braces, has no order; a point or an interval has one. (1, 2) stands for a point or an open
  interval, depending on the question; it differs from [1, 2].
- Numbers are exact: 0.333 is not 1/3. Per cent signs, degrees and currencies are ignored: 50\% is 50. 3 dozen is 36.
  Two numbers beside each other, such as 10 20, are none.
- A unit of measure is ignored if only one of two answers has one: 5 m is 5, but not 5 km. A vote ignores units in text.
- `x = 5` and `5 = x` mean 5. So does `a + b = 5`, unless the gold answer is an equation too. Two equations are equal if
  they are multiples of each other. A false equation of numbers, such as 4 = 5, has no value.
- `x < 0 or x > 1` is a union of intervals. 12:00 and 7:30 pm are times; 1:2 is 1/2, and 1:2:3 is a ratio.
- Letters are variables, and `i` is the imaginary unit. A letter with primes is another variable: x' is not x. Three or
  more letters in a row are a word; case is ignored.
- Variables are real: the root of x^2 is |x|, and not x.

The question decides what the writing cannot. 1101_2 is 13, so the digits 1101 alone are another number; but where the
question asks for base 2, they are all that a person writes. So one of two answers may lack the base if the question
names this base. All six gold answers of MATH-500 with a base come from such questions. Graders that see no question
must choose: those that compare strings, as MATH's own, refuse the digits alone. `equivalent` without a question takes
the digits of a gold answer with a base, because such gold answers come from such questions. Likewise 3 dozen is 3 where
the question is how many dozen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from tasks.algebra import TooSlow, math_verify_accepts, number_key, verified
from tasks.asked import asks_for_base, in_asked_multiple
from tasks.extraction import after_hashes, announced, boxed, last_number
from tasks.interface import Score, Vote
from tasks.reading import ParsedAnswer, accepted_values, in_base, read
from tasks.units import units_of, without_any_unit, without_unit

__all__ = [
    "ParsedAnswer",
    "TooSlow",
    "accuracies",
    "after_hashes",
    "announced",
    "boxed",
    "equivalent",
    "extractor_rewards",
    "last_number",
    "read",
    "score_answer",
    "vote",
]

LONGEST_REPLY = 20_000  # characters at the end of a reply that math-verify reads


def equivalent(gold: str, answer: str, question: str | None = None) -> bool:
    """Return whether an answer equals the gold answer by the conventions of this module.

    Args:
        gold: The gold answer.
        answer: The answer.
        question: The question that both answer; None if it is not known.

    Raises:
        tasks.algebra.TooSlow: If the comparison takes too long.
    """
    gold, answer = (in_asked_multiple(each, question or "") for each in (gold, answer))
    units = [units_of(gold), units_of(answer)]
    if all(units):
        if units[0] != units[1]:
            return False
        gold, answer = without_any_unit(gold), without_any_unit(answer)
    else:
        gold, answer = without_unit(gold), without_unit(answer)
    given, expected = read(answer), read(gold)
    if given is None or expected is None:
        return False
    if given.equation is not None and given.equation == expected.equation:
        return True
    values = accepted_values(gold)
    if given.value in values or given.value in _digits(gold, question, unknown=True):
        return True
    if values & _digits(answer, question, unknown=False):
        return True
    return expected.latex is not None and given.latex is not None and verified(expected.latex, given.latex)


def _digits(answer: str, question: str | None, *, unknown: bool) -> set[str]:
    """Return the key of the digits alone of an answer with a base, where they mean the same.

    Args:
        answer: The answer.
        question: The question; None if it is not known.
        unknown: Whether they do if the question is not known.
    """
    found = in_base(answer)
    if found is None or not (unknown if question is None else asks_for_base(question, found[1])):
        return set()
    return {number_key(Fraction(found[0]))}


def score_answer(gold: str, answer: str | None, question: str | None = None) -> Score:
    """Score an extracted answer: reward 1 if it equals the gold answer, else 0. There is no partial credit."""
    if answer is None:
        return Score(0.0, False, status="no_answer", detail="no answer found")
    shown = answer if len(answer) <= 200 else f"{answer[:200]}..."
    try:
        correct = equivalent(gold, answer, question)
    except TooSlow as error:
        return Score(0.0, False, shown, status="timeout", detail=f"reading it took {error}")
    return Score(float(correct), correct, shown, detail="" if correct else f"gold: {gold}")


def accuracies(
    golds: Sequence[str],
    questions: Sequence[str],
    texts: Sequence[str],
    strict: Callable[[str], str | None],
    scores: Sequence[Score],
) -> dict[str, float]:
    """Return the accuracy under three judges of the same replies; empty if there are none.

    `flexible` is the task's own. `strict` compares what the strict extractor finds. `math_verify` is the verdict of the
    library math-verify alone, extraction included.

    Args:
        golds: Gold answer of each reply.
        questions: Question of each reply.
        texts: The replies.
        strict: The strict extractor.
        scores: The task's scores of the replies.
    """
    if not scores:
        return {}
    rows = list(zip(golds, questions, texts, strict=True))
    verdicts = {
        "strict": _strict(golds, questions, texts, strict),
        "flexible": [score.correct for score in scores],
        "math_verify": [math_verify_accepts(gold, text[-LONGEST_REPLY:]) for gold, _, text in rows],
    }
    return {name: sum(column) / len(column) for name, column in verdicts.items()}


def extractor_rewards(
    golds: Sequence[str],
    questions: Sequence[str],
    texts: Sequence[str],
    strict: Callable[[str], str | None],
    scores: Sequence[Score],
) -> list[dict[str, float] | None]:
    """Return whether each reply is right under the strict and the flexible extractor: the parts of its reward.

    Arguments are those of `accuracies`. Example: `{"strict": 0.0, "flexible": 1.0}`.
    """
    columns = zip(_strict(golds, questions, texts, strict), scores, strict=True)
    return [{"strict": float(right), "flexible": score.reward} for right, score in columns]


def _strict(
    golds: Sequence[str], questions: Sequence[str], texts: Sequence[str], strict: Callable[[str], str | None]
) -> list[bool]:
    rows = zip(golds, questions, texts, strict=True)
    return [score_answer(gold, strict(text), question).correct for gold, question, text in rows]


def vote(answer: str | None) -> Vote | None:
    """Return the key of an extracted answer as its vote; None if there is no answer or parsing takes too long."""
    try:
        parsed = read(answer) if answer is not None else None
    except TooSlow:
        return None
    return Vote(parsed.key) if parsed else None
