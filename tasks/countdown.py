"""Countdown: reach a target with each of three or four numbers once and the four operations.

Gandhi et al. 2024, "Stream of Search" (arXiv 2404.03683); with 3 and 4 numbers as in TinyZero (Pan et al. 2025).
Generated, no licence, no source but this file. `--data FILE` takes JSON Lines with `numbers` and `target`.

Expressions are evaluated over the rationals by this file: nothing of an answer is run, there is no power, and
(1/3)*3 is 1. An answer is right if its value is the target and it uses each number once and no other.
"""

from __future__ import annotations

import ast
import operator
import random
import re
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from bench.errors import UsageError
from tasks.interface import DEFAULT_PROMPT, Example, Message, PromptStyle, Score, Splits, Task, Vote, cut
from tasks.sources import check_fields, read_lines
from tasks.splitting import cut_one_file

SALT = "countdown-1"
SIZES = {"support": 200, "select": 100, "gate": 400, "test": 1000}
LARGEST_NUMBER = 99
TARGETS = range(10, 100)
LONGEST = 200  # characters of an expression; four numbers take no more than 40
FORMAT_REWARD = 0.1

QUESTION = (
    "Using the numbers {numbers}, write an expression that equals {target}. Use +, -, *, / and parentheses, and each "
    "number exactly once."
)
# No example of an expression: small models give it as the answer.
FORM = "give the expression, its numbers and signs and nothing else, between <answer> and </answer>."
PROMPTS = {
    DEFAULT_PROMPT: "{question} Think step by step, then " + FORM,
    "brief": "{question} Without explaining, " + FORM,
    "search": "{question} Try several combinations and compute each until one fits. Then " + FORM,
}
OPERATIONS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_SPELLINGS = str.maketrans({"×": "*", "⋅": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "[": "(", "]": ")"})
_EXPRESSION = re.compile(r"[\d+\-*/() \t\r\n]+")


class Countdown(Task):
    """Reward 1 for a right answer, 0.1 for any other expression that has a value; votes are values."""

    name = "countdown"
    version = "2"
    max_new_tokens = 1024
    expected_new_tokens = 300
    prompts = tuple(PROMPTS)
    vote_by = "the value of an expression that uses the numbers as asked"
    signal_by = "the expression uses the numbers as asked and reaches the target"

    def load(self, data: Path | None = None) -> Splits:
        """Return 200 support, 100 select, 400 gate and 1000 test puzzles; of a file, half or more is the test split.

        Puzzles with the same numbers and target are one.
        """
        if data is None:
            return cut(_generated(sum(SIZES.values())), salt=SALT, **SIZES)
        examples = []
        for number, row in read_lines(data):
            where = f"{data}, line {number}"
            check_fields(row, {"numbers": list, "target": int}, where)
            examples.append(_puzzle(row["numbers"], row["target"], where))
        by_id = {example.id: example for example in examples}
        sizes = {name: size for name, size in SIZES.items() if name != "test"}
        return cut_one_file(list(by_id.values()), str(data), salt=SALT, **sizes)

    def messages(self, example: Example, prompt: str = DEFAULT_PROMPT) -> list[Message]:
        """Ask for the expression between answer tags, after thinking (`default`, `search`) or without (`brief`)."""
        content = PROMPTS[prompt].format(question=_question(example))
        return [{"role": "user", "content": content}]

    def completion(self, example: Example, prompt: str = DEFAULT_PROMPT) -> str:
        """Return the question up to the opening tag of its answer; all prompts are one to a model that is not asked."""
        return f"{_question(example)}\n<answer>"

    def stop(self, style: PromptStyle) -> tuple[str, ...]:
        """End with the answer where one was begun; a chat model may name the tags before it uses them."""
        return ("</answer>",) if style == "completion" else ()

    def score(self, example: Example, text: str) -> Score:
        """Evaluate the last expression between answer tags, or a text that is nothing else; `= value` is left out."""
        expression = _answer(text)
        value = evaluate(expression)
        if value is None:
            return Score(0.0, False, status="no_answer", detail=f"no expression with a value: {expression[:40]!r}")
        if value.numbers != Counter(example.fields["numbers"]):
            return Score(FORMAT_REWARD, False, expression, detail="does not use each number once")
        if value.value != example.fields["target"]:
            return Score(FORMAT_REWARD, False, expression, detail=f"is {value.value}"[:100])
        return Score(1.0, True, expression)

    def gold(self, example: Example) -> str | None:
        """Return the expression that the puzzle was made from; puzzles of a file have none."""
        solution = example.fields.get("solution")
        return solution and f"<answer>{solution}</answer>"

    def vote_key(self, example: Example, text: str) -> Vote | None:
        """Return the value; an expression that does not use the numbers as asked does not vote.

        All right answers share a vote, whatever their form, since all have the target's value.
        """
        value = evaluate(_answer(text))
        if value is None or value.numbers != Counter(example.fields["numbers"]):
            return None
        return Vote(str(value.value))

    def signal(self, example: Example, text: str) -> float:
        """Return the reward: numbers and target stand in the prompt, so a puzzle's answer can be checked by anyone."""
        return self.score(example, text).reward


class Value(NamedTuple):
    """What an expression comes to.

    Attributes:
        value: Exact.
        numbers: Those in it, with how often each is.
    """

    value: Fraction
    numbers: Counter[int]


def evaluate(expression: str) -> Value | None:
    """Return the exact value of whole numbers joined by + - * / and parentheses; None for anything else.

    Total: no text raises an error, and none takes long, since the longest has 200 characters. A division by zero has
    no value.
    """
    if len(expression) > LONGEST or not _EXPRESSION.fullmatch(expression) or not expression.isascii():
        return None
    try:
        tree = ast.parse(" ".join(expression.split()), mode="eval")
        numbers: Counter[int] = Counter()
        return Value(_value(tree.body, numbers), numbers)
    except (SyntaxError, ValueError, ZeroDivisionError, MemoryError, RecursionError):
        return None


def _value(node: ast.expr, numbers: Counter[int]) -> Fraction:
    match node:
        case ast.Constant(value=int(number)):
            numbers[number] += 1
            return Fraction(number)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATIONS:
            return OPERATIONS[type(op)](_value(left, numbers), _value(right, numbers))
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            value = _value(operand, numbers)
            return -value if isinstance(sign, ast.USub) else value
    raise ValueError(f"not an operation: {ast.dump(node)[:40]}")


def _answer(text: str) -> str:
    """What stands between the last tags, if need be unclosed; without tags, all of it. Without `= value`."""
    _, _, answer = text.rpartition("<answer>")
    return answer.partition("</answer>")[0].partition("=")[0].translate(_SPELLINGS).strip()


def _question(example: Example) -> str:
    numbers = ", ".join(map(str, example.fields["numbers"]))
    return QUESTION.format(numbers=numbers, target=example.fields["target"])


def _generated(count: int) -> list[Example]:
    """Puzzles of three and four numbers in turn, each made from an expression that solves it."""
    rng = random.Random(SALT)
    found: dict[str, Example] = {}
    while len(found) < count:
        numbers = [rng.randint(1, LARGEST_NUMBER) for _ in range(3 + len(found) % 2)]
        solution, value = _composed(rng, numbers)
        if value in TARGETS:
            puzzle = _puzzle(numbers, value, "")
            found.setdefault(puzzle.id, Example(puzzle.id, {**puzzle.fields, "solution": solution}))
    return list(found.values())


def _composed(rng: random.Random, numbers: list[int]) -> tuple[str, int]:
    """Join numbers in a random order by random operations; where a quotient is not whole, by another one."""
    parts = [(str(number), number) for number in numbers]
    while len(parts) > 1:
        (left, a), (right, b) = (parts.pop(rng.randrange(len(parts))) for _ in range(2))
        results = {"+": a + b, "-": a - b, "*": a * b}
        if b and a % b == 0:
            results["/"] = a // b
        symbol = rng.choice(list(results))
        parts.append((f"({left} {symbol} {right})", results[symbol]))
    ((text, value),) = parts
    return text[1:-1], value


def _puzzle(numbers: list[int], target: int, where: str) -> Example:
    if not 2 <= len(numbers) <= 6 or not all(type(n) is int and n > 0 for n in numbers):
        raise UsageError(f"{where}: field 'numbers' is {numbers}; expected two to six positive whole numbers")
    return Example(f"{','.join(map(str, sorted(numbers)))}={target}", {"numbers": numbers, "target": target})
