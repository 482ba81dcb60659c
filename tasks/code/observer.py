"""What is observed of a program: a test for the judge that reports and rejects nothing but what does not run.

The text of this module runs in the judge's checker, so it imports nothing but the standard library.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

DIGITS = 12  # significant, of a float: the order of a sum makes no other result
_RETURNED = "returned "


def observe(
    program: Callable[..., Any], cases: Sequence[tuple[str, str | None]], statement: str, source: str
) -> str | None:
    """Return what a program does on some examples, as JSON: `key`, `basis` and `passed`.

    `key` is a digest of its results, or null if every example raised; the basis is then `behaviour`. Without examples
    it is a digest of its normalised syntax tree, and the basis is `syntax`. `passed` is the share of the examples that
    return, and return what is expected where that is known; without examples, a program passes that runs and defines
    the entry point.

    Args:
        program: The entry point.
        cases: Arguments and expected result, as the source of literals.
        statement: The prompt that the program answers.
        source: The whole program.

    Returns:
        None for a program that adds nothing to the prompt.

    Raises:
        NameError: There are no examples, and the program does not define the entry point.
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
    """Return a hash of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def _result(program: Callable[..., Any], arguments: str) -> str:
    # Whatever it raises is what it does. If its process is gone, the judge gives no verdict, whatever comes of it here.
    try:
        return _RETURNED + canonical(program(*ast.literal_eval(arguments)))
    except BaseException as error:
        return f"raised {type(error).__name__}"


def _returned(result: str) -> bool:
    return result.startswith(_RETURNED)


def _passes(result: str, expected: str | None) -> bool:
    return _returned(result) if expected is None else result == _RETURNED + canonical(ast.literal_eval(expected))


def _call_without_arguments(program: Callable[..., Any]) -> None:
    # The judge wants a call. This one runs no body, as a task's function takes arguments; it tells if there is one.
    try:
        program()
    except NameError:
        raise
    except BaseException:
        return


def canonical(value: Any) -> str:
    """Return a text that equal plain values share: True is 1 is 1.0, floats are rounded, sets have no order."""
    if isinstance(value, int):
        return hex(value)
    if isinstance(value, float):
        rounded = float(f"{value:.{DIGITS}g}")
        return hex(int(rounded)) if rounded.is_integer() else repr(rounded)
    if isinstance(value, (list, tuple, deque, Iterator)):
        kind = "iterator" if isinstance(value, Iterator) else type(value).__name__
        return f"{kind}({','.join(map(canonical, value))})"
    if isinstance(value, (set, frozenset)):
        return f"set({','.join(sorted(map(canonical, value)))})"
    if isinstance(value, dict):
        return f"dict({','.join(sorted(f'{canonical(key)}:{canonical(item)}' for key, item in value.items()))})"
    if callable(value) and not isinstance(value, type):
        return "function"
    return ascii(value)


def normalised(source: str) -> str:
    """Return the syntax tree of a program as text, without bare strings and with local names numbered.

    Equal texts do the same, reflection aside: where renaming could join two programs that differ, the names stay.

    Raises:
        SyntaxError: The text is no Python.
    """
    tree = ast.parse(source)
    return ast.dump(_Normaliser(tree).visit(tree))


def _statement_tree(statement: str) -> str | None:
    try:
        return normalised(statement)
    except SyntaxError:
        return None


class _Normaliser(ast.NodeTransformer):
    """Drops docstrings and other bare strings, and numbers the local names of each function outside of functions."""

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
        # An import of everything may bring in any name.
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
    """The name that a node binds, of those that are numbered."""
    match node:
        case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            return name
        case ast.ExceptHandler(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return name
    return None


def _global_names(statement: ast.stmt) -> set[str]:
    """The names that a statement at top level binds, and more in a class or a block."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return {statement.name}
    return set(filter(None, map(_bound, ast.walk(statement))))


def _fixed_names(node: ast.AST) -> set[str]:
    """The names that a node holds in a form that is not numbered: imports, attributes, keywords, classes, globals."""
    if isinstance(node, (ast.arg, ast.Name, ast.ExceptHandler, ast.FunctionDef, ast.AsyncFunctionDef, ast.Constant)):
        return set()
    texts: set[str] = set()
    for _, value in ast.iter_fields(node):
        texts.update(item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str))
    return texts | {text.partition(".")[0] for text in texts}
