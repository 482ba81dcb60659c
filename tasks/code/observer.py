"""Observer of a program's behaviour: a test for the sandbox that reports results instead of judging them.

The source of this module runs in the sandbox's checker, so it imports only the standard library.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

DIGITS = 12  # significant digits of a float, so that the order of a sum does not change a result
_RETURNED = "returned "


def observe(
    program: Callable[..., Any], cases: Sequence[tuple[str, str | None]], statement: str, source: str
) -> str | None:
    """Return the behaviour of a program on some examples, as JSON:

        {"key": "5f3e...", "basis": "behaviour", "passed": 0.5}

    With examples, `basis` is `behaviour`, and `key` is a digest of the results, or null if the program raised on every
    example. `passed` is the fraction of examples that the program passes: it returns, and the result is the expected
    one if that is known.

    Without examples, `basis` is `syntax`, and `key` is a digest of the normalised syntax tree. `passed` is 1 if the
    program runs and defines the entry point.

    Args:
        program: The entry point.
        cases: Arguments and expected result of each example, as the source of literals.
        statement: Prompt that the program answers.
        source: Source of the whole program.

    Returns:
        The JSON text; None for a program that adds nothing to the prompt.

    Raises:
        NameError: If there are no examples and the program does not define the entry point.
    """
    tree = normalised(source)
    if tree == _statement_tree(statement):
        return None
    if not cases:
        _call_without_arguments(program)
        return json.dumps({"key": digest(tree), "basis": "syntax", "passed": 1.0})
    results = [_result(program, arguments) for arguments, _ in cases]
    passed = [_passes(result, expected) for result, (_, expected) in zip(results, cases, strict=True)]
    key = digest("\n".join(results)) if any(map(_returned, results)) else None
    return json.dumps({"key": key, "basis": "behaviour", "passed": sum(passed) / len(passed)})


def digest(text: str) -> str:
    """Return the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def _result(program: Callable[..., Any], arguments: str) -> str:
    # An exception is a result too. If the program's process died, the sandbox discards whatever is returned here.
    try:
        return _RETURNED + canonical(program(*ast.literal_eval(arguments)))
    except BaseException as error:
        return f"raised {type(error).__name__}"


def _returned(result: str) -> bool:
    return result.startswith(_RETURNED)


def _passes(result: str, expected: str | None) -> bool:
    return _returned(result) if expected is None else result == _RETURNED + canonical(ast.literal_eval(expected))


def _call_without_arguments(program: Callable[..., Any]) -> None:
    # The sandbox requires at least one call. The function needs arguments, so its body does not run. A NameError shows
    # that it is not defined.
    try:
        program()
    except NameError:
        raise
    except BaseException:
        return


def canonical(value: Any) -> str:
    """Return a text that is equal for equal plain values: True equals 1.0, floats are rounded, sets have no order."""
    if isinstance(value, int):
        return hex(value)
    if isinstance(value, float):
        rounded = float(f"{value:.{DIGITS}g}")
        return hex(int(rounded)) if rounded.is_integer() else repr(rounded)
    if isinstance(value, str):
        return ascii(str.__str__(value))  # a member of an enumeration, too
    if isinstance(value, (list, tuple, deque, Iterator)):
        kinds = {"iterator": Iterator, "tuple": tuple}  # a named tuple equals a tuple
        kind = next((name for name, kind in kinds.items() if isinstance(value, kind)), type(value).__name__)
        return f"{kind}({','.join(map(canonical, value))})"
    if isinstance(value, (set, frozenset)):
        return f"set({','.join(sorted(map(canonical, value)))})"
    if isinstance(value, dict):
        return f"dict({','.join(sorted(f'{canonical(key)}:{canonical(item)}' for key, item in value.items()))})"
    if isinstance(value, memoryview):
        return f"memoryview({value.tobytes().hex()})"
    if callable(value) and not isinstance(value, type):
        return "function"
    return ascii(value)


def normalised(source: str) -> str:
    """Return the syntax tree of a program as text, without docstrings and with numbers in place of local names.

    Programs with equal texts behave the same, unless they use reflection. A name is kept if replacing it could make
    different programs equal.

    Raises:
        SyntaxError: If the text is not Python.
    """
    tree = ast.parse(source)
    return ast.dump(_Normaliser(tree).visit(tree))


def _statement_tree(statement: str) -> str | None:
    try:
        return normalised(statement)
    except SyntaxError:
        return None


class _Normaliser(ast.NodeTransformer):
    """Removes docstrings and other bare strings, and numbers the local names of each top-level function or method."""

    def __init__(self, tree: ast.Module) -> None:
        self._kept = set(dir(builtins)).union(*map(_global_names, tree.body), *map(_fixed_names, ast.walk(tree)))
        self._numbers: dict[str, str] = {}
        self._inside = False

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        if self._inside:
            node.name = self._numbers.get(node.name, node.name)
            return self.generic_visit(node)
        # `import *` may define any name.
        local = [] if "*" in self._kept else dict.fromkeys(filter(None, map(_bound, ast.walk(node))))
        self._numbers = {name: f"local {number}" for number, name in enumerate(n for n in local if n not in self._kept)}
        self._inside = True
        self.generic_visit(node)
        self._inside, self._numbers = False, {}
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self._numbers.get(node.id, node.id)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.arg = self._numbers.get(node.arg, node.arg)
        return self.generic_visit(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        node.name = self._numbers.get(node.name, node.name) if node.name else None
        return self.generic_visit(node)


def _bound(node: ast.AST) -> str | None:
    """Return the name that a node binds, if it is of a kind that can be numbered."""
    match node:
        case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            return name
        case ast.ExceptHandler(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return name
    return None


def _global_names(statement: ast.stmt) -> set[str]:
    """Return the names that a top-level statement binds; for a class or a block, also the names bound inside."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return {statement.name}
    return set(filter(None, map(_bound, ast.walk(statement))))


def _fixed_names(node: ast.AST) -> set[str]:
    """Return the names of a node that cannot be numbered: imports, attributes, keywords, classes, globals."""
    if isinstance(node, (ast.arg, ast.Name, ast.ExceptHandler, ast.FunctionDef, ast.AsyncFunctionDef, ast.Constant)):
        return set()
    texts: set[str] = set()
    for _, value in ast.iter_fields(node):
        texts.update(item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str))
    return texts | {text.partition(".")[0] for text in texts}
