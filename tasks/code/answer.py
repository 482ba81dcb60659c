r"""The program in a reply.

Replies hold programs in many forms. These rules find one as a person would who wants to run it; the first that applies
decides:

1. The whole reply is Python that defines the function, or that continues the prompt: it is the program.
2. The code blocks of the reply (see `tasks.code.markdown`). A block counts if it defines the function with a body that
   is no stub: a stub shows the signature, and the program comes later. Of several, the last counts: a model corrects
   itself in that order. Imports, definitions and constants of the other blocks come first if the program uses and lacks
   them, since it may be told in parts. Their calls and prints do not: they show how the function is used.
3. No block defines the function: the last block counts that continues the prompt, as a function's body.
4. No block does either: the longest part of the text, in whole lines, that parses and defines the function. So prose
   before and after code without fences is left out. Such code may be indented as Markdown indents code, under a list
   item too; a method stays a part of its class. A block that defines the function but does not parse is not repaired
   like this.
5. No such part: the last code between backticks within a line that defines the function.
6. Otherwise the first block that looks like a definition, else the first block, else the whole reply. It fails with
   Python's own error.

A block that was not closed, because decoding stopped, ends before the first line that does not parse. Imports from
`__future__` go to the top. Of an interactive session, whose lines begin with `>>>`, only what was typed counts.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tasks.code.markdown import LONGEST, Block, blocks, sloppy_blocks, spans, tidy
from tasks.code.python import (
    defines,
    definition,
    future_first,
    lacks_functions,
    longest_start,
    missing_parts,
    parsed,
    readable,
    repeats,
    returns,
    typed,
)

__all__ = ["Source", "WholeProgram", "is_complete", "program_in"]

STARTS = 50
"""Maximum number of lines that may be the first one of code without fences."""

_STARTS = re.compile(
    r"^([ \t]*)(?:from\s+\S+\s+import\s|import\s|(?:async\s+)?def\s|class\s|@\w|[A-Za-z_]\w*\s*(?::[^=\n]+)?=[^=])",
    re.MULTILINE,
)
_HEADER = re.compile(r"(?:class|(?:async\s+)?def)\s")
_QUOTE = re.compile(r"^[ \t]*>(?!>) ?", re.MULTILINE)
# A token may hold the end of the line and some characters of the next one.
_CLOSING = re.compile(r"(?:`{3}|~{3})[^\S\n]*\n[^`~]{0,8}\Z")


class Source(NamedTuple):
    """A program in two parts.

    Attributes:
        before: What comes before the reply's own part: the prompt, or its imports and helpers.
        code: The reply's part.
    """

    before: str
    code: str


def program_in(reply: str, name: str, prompt: str = "") -> Source:
    """Return the program in a reply, by the rules of this module.

    Args:
        reply: A model's reply, without its thoughts.
        name: Name of the function, or class, that the program is to define.
        prompt: Python that the reply may continue, ending with the function's signature and docstring.
    """
    start = prompt[: definition(prompt, name)] if definition(prompt, name) is not None else prompt
    text = tidy(reply)
    try:
        before, code = _found(text, name, start, prompt)
        futures, code = future_first(code)
    except RecursionError:  # a deeply nested expression, which Python parses and nobody writes
        return Source(prompt, text)
    return Source(futures + before, code)


def _found(text: str, name: str, start: str, prompt: str) -> Source:
    """Return the program in a tidy text.

    Args:
        text: The text.
        name: See `program_in`.
        start: The prompt before its definition of the name, or the whole prompt if it has none.
        prompt: See `program_in`.
    """
    if (code := _whole(text, name)) is not None:
        return Source(start, code)
    found = blocks(text, _parses)
    if (code := _defined(found, name)) is not None:
        return Source(start, code)
    more = [block for block in sloppy_blocks(text) if block not in found]
    if (code := _defined(more, name)) is not None:
        return Source(start, code)
    for block in (Block(text, closed=False), *reversed(found), *reversed(more)):
        if (code := _body(block, name, prompt)) is not None:
            return Source(prompt, code)
    codes = [block.code for block in found or more]
    looking = [each for each in codes if definition(each, name) is not None]
    if not looking and (code := _in_prose(text, name) or _defined(spans(text), name)) is not None:
        return Source(start, code)
    code = next(iter([*looking, *codes]), text)
    return Source(start if definition(code, name) is not None else prompt, code)


@dataclass(frozen=True)
class WholeProgram:
    """Rule that ends an answer when the code block that is scored is closed. See `tasks.interface.EndRule`.

    Attributes:
        name: See `program_in`.
        prompt: See `program_in`.
    """

    name: str
    prompt: str

    def may_end(self, tail: str) -> bool:
        """Return whether a line that may be a closing fence has just ended."""
        return _CLOSING.search(tail) is not None

    def is_complete(self, answer: str) -> bool:
        """Return whether the block is closed; see `is_complete`."""
        return is_complete(answer, self.name, self.prompt)


def is_complete(reply: str, name: str, prompt: str = "") -> bool:
    """Return whether a reply holds a closed block that rule 2 or 3 would take and that calls nothing it lacks.

    Nothing more is needed then. Nor is it if the block defines the function and does not parse: it is wrong.

    Args:
        reply: The reply so far.
        name: See `program_in`.
        prompt: See `program_in`.
    """
    try:
        return _is_complete(tidy(reply), name, prompt)
    except RecursionError:
        return False


def _is_complete(text: str, name: str, prompt: str) -> bool:
    text = text.rpartition("\n")[0]  # a line that goes on may not become a closing fence
    for found in (blocks(text, _parses), sloppy_blocks(text)):
        closed = [block for block in found if block.closed]
        code = _defined(closed, name)
        if code is not None:
            return not lacks_functions(parsed(code), parsed(prompt))
        if any(_body(block, name, prompt) or _is_broken(block.code, name) for block in closed):
            return True
    return False


def _is_broken(code: str, name: str) -> bool:
    """Return whether a block defines a name but does not parse, and not because a fence within a string ended it."""
    in_string = any(code.count(quotes) % 2 for quotes in ('"""', "'''"))
    return definition(code, name) is not None and not in_string and not _parses(code)


def _parses(code: str) -> bool:
    return parsed(readable(code)) is not None


def _whole(text: str, name: str) -> str | None:
    forms = (text, textwrap.dedent(text)) if text[:1].isspace() else (text,)
    return next((longest_start(form) for form in forms if defines(form, name)), None)


def _defined(found: Sequence[Block], name: str) -> str | None:
    """Return the last block that defines a name, after what it lacks and other blocks have."""
    codes = [readable(block.code) if block.closed else _start_of(block.code) for block in found]
    last = max((i for i, code in enumerate(codes) if defines(code, name)), default=None)
    if last is None:
        return None
    others = [code for i, code in enumerate(codes) if i != last]
    parts = [ast.unparse(node) for node in missing_parts(codes[last], others, name)]
    return "\n".join([*dict.fromkeys(parts), codes[last]])


def _start_of(code: str) -> str:
    code = readable(code)
    return code if parsed(code) is not None else longest_start(textwrap.dedent(code))


def _body(block: Block, name: str, prompt: str) -> str | None:
    """Return a block as the body of the function that a prompt ends with, indented; None if it is none."""
    text = block.code
    if not prompt or not text.strip() or len(text) > LONGEST:
        return None
    lost = f"    {text.lstrip()}", textwrap.indent(textwrap.dedent(text), "    ")
    for form in (text, *lost):
        code = form if block.closed else longest_start(prompt + form)[len(prompt) :]
        whole = prompt + code
        # Without its indentation, only a body that returns something differs from prose.
        fits = code.strip() and defines(whole, name) and (form == text or returns(whole, name))
        if fits and not repeats(whole, name):
            return code
    return None


def _in_prose(text: str, name: str) -> str | None:
    """Return the longest part of a text that parses and defines a name."""
    if len(text) > LONGEST:
        return None
    forms = (text, _QUOTE.sub("", text), typed(text))
    return next((code for form in dict.fromkeys(forms) if (code := _longest_part(form, name))), None)


def _longest_part(text: str, name: str) -> str:
    found, end, tried = "", 0, 0
    for match in _STARTS.finditer(text):
        if match.start() < end or (match[1] and _HEADER.match(_line_above(text, match))):
            continue
        rest = _indented(text[match.start() :], match[1])
        code = longest_start(rest)
        lines = text[match.start() :].split("\n", code.count("\n") + 1)
        end = match.start() + sum(len(line) + 1 for line in lines[: code.count("\n") + 1])
        if defines(code, name):
            found = max(found, code, key=len)
        tried += 1
        if tried == STARTS:
            break
    return found


def _line_above(text: str, match: re.Match[str]) -> str:
    """Return the last line before an indented one that is indented less, without its indentation."""
    for line in reversed(text[: match.start()].split("\n")):
        if line.strip() and len(line) - len(line.lstrip()) < len(match[1]):
            return line.lstrip()
    return ""


def _indented(text: str, indentation: str) -> str:
    """Return the first lines of a text that have this indentation, or are blank, without it."""
    lines = []
    for line in text.split("\n"):
        if line.strip() and not line.startswith(indentation):
            break
        lines.append(line.removeprefix(indentation))
    return "\n".join(lines)
