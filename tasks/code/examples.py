"""Examples in the prompt of a function: arguments of a call and, if stated, the expected result."""

from __future__ import annotations

import ast
import doctest
import functools
import re
from typing import Any, NamedTuple

from tasks.code.python import definition

# f(x) == y, f(x) = y, f(x) => y, f(x) ==> y, f(x) -> y, f(x) ➞ y, f(x) returns y, f(x) should return y, f(x)  # => y
_LEADS_TO = re.compile(r"[ \t]*(?:#[ \t]*)?(?:={1,2}>?|->|➞|returns|should return)[ \t]*")
# Text that may follow a stated result on its line.
_END = re.compile(r"\s*(?:[,;#(]|\.?\s*$|\.\s)")
_PARSE_ERRORS = (SyntaxError, ValueError, MemoryError, RecursionError)


class Case(NamedTuple):
    """One example: `>>> add(2, 3)` with result 5 is `Case(arguments="(2, 3)", expected="5")`.

    Attributes:
        arguments: Source of the tuple of positional arguments, all literals.
        expected: Source of the expected result, a literal; None if the prompt states none or it cannot be parsed.
    """

    arguments: str
    expected: str | None


@functools.cache
def cases(prompt: str, name: str) -> tuple[Case, ...]:
    """Return the examples in the prompt of a function, in order: its calls with literal arguments.

    The examples are parsed, not run. The result of a doctest is on the following lines; elsewhere it follows on the
    same line, after a sign such as `==`, `=>`, `->` or `returns`.

    Args:
        prompt: Python source that ends with the function's signature and docstring.
        name: Name of the function.
    """
    text = prompt[definition(prompt, name) or 0 :].rstrip()
    # Otherwise the closing quotes would be taken for the last line of a doctest's output.
    text = text.removesuffix('"""').removesuffix("'''")
    try:
        parts = doctest.DocTestParser().parse(text)
    except ValueError:
        parts = [text]
    found: dict[str, str | None] = {}
    for part in parts:
        read = _read(part, name) if isinstance(part, str) else _read(part.source, name, after=part.want)
        for case in read:
            found[case.arguments] = found.get(case.arguments) or case.expected
    return tuple(Case(arguments, expected) for arguments, expected in found.items())


def _read(text: str, name: str, after: str | None = None) -> list[Case]:
    """Return the calls in a text with their stated results.

    Args:
        text: Prose, or the source of a doctest.
        name: Name of the function.
        after: Output of the doctest, which is the result if the source is a single call; None for prose.
    """
    found: list[Case] = []
    end = 0
    for match in re.finditer(rf"(?<![\w.]){re.escape(name)}\(", text):
        call = _call(text, match.start()) if match.start() >= end else None
        if call is None:
            continue
        arguments, end = call
        rest = text[end:].partition("\n")[0]
        leads = _LEADS_TO.match(rest)
        expected = None
        if leads:
            stated = rest[leads.end() :]
            # In a chain of equal terms, such as 19 - 5 - 6 = 8, the last one is the result.
            expected = _literal(stated) or _literal(stated.rpartition("=")[2])
        elif after is not None and text.strip() == text[match.start() : end]:
            # A doctest prints nothing for None.
            expected = _literal(after.strip().replace("\n", " ")) if after.strip() else "None"
        found.append(Case(arguments, expected))
    return found


def _call(text: str, start: int) -> tuple[str, int] | None:
    """Return the arguments of the call that starts here, and its end; None unless all arguments are literals."""
    for match in re.compile(r"\)").finditer(text, start):
        end = match.end()
        try:
            call: Any = ast.parse(text[start:end], mode="eval").body
        except _PARSE_ERRORS:
            continue
        # Prose also contains calls with variables, and mentions without arguments.
        if not isinstance(call, ast.Call) or call.keywords or not call.args:
            return None
        arguments = ast.unparse(ast.Tuple(call.args, ast.Load()))
        try:
            ast.literal_eval(arguments)
        except _PARSE_ERRORS:
            return None
        return arguments, end
    return None


def _literal(text: str) -> str | None:
    """Return the literal at the start of a text; None if something else than a remark follows it."""
    for end in range(len(text), 0, -1):
        word = text[:end].strip()
        word = word.capitalize() if word in ("true", "false") else word
        try:
            tree = ast.parse(word, mode="eval")
            ast.literal_eval(tree)
        except _PARSE_ERRORS:
            continue
        if _END.match(text[end:]):
            return ast.unparse(tree)
    return None
