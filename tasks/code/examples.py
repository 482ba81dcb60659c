"""The examples that a prompt gives of its function: what to call it with and, where that is said, what comes out."""

from __future__ import annotations

import ast
import doctest
import functools
import re
from typing import Any, NamedTuple

from tasks.code.answer import definition

# f(x) == y, f(x) = y, f(x) => y, f(x) ==> y, f(x) -> y, f(x) ➞ y, f(x) returns y, f(x) should return y, f(x)  # => y
_LEADS_TO = re.compile(r"[ \t]*(?:#[ \t]*)?(?:={1,2}>?|->|➞|returns|should return)[ \t]*")
# What may follow a stated output in its line.
_END = re.compile(r"\s*(?:[,;#(]|\.?\s*$|\.\s)")
_PARSE_ERRORS = (SyntaxError, ValueError, MemoryError, RecursionError)


class Case(NamedTuple):
    """One example.

    Attributes:
        arguments: Source of the tuple of positional arguments, all literals.
        expected: Source of the literal that the prompt says comes out; None where it says none that can be read.
    """

    arguments: str
    expected: str | None


@functools.cache
def cases(prompt: str, name: str) -> tuple[Case, ...]:
    """Return the examples in the prompt of a function, in order: calls of it with arguments, all literals.

    They are read from the text and not run. In a doctest the output stands in the next lines; elsewhere behind one of
    the usual signs in the same line.

    Args:
        prompt: Python that ends with the function's signature and docstring.
        name: The function.
    """
    text = prompt[definition(prompt, name) or 0 :].rstrip()
    # The end of the docstring would be taken for the last line of a doctest's output.
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
    """Read the calls in a text, and the output that stands behind each, or after the text if one call is all of it."""
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
            # Of a chain of equal terms, such as 19 - 5 - 6 = 8, the last one is the output.
            expected = _literal(stated) or _literal(stated.rpartition("=")[2])
        elif after is not None and text.strip() == text[match.start() : end]:
            # A doctest shows nothing for None.
            expected = _literal(after.strip().replace("\n", " ")) if after.strip() else "None"
        found.append(Case(arguments, expected))
    return found


def _call(text: str, start: int) -> tuple[str, int] | None:
    """Return the arguments of the call that begins here and where it ends; None if they are not all literals."""
    for match in re.compile(r"\)").finditer(text, start):
        end = match.end()
        try:
            call: Any = ast.parse(text[start:end], mode="eval").body
        except _PARSE_ERRORS:
            continue
        # Prose has calls with names in them, too, and a mention may be without arguments.
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
    """Return the literal at the beginning of a text, if nothing but a remark follows it."""
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
