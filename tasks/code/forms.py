"""Tests of programs, as data sets publish them: what they call, what they import, and whether the sandbox can run them.

The forms are assertions, a list of them, `check(f)` with or without its call, functions and classes of pytest, cases of
`unittest`, and doctests.
"""

from __future__ import annotations

import ast
import builtins
import doctest
import functools
import importlib.util
import re
import symtable
import sys
import warnings
from collections import Counter, OrderedDict, deque
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from bench.sandbox.inside.forms import is_guard, pending, runs_main
from bench.sandbox.program import PACKAGES

_DOCTEST = """
_names = lambda: ({names})
import doctest as _doctest
_examples = _doctest.DocTestParser().get_doctest({text!r}, globals(), "test", None, None)
_printed = []
if _doctest.DocTestRunner(verbose=False).run(_examples, out=_printed.append, clear_globs=False).failed:
    raise AssertionError("".join(_printed))
"""
_CLASS = re.compile(r"_?[A-Z][A-Za-z0-9]*")
_PLAIN = {
    name
    for kind in (int, float, complex, str, bytes, list, tuple, dict, set, range, deque, Counter, OrderedDict, datetime)
    for name in dir(kind)
} | set(dir(timedelta) + dir(Decimal) + dir(Fraction))
"""Attributes of plain values."""
_PARSE_ERRORS = (SyntaxError, ValueError, MemoryError, RecursionError)


@dataclass(frozen=True)
class CodeTest:
    """Test of a program, ready for the sandbox.

    Attributes:
        source: Python source.
        entry_point: Function under test: the first name of the program that the test calls, or else uses; empty if
            there is none.
        packages: Packages outside the standard library that the test imports.
        classes: Names of the program's classes and of functions that return objects. They are recognised by their form
            (`Solution`, not `solve` or `Find_Max`), or by an attribute of the result that no plain value has, such as
            `push` in `s = stack(); s.push(1)`.
        problem: Reason why the test cannot be run; None if it can.
    """

    source: str
    entry_point: str = ""
    packages: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    problem: str | None = None


@functools.lru_cache(maxsize=4096)
def read_test(text: str) -> CodeTest:
    """Return a test as it is run.

    - A doctest becomes Python that runs it.
    - `from solution import f`, where no such module exists, imports the program's `f`, and becomes no import.

    Args:
        text: Test in any of the published forms.
    """
    source = text.replace("\r\n", "\n").replace("\r", "\n")
    try:
        if re.search(r"^\s*>>>", source, re.MULTILINE) and not _asserts(source):
            source = _from_doctest(source)
        tree = _parsed(source)
        missing = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and _is_missing(node)]
        if missing:
            source = _without_imports(source, missing)
            tree = _parsed(source)
        used = _program_names(source, tree)
    except _PARSE_ERRORS as error:
        return CodeTest(source, problem=f"it is not Python ({error})")
    packages = tuple(sorted(_imported(tree) & set(PACKAGES)))
    called = [name for name, is_call in used if is_call] or [name for name, _ in used]
    named = {name for name, _ in used}
    # A name in capitals that the test does not call is a constant.
    formed = {name for name in named if _CLASS.fullmatch(name) and (not name.isupper() or name in called)}
    classes = tuple(sorted(formed | (named & _makers(tree))))
    return CodeTest(source, next(iter(called), ""), packages, classes, _problem(tree, called))


def packages(test: str) -> tuple[str, ...]:
    """Return the packages of `PACKAGES` that a test imports."""
    if not any(name in test for name in PACKAGES):
        return ()
    try:
        return tuple(sorted(_imported(_parsed(test)) & set(PACKAGES)))
    except _PARSE_ERRORS:
        return ()


@functools.lru_cache(maxsize=4096)
def defined_classes(solution: str, test: str) -> tuple[str, ...]:
    """Return the classes that a published solution defines at its top level and a test uses by name."""
    if "class" not in solution:
        return ()
    try:
        defined = {node.name for node in _parsed(solution).body if isinstance(node, ast.ClassDef)}
        return tuple(sorted(defined & {name for name, _ in _program_names(test, _parsed(test))}))
    except _PARSE_ERRORS:
        return ()


def _parsed(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # published code contains invalid escape sequences
        return ast.parse(text)


def _asserts(text: str) -> bool:
    """Return whether a text is Python with statements, and not a docstring or prose that holds a doctest."""
    try:
        return any(not isinstance(node, ast.Expr) for node in _parsed(text).body)
    except _PARSE_ERRORS:
        return False


def _from_doctest(text: str) -> str:
    with suppress(*_PARSE_ERRORS):  # a docstring
        text = "\n".join(ast.literal_eval(node.value) for node in _parsed(text).body if isinstance(node, ast.Expr))
    sources = [example.source for example in doctest.DocTestParser().get_examples(text)]
    source = "".join(sources)
    names = "".join(f"{name}, " for name in dict.fromkeys(name for name, _ in _program_names(source, _parsed(source))))
    return _DOCTEST.format(names=names, text=text)


def _is_missing(node: ast.ImportFrom) -> bool:
    """Return whether a module is neither of the standard library nor a package for tests."""
    root = (node.module or "").partition(".")[0]
    return node.level > 0 or (root not in sys.stdlib_module_names and root not in PACKAGES and root != "__future__")


def _without_imports(source: str, imports: list[ast.ImportFrom]) -> str:
    """Replace imports by assignments of the same names, on as many lines."""
    lines = source.split("\n")
    for node in imports:
        end = node.end_lineno or node.lineno
        alias = "; ".join(f"{a.asname} = {a.name}" for a in node.names if a.asname and a.name != "*") or "pass"
        lines[node.lineno - 1 : end] = [" " * node.col_offset + alias, *[""] * (end - node.lineno)]
    return "\n".join(lines)


def _imported(tree: ast.Module) -> set[str]:
    """Return the top-level modules that a test imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def _program_names(source: str, tree: ast.Module) -> list[tuple[str, bool]]:
    """Return the names that a test uses and does not define, in the order of the text, and whether it calls them."""
    table = symtable.symtable(source, "<test>", "exec")
    own = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    free = _global_names(table) - own - set(dir(builtins)) - {"__file__", "__name__", "__doc__"}
    functions = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in free]
    called = {node.id for node in names if node in functions}
    names.sort(key=lambda node: (node.lineno, node.col_offset))
    return [(n.id, n in functions) for n in names if n.id not in sys.stdlib_module_names or n.id in called]


def _makers(tree: ast.Module) -> set[str]:
    """Return the names of functions of whose results the test reads an attribute that no plain value has."""
    made: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=variable)], value=ast.Call(func=ast.Name(id=name))):
                made.setdefault(variable, set()).add(name)
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Call(func=ast.Name(id=name)), attr=attribute) if attribute not in _PLAIN:
                found.add(name)
            case ast.Attribute(value=ast.Name(id=variable), attr=attribute) if attribute not in _PLAIN:
                found |= made.get(variable, set())
    return found


def _global_names(table: symtable.SymbolTable) -> set[str]:
    top = table.get_type() == "module"
    names = {symbol.get_name() for symbol in table.get_symbols() if top or symbol.is_global()}
    return names.union(*map(_global_names, table.get_children()))


def _problem(tree: ast.Module, used: list[str]) -> str | None:
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for statement in tree.body:
        if isinstance(statement, ast.AsyncFunctionDef) and statement.name.startswith("test"):
            return f"{statement.name} is asynchronous, which is not supported"
    if used and not _reached(tree) & set(used):
        return f"nothing calls its part that uses {used[0]}"
    # A name that is assigned or passed to a function may be called under another name.
    reached = [node for node in ast.walk(tree) if isinstance(node, (ast.Call, ast.Assign))]
    if not used and any(isinstance(node, ast.FunctionDef) and node.name == "check" for node in tree.body):
        return "it does not call its check; add a line such as check(f)"
    if not {node.id for part in reached for node in ast.walk(part) if isinstance(node, ast.Name)} & set(used):
        return "it calls no function of the reply by name"
    if not any(isinstance(node, (ast.Assert, ast.Raise)) for node in ast.walk(tree)) and not any(
        re.search(r"assert|raises|fail|exit|quit", ast.unparse(call.func)) for call in calls
    ):
        return "it asserts nothing, so every reply would pass"
    unknown = _imported(tree) - sys.stdlib_module_names - set(PACKAGES) - {"__future__"}
    if unknown:
        return f"it imports {', '.join(sorted(unknown))}; tests may import the standard library, {', '.join(PACKAGES)}"
    for name in _imported(tree) & set(PACKAGES):
        if importlib.util.find_spec(name) is None:
            return f"it imports {name}, which is not installed here (pip install {name})"
    for node in ast.walk(tree):
        match node:
            case ast.Module() | ast.ClassDef() if fixtures := _fixtures(node, tree):
                return f"it uses fixtures ({', '.join(fixtures)}), which are not supported"
            case (
                ast.Attribute(value=ast.Name(id="builtins"), ctx=ast.Store())
                | ast.Attribute(value=ast.Name(id="sys"), attr="stdin", ctx=ast.Store())
            ):
                return f"it replaces {ast.unparse(node)}, which the program, in another process, would not see"
            case ast.Call(func=ast.Name(id="patch") | ast.Attribute(attr="patch")):
                return "it patches names, which the program, in another process, would not see"
    return None


def _reached(tree: ast.Module) -> set[str]:
    """Return the names in the parts of a test that are run: its statements, what is pending, and what these use."""
    defined = {n.name: n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}
    waiting = pending(tree)
    tests = waiting and waiting != ["check"]  # check is called with the function that a guarded call names
    skipped = tests and not runs_main(tree, waiting)
    parts: list[ast.AST] = [n for n in tree.body if n not in defined.values() and not (skipped and is_guard(n))]
    parts += [defined[name] for name in waiting]
    names: set[str] = set()
    while parts:
        found = {node.id for node in ast.walk(parts.pop()) if isinstance(node, ast.Name)} - names
        names |= found
        parts += [defined[name] for name in found & defined.keys()]
    return names


def _fixtures(part: ast.Module | ast.ClassDef, tree: ast.Module) -> list[str]:
    """Return the arguments of the test functions of a part that no decorator gives values for.

    Args:
        part: The test, or a class of it.
        tree: The test. A function that it uses by name is called with arguments.
    """
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    found = []
    for function in part.body:
        if isinstance(function, ast.FunctionDef) and function.name.startswith("test") and function.name not in used:
            arguments = function.args.args[isinstance(part, ast.ClassDef) :]
            required = [a.arg for a in arguments[: len(arguments) - len(function.args.defaults)]]
            marks = " ".join(map(ast.unparse, [*function.decorator_list, *getattr(part, "decorator_list", [])]))
            found += [name for name in required if not re.search(rf"\b{name}\b", marks)]
    return found
