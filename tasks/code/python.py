"""Python source of replies: whether it defines a name, what it lacks, and how much of it parses."""

from __future__ import annotations

import ast
import builtins
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from copy import copy
from functools import lru_cache

LONGEST = 200_000
"""Maximum characters that are parsed."""
PREFIXES = 30
"""Maximum number of times that a text is cut off before a line that does not parse."""

_INVISIBLE = str.maketrans({"\u00a0": " ", "\u200b": None, "\u200c": None, "\u200d": None, "\u2060": None})
_PROMPT_SIGN = re.compile(r"[ \t]*(?:>>>|\.\.\.:?|In \[\d+\]:)(?: (.*))?")
_UNDONE = re.compile(r"not\W*implemented|todo", re.IGNORECASE)
_PLACEHOLDER = re.compile(
    r"#.*\b(?:todo|fixme|your (?:code|solution|implementation)|implement|placeholder)\b", re.IGNORECASE
)
_DEFINES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_NESTS = (ast.If, ast.Try, ast.With, ast.For, ast.While)


@lru_cache(maxsize=256)
def parsed(code: str) -> ast.Module | None:
    """Return the syntax tree of a text; None if it is not Python, or too long or too deeply nested to tell."""
    return None if isinstance(found := _parse(code), int) else found


def _parse(code: str) -> ast.Module | int:
    """Return the syntax tree, or the number of the line that cannot be parsed."""
    if len(code) > LONGEST:
        return 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an invalid escape sequence in a string
        try:
            return ast.parse(code)
        except SyntaxError as error:
            return error.lineno or 1
        except (ValueError, MemoryError, RecursionError):
            return 1


def readable(code: str) -> str:
    """Return a block's code in the first form that parses: as it is, or without what a page added.

    The other forms have no common indentation, ordinary spaces for those of web pages and nothing for invisible
    characters, no quotation marks around the whole, or no signs and outputs of an interactive session.
    """
    dedented = textwrap.dedent(code)
    quoted = re.fullmatch(r"\s*('|\")(.*)\1\s*", code, re.DOTALL)
    forms = (code, dedented, dedented.translate(_INVISIBLE), quoted[2] if quoted else code)
    entered = typed(code) if _PROMPT_SIGN.match(code.lstrip("\n")) else code
    return next((form for form in (*forms, entered) if parsed(form) is not None), code)


def typed(text: str) -> str:
    """Return what was typed in an interactive session, such as `>>> f(1)`, without its outputs; empty if it is none."""
    found = map(_PROMPT_SIGN.fullmatch, text.split("\n"))
    return "".join(f"{match[1] or ''}\n" for match in found if match)


def longest_start(code: str) -> str:
    """Return the longest start of a text, in whole lines, that parses.

    Expressions at its end that call nothing are left out: they are words of prose.
    """
    lines = code.split("\n")
    for _ in range(PREFIXES):
        found = _parse("\n".join(lines))
        if not isinstance(found, int):
            while (
                found.body
                and isinstance(last := found.body[-1], ast.Expr)
                and not any(isinstance(n, ast.Call) for n in ast.walk(last))
            ):
                found.body.pop()
            return "\n".join(lines[: found.body[-1].end_lineno]) if found.body else ""
        # An error of indentation may be reported behind its cause, so at least one line goes.
        lines = lines[: max(0, min(found, len(lines)) - 1)]
        if not lines:
            break
    return ""


def definition(code: str, name: str) -> int | None:
    """Return the position of the last top-level definition of this function; None if there is none.

    The text need not be Python.
    """
    found = re.finditer(rf"^(?:async\s+)?def\s+{re.escape(name)}\s*\(", code, re.MULTILINE)
    return max((match.start() for match in found), default=None)


def body_of(code: str, name: str) -> str | None:
    """Return the body of a program's function, indented, to continue the function's signature and docstring.

    Imports, constants and functions around the function move into it. Other statements, such as calls that try the
    function, and the function's own docstring are left out. The layout is that of `ast.unparse`.

        from math import pi                     def area(r):
        def area(r): return pi * r ** 2             from math import pi
                                                    return pi * r ** 2

    Args:
        code: The program.
        name: Name of the function.

    Returns:
        The body, such as the last two lines above; None if the program does not parse or define the function, or has
        a part that cannot move into a function: a class, which tests may use, `from math import *`, or a name that
        is declared global. Also None if the body binds the function's name: on its own, it would define that.
    """
    tree = parsed(code)
    functions = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name] if tree else []
    if tree is None or not functions:
        return None
    whole = copy(functions[-1])
    arguments = {node.arg for node in ast.walk(whole.args) if isinstance(node, ast.arg)}
    around = [node for node in tree.body if _provided(node, name) - arguments]
    stays = any(isinstance(node, ast.ClassDef) or "*" in _provided(node, name) for node in around)
    if stays or any(isinstance(node, ast.Global) for node in ast.walk(tree)):
        return None
    if any(name in bindings(node) for node in _top_level(whole.body)):
        return None
    documented = ast.get_docstring(whole) is not None
    whole.body, whole.decorator_list = [*around, *whole.body[documented:]] or [ast.Pass()], []
    return ast.unparse(whole).partition("\n")[2]


def defines(code: str, name: str) -> bool:
    """Return whether a text is Python that binds a name at top level, and last not to a stub.

    A text that returns or yields outside of functions is no program. It is a function's body, which may bind any name.

    A stub is a function or a class whose body is a docstring, `pass`, `...`, `return None` or `raise
    NotImplementedError`, or a comment such as `# TODO` with a constant that is returned.
    """
    tree = parsed(code)
    if tree is None or _returns(tree):
        return False
    bound = [node for node in _top_level(tree.body) if name in bindings(node)]
    return bool(bound) and not _is_stub(bound[-1], code)


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module, and of the blocks of its conditions and loops."""
    for node in body:
        yield node
        if isinstance(node, _NESTS):
            handlers = [handler.body for handler in getattr(node, "handlers", ())]
            for part in (node.body, *handlers, getattr(node, "orelse", []), getattr(node, "finalbody", [])):
                yield from _top_level(part)


def bindings(node: ast.stmt) -> set[str]:
    """Return the names that a statement binds by itself."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            return {alias.asname or alias.name.partition(".")[0] for alias in names}
        case ast.Assign() | ast.AnnAssign(value=ast.expr()):
            return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return set()


def _is_stub(node: ast.stmt, code: str) -> bool:
    """Return whether a statement of this code defines a stub; see `defines`."""
    if not isinstance(node, _DEFINES):
        return False
    body = [part for part in node.body if not _is_text(part)]
    if isinstance(node, ast.ClassDef):
        return all(_is_stub(part, code) if isinstance(part, _DEFINES) else _says_nothing(part) for part in body)
    if len(body) == 1 and isinstance(body[0], ast.Return) and _is_constant(body[0].value):
        lines = code.split("\n")[node.lineno - 1 : node.end_lineno]
        return any(map(_PLACEHOLDER.search, lines)) or _says_nothing(body[0])
    return all(map(_says_nothing, body))


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_constant(node: ast.expr | None) -> bool:
    try:
        return node is None or ast.literal_eval(node) is not NotImplemented
    except (ValueError, TypeError, MemoryError, RecursionError):
        return isinstance(node, ast.Name) and node.id == "NotImplemented"


def _says_nothing(node: ast.stmt) -> bool:
    match node:
        case ast.Pass() | ast.Expr(value=ast.Constant(value=_)) | ast.Return(value=None | ast.Constant(value=None)):
            return True
        case ast.Return(value=ast.Name(id="NotImplemented")):
            return True
        case ast.Raise(exc=ast.Name() | ast.Call()):
            return _UNDONE.search(ast.unparse(node)) is not None
    return False


def missing_parts(code: str, others: Sequence[str], name: str) -> list[ast.stmt]:
    """Return the imports, definitions and constants of other texts that a program uses and lacks, in their order.

    Args:
        code: The program.
        others: The other texts. Those that are no Python have nothing.
        name: What the program defines; the others' definitions of it are left out.
    """
    pairs = [(node, other) for other in others if (tree := parsed(other)) for node in tree.body]
    found = [(node, bound, _is_stub(node, other)) for node, other in pairs if (bound := _provided(node, name))]
    whole = {each for _, bound, is_stub in found if not is_stub for each in bound}
    parts = [(node, bound) for node, bound, is_stub in found if not (is_stub and bound <= whole)]
    if not parts:
        return []
    tree = parsed(code)
    body = tree.body if tree else []
    wanted = {"*"}.union(*map(_used, body)) - {bound for node in _top_level(body) for bound in bindings(node)}
    chosen: set[int] = set()
    while new := {i for i, (_, bound) in enumerate(parts) if i not in chosen and bound & wanted}:
        chosen |= new
        wanted = wanted.union(*(_used(parts[i][0]) for i in new))
    return [parts[i][0] for i in sorted(chosen)]


def lacks_functions(tree: ast.Module | None, prompt: ast.Module | None) -> bool:
    """Return whether a program calls a function by a name that neither it nor its prompt binds anywhere."""
    nodes = [node for part in (tree, prompt) if part for node in ast.walk(part)]
    called = {n.func.id for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    bound = {n.id for n in nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    bound |= {n.arg for n in nodes if isinstance(n, ast.arg)} | set(dir(builtins))
    bound = bound.union(*(bindings(n) for n in nodes if isinstance(n, ast.stmt)))
    return "*" not in bound and not called <= bound


def _provided(node: ast.stmt, name: str) -> set[str]:
    """Return the names that a statement provides to a block that defines `name`, if it does no more than that."""
    inner = _top_level([node]) if isinstance(node, ast.Try) else [node]  # around imports
    found = set().union(*map(bindings, inner))
    shows_use = isinstance(node, (ast.Assign, ast.AnnAssign)) and name in _used(node)
    return set() if shows_use or name in found else found


def _used(node: ast.AST) -> set[str]:
    """Return the names that a statement reads and does not bind inside."""
    names = [n for n in ast.walk(node) if isinstance(n, ast.Name)]
    own = {n.id for n in names if isinstance(n.ctx, ast.Store)} | {
        n.arg for n in ast.walk(node) if isinstance(n, ast.arg)
    }
    return {n.id for n in names} - own


def returns(code: str, name: str) -> bool:
    """Return whether the last top-level function of this name has a `return` or a `yield` of its own."""
    function = _last_function(code, name)
    return function is not None and _returns(function)


def repeats(code: str, name: str) -> bool:
    """Return whether the body of the last top-level function of this name only defines the name again.

    A body that binds the name and returns something uses it as a variable.
    """
    function = _last_function(code, name)
    return function is not None and not _returns(function) and any(name in bindings(node) for node in function.body)


def _last_function(code: str, name: str) -> ast.FunctionDef | None:
    tree = parsed(code)
    functions = [n for n in (tree.body if tree else []) if isinstance(n, ast.FunctionDef) and n.name == name]
    return functions[-1] if functions else None


def _returns(node: ast.AST) -> bool:
    parts = [n for n in ast.iter_child_nodes(node) if not isinstance(n, (*_DEFINES, ast.Lambda))]
    return any(isinstance(n, (ast.Return, ast.Yield, ast.YieldFrom)) or _returns(n) for n in parts)


def future_first(code: str) -> tuple[str, str]:
    """Return the `from __future__` imports of a program, which must come first, and the program without them."""
    tree = parsed(code)
    futures = [n for n in tree.body if isinstance(n, ast.ImportFrom) and n.module == "__future__"] if tree else []
    lines = code.split("\n")
    for node in reversed(futures):
        start, end = node.lineno - 1, node.end_lineno or node.lineno
        before, after = lines[start][: node.col_offset], lines[end - 1][node.end_col_offset :]
        lines[start:end] = [f"{before}pass{after}"]
    return "".join(f"{ast.unparse(node)}\n" for node in futures), "\n".join(lines)
